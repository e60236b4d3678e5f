"""Convolutions of few output channels on CPUs: patches that hold part of a plane, and what is not a number stays where it belongs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import BACKENDS, find

import portable_nn as pnn
from portable_nn import ops

pytestmark = pytest.mark.skipif("opencl" not in BACKENDS, reason="kernels in OpenCL alone")
_SMALL = {"cpu.conv.patch": 512, "cpu.conv.work": 1 << 40}  # a patch of the fewest rows, and one work-item


def computed(f: Callable[..., Any], *given: Any, sizes: dict[str, int] | None = None) -> tuple[Any, Any]:
    """Return what the device and what NumPy's reference make of it."""
    there = find("opencl")
    there.use_sizes(sizes or {})
    try:
        made = pnn.to_numpy(f(*(pnn.asarray(x, backend=there) for x in given)))
    finally:
        there.use_sizes({})
    with np.errstate(invalid="ignore"):
        return made, pnn.to_numpy(f(*(pnn.asarray(x, backend=find("numpy")) for x in given)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize(("channels", "padding", "stride", "dilation"), [(6, 2, 1, 1), (1, (1, 0), (3, 1), (2, 1)), (4, (4, 1), (1, 1), (3, 1))])
def test_patches_of_few_rows(rng: np.random.Generator, dtype: Any, channels: int, padding: Any, stride: Any, dilation: Any) -> None:
    x, w = (rng.standard_normal(shape).astype(dtype) for shape in ((2, 3, 29, 19), (channels, 3, 5, 3)))
    settings = {"stride": stride, "padding": padding, "dilation": dilation}
    near = {"rtol": 2e-2, "atol": 5e-2} if dtype is np.float16 else {"rtol": 1e-4, "atol": 1e-4}
    made, y = computed(lambda x, w: ops.conv2d(x, w, **settings), x, w, sizes=_SMALL)
    np.testing.assert_allclose(made, y, **near)
    g = rng.standard_normal(y.shape).astype(dtype)
    made, wanted = computed(lambda x, g: ops.conv2d_weight_grad(x, g, (5, 3), **settings), x, g, sizes=_SMALL)
    np.testing.assert_allclose(made, wanted, **{**near, "atol": near["atol"] * 20})
    # Made of `channels` channels and of three: the input gradient of the convolution that goes the other way.
    back = {"stride": stride, "padding": padding, "dilation": dilation}
    made, wanted = computed(lambda g, w: ops.conv2d_input_grad(g, w, (29, 19), **back), g, w, sizes=_SMALL)
    np.testing.assert_allclose(made, wanted, **near)


@pytest.mark.parametrize("columns", [13, 25, 80])
@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_weight_gradient_keeps_to_its_taps(rng: np.random.Generator, columns: int, bad: float) -> None:
    """An image's last column is read by the last tap of a row alone: what is there must not meet the zeros behind the others' cotangents."""
    x = rng.standard_normal((2, 1, 3, columns)).astype(np.float32)
    x[0, 0, :, -1] = bad
    g = np.abs(rng.standard_normal((2, 4, 3, columns - 2))).astype(np.float32) + 0.1
    made, wanted = computed(lambda x, g: ops.conv2d_weight_grad(x, g, (1, 3)), x, g)
    assert np.isfinite(wanted[..., :2]).all()
    assert not np.isfinite(wanted[..., 2]).any()
    np.testing.assert_allclose(made, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("columns", [9, 33])
def test_images_keep_to_their_windows(rng: np.random.Generator, columns: int) -> None:
    x = rng.standard_normal((2, 2, 7, columns)).astype(np.float32)
    x[0, 1, 3, 4], x[1, 0, 6, columns - 1] = np.nan, np.inf
    w = np.abs(rng.standard_normal((5, 2, 3, 3))).astype(np.float32) + 0.1
    made, wanted = computed(lambda x, w: ops.conv2d(x, w, padding=1), x, w)
    assert np.isfinite(wanted).sum() > wanted.size // 2
    np.testing.assert_allclose(made, wanted, rtol=1e-5, atol=1e-5)
