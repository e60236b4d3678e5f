"""Tensor-core GEMM: only where it was asked for, right values on the CPU (the shim computes what mma.sync does), legal for NVRTC."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from cuda_cpu import build
from cuda_cpu.engine import PROFILE, CudaOnCpu
from offline import VENDORS
from offline.programs import Program
from require import require

import portable_nn as pnn
from portable_nn.core.errors import SettingError
from portable_nn.core.selection import use_backend
from portable_nn_kernels.launch import Launch
from portable_nn_null import NullBackend

HOPPER = replace(PROFILE, capability=90)
LOW = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


@pytest.fixture(autouse=True)
def _highest() -> Iterator[None]:
    yield
    pnn.set_float32_matmul_precision("highest")


def launches(profile=HOPPER, m=64, n=64, k=64, dtype="float32") -> list[Launch]:
    null = NullBackend(profile)
    a, b = (null.from_numpy(np.zeros(shape, dtype)) for shape in ((m, k), (k, n)))
    with use_backend(null), null.recording() as made:
        pnn.ops.matmul(a, b)
    return [r.launch for r in made]


def test_the_setting() -> None:
    assert pnn.get_float32_matmul_precision() == "highest"
    pnn.set_float32_matmul_precision("high")
    assert pnn.get_float32_matmul_precision() == "high"
    with pytest.raises(SettingError, match="'medium' was given; it must be one of 'highest', 'high'"):
        pnn.set_float32_matmul_precision("medium")
    assert pnn.get_float32_matmul_precision() == "high"


def test_only_where_it_was_asked_for() -> None:
    null = NullBackend(HOPPER)
    a = null.from_numpy(np.zeros((64, 64), np.float32))

    def kernel() -> str:
        with use_backend(null), null.recording() as made:
            pnn.ops.matmul(a, a)
        return made[0].launch.kernel

    found = [kernel()]
    for level in ("high", "highest", "high"):  # prepared calls do not keep the old level
        pnn.set_float32_matmul_precision(level)
        found += [kernel(), kernel()]
    assert found == ["pnn_gemm_tiled", *["pnn_gemm_mma"] * 2, *["pnn_gemm_tiled"] * 2, *["pnn_gemm_mma"] * 2]


@pytest.mark.parametrize(
    "case",
    [
        {"profile": replace(PROFILE, capability=75)},
        {"profile": PROFILE},  # other vendors, OpenCL, numba
        {"profile": replace(HOPPER, shape="cpu")},
        {"dtype": "float64"},
        {"dtype": "int32"},
        {"m": 15},
        {"k": 7},
    ],
    ids=str,
)
def test_where_it_does_not_serve(case: dict[str, object]) -> None:
    pnn.set_float32_matmul_precision("high")
    assert all(launch.kernel != "pnn_gemm_mma" for launch in launches(**case))


def test_groups_are_within_limits() -> None:
    pnn.set_float32_matmul_precision("high")
    for size in (16, 64, 200, 1000):
        for dtype in ("float32", *LOW.values()):
            made = launches(m=size, n=size, k=size, dtype=dtype)
            assert made[0].kernel == "pnn_gemm_mma"
            assert made[0].size[0] <= 256


# -- values --------------------------------------------------------------------------------------------------------------


def tf32(x: np.ndarray) -> np.ndarray:
    """Return x rounded to 11 significant bits, halves away from zero."""
    bits = x.astype(np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    return np.where(np.isfinite(x), rounded.view(np.float32), x)


def check(a: np.ndarray, b: np.ndarray, got: np.ndarray, bias: np.ndarray | float = 0, finish=lambda x: x) -> None:
    """Compare with the float64 product of what the cores were given.

    Sums are rounded to float32 once for every 8 or 16 terms, once per part of a split K, and after the bias.
    """
    rounded = tf32 if a.dtype == np.float32 else (lambda x: x)
    exact_a, exact_b = (rounded(x).astype(np.float64) for x in (a, b))
    size = np.abs(exact_a) @ np.abs(exact_b) + np.abs(bias)
    steps = a.shape[-1] / 8 + 8
    eps = float(ml_dtypes.finfo(a.dtype).eps) if a.dtype != np.float32 else 0.0
    want = finish(exact_a @ exact_b + bias)
    assert got.dtype == a.dtype
    off = np.abs(got.astype(np.float64) - want) - (steps * 2.0**-24 * size + eps * np.abs(want))
    assert off.max() <= 0, f"off by {off.max()} too much"


def fibers(order: str) -> CudaOnCpu:
    require("g++", build.missing())
    pnn.set_float32_matmul_precision("high")
    backend = CudaOnCpu(order, profile=HOPPER)
    backend.launched = []
    return backend


@pytest.mark.parametrize("order", ["forward", "reverse"])
@pytest.mark.parametrize("dtype", ["float32", *LOW])
@pytest.mark.parametrize("shape", [(16, 16, 8), (65, 47, 33), (40, 30, 600)], ids=str)
def test_values(shape: tuple[int, int, int], dtype: str, order: str) -> None:
    backend = fibers(order)
    m, n, k = shape
    rng = np.random.default_rng(11)
    a, b = (rng.standard_normal(s).astype(LOW.get(dtype, np.float32)) for s in ((m, k), (k, n)))
    got = backend.to_numpy(pnn.ops.matmul(backend.from_numpy(a), backend.from_numpy(b)))
    check(a, b, got)
    assert backend.launched[0] == "pnn_gemm_mma"
    assert ("pnn_gemm_split_sum" in backend.launched) == (k == 600)


def test_any_strides_batches_bias_and_epilogue() -> None:
    backend = fibers("forward")
    rng = np.random.default_rng(12)
    a, b = rng.standard_normal((3, 20, 37)).astype(np.float32), rng.standard_normal((37, 18)).astype(np.float32)
    left = pnn.ops.matmul(backend.from_numpy(a), backend.from_numpy(b))
    check(a, b, backend.to_numpy(left))
    flipped = pnn.xp.permute_dims(backend.from_numpy(np.ascontiguousarray(a[0].T)), (1, 0))
    check(a[0], b, backend.to_numpy(pnn.ops.matmul(flipped, backend.from_numpy(b))))
    bias = rng.standard_normal(18).astype(np.float32)
    y = pnn.ops.linear_act(backend.from_numpy(a[0]), backend.from_numpy(np.ascontiguousarray(b.T)), backend.from_numpy(bias), activation="relu")
    check(a[0], b, backend.to_numpy(y), bias.astype(np.float64), lambda x: np.maximum(x, 0))
    assert {"pnn_gemm_mma"} == {name for name in backend.launched if "gemm" in name}


def test_rounding_to_tf32() -> None:
    """Halves go away from zero; NaN, infinity and zero stay. By a product with the identity, which is exact."""
    backend = fibers("forward")
    one = np.float32(1)
    step = np.float32(2.0**-10)  # between neighbours of TF32 above 1
    x = np.zeros((16, 16), np.float32)
    x[0, :6] = one + step / 2, one + step * np.float32(0.499), -(one + step / 2), 3e38, 1e-39, -0.0
    got = backend.to_numpy(pnn.ops.matmul(backend.from_numpy(x), backend.from_numpy(np.eye(16, dtype=np.float32))))
    np.testing.assert_array_equal(got[0, :4], np.array([1 + step, 1, -(1 + step), tf32(x[0, 3:4])[0]], np.float32))
    np.testing.assert_array_equal(got, tf32(x))
    x[0, 0], x[1, 1] = np.nan, np.inf
    got = backend.to_numpy(pnn.ops.matmul(backend.from_numpy(x), backend.from_numpy(np.ones((16, 16), np.float32))))
    assert np.isnan(got[0]).all()
    assert (got[1] == np.inf).all()


# -- NVIDIA's compiler -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", *LOW])
def test_it_compiles_and_does_not_spill(dtype: str) -> None:
    nvidia = VENDORS["nvidia"]
    require("nvrtc", nvidia.missing())
    pnn.set_float32_matmul_precision("high")
    for size in (64, 1000):
        launch = launches(m=size, n=size, k=64, dtype=LOW.get(dtype, dtype))[0]
        program = Program(launch.source, launch.defines, {launch.kernel: launch.size[0]}, "matmul")
        for target in nvidia.TARGETS[1:]:
            (r,) = nvidia.compiled(program.text(target), target, program.items)
            assert (r.figures["spill"], r.figures["private"]) == (0, 0), (target, r)
            assert r.figures["local"] <= 32 * 1024
