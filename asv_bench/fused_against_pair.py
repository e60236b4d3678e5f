"""A fused op against the ops it stands for, in one process and in turn: a shared machine drifts, ratios hold.

    python asv_bench/fused_against_pair.py [--rounds 15] [--backend opencl]

Forward alone, as in evaluation: linear_act against linear and the activation, conv2d_act against conv2d and the
activation, add_layer_norm against the sum and layer_norm.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

import portable_nn as pnn
from portable_nn.core import selection
from portable_nn.core.backend import Backend

Pair = tuple[str, Callable[[], object], Callable[[], object], int]  # what, fused, the pair, calls per round

SIZES = ((64, 400, 120), (128, 784, 512), (4096, 64, 256), (16384, 32, 128))  # rows, inputs, outputs
IMAGES = (((64, 16, 8, 8), (32, 16, 3, 3), 1, 1), ((32, 64, 32, 32), (64, 64, 1, 1), 0, 1), ((8, 64, 56, 56), (64, 1, 3, 3), 1, 64))
ROWS = ((64, 1024), (2048, 768), (8192, 1024))


def seconds(call: Callable[[], object], calls: int, backend: Backend) -> float:
    """Return the time of one call, over several, until the device is done."""
    start = perf_counter()
    for _ in range(calls):
        call()
    backend.synchronize()
    return (perf_counter() - start) / calls


def pairs(backend: Backend) -> Iterator[Pair]:
    """Yield every comparison."""
    rng = np.random.default_rng(0)
    ops = pnn.ops

    def drawn(*shape: int) -> Any:
        return pnn.asarray(rng.uniform(-1, 1, shape).astype(np.float32), backend=backend)

    for name in ("relu", "gelu"):
        act = getattr(ops, name)
        for rows, inputs, outputs in SIZES:
            x, w, b = drawn(rows, inputs), drawn(outputs, inputs), drawn(outputs)
            calls = max(1, 20_000_000 // (rows * inputs * outputs))
            yield f"{rows} x {inputs} -> {outputs}, {name}", partial(ops.linear_act, x, w, b, name), lambda x=x, w=w, b=b, act=act: act(ops.linear(x, w, b)), calls
        for shape, filters, padding, groups in IMAGES:
            x, w, b = drawn(*shape), drawn(*filters), drawn(filters[0])
            given = {"padding": padding, "groups": groups}
            yield (
                f"{shape} by {filters}, {name}", partial(ops.conv2d_act, x, w, b, activation=name, **given),
                lambda x=x, w=w, b=b, act=act, given=given: act(ops.conv2d(x, w, b, **given)), 3,
            )  # fmt: skip
    for shape in ROWS:
        x, y, w, b = drawn(*shape), drawn(*shape), drawn(shape[1]), drawn(shape[1])
        fused = partial(ops.add_layer_norm, x, y, shape[1], w, b)
        yield f"rows {shape}", fused, lambda x=x, y=y, w=w, b=b, shape=shape: ops.layer_norm(x + y, shape[1], w, b), max(1, 4_000_000 // (shape[0] * shape[1]))


def main() -> None:
    """Print medians of both and of the ratio, for every size and two activations."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--backend", default="opencl")
    given = parser.parse_args()
    backend = selection.get(given.backend)
    print(f"{backend.name} ({backend.device}), medians of {given.rounds} interleaved rounds")
    for what, fused, pair, calls in pairs(backend):
        rounds = [[seconds(call, calls, backend) for call in (fused, pair)] for _ in range(given.rounds + 1)][1:]  # the first compiles
        one, two = (median(times) for times in zip(*rounds, strict=True))
        ratio = median(slow / fast for fast, slow in rounds)
        print(f"{what}: fused {one * 1e6:.0f} us, pair {two * 1e6:.0f} us, pair / fused {ratio:.2f}")


if __name__ == "__main__":
    main()
