"""Pooling against hand-computed numbers, plain loops and adjointness; PyTorch's rules for sizes, ties and NaN."""

from __future__ import annotations

from itertools import pairwise
from math import ceil, floor, inf, isnan, nan
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import portable_nn as pnn
from portable_nn import ops
from portable_nn.core.geometry import adaptive_bounds, pool_axes


@pytest.fixture(params=["numpy", "opencl"])
def place(request: pytest.FixtureRequest) -> Any:
    return lambda x: pnn.asarray(x, backend=request.param)


def _index(x: Any, *args: Any, **how: Any) -> list[int]:
    (_, index), _ = ops.max_pool2d.apply((x, *args), how, True)
    return [int(i) for i in pnn.to_numpy(index).reshape(-1)]


def test_golden(place: Any) -> None:
    x = place(np.array([[[[1.0, 2, 3], [4, 5, 6], [7, 8, 9.5]]]], np.float32))
    assert pnn.to_numpy(ops.max_pool2d(x, 2, 1)).tolist() == [[[[5, 6], [8, 9.5]]]]
    assert pnn.to_numpy(ops.max_pool2d(x, 2, ceil_mode=True)).tolist() == [[[[5, 6], [8, 9.5]]]]
    assert pnn.to_numpy(ops.avg_pool2d(x, 2, padding=1)).tolist() == [[[[0.25, 1.25], [2.75, 7.125]]]]
    without = pnn.to_numpy(ops.avg_pool2d(x, 2, padding=1, count_include_pad=False))
    assert without.tolist() == [[[[1, 2.5], [5.5, 7.125]]]]
    assert pnn.to_numpy(ops.adaptive_avg_pool2d(x, (2, 1))).tolist() == [[[[3.5], [6.583333492279053]]]]
    assert pnn.to_numpy(ops.global_max_pool2d(x)).tolist() == [[[[9.5]]]]


def test_first_maximum_and_first_nan_win(place: Any) -> None:
    x = place(np.array([[[[1, 1, 0, nan], [1, 1, nan, 5], [-inf, -inf, inf, 2], [-inf, -inf, 2, inf]]]], np.float32))
    y = pnn.to_numpy(ops.max_pool2d(x, 2)).reshape(-1)
    assert (y[0], isnan(y[1]), y[2], y[3]) == (1, True, -inf, inf)
    assert _index(x, 2) == [0, 1, 0, 0]


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "ceil_mode", "wanted"),
    [(5, 2, 2, 0, False, 2), (5, 2, 2, 0, True, 3), (4, 2, 3, 1, True, 2), (6, 3, 2, 1, True, 4), (5, 2, 3, 1, True, 2), (2, 3, 2, 0, True, 1)],
)
def test_a_window_starts_inside_input_or_left_padding(size: int, kernel: int, stride: int, padding: int, ceil_mode: bool, wanted: int) -> None:
    assert pool_axes("max_pool2d", (size, size), kernel, stride, padding, 1, ceil_mode)[0].out == wanted


@given(size=st.integers(1, 40), out=st.integers(1, 40))
def test_adaptive_windows_cover_the_input(size: int, out: int) -> None:
    bounds = [adaptive_bounds(i, size, out) for i in range(out)]
    assert bounds == [(floor(i * size / out), ceil((i + 1) * size / out)) for i in range(out)]
    assert (bounds[0][0], bounds[-1][1]) == (0, size)
    assert all(after[0] <= before[1] for before, after in pairwise(bounds))


@given(
    size=st.tuples(st.integers(1, 8), st.integers(1, 24)), kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)), stride=st.integers(1, 3),
    pads=st.tuples(st.integers(0, 2), st.integers(0, 2)), ceil_mode=st.booleans(), include=st.booleans(),
)  # fmt: skip
@settings(max_examples=50, deadline=None, derandomize=True)
@pytest.mark.parametrize("name", ["numpy", "opencl"])
def test_loops_and_adjoints(name: str, size: tuple[int, int], kernel: tuple[int, int], stride: int, pads: tuple[int, int], ceil_mode: bool,
                            include: bool) -> None:  # fmt: skip
    assume(all(2 * p <= k and s + 2 * p >= k for p, k, s in zip(pads, kernel, size, strict=True)))
    rng = np.random.default_rng(size[0] * 31 + size[1])
    x = rng.permutation(2 * size[0] * size[1]).reshape(1, 2, *size).astype(np.float32)
    h, w = pool_axes("max_pool2d", size, kernel, stride, pads, 1, ceil_mode)
    largest, mean = np.full((1, 2, h.out, w.out), -inf), np.zeros((1, 2, h.out, w.out))
    for i in range(h.out):
        for j in range(w.out):
            top, left = i * stride - pads[0], j * stride - pads[1]
            window = x[:, :, max(top, 0) : top + kernel[0], max(left, 0) : left + kernel[1]].astype(np.float64)
            high = min(top + kernel[0], size[0] + pads[0]) - top
            wide = min(left + kernel[1], size[1] + pads[1]) - left
            largest[:, :, i, j] = window.max((2, 3))
            mean[:, :, i, j] = window.sum((2, 3)) / (high * wide if include else window.shape[2] * window.shape[3])
    there = pnn.asarray(x, backend=name)
    (y, index), _ = ops.max_pool2d.apply((there, kernel, stride, pads), {"ceil_mode": ceil_mode}, True)
    assert (pnn.to_numpy(y) == largest).all()
    averaged = pnn.to_numpy(ops.avg_pool2d(there, kernel, stride, pads, ceil_mode, include))
    np.testing.assert_allclose(averaged, mean, rtol=1e-5)
    g = rng.integers(-4, 5, largest.shape).astype(np.float32)
    dx = pnn.to_numpy(ops.max_pool2d_grad(pnn.asarray(g, backend=name), index, size, kernel, stride, pads, 1, ceil_mode))
    assert (dx * x).sum(dtype=np.float64) == (g * largest).sum(dtype=np.float64)
    dx = pnn.to_numpy(ops.avg_pool2d_grad(pnn.asarray(g, backend=name), size, kernel, stride, pads, ceil_mode, include))
    np.testing.assert_allclose((dx * x).sum(dtype=np.float64), (g * mean).sum(), rtol=1e-4, atol=1e-2)
