"""Dense work beside NumPy, PyTorch and JAX: one process for each, timed in turn, so that a drifting machine gives true ratios.

    python asv_bench/dense_against_peers.py                  # every row, every peer that is installed
    python asv_bench/dense_against_peers.py gemm train       # rows whose name holds one of the words
    python asv_bench/dense_against_peers.py --list

Rows are named after what they compute and the shape; `_train` is forward and backward. Columns: `ours` calls ops one by one,
`captured` replays the row as a capture; `torch_keep` is PyTorch with glibc told to keep freed memory (large results are
otherwise fresh pages at every call); NumPy runs with the OpenBLAS kernels of OPENBLAS_CORETYPE (unset: OpenBLAS's own choice).
A call is timed over a burst that waits once, at its end; inference is timed from a NumPy array to a NumPy array. Each burst
comes after a pause, because the threads of OpenMP and OpenBLAS spin after a call and take a core from whoever comes next.
What each computes is compared first: a peer that disagrees is not timed. Over 250 lines: the rows, once for each of four libraries.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from statistics import median
from time import perf_counter, sleep
from typing import Any

import numpy as np

PEERS = ("ours", "captured", "numpy", "torch", "torch_keep", "jax")
_KEEP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "1073741824"}
_QUIET = {"OPENBLAS_THREAD_TIMEOUT": "14"}
_MEMORY = ("softmax", "layer_norm", "gelu", "cross_entropy", "relu")
_SHAPES = {"8192x1024": (8192, 1024), "32x64x32x32": (32, 64, 32, 32), "64x1024": (64, 1024)}

Case = tuple[Callable[[], Any], Callable[[], None]]
"""What is called, and what waits for all calls made so far."""


def rows() -> list[str]:
    """Return the names of all rows."""
    found = ["gemm_256", "gemm_1024", "gemm_2048", "gemm_64x4096x1024", "linear_64x4096x1024", "linear_64x1024x4096", "gemv_4096"]
    for op in _MEMORY:
        for shape in _SHAPES:
            if shape != "32x64x32x32" or op in ("relu", "gelu"):
                found += [f"{op}_{shape}", f"{op}_{shape}_train"]
    return [*found, "mlp_b128_train", "mlp_b1_infer"]


def drawn(row: str) -> dict[str, np.ndarray[Any, Any]]:
    """Return the operands of a row, the same in every process."""
    rng = np.random.default_rng(zlib.crc32(row.encode()))

    def normal(*shape: int) -> np.ndarray[Any, Any]:
        return rng.standard_normal(shape, np.float32)

    kind, _, rest = row.partition("_")
    if kind in ("gemm", "linear", "gemv"):
        sizes = [int(x) for x in rest.split("x")]
        m, k, n = sizes if len(sizes) == 3 else sizes * 3
        if kind == "gemv":
            return {"a": normal(m, k), "b": normal(k)}
        return {"a": normal(m, k), "b": normal(k, n)} if kind == "gemm" else {"a": normal(m, k), "b": normal(n, k), "c": normal(n)}
    if kind == "mlp":
        sizes = {"w1": (256, 784), "b1": (256,), "w2": (10, 256), "b2": (10,)}
        made = {name: normal(*shape) * np.float32(0.05) for name, shape in sizes.items()}
        batch = 128 if "b128" in row else 1
        return {**made, "x": normal(batch, 784), "t": rng.integers(0, 10, batch)}
    op = next(x for x in _MEMORY if row.startswith(x))
    shape = _SHAPES[row.removeprefix(f"{op}_").removesuffix("_train")]
    made = {"x": normal(*shape), "g": normal(*shape)}
    if op == "layer_norm":
        made |= {"w": normal(shape[-1]), "b": normal(shape[-1])}
    if op == "cross_entropy":
        made["t"] = rng.integers(0, shape[-1], shape[0])
    return made


# -- the libraries: each returns, for a row, what is called and what waits ----------------------------------------------


def ours(row: str, captured: bool) -> Case:
    """Return the row on portable_nn."""
    import portable_nn as pnn
    from portable_nn import nn, ops, optim
    from portable_nn.core import selection
    from portable_nn.models.mlp import MLP

    backend = selection.default()
    host = drawn(row)
    x = {name: pnn.asarray(v) for name, v in host.items()}
    wrap: Callable[..., Any] = pnn.capture if captured else lambda f, **_: f
    kind = row.split("_")[0]
    if kind == "mlp":
        model = MLP((1, 28, 28), 10, (256,))
        model = nn.with_state(model, dict(zip(nn.state_dict(model), (x["w1"], x["b1"], x["w2"], x["b2"]), strict=True)))
        if "infer" in row:
            predict = wrap(lambda images: model(images))
            image = host["x"].reshape(1, 1, 28, 28)
            return lambda: pnn.to_numpy(predict(pnn.asarray(image))), lambda: None
        images, optimizer = ops.reshape(x["x"], (128, 1, 28, 28)), optim.sgd(0.01, momentum=0.9)

        def step(state: Any, images: Any, target: Any) -> Any:
            params, remembered = state
            value, grads = pnn.value_and_grad(lambda p: ops.cross_entropy(nn.with_params(model, p)(images), target))(params)
            return optimizer.update(params, grads, remembered), value

        run, holder = wrap(step, donate="state"), [(nn.params(model), optimizer.init(nn.params(model)))]

        def train() -> Any:
            holder[0], value = run(holder[0], images, x["t"])
            return (value,)

        return train, backend.synchronize
    if kind in ("gemm", "gemv"):
        f = wrap(lambda a, b: (ops.matmul(a, b),))
        return lambda: f(x["a"], x["b"]), backend.synchronize
    if kind == "linear":  # the weight is a constant of the captured step
        f = wrap(lambda a: (ops.linear(a, x["b"], x["c"]),))
        return lambda: f(x["a"]), backend.synchronize
    op = next(o for o in _MEMORY if row.startswith(o))
    calls: dict[str, Callable[..., Any]] = {
        "softmax": lambda x: ops.softmax(x, -1), "layer_norm": lambda x, w, b: ops.layer_norm(x, x.shape[-1], w, b),
        "gelu": ops.gelu, "relu": ops.relu, "cross_entropy": lambda x: ops.cross_entropy(x, target),
    }  # fmt: skip
    call, target = calls[op], x.get("t")
    operands = [x["x"], *((x["w"], x["b"]) if op == "layer_norm" else ())]
    if not row.endswith("_train"):
        f = wrap(lambda *a: (call(*a),))
        return lambda: f(*operands), backend.synchronize

    def both(g: Any, *a: Any) -> Any:
        with pnn.Tape() as tape:
            watched = [tape.watch(v) for v in a]
            y = call(*watched)
        return (tape.lower(y), *tape.gradient(y, watched, *(() if op == "cross_entropy" else (g,))))

    f = wrap(both)
    return lambda: f(x["g"], *operands), backend.synchronize


def with_torch(row: str) -> Case:
    """Return the row on PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional as F  # noqa: N812

    torch.set_num_threads(os.cpu_count() or 1)
    host = drawn(row)
    x = {name: torch.from_numpy(v) for name, v in host.items()}
    kind, op = row.split("_")[0], next((o for o in _MEMORY if row.startswith(o)), "")

    def without_grad(f: Callable[[], Any]) -> Callable[[], Any]:
        def call() -> Any:
            with torch.no_grad():
                return f()

        return call

    if kind == "mlp":
        model = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
        with torch.no_grad():
            for p, name in zip(model.parameters(), ("w1", "b1", "w2", "b2"), strict=True):
                p.copy_(x[name])
        if "infer" in row:
            return without_grad(lambda: model(torch.from_numpy(host["x"])).numpy()), lambda: None
        optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)

        def train() -> Any:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x["x"]), x["t"])
            loss.backward()
            optimizer.step()
            return (loss,)

        return train, lambda: None
    if kind in ("gemm", "gemv"):
        return without_grad(lambda: (x["a"] @ x["b"],)), lambda: None
    if kind == "linear":
        return without_grad(lambda: (F.linear(x["a"], x["b"], x["c"]),)), lambda: None
    calls: dict[str, Callable[..., Any]] = {
        "softmax": lambda v: F.softmax(v, -1), "layer_norm": lambda v, w, b: F.layer_norm(v, v.shape[-1:], w, b),
        "gelu": F.gelu, "relu": F.relu, "cross_entropy": lambda v: F.cross_entropy(v, x["t"]),
    }  # fmt: skip
    call, operands = calls[op], [x["x"], *((x["w"], x["b"]) if op == "layer_norm" else ())]
    if not row.endswith("_train"):
        return without_grad(lambda: (call(*operands),)), lambda: None
    for v in operands:
        v.requires_grad_()

    def both() -> Any:
        y = call(*operands)
        return (y, *torch.autograd.grad(y, operands, None if op == "cross_entropy" else x["g"]))

    return both, lambda: None


