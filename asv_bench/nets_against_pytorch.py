"""Convolution nets beside PyTorch on the same CPU: training steps, inference latency, single convolutions, peak memory.

    python asv_bench/nets_against_pytorch.py                       # everything, on the opencl backend
    python asv_bench/nets_against_pytorch.py --only resnet20_b32   # the rows whose name contains this
    python asv_bench/nets_against_pytorch.py --memory              # peak resident memory of ResNet-20, batch 128, once programs are compiled
    python asv_bench/nets_against_pytorch.py --kernels resnet20_b32  # our launches of one step, by device time (the best of 7)

Every library runs in a process of its own and they take turns, so that neither's waiting threads take the other's cores.
A figure is the best turn of each: whatever else runs on the machine only adds. PyTorch runs eagerly with two threads in both of its layouts (contiguous, channels_last); a ratio over 1 means that ours is
faster than the faster of the two. Ours is a captured step; images are given as N x C x H x W.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

THREADS = 2
# name: (kind, model, batch) or ("conv", (n, c, h, w), (o, c / groups, k, k), groups, backward)
WORKS: dict[str, tuple[Any, ...]] = {
    "train_lenet_b64": ("train", "lenet", 64),
    "train_resnet20_b32": ("train", "resnet20", 32),
    "train_resnet20_b128": ("train", "resnet20", 128),
    "infer_lenet_b1": ("infer", "lenet", 1),
    "infer_resnet20_b1": ("infer", "resnet20", 1),
}
for _name, _x, _w, _groups in (
    ("conv3x3_64_64", (32, 64, 32, 32), (64, 64, 3, 3), 1),
    ("conv3x3_3_32", (32, 3, 32, 32), (32, 3, 3, 3), 1),
    ("conv1x1_64_256", (32, 64, 32, 32), (256, 64, 1, 1), 1),
    ("depthwise3x3_128", (32, 128, 32, 32), (128, 1, 3, 3), 128),
):
    for _way in ("forward", "both"):
        WORKS[f"{_name}_{_way}"] = ("conv", _x, _w, _groups, _way == "both")

SHAPES = {"lenet": (1, 28, 28), "resnet20": (3, 32, 32)}
Step = Callable[[int], None]


def ours(work: tuple[Any, ...], backend_name: str) -> tuple[Step, Callable[[], None], Any, Any]:
    """Return what runs so many steps, what waits, the backend and the captured step."""
    import portable_nn as pnn
    from portable_nn import nn, ops, optim
    from portable_nn.core import selection
    from portable_nn.models.lenet import LeNet
    from portable_nn.models.resnet import ResNet

    backend = selection.get(backend_name)
    rng = np.random.default_rng(0)

    def drawn(*shape: int) -> Any:
        return pnn.asarray(rng.standard_normal(shape).astype(np.float32), backend=backend)

    if work[0] == "conv":
        _, x_shape, w_shape, groups, backward = work
        padding = w_shape[2] // 2
        x, w, g = drawn(*x_shape), drawn(*w_shape) * 0.05, drawn(x_shape[0], w_shape[0], *x_shape[2:])
        # Layouts are kept within a step: images are channels-last as a step keeps them, unless there are too few channels.
        if x_shape[1] > 4:
            x = channels_last(x, backend)
        g = channels_last(g, backend)

        def conv(x: Any, w: Any, g: Any) -> Any:
            y = ops.conv2d(x, w, None, 1, padding, 1, groups)
            if not backward:
                return y
            gw = ops.conv2d_weight_grad(x, g, w.shape[2:], 1, padding, 1, groups)
            return y, gw, ops.conv2d_input_grad(g, w, x.shape[2:], 1, padding, 1, groups)

        captured = pnn.capture(conv)

        def run(count: int) -> None:
            for _ in range(count):
                captured(x, w, g)

        return run, backend.synchronize, backend, captured
    kind, name, batch = work
    with pnn.use_backend(backend):
        model = (LeNet(SHAPES[name], 10) if name == "lenet" else ResNet(SHAPES[name], 10)).to(backend)
        x = drawn(batch, *SHAPES[name])
        labels = pnn.asarray(rng.integers(0, 10, batch), backend=backend)
        if kind == "infer":
            captured = pnn.capture(lambda x: model(x))

            def infer(count: int) -> None:
                for _ in range(count):
                    backend.to_numpy(captured(x))

            return infer, backend.synchronize, backend, captured
        optimizer = optim.sgd(0.05, momentum=0.9, weight_decay=1e-4)
        params = nn.params(model)
        state: list[Any] = [(params, {k: v for k, v in nn.state_dict(model).items() if k not in params}, optimizer.init(params))]

        def step(state: Any, x: Any, target: Any, lr: float) -> Any:
            params, buffers, remembered = state

            def loss_of(params: Any) -> Any:
                y, learned = nn.apply(nn.with_state(model, params | buffers), x, train=True)
                return ops.cross_entropy(y, target), learned

            (value, learned), grads = pnn.value_and_grad(loss_of, has_aux=True)(params)
            params, remembered = optimizer.update(params, grads, remembered, lr=lr)
            return (params, {name: learned[name] for name in buffers}, remembered), value

        captured = pnn.capture(step, donate="state")

        def train(count: int) -> None:
            for _ in range(count):
                state[0], _loss = captured(state[0], x, labels, 0.05)

        return train, backend.synchronize, backend, captured


def channels_last(x: Any, backend: Any) -> Any:
    """Return a copy of images with channels innermost in memory."""
    from portable_nn.core.geometry import channels_last as layout

    made = backend.allocate(layout(x.shape, x.dtype))
    backend.write(made, x)
    return made


def torch_step(work: tuple[Any, ...], last: bool) -> tuple[Step, Callable[[], None]]:
    """Return the same for PyTorch."""
    import torch
    from torch import nn as tnn

    F = tnn.functional

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    layout = torch.channels_last if last else torch.contiguous_format
    if work[0] == "conv":
        _, x_shape, w_shape, groups, backward = work
        x = torch.randn(x_shape).to(memory_format=layout).requires_grad_(backward)
        w = (torch.randn(w_shape) * 0.05).to(memory_format=layout).requires_grad_(backward)
        g = torch.randn(x_shape[0], w_shape[0], *x_shape[2:]).to(memory_format=layout)

        def conv(count: int) -> None:
            for _ in range(count):
                y = F.conv2d(x, w, None, 1, w_shape[2] // 2, 1, groups)
                if backward:
                    torch.autograd.grad(y, (x, w), g)

        return conv, lambda: None

    class Block(tnn.Module):
        def __init__(self, a: int, b: int, stride: int) -> None:
            super().__init__()
            self.conv1, self.bn1 = tnn.Conv2d(a, b, 3, stride, 1, bias=False), tnn.BatchNorm2d(b)
            self.conv2, self.bn2 = tnn.Conv2d(b, b, 3, 1, 1, bias=False), tnn.BatchNorm2d(b)
            self.down = None if a == b else tnn.Sequential(tnn.Conv2d(a, b, 1, stride, bias=False), tnn.BatchNorm2d(b))

        def forward(self, x: Any) -> Any:
            around = x if self.down is None else self.down(x)
            return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + around)

    kind, name, batch = work
    if name == "lenet":
        net: Any = tnn.Sequential(
            tnn.Conv2d(1, 6, 5, padding=2), tnn.ReLU(), tnn.MaxPool2d(2), tnn.Conv2d(6, 16, 5), tnn.ReLU(), tnn.MaxPool2d(2),
            tnn.Flatten(), tnn.Linear(400, 120), tnn.ReLU(), tnn.Linear(120, 84), tnn.ReLU(), tnn.Linear(84, 10),
        )  # fmt: skip
    else:
        stages = [Block(a, b, s) for a, b, s in ((16, 16, 1),) * 3 + ((16, 32, 2),) + ((32, 32, 1),) * 2 + ((32, 64, 2),) + ((64, 64, 1),) * 2]
        net = tnn.Sequential(
            tnn.Conv2d(3, 16, 3, padding=1, bias=False), tnn.BatchNorm2d(16), tnn.ReLU(), *stages, tnn.AdaptiveAvgPool2d(1), tnn.Flatten(),
            tnn.Linear(64, 10),
        )  # fmt: skip
    net = net.to(memory_format=layout)
    x = torch.randn(batch, *SHAPES[name]).to(memory_format=layout)
    labels = torch.randint(0, 10, (batch,))
    if kind == "infer":
        net.eval()

        def infer(count: int) -> None:
            with torch.inference_mode():
                for _ in range(count):
                    net(x).numpy()

        return infer, lambda: None
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)

    def train(count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            F.cross_entropy(net(x), labels).backward()
            optimizer.step()

    return train, lambda: None


def serve(peer: str, name: str, backend: str) -> None:
    """Answer on stdout: a count on stdin is answered by the seconds of a step, 'memory' by the peak resident MiB."""
    import resource

    if peer == "ours":
        run, wait, _, captured = ours(WORKS[name], backend)
    else:
        run, wait = torch_step(WORKS[name], peer == "torch_last")
    run(3)
    wait()
    print("ready", flush=True)
    for line in sys.stdin:
        word = line.strip()
        if word == "memory":
            answer: Any = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        elif word == "arena":
            replay = captured.variants[0].replay
            answer = [replay.arena_bytes, replay.alive_bytes, replay.state_bytes]
        else:
            start = time.perf_counter()
            run(int(word))
            wait()
            answer = (time.perf_counter() - start) / int(word)
        print(json.dumps(answer), flush=True)


class Peer:
    """A process that serves one library's step."""

    def __init__(self, peer: str, name: str, backend: str) -> None:
        command = [sys.executable, __file__, "--serve", peer, "--only", name, "--backend", backend]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args!r} ended with {self.process.wait()}")
        return line

    def ask(self, word: str) -> Any:
        """Return the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return json.loads(self._line())

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


PEERS = ("ours", "torch", "torch_last")


def compare(name: str, backend: str, rounds: int, span: float) -> str:
    """Return a row of the table: the best of `rounds` turns, each of about `span` seconds."""
    peers = {peer: Peer(peer, name, backend) for peer in PEERS}
    try:
        counts = {}
        for peer, process in peers.items():
            one = process.ask("3")
            counts[peer] = str(max(1, int(span / max(one, 1e-6))))
        times: dict[str, list[float]] = {peer: [] for peer in PEERS}
        for _ in range(rounds):
            for peer, process in peers.items():
                time.sleep(0.02)  # threads that wait by spinning have gone to sleep
                times[peer].append(process.ask(counts[peer]))
    finally:
        for process in peers.values():
            process.close()
    mine, *theirs = (min(times[peer]) for peer in PEERS)
    return f"| {name} | {mine * 1e6:,.0f} | {theirs[0] * 1e6:,.0f} | {theirs[1] * 1e6:,.0f} | {min(theirs) / mine:.2f} |"


def kernels(name: str, backend_name: str) -> None:
    """Print what the launches of one of our steps take, by device time."""
    run, wait, backend, captured = ours(WORKS[name], backend_name)
    run(4)
    wait()
    with backend.profiling() as times:
        run(7)
        wait()
    total: dict[tuple[str, str], list[float]] = {}
    replay = captured.variants[0].replay
    count = len(times) // 7
    for at, t in enumerate(times[:count]):
        entry = total.setdefault((t.op, t.kernel), [0, 0.0, 0.0])
        entry[0] += 1
        entry[1] += min(x.ns for x in times[at::count]) / 1e3
        entry[2] += t.bytes
    whole = sum(e[1] for e in total.values())
    print(f"{name}: {len(replay.launches)} launches, {whole:,.0f} us of device time; arena {replay.arena_bytes / 2**20:.1f} MiB, alive {replay.alive_bytes / 2**20:.1f} MiB")
    for (op, kernel), (count, us, nbytes) in sorted(total.items(), key=lambda e: -e[1][1]):
        print(f"{us:10.0f} us {count:4d}x  {nbytes / us / 1e3:7.1f} GB/s  {kernel:28s} {op}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="opencl", help="of ours (default: opencl)")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each library (default: 7)")
    parser.add_argument("--seconds", type=float, default=0.4, help="of one turn (default: 0.4)")
    parser.add_argument("--memory", action="store_true", help="peak resident memory instead")
    parser.add_argument("--kernels", metavar="ROW", help="our launches of one row instead")
    parser.add_argument("--serve", choices=PEERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.only, options.backend)
    elif options.kernels:
        kernels(options.kernels, options.backend)
    elif options.memory:
        for name in [n for n in WORKS if (options.only or "train_resnet20_b128") in n]:
            Peer("ours", name, options.backend).close()  # programs compiled in the process that is measured would count
            for peer in PEERS:
                process = Peer(peer, name, options.backend)
                process.ask("3")
                arena = f", of which arena, alive at once, state: {[round(b / 2**20, 1) for b in process.ask('arena')]} MiB" if peer == "ours" else ""
                print(f"{name}: {peer} {process.ask('memory'):,.0f} MiB{arena}", flush=True)
                process.close()
    else:
        print("| work | ours, us | PyTorch, us | PyTorch channels_last, us | faster of the two / ours |\n|---|---|---|---|---|")
        for name in WORKS:
            if options.only in name:
                print(compare(name, options.backend, options.rounds, options.seconds), flush=True)


if __name__ == "__main__":
    main()
