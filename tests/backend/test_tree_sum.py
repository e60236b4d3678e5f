"""TREE of c/tree.h: by exchanges of registers in warps and through local memory, the same bits, in every lane. And the shim's warps."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from cuda_cpu import build
from require import require

from portable_nn.core.errors import BackendError
from portable_nn_kernels.source import program_text

DTYPES = {"f32": np.float32, "f64": np.float64, "i32": np.int32, "i64": np.int64, "u32": np.uint32, "u64": np.uint64, "c64": np.complex64, "c128": np.complex128}
TEXT = """
#include "math.h"
#include "tree.h"
KERNEL(pnn_t, G, 1, 1)(IN(T, x), OUT(T, y)) {
    AT_IN(T, x);
    AT_OUT(T, y);
    LOCAL T lanes[G];
    const i64 lane = LOCAL_ID(0);
    for (i64 row = GROUP_ID(0) * 2; row < GROUP_ID(0) * 2 + 2; ++row) { /* twice: `lanes` must be free again */
        T value = x[row * G + lane];
        TREE(T, value, lanes, lane, G, F)
        y[row * G + lane] = value;
    }
}
"""


@pytest.fixture(autouse=True)
def _compiler() -> None:
    require("g++", build.missing())


def run(text: str, x: np.ndarray, group: int, reverse: bool = False) -> np.ndarray:
    y = np.full_like(x, 99)
    values = [v for a in (x, y) for v in (ctypes.c_void_p(a.ctypes.data), ctypes.c_int64(0))]
    build.Kernel("pnn_t", text)((len(x) // group // 2,), (group,), values, reverse)
    return y


def tree(x: np.ndarray, f: np.ufunc) -> np.ndarray:
    """Return f over the last axis in the order TREE promises."""
    while x.shape[-1] > 1:
        half = x.shape[-1] // 2
        x = f(x[..., :half], x[..., half:])
    return x


def program(tag: str, group: int, f: str, warps: bool = True) -> str:
    text = program_text(TEXT, (("T", tag), ("G", group), ("F", f)), "cuda")
    return text if warps else text.replace("#define PNN_WARP 32", "")


@pytest.mark.parametrize(("tag", "group"), [*(("f32", n) for n in (1, 16, 32, 256)), *((tag, 64) for tag in DTYPES)])
def test_sum(tag: str, group: int) -> None:
    rng = np.random.default_rng(3)
    x = (rng.standard_normal(4 * group) * 1000).astype(DTYPES[tag])
    if tag[0] == "c":
        x = x + DTYPES[tag](1j) * x[::-1]
    want = np.broadcast_to(tree(x.reshape(4, group), np.add), (4, group)).reshape(-1)
    for warps in (True, False):
        text = program(tag, group, f"CAT(pnn_add_, {tag})", warps)
        for reverse in (False, True):
            np.testing.assert_array_equal(run(text, x, group, reverse), want)


def test_maximum_of_nan_and_infinity() -> None:
    x = np.random.default_rng(4).standard_normal(4 * 64).astype(np.float32)
    x[70], x[130], x[140] = -np.inf, np.nan, np.inf
    want = x.reshape(4, 64).max(1, keepdims=True).repeat(64, 1).reshape(-1)
    assert np.isnan(want[128:192]).all()
    for warps in (True, False):
        np.testing.assert_array_equal(run(program("f32", 64, "pnn_max_f32", warps), x, 64), want)


@pytest.mark.parametrize("barrier", [0, 1])
def test_a_missing_barrier_of_the_tree_shows(barrier: int) -> None:
    """The first: lanes are read before they are written. The last: they are written again while others read."""
    full = program("f32", 256, "pnn_add_f32")
    start = full.index("        (lanes)[lane] = (value);", full.index("T tree_[8];"))
    parts = full[start:].split("BARRIER();")
    parts[barrier : barrier + 2] = [parts[barrier] + parts[barrier + 1]]
    faulty = full[:start] + "BARRIER();".join(parts)
    assert full.count("BARRIER();") == faulty.count("BARRIER();") + 1
    x = np.random.default_rng(5).integers(0, 100, 4 * 256).astype(np.float32)
    want = x.reshape(4, 256).sum(1).repeat(256)
    assert any(not np.array_equal(run(faulty, x, 256, reverse), want) for reverse in (False, True))


# -- the shim ------------------------------------------------------------------------------------------------------------

SHUFFLE = """
extern "C" __global__ void pnn_t(const float* x, long long, float* y, long long) {
    const int t = threadIdx.x, at = blockIdx.x * 2 * blockDim.x + t;
    float v = x[at] + x[at + blockDim.x];
    for (int far = 16; far; far /= 2) v += __shfl_xor_sync(0xffffffffu, v, far);
    %s
    y[at] = y[at + blockDim.x] = v + __shfl_sync(0xffffffffu, v, 3);
}
"""


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("between", ["", "__syncthreads();"], ids=["alone", "around a barrier"])
@pytest.mark.parametrize("threads", [32, 64, 256])
def test_shuffles(threads: int, between: str, reverse: bool) -> None:
    x = np.random.default_rng(6).integers(0, 100, 6 * threads).astype(np.float32)
    pairs = x.reshape(3, 2, threads).sum(1)
    want = 2 * pairs.reshape(3, -1, 32).sum(2).repeat(32, 1)
    np.testing.assert_array_equal(run(SHUFFLE % between, x, threads, reverse).reshape(3, 2, threads), np.stack([want, want], 1))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("between", "words"),
    [
        ("if (t > 40) return;", "of 32 threads"),
        ("if (t == 5) return;", "31 of 32 threads"),
        ("if (t < 32) __syncthreads();", "32 of 64 threads"),
        ("if (t % 2) __syncthreads();", "of 32 threads"),
        ("if (t % 2) v = __shfl_sync(0xffffffffu, v, 1);\n else", "16 of 32 threads"),
    ],
)
def test_divergence_within_a_warp_is_reported(between: str, words: str, reverse: bool) -> None:
    with pytest.raises(BackendError, match=f"barrier divergence: .*{words}"):
        run(SHUFFLE % between, np.zeros(128, np.float32), 64, reverse)


MMA = """
extern "C" __global__ void pnn_t(const unsigned* x, long long, unsigned* y, long long) {
    const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
    const unsigned *a = x, *b = x + 128; /* 16 x 8 words by rows, and 8 words x 8 by columns */
    const unsigned af[4] = {a[g * 8 + t], a[(g + 8) * 8 + t], a[g * 8 + t + 4], a[(g + 8) * 8 + t + 4]};
    const unsigned bf[2] = {b[g * 8 + t], b[g * 8 + t + 4]};
    float d[4] = {1, 2, 3, 4};
    pnn_mma(d, af, bf, HALVES, NUMBER, __LINE__);
    float* c = (float*)y;
    c[g * 8 + 2 * t] = d[0], c[g * 8 + 2 * t + 1] = d[1];
    c[(g + 8) * 8 + 2 * t] = d[2], c[(g + 8) * 8 + 2 * t + 1] = d[3];
}
"""


@pytest.mark.parametrize("kind", ["tf32", "f16", "bf16"])
def test_mma(kind: str) -> None:
    """Small integers are exact in all three, so that the product is NumPy's."""
    import ml_dtypes

    dtype = {"tf32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16}[kind]
    halves = 4 // np.dtype(dtype).itemsize
    rng = np.random.default_rng(7)
    a, b = rng.integers(-8, 9, (16, 8 * halves)), rng.integers(-8, 9, (8 * halves, 8))
    words = np.concatenate([a.astype(dtype).reshape(-1), b.T.astype(dtype).reshape(-1)]).view(np.uint32)
    x = np.concatenate([words, np.zeros(2 * 192 - len(words), np.uint32)])
    text = MMA.replace("HALVES", str(halves)).replace("NUMBER", f"pnn_number_{kind}")
    y = np.zeros_like(x)
    values = [v for z in (x, y) for v in (ctypes.c_void_p(z.ctypes.data), ctypes.c_int64(0))]
    start = np.tile([[1, 2]], (16, 4)) + np.array([0] * 8 + [2] * 8)[:, None]
    for reverse in (False, True):
        y[:] = 0
        build.Kernel("pnn_t", text)((1,), (32,), values, reverse)
        np.testing.assert_array_equal(y[:128].view(np.float32).reshape(16, 8), a @ b + start)