def with_jax(row: str) -> Case:
    """Return the row on JAX, compiled."""
    import jax
    from jax import numpy as jnp

    host = drawn(row)
    x = {name: jnp.asarray(v) for name, v in host.items()}
    kind, op = row.split("_")[0], next((o for o in _MEMORY if row.startswith(o)), "")
    last: list[Any] = [None]

    def kept(f: Callable[[], Any]) -> Case:
        def call() -> Any:
            last[0] = f()
            return last[0]

        return call, lambda: jax.block_until_ready(last[0])

    def cross_entropy(v: Any, t: Any) -> Any:
        return -jnp.take_along_axis(jax.nn.log_softmax(v), t[:, None], 1).mean()

    def layer_norm(v: Any, w: Any, b: Any) -> Any:
        mean = v.mean(-1, keepdims=True)
        return (v - mean) * jax.lax.rsqrt(((v - mean) ** 2).mean(-1, keepdims=True) + 1e-5) * w + b

    def mlp(p: Any, v: Any) -> Any:
        return jax.nn.relu(v @ p["w1"].T + p["b1"]) @ p["w2"].T + p["b2"]

    if kind == "mlp":
        params = {name: x[name] for name in ("w1", "b1", "w2", "b2")}
        if "infer" in row:
            predict = jax.jit(mlp)
            return lambda: np.asarray(predict(params, host["x"])), lambda: None

        def step(params: Any, momentum: Any, v: Any, t: Any) -> Any:
            value, grads = jax.value_and_grad(lambda p: cross_entropy(mlp(p, v), t))(params)
            momentum = jax.tree.map(lambda m, g: 0.9 * m + g, momentum, grads)
            return jax.tree.map(lambda p, m: p - 0.01 * m, params, momentum), momentum, value

        run = jax.jit(step, donate_argnums=(0, 1))
        state = [params, jax.tree.map(jnp.zeros_like, params)]

        def train() -> Any:
            state[0], state[1], value = run(*state, x["x"], x["t"])
            return (value,)

        return kept(train)
    if kind in ("gemm", "gemv"):
        f = jax.jit(lambda a, b: (a @ b,))
        return kept(lambda: f(x["a"], x["b"]))
    if kind == "linear":
        f = jax.jit(lambda a, b, c: (a @ b.T + c,))
        return kept(lambda: f(x["a"], x["b"], x["c"]))
    calls: dict[str, Callable[..., Any]] = {
        "softmax": jax.nn.softmax, "layer_norm": layer_norm, "gelu": lambda v: jax.nn.gelu(v, approximate=False),
        "relu": jax.nn.relu, "cross_entropy": lambda v: cross_entropy(v, x["t"]),
    }  # fmt: skip
    call, operands = calls[op], [x["x"], *((x["w"], x["b"]) if op == "layer_norm" else ())]
    if not row.endswith("_train"):
        f = jax.jit(lambda *a: (call(*a),))
        return kept(lambda: f(*operands))

    def both(g: Any, *a: Any) -> Any:
        y, pull = jax.vjp(call, *a)
        return (y, *pull(jnp.ones_like(y) if op == "cross_entropy" else g))

    compiled = jax.jit(both)
    return kept(lambda: compiled(x["g"], *operands))


