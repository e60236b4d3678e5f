"""What capturing a step saves: launches, bytes and time, before and after, and the text of the kernels that fusion makes.

    python asv_bench/capture_figures.py                      # launches and bytes, counted on the null backend
    python asv_bench/capture_figures.py --backend opencl     # and the time of each step, in turn in one process
    python asv_bench/capture_figures.py --kernels            # and the text of the fused kernels

"Before" is the list of calls as the step makes them. Bytes are those of the arrays each launch is given, every array once:
what crosses memory if nothing stays in a cache.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

import portable_nn as pnn
from portable_nn import nn, ops, optim
from portable_nn.capture import Captured
from portable_nn.core import selection
from portable_nn.core.backend import Backend
from portable_nn.models.mlp import MLP
from portable_nn.models.resnet import BasicBlock


@dataclass(frozen=True)
class Figures:
    """Launches, bytes and memory of a step.

    Parameters
    ----------
    calls, launches, moved : (int, int)
        Op calls, launches, and bytes given to launches, before and after.
    alive, arena, separate : int
        Bytes of the intermediate arrays and scratch: in use at once at most, taken by the plan, and without sharing memory.
    """

    what: str
    calls: tuple[int, int]
    launches: tuple[int, int]
    moved: tuple[int, int]
    alive: int
    arena: int
    separate: int


def training(model: Any, loss: Callable[[Any, Any], Any], optimizer: Any) -> Callable[..., Any]:
    """Return ``step(state, x, target, lr) -> (state, loss)``."""

    def step(state: Any, x: Any, target: Any, lr: float) -> Any:
        params, buffers, remembered = state

        def loss_of(params: Any) -> Any:
            y, learned = nn.apply(nn.with_state(model, params | buffers), x, train=True)
            return loss(y, target), learned

        (value, learned), grads = pnn.value_and_grad(loss_of, has_aux=True)(params)
        params, remembered = optimizer.update(params, grads, remembered, lr=lr)
        return (params, {name: learned[name] for name in buffers}, remembered), value

    return step


def cases(backend: Backend) -> dict[str, tuple[Captured, tuple[Any, ...]]]:
    """Return captured steps and what to call them with, by name; nothing is recorded yet."""
    rng = np.random.default_rng(0)

    def drawn(*shape: int) -> Any:
        return pnn.asarray(rng.standard_normal(shape).astype(np.float32), backend=backend)

    optimizer = optim.sgd(0.05, momentum=0.9, weight_decay=1e-4)

    def state(model: Any) -> Any:
        params = nn.params(model)
        return params, {k: v for k, v in nn.state_dict(model).items() if k not in params}, optimizer.init(params)

    mlp, block = MLP((1, 28, 28), 10).to(backend), BasicBlock(16, 16, 1).to(backend)
    labels = pnn.asarray(rng.integers(0, 10, 128), backend=backend)
    images = drawn(32, 16, 32, 32)

    def squares(y: Any, target: Any) -> Any:
        return ops.mean(ops.square(y - target))

    return {
        "MLP 784-128-64-10, batch 128: training step": (
            pnn.capture(training(mlp, ops.cross_entropy, optimizer), donate="state"), (state(mlp), drawn(128, 1, 28, 28), labels, 0.05)
        ),
        "ResNet block, 32 x 16 x 32 x 32: training step": (
            pnn.capture(training(block, squares, optimizer), donate="state"), (state(block), images, drawn(32, 16, 32, 32), 0.05)
        ),
        "ResNet block: inference": (pnn.capture(lambda block, x: block(x)), (block, images)),
    }  # fmt: skip


def figures(what: str, captured: Captured, given: Sequence[Any], backend: Backend) -> Figures:
    """Return what a step takes before and after; records it."""
    captured(*given)
    (variant,) = captured.variants
    before: Any = backend.replay(variant.recorded)
    after: Any = variant.replay
    return Figures(
        what,
        (sum(not s.view for s in variant.recorded.steps), len(variant.program.steps) - sum(s.view for s in variant.program.steps)),
        (len(before.launches), len(after.launches)),
        (sum(x.nbytes for x in before.launches), sum(x.nbytes for x in after.launches)),
        after.alive_bytes, after.arena_bytes, after.separate_bytes,
    )  # fmt: skip


def kernels(captured: Captured) -> dict[str, str]:
    """Return the text of each kernel that was made by joining calls, by the names of the calls."""
    (variant,) = captured.variants
    found: dict[str, str] = {}
    for launch in variant.replay.launches:  # type: ignore[attr-defined]
        if "+" in launch.op and "\n" in launch.launch.source:
            found.setdefault(launch.op, launch.launch.source)
    return found


def seconds(step: Callable[..., Any], given: Sequence[Any], backend: Backend, calls: int) -> float:
    """Return the time of one step, over several, until the device is done."""
    state, rest = given[0], given[1:]
    start = perf_counter()
    for _ in range(calls):
        made = step(state, *rest)
        state = made[0] if isinstance(made, tuple) else state
    backend.synchronize()
    return (perf_counter() - start) / calls


def timed(captured: Captured, given: Sequence[Any], backend: Backend, rounds: int, calls: int) -> tuple[float, float]:
    """Return the median seconds of a step as it is and captured, in turn."""
    for step in (captured.function, captured, captured):  # programs are built, the second recording is made
        seconds(step, given, backend, 2)
    times: list[list[float]] = [[], []]
    for _ in range(rounds):
        for step, kept in zip((captured.function, captured), times, strict=True):
            kept.append(seconds(step, given, backend, calls))
    return median(times[0]), median(times[1])


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="null", help="null counts only; any other is timed too (default: null)")
    parser.add_argument("--rounds", type=int, default=15, help="times each step is measured, in turn (default: 15)")
    parser.add_argument("--calls", type=int, default=10, help="steps per measurement (default: 10)")
    parser.add_argument("--kernels", action="store_true", help="print the text of fused kernels")
    options = parser.parse_args()
    backend = selection.get(options.backend)
    print(f"{backend.name}: {backend.device}")
    with pnn.use_backend(backend):
        for what, (captured, given) in cases(backend).items():
            f = figures(what, captured, given, backend)
            print(
                f"\n{what}\n  calls {f.calls[0]} -> {f.calls[1]}, launches {f.launches[0]} -> {f.launches[1]}, "
                f"bytes given to launches {f.moved[0]:,} -> {f.moved[1]:,}\n"
                f"  intermediate arrays {f.separate:,} bytes apart, {f.arena:,} in one plan, {f.alive:,} in use at once"
            )
            if options.backend != "null":
                plain, replayed = timed(captured, given, backend, options.rounds, options.calls)
                print(f"  {plain * 1e6:,.0f} us as it is, {replayed * 1e6:,.0f} us captured: {plain / replayed:.2f} times as fast")
            if options.kernels:
                for name, text in kernels(captured).items():
                    print(f"\n  {name}\n\n" + "\n".join(f"    {line}" for line in text.splitlines()))


if __name__ == "__main__":
    main()
