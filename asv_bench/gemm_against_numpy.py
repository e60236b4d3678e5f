"""Our OpenCL GEMM against NumPy's own BLAS, in one process and in turn: a shared machine drifts, ratios hold.

    python asv_bench/gemm_against_numpy.py [--size 1024] [--rounds 15] [--backend opencl]

NumPy runs as it is found: OpenBLAS from the wheel with its default choice of kernels. On a CPU that an OpenBLAS build
does not know, OPENBLAS_CORETYPE (set before the start) may make NumPy faster; the line printed says whether it is set.

Each side is timed after a pause and one untimed call, and goes first every other round. The pause matters: OpenBLAS's
threads go on spinning for about 0.1 s after a call, and take a core from whoever comes next (on two cores it made our
calls 1.5 times slower and NumPy's none, which is not a property of either GEMM).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from statistics import median
from time import perf_counter, sleep

import numpy as np

import portable_nn as pnn
from portable_nn.core import selection


def seconds(call: Callable[[], object], calls: int, pause: float) -> float:
    """Return the time of one call, over several, after the other side's threads have gone to sleep."""
    sleep(pause)
    call()
    start = perf_counter()
    for _ in range(calls):
        call()
    return (perf_counter() - start) / calls


def main() -> None:
    """Measure and print medians, spread and ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=8)
    parser.add_argument("--pause", type=float, default=0.3, help="seconds before each side (default 0.3)")
    parser.add_argument("--backend", default="opencl")
    given = parser.parse_args()
    n = given.size
    rng = np.random.default_rng(0)
    a, b = (rng.uniform(-1, 1, (n, n)).astype(np.float32) for _ in range(2))
    backend = selection.get(given.backend)
    da, db = (pnn.asarray(x, backend=backend) for x in (a, b))
    out = np.empty((n, n), np.float32)

    def ours() -> None:
        pnn.ops.matmul(da, db)
        backend.synchronize()

    def numpys() -> None:
        np.matmul(a, b, out=out)

    ours(), numpys()
    error = np.abs(pnn.to_numpy(pnn.ops.matmul(da, db)) - a.astype(np.float64) @ b).max()
    rounds = list[tuple[float, ...]]()
    for i in range(given.rounds):
        times = [seconds(call, given.calls, given.pause) for call in ((ours, numpys) if i % 2 else (numpys, ours))]
        rounds.append(tuple(times if i % 2 else times[::-1]))
    flop = 2 * n**3
    for name, times in zip((f"{backend.name} ({backend.device})", "NumPy"), zip(*rounds, strict=True), strict=True):
        low, high = np.percentile(times, (25, 75))
        print(f"{name}: {median(times) * 1e3:.2f} ms ({low * 1e3:.2f}-{high * 1e3:.2f}), {flop / median(times) / 1e9:.0f} GFLOP/s")
    ratio = median(theirs / mine for mine, theirs in rounds)
    print(f"NumPy's time / ours, median of {given.rounds} interleaved rounds: {ratio:.2f}")
    print(f"largest error {error:.1e}; OPENBLAS_CORETYPE {os.environ.get('OPENBLAS_CORETYPE', 'not set')}; {os.cpu_count()} CPUs")


if __name__ == "__main__":
    main()
