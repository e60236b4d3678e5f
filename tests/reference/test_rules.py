"""The rules of docs/numerics.md that no generated test states by itself, by hand, on every backend and both shapes of kernel."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cuda_cpu
import ml_dtypes
import numpy as np
import pytest
from conftest import SHAPES, VALUES, find
from cuda_cpu import build as cuda_build
from require import require

import portable_nn as pnn
from portable_nn import ops
from portable_nn.core.backend import Backend
from portable_nn.core.registry import OPS
from portable_nn.core.samples import A, Sample
from portable_nn.core.spec import Spec
from portable_nn.testing.check import check_op

ROOT = Path(__file__).parents[2]
PLACES = [*VALUES, *(name for name in SHAPES if not name.startswith("null")), "cuda_cpu"]
HALVES = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
INF, NAN = np.inf, np.nan


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Backend:
    if request.param == "cuda_cpu":
        require("g++", cuda_build.missing())
        return cuda_cpu.backend()
    return find(request.param)


def made(place: Backend, call: Any, *arrays: Any) -> Any:
    """Call with arrays on a backend; return the result on the host."""
    with pnn.use_backend(place):
        return place.to_numpy(call(*(place.from_numpy(np.asarray(a)) for a in arrays)))


# -- accumulation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_halves_are_summed_in_float32(place: Backend, dtype: str) -> None:
    """In its own type a sum of ones ends at 2048 (float16) or 256 (bfloat16): one more is rounded away."""
    n = 4096
    ones = np.ones((1, n), HALVES[dtype])
    for call, given in (
        (lambda x: ops.sum(x), (ones,)),
        (lambda x: ops.mean(x * n, axis=1), (ones,)),
        (lambda x, w: ops.linear(x, w), (ones, ones)),
        (lambda x: ops.cumulative_sum(x, 1)[:, n - 1], (ones,)),
        (lambda x, w: ops.conv2d(ops.reshape(x, (1, n, 1, 1)), ops.reshape(w, (1, n, 1, 1))), (ones, ones)),
        (lambda x, w: ops.conv2d_weight_grad(ops.reshape(x, (n, 1, 1, 1)), ops.reshape(w, (n, 1, 1, 1)), 1), (ones, ones)),
    ):
        np.testing.assert_array_equal(made(place, call, *given).astype(np.float64).reshape(-1), [n])


LONG = {  # op: operands and settings of a long sum
    "sum": (A((1 << 17,)),),
    "mean": (A((1 << 17,)),),
    "var": (A((1 << 16,), 10.0, 11.0),),
    "matmul": (A((1, 1 << 15)), A((1 << 15, 2))),
    "logsumexp": (A((2, 1 << 15)), 1),
    "softmax": (A((2, 1 << 15)), 1),
    "layer_norm": (A((2, 1 << 15)), 1 << 15),
    "cumulative_sum": (A((1 << 15,)),),
    "conv2d_weight_grad": (A((2, 1, 128, 128)), A((2, 1, 128, 128)), 1),
    "cross_entropy": (A((2, 1 << 15)), A((2,), dtype="int64", values=(5, 32000))),
    "mse_loss": (A((1 << 16,)), A((1 << 16,))),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", ["float32", "float16", pytest.param("bfloat16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", LONG)
def test_long_sums_stay_within_the_bound(place: Backend, name: str, dtype: str) -> None:
    """Tens of thousands of terms against the body in float64 on the exact operands: no naive sum passes."""
    check_op(OPS[name], Sample("long", LONG[name]), dtype, place)


# -- convolution and pooling --------------------------------------------------------------------------------------------


def test_convolution_is_cross_correlation(place: Backend) -> None:
    """Nothing is symmetric: a flipped filter gives 26 and 38, swapped axes other shapes, padding on the other side other ends."""
    x, w = np.array([[[[1.0, 2, 4, 8]]]], np.float32), np.array([[[[1.0, 10, 100]]]], np.float32)
    assert made(place, lambda x, w: ops.conv2d(x, w), x, w).reshape(-1).tolist() == [421, 842]
    both = made(place, lambda x, w: ops.conv2d(x, w, padding=((0, 0), (2, 1))), x, w)
    assert both.reshape(-1).tolist() == [100, 210, 421, 842, 84]
    g = np.array([[[[1.0, 3]]]], np.float32)
    assert made(place, lambda g, w: ops.conv2d_input_grad(g, w, (1, 4)), g, w).reshape(-1).tolist() == [1, 13, 130, 300]
    assert made(place, lambda x, g: ops.conv2d_weight_grad(x, g, (1, 3)), x, g).reshape(-1).tolist() == [7, 14, 28]


def test_pooling_with_dilation_and_asymmetric_padding(place: Backend) -> None:
    x = np.array([[[[3.0, 1, 2, 9, 0, 5, 4]]]], np.float32)
    dilated = made(place, lambda x: ops.max_pool2d(x, (1, 2), 1, 0, (1, 3)), x)
    assert dilated.reshape(-1).tolist() == [9, 1, 5, 9]
    padded = made(place, lambda x: ops.max_pool2d(x, (1, 2), 1, ((0, 0), (1, 0)), (1, 3)), x - 10)
    assert padded.reshape(-1).tolist() == [-8, -1, -9, -5, -1]  # the padding is left out, not zero
    y = np.array([[[[2.0, 4, 6]]]], np.float32)
    for include, wanted in ((True, [1, 3, 5]), (False, [2, 3, 5])):
        mean = made(place, lambda y, include=include: ops.avg_pool2d(y, (1, 2), 1, ((0, 0), (1, 0)), count_include_pad=include), y)
        assert mean.reshape(-1).tolist() == wanted


def test_the_first_of_equal_values_wins(place: Backend) -> None:
    """In the forward pass of pooling, argmax and sorting, and the whole gradient goes there."""
    x = np.array([[[[5.0, 5, 1], [5, 5, 1]]]], np.float32)
    assert made(place, pnn.grad(lambda x: ops.sum(ops.max_pool2d(x, 2, 1))), x).reshape(-1).tolist() == [1, 1, 0, 0, 0, 0]
    assert made(place, lambda x: ops.argmax(x), np.array([1.0, 7, 7], np.float32)) == 1
    assert made(place, lambda x: ops.argmin(x), np.array([1.0, -7, -7], np.float32)) == 1
    assert made(place, lambda x: ops.argmax(x), np.array([1.0, NAN, INF, NAN], np.float32)) == 1


# -- order ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["scatter_add", "index_add", "scatter_reduce", "take_grad", "embedding_grad"])
def test_terms_that_meet_are_added_in_order(place: Backend, how: str) -> None:
    """1e8 + 1 - 1e8 + 1 + 1 + 0.5 in float32 is 2.5 from the left, 0 from the right, 3.5 exactly."""
    src, index = np.array([1e8, 1, -1e8, 1, 1, 0.5], np.float32), np.zeros(6, np.int64)
    calls = {
        "scatter_add": lambda x, i, s: ops.scatter_add(x, 0, i, s),
        "index_add": lambda x, i, s: ops.index_add(x, 0, i, s),
        "scatter_reduce": lambda x, i, s: ops.scatter_reduce(x, 0, i, s, "sum"),
        "take_grad": lambda x, i, s: pnn.grad(lambda x: ops.sum(ops.take(x, i, 0) * s))(x),
        "embedding_grad": lambda x, i, s: ops.embedding_grad(ops.reshape(s, (6, 1)), i, 2)[:, 0],
    }
    assert made(place, calls[how], np.zeros(2, np.float32), index, src).tolist() == [2.5, 0]


# -- nothing is assumed ----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_no_fast_math(place: Backend) -> None:
    """A compiler that may assume finite numbers, drop signs of zeros or reorder would give other results."""
    x = np.array([INF, -INF, NAN, -0.0, 1.0], np.float32)
    np.testing.assert_array_equal(made(place, lambda x: x - x, x), [NAN, NAN, NAN, 0, 0])
    np.testing.assert_array_equal(made(place, lambda x: x * 0, x), [NAN, NAN, NAN, -0.0, 0])
    np.testing.assert_array_equal(made(place, lambda x: 1 / x, x), [0, -0.0, NAN, -INF, 1])
    np.testing.assert_array_equal(made(place, lambda x: x == x, x), [True, True, False, True, True])
    np.testing.assert_array_equal(made(place, lambda x: ops.isnan(x), x), [False, False, True, False, False])
    np.testing.assert_array_equal(np.signbit(made(place, lambda x: x * 1, x)), np.signbit(x))


def test_no_backend_asks_for_fast_math() -> None:
    """Every option that a backend passes to a compiler, read from its source."""
    forbidden = re.compile(r"fast[-_]?math|fast-relaxed|unsafe-math|finite-math|no-signed-zeros|mad-enable|denorms-are-zero|fastmath=True")
    files = [p for folder in ("opencl", "cupy", "numba") for p in (ROOT / "backends" / f"portable_nn_{folder}").rglob("*.py")]
    assert len(files) > 20
    for path in files:
        found = forbidden.findall("\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith(("#", "-", "*"))))
        assert not found, f"{path.name}: {found}"
    assert '"--fmad=false"' in (ROOT / "backends/portable_nn_cupy/programs.py").read_text()


def test_the_stride_of_an_axis_of_length_1_is_not_used(place: Backend) -> None:
    """Arrays as other libraries hand them over: any number may stand there."""
    alias = getattr(place, "alias", None)
    host = np.arange(1.0, 7.0, dtype=np.float32)
    if alias is None:
        x = np.lib.stride_tricks.as_strided(host, (1, 6, 1), (1 << 20, 4, 1 << 24))
    else:
        x = alias(place.from_numpy(host), Spec((1, 6, 1), host.dtype, (1 << 20, 1, 1 << 24)), 0)
    plain = host.reshape(1, 6, 1)
    for call in (
        lambda x: x + 1,
        lambda x: ops.sum(x, axis=1),
        lambda x: ops.softmax(x, 1),
        lambda x: ops.layer_norm(x, (6, 1)),
        lambda x: ops.matmul(x, ops.reshape(x, (1, 1, 6))),
        lambda x: ops.max_pool1d(x, 1),
        lambda x: ops.sort(x, axis=1, descending=True),
        lambda x: ops.cumulative_sum(x, 1),
        lambda x: ops.conv2d(ops.expand_dims(x, axis=0), ops.expand_dims(x, axis=0)),
    ):
        with pnn.use_backend(place):
            got = place.to_numpy(call(x))
        np.testing.assert_allclose(got, made(place, call, plain), rtol=1e-6)
