"""A fused op against the ops it stands for, in one process and in turn: a shared machine drifts, ratios hold.

    python asv_bench/fused_against_pair.py [--rounds 15] [--backend opencl]

Forward alone, as in evaluation: linear_act against linear and the activation.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median
from time import perf_counter

import numpy as np

import portable_nn as pnn
from portable_nn.core import selection
from portable_nn.core.backend import Backend

SIZES = ((64, 400, 120), (128, 784, 512), (4096, 64, 256), (16384, 32, 128))  # rows, inputs, outputs


def seconds(call: Callable[[], object], calls: int, backend: Backend) -> float:
    """Return the time of one call, over several, until the device is done."""
    start = perf_counter()
    for _ in range(calls):
        call()
    backend.synchronize()
    return (perf_counter() - start) / calls


def main() -> None:
    """Print medians of both and of the ratio, for every size and two activations."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--backend", default="opencl")
    given = parser.parse_args()
    backend = selection.get(given.backend)
    rng = np.random.default_rng(0)
    print(f"{backend.name} ({backend.device}), medians of {given.rounds} interleaved rounds")
    for rows, inputs, outputs in SIZES:
        shapes = (rows, inputs), (outputs, inputs), (outputs,)
        x, w, b = (pnn.asarray(rng.uniform(-1, 1, shape).astype(np.float32), backend=backend) for shape in shapes)
        calls = max(1, 20_000_000 // (rows * inputs * outputs))
        for name in ("relu", "gelu"):
            act = getattr(pnn.ops, name)
            both = (lambda x=x, w=w, b=b, name=name: pnn.ops.linear_act(x, w, b, name)), (lambda x=x, w=w, b=b, act=act: act(pnn.ops.linear(x, w, b)))
            rounds = [[seconds(call, calls, backend) for call in both] for _ in range(given.rounds + 1)][1:]  # the first compiles
            one, two = (median(times) for times in zip(*rounds, strict=True))
            ratio = median(slow / fast for fast, slow in rounds)
            print(f"{rows} x {inputs} -> {outputs}, {name}: fused {one * 1e6:.0f} us, pair {two * 1e6:.0f} us, pair / fused {ratio:.2f}")


if __name__ == "__main__":
    main()
