"""Convolution against hand-computed numbers, SciPy, plain loops, and the adjointness of its gradients, on every backend and both
kernel shapes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.signal import correlate

import portable_nn as pnn
from portable_nn import ops
from portable_nn.core.geometry import conv_window
from portable_nn.core.registry import OPS
from portable_nn.core.selection import get

NAMES = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")
Values = npt.NDArray[np.float64]


def _forget() -> None:
    for name in NAMES:
        OPS[name]._cache.clear()


@pytest.fixture(params=["numpy", "opencl", "opencl, GPU-shaped"], scope="module")
def place(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A function that brings an array to a backend; the last backend plans as for a GPU, wherever it runs."""
    name, _, gpu = request.param.partition(",")
    backend: Any = get(name)
    profile = getattr(backend, "profile", None)
    _forget()
    if gpu:
        backend.profile = replace(profile, shape="gpu")
    yield lambda x: pnn.asarray(x, backend=name)
    if gpu:
        backend.profile = profile
    _forget()


def test_golden(place: Any) -> None:
    """Nothing is symmetric here: a flipped filter, swapped axes or misplaced padding would give other numbers."""
    x = place(np.array([[[[1.0, 2, 3], [4, 5, 6]]]], np.float32))
    w = place(np.array([[[[1.0, 10], [100, 1000]]]], np.float32))
    assert pnn.to_numpy(ops.conv2d(x, w)).tolist() == [[[[5421.0, 6532.0]]]]
    bias = place(np.array([0.5], np.float32))
    padded = pnn.to_numpy(ops.conv2d(x, w, bias, padding=((1, 0), (0, 2))))
    assert padded.tolist() == [[[[2100.5, 3200.5, 300.5, 0.5], [5421.5, 6532.5, 603.5, 0.5]]]]
    g = place(np.array([[[[1.0, 2]]]], np.float32))
    assert pnn.to_numpy(ops.conv2d_input_grad(g, w, (2, 3))).tolist() == [[[[1.0, 12, 20], [100, 1200, 2000]]]]
    assert pnn.to_numpy(ops.conv2d_weight_grad(x, g, 2)).tolist() == [[[[5.0, 8], [14, 17]]]]


def test_scipy(place: Any) -> None:
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((2, 3, 9, 21)), rng.standard_normal((18, 3, 4, 3))
    truth = [[sum(correlate(image[c], f[c], "valid") for c in range(3)) for f in w] for image in x]
    np.testing.assert_allclose(pnn.to_numpy(ops.conv2d(place(x), place(w))), truth, rtol=1e-12, atol=1e-12)


def _loops(x: Values, w: Values, stride: tuple[int, int], pads: Any, dilation: tuple[int, int], groups: int) -> Values:
    (n, _, height, width), (o, per, kh, kw) = x.shape, w.shape
    h, v = conv_window("conv2d", (height, width), (kh, kw), stride, pads, dilation)
    y = np.zeros((n, o, h.out, v.out))
    for b, f, i, j, d, p, q in product(*map(range, (n, o, h.out, v.out, per, kh, kw))):
        row, col = i * stride[0] + p * dilation[0] - pads[0][0], j * stride[1] + q * dilation[1] - pads[1][0]
        if 0 <= row < height and 0 <= col < width:
            y[b, f, i, j] += w[f, d, p, q] * x[b, f // (o // groups) * per + d, row, col]
    return y


small = st.integers(1, 3)
pad = st.tuples(st.integers(0, 3), st.integers(0, 3))


@given(
    n=st.integers(1, 2), groups=small, per=small, outs=st.sampled_from([1, 2, 4, 5]), size=st.tuples(st.integers(1, 7), st.integers(1, 12)),
    kernel=st.tuples(small, small), stride=st.tuples(small, small), pads=st.tuples(pad, pad), dilation=st.tuples(small, small),
)  # fmt: skip
@settings(max_examples=60, deadline=None, derandomize=True)
def test_loops_and_adjoints(place: Any, n: int, groups: int, per: int, outs: int, size: tuple[int, int], kernel: tuple[int, int],
                            stride: tuple[int, int], pads: Any, dilation: tuple[int, int]) -> None:  # fmt: skip
    assume(all(s + sum(p) > d * (k - 1) for s, p, d, k in zip(size, pads, dilation, kernel, strict=True)))
    rng = np.random.default_rng(hash((size, kernel, stride)) % 2**32)
    x, w = rng.standard_normal((n, groups * per, *size)), rng.standard_normal((groups * outs, per, *kernel))
    how: dict[str, Any] = {"stride": stride, "padding": pads, "dilation": dilation, "groups": groups}
    y = pnn.to_numpy(ops.conv2d(place(x), place(w), **how))
    np.testing.assert_allclose(y, _loops(x, w, stride, pads, dilation, groups), rtol=1e-12, atol=1e-12)
    g = rng.standard_normal(y.shape)
    dx = pnn.to_numpy(ops.conv2d_input_grad(place(g), place(w), size, **how))
    dw = pnn.to_numpy(ops.conv2d_weight_grad(place(x), place(g), kernel, **how))
    product_of_both = float((y * g).sum())  # <conv(x, w), g> = <x, input_grad(g, w)> = <w, weight_grad(x, g)>
    scale = 1e-12 * (1 + float(np.abs(y * g).sum()) + float(np.abs(x).sum() * np.abs(g).sum()))
    assert abs(float((x * dx).sum()) - product_of_both) < scale
    assert abs(float((w * dw).sum()) - product_of_both) < scale


@pytest.mark.parametrize(("padding", "wanted"), [("same", (5, 6)), ("valid", (2, 4)), (1, (4, 6)), ((0, 2), (2, 8))])
def test_sizes(padding: Any, wanted: tuple[int, int]) -> None:
    h, w = conv_window("conv2d", (5, 6), (4, 3), 1, padding, 1)
    assert (h.out, w.out) == wanted


def test_channels_last_is_kept(place: Any) -> None:
    x = np.random.default_rng(0).standard_normal((2, 5, 4, 6)).astype(np.float32)
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    w = np.random.default_rng(1).standard_normal((16, 5, 3, 3)).astype(np.float32)
    plain, kept = ops.conv2d(place(x), place(w), padding=1), ops.conv2d(ops.permute(place(np.moveaxis(last, 1, -1)), (0, 3, 1, 2)), place(w), padding=1)
    np.testing.assert_allclose(pnn.to_numpy(kept), pnn.to_numpy(plain), rtol=1e-5, atol=1e-5)
    if hasattr(kept, "spec"):
        assert kept.spec.strides == (4 * 6 * 16, 1, 6 * 16, 16)
