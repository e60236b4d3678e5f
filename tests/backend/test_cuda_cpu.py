"""The CUDA text of every op, executed on the CPU by fibers (see cuda_cpu): the generated suite, and that faults show.

By default the first sample of each op in float32, and some ops in float16 too (test_ops runs the same plans as OpenCL, with every
sample); `-m slow` takes every second sample, and PORTABLE_NN_TEST_BACKENDS=cuda_cpu with `-m ""` runs everything. The first run
compiles some hundred programs; later runs find them in the cache.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

import cuda_cpu
import numpy as np
import pytest
from conftest import BACKENDS
from cuda_cpu import build
from cuda_cpu.environment import sanitized as environment_of_sanitizers
from grouped import each, first, later, on_first, run
from require import require

import portable_nn.ops  # noqa: F401 - fills the registry
from portable_nn.core.backend import Backend
from portable_nn.core.errors import BackendError
from portable_nn.core.op import Op
from portable_nn.testing.suite import dtypes_of, forward_cases, gradient_cases, gradient_dtypes

ROOT = Path(__file__).parents[2]
NAMES = ["cuda_cpu"] if "cuda_cpu" not in BACKENDS else []  # else test_ops and test_gradients run all of it
# Conversions of halves are text of the prelude, which all ops share.
HALVES = ("add", "relu", "softmax", "layer_norm_grad", "matmul", "conv2d", "max_pool2d", "cross_entropy", "take", "permute")


@pytest.fixture(scope="module")
def fibers() -> Backend:
    require("g++", build.missing())
    return cuda_cpu.backend()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("name", "op"), each(NAMES))
def test_op(name: str, op: Op, fibers: Backend, request: pytest.FixtureRequest) -> None:
    """The first sample: forward, and its gradient."""
    run([*forward_cases(fibers, [op], name, first(dtypes_of)), *gradient_cases(fibers, [op], name, first(gradient_dtypes))], request)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("name", "op"), each(NAMES, lambda op: op.samples and op.name in HALVES))
def test_halves(name: str, op: Op, fibers: Backend, request: pytest.FixtureRequest) -> None:
    run(forward_cases(fibers, [op], name, lambda op, sample: ("float16", "bfloat16") if sample is op.samples[0] else ()), request)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("name", "op"), each(NAMES))
def test_more_samples(name: str, op: Op, fibers: Backend, request: pytest.FixtureRequest) -> None:
    chosen = (on_first(dtypes_of, ("float16",)), later(dtypes_of, 2))
    run([*(case for c in chosen for case in forward_cases(fibers, [op], name, c)), *gradient_cases(fibers, [op], name, later(gradient_dtypes, 4))], request)


# -- what the shim itself must do ------------------------------------------------------------------------------------

SUM = """
extern "C" __global__ void pnn_sum(const float* x, float* y, int barrier, int leave) {
    __shared__ float s[256];
    const int t = threadIdx.x;
    if (t >= leave) return;
    s[t] = x[blockIdx.x * 256 + t];
    %s
    for (int span = 128; span > 0; span /= 2) {
        if (t < span) s[t] += s[t + span];
        %s
    }
    if (t == 0) y[blockIdx.x] = s[0];
}
"""
SYNC = "__syncthreads();"


def summed(text: str, *, reverse: bool = False, leave: int = 256) -> tuple[np.ndarray, np.ndarray]:
    require("g++", build.missing())
    kernel = build.Kernel("pnn_sum", text)
    x = np.random.default_rng(1).integers(0, 100, 1024).astype(np.float32)
    y = np.full(4, -1, np.float32)
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in (x, y)]
    kernel((4,), (256,), [*pointers, ctypes.c_int32(1), ctypes.c_int32(leave)], reverse)
    return y, x.reshape(4, 256).sum(1)


@pytest.mark.parametrize("reverse", [False, True])
def test_barriers(reverse: bool) -> None:
    np.testing.assert_array_equal(*summed(SUM % (SYNC, SYNC), reverse=reverse))


@pytest.mark.parametrize("syncs", [("", SYNC), (SYNC, ""), ("", "")], ids=["load", "loop", "both"])
def test_a_missing_barrier_shows(syncs: tuple[str, str]) -> None:
    """In at least one of the two orders; the suite runs both and compares."""
    wrong = []
    for reverse in (False, True):
        got, wanted = summed(SUM % syncs, reverse=reverse)
        wrong.append(not np.array_equal(got, wanted))
    assert any(wrong)


def test_divergence_is_reported() -> None:
    with pytest.raises(BackendError, match="barrier divergence: 200 of 256 threads"):
        summed(SUM % (SYNC, SYNC), leave=200)
    two_lines = SUM % (f"if (t < 100) {SYNC}\nelse {SYNC}", SYNC)
    with pytest.raises(BackendError, match="barrier divergence"):
        summed(two_lines)


def test_wrong_arguments_are_refused() -> None:
    require("g++", build.missing())
    kernel = build.Kernel("pnn_sum", SUM % (SYNC, SYNC))
    assert kernel.local_bytes == 1024
    with pytest.raises(BackendError, match="arguments have"):
        kernel((1,), (256,), [ctypes.c_int32(1)])
    with pytest.raises(BackendError, match="bytes of local memory"):
        build.Kernel("pnn_sum", (SUM % (SYNC, SYNC)).replace("s[256]", "s[25600]"))
    with pytest.raises(BackendError, match="nonsense"):
        build.Kernel("pnn_sum", SUM % ("nonsense;", ""))


# -- sanitizers --------------------------------------------------------------------------------------------------------


def sanitized(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment, why = environment_of_sanitizers()
    require("asan", why)
    command = [sys.executable, "-m", "cuda_cpu.sanitize", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment}, cwd=ROOT, timeout=1500)


@pytest.mark.slow
def test_sanitized() -> None:
    """One sample of every kernel, under the address and undefined-behaviour sanitizers."""
    done = sanitized()
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["kernels"] >= 25, report


@pytest.mark.parametrize("fault", ["global", "shared", "overflow"])
def test_the_sanitizer_finds(fault: str) -> None:
    done = sanitized("--fault", fault)
    assert done.returncode != 0
    expected = {"global": "heap-buffer-overflow", "shared": "out of bounds", "overflow": "signed integer overflow"}
    assert expected[fault] in done.stderr, done.stderr[-3000:]