def with_numpy(row: str) -> Case | None:
    """Return the row on NumPy, where that is a line or two; results into ready arrays where NumPy can."""
    x, kind = drawn(row), row.split("_")[0]
    if kind in ("gemm", "gemv"):
        out = np.empty((len(x["a"]), *x["b"].shape[1:]), np.float32)
        return lambda: (np.matmul(x["a"], x["b"], out=out),), lambda: None
    if kind == "linear":
        out = np.empty((len(x["a"]), len(x["b"])), np.float32)
        return lambda: (np.add(np.matmul(x["a"], x["b"].T, out=out), x["c"], out=out),), lambda: None
    if row.endswith("infer"):
        w1, w2 = x["w1"].T.copy(), x["w2"].T.copy()

        def predict() -> Any:
            h = x["x"] @ w1
            h += x["b1"]
            np.maximum(h, 0, out=h)
            h = h @ w2
            h += x["b2"]
            return h

        return predict, lambda: None
    if kind == "relu":
        y, gx = np.empty_like(x["x"]), np.empty_like(x["x"])
        if not row.endswith("_train"):
            return lambda: (np.maximum(x["x"], 0, out=y),), lambda: None
        return lambda: (np.maximum(x["x"], 0, out=y), np.multiply(x["g"], y > 0, out=gx)), lambda: None
    if kind == "softmax" and not row.endswith("_train"):
        y = np.empty_like(x["x"])

        def softmax() -> Any:
            np.subtract(x["x"], x["x"].max(-1, keepdims=True), out=y)
            np.exp(y, out=y)
            return (np.divide(y, y.sum(-1, keepdims=True), out=y),)

        return softmax, lambda: None
    return None


# -- a process per library, and who asks them ---------------------------------------------------------------------------


def serve(peer: str) -> None:
    """Answer, on standard input and output: make a row, give some of its results, time bursts of it."""
    case: Any = None
    for line in sys.stdin:
        do, argument = json.loads(line)
        said: Any = None
        try:
            if do == "make":
                case = None  # memory of the row before goes first
                if peer == "numpy":
                    case = with_numpy(argument)
                elif peer.startswith("torch"):
                    case = with_torch(argument)
                else:
                    case = with_jax(argument) if peer == "jax" else ours(argument, peer == "captured")
                said = None if case is None else sampled(case[0]())
                if case is not None:
                    burst(case, 2)  # a capture compares at its second call
            else:
                said = burst(case, argument)
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        print(json.dumps(said), flush=True)


def sampled(results: Any) -> list[list[float]]:
    """Return up to 1000 values of each result."""
    if "portable_nn" in sys.modules:
        import portable_nn as pnn

        results = [y if isinstance(y, np.ndarray) else pnn.to_numpy(y) for y in (results if isinstance(results, tuple) else (results,))]
    found = []
    for y in results if isinstance(results, list | tuple) else (results,):
        flat = np.asarray(y.detach() if hasattr(y, "detach") else y).reshape(-1)
        found.append(flat[:: max(1, flat.size // 1000)][:1000].astype(float).tolist())
    return found


def burst(case: Case, calls: int) -> float:
    """Return the time of one call, over several."""
    call, wait = case
    call()
    wait()
    start = perf_counter()
    for _ in range(calls):
        call()
    wait()
    return (perf_counter() - start) / calls


class Peer:
    """The process of a library."""

    def __init__(self, name: str) -> None:
        self.name = name
        environment = {**os.environ, **_QUIET, **(_KEEP if name == "torch_keep" else {})}
        command = [sys.executable, __file__, "--serve", name]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def ask(self, do: str, argument: Any) -> Any:
        """Send a command and return the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([do, argument]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the process of {self.name} ended")
        return json.loads(line)


def agree(a: list[list[float]], b: list[list[float]]) -> bool:
    """Tell whether two samples of results are the same within float32's rounding of sums."""
    return len(a) == len(b) and all(
        len(x) == len(y) and np.abs(np.subtract(x, y)).max(initial=0) <= 1e-4 * np.abs(y).max(initial=1e-30) for x, y in zip(a, b, strict=True)
    )


def measure(row: str, peers: list[Peer], rounds: int, seconds: float, pause: float) -> dict[str, list[float]]:
    """Return the times of a row by peer, one per round."""
    ready, first, calls = list[Peer](), None, dict[str, int]()
    for peer in peers:
        said = peer.ask("make", row)
        if isinstance(said, str) or said is None:
            if said:
                print(f"{row}: {peer.name}: {said}", file=sys.stderr)
            continue
        first = first or said
        if not agree(said, first):
            print(f"{row}: {peer.name} computes something else", file=sys.stderr)
            continue
        ready.append(peer)
    for peer in ready:
        sleep(pause)
        calls[peer.name] = max(1, round(seconds / peer.ask("burst", 3)))
    times: dict[str, list[float]] = {peer.name: [] for peer in ready}
    for number in range(rounds):
        for peer in ready if number % 2 else ready[::-1]:
            sleep(pause)
            times[peer.name].append(peer.ask("burst", calls[peer.name]))
    return times


def main() -> None:
    """Print a table: microseconds, and each peer's time over the better of ours."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="parts of the names of rows (default: all)")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.05, help="of a burst (default 0.05)")
    parser.add_argument("--pause", type=float, default=0.15, help="seconds before each burst (default 0.15)")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        return serve(given.serve)
    chosen = [row for row in rows() if not given.words or any(word in row for word in given.words)]
    if given.list:
        return print("\n".join(chosen))
    names = given.peers.split(",")
    peers = [Peer(name) for name in names]
    print(f"{'row':28}" + "".join(f"{name:>18}" for name in names) + "   us; in brackets: by the time of the better of ours")
    for row in chosen:
        times = measure(row, peers, given.rounds, given.seconds, given.pause)
        mine = min((name for name in ("ours", "captured") if name in times), key=lambda name: median(times[name]), default=names[0])
        cells = []
        for name in names:
            if name not in times:
                cells.append(f"{'-':>18}")
                continue
            ratio = median(a / b for a, b in zip(times[name], times[mine], strict=True))
            cells.append(f"{median(times[name]) * 1e6:>10,.1f} ({ratio:>5.2f})")
        print(f"{row:28}" + "".join(cells), flush=True)
    for peer in peers:
        assert peer.process.stdin
        peer.process.stdin.close()
        peer.process.wait()
    return None


if __name__ == "__main__":
    main()
