"""Fixed-window pooling by slices: one strided slice of the image per window position, instead of the bodies' index arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from portable_nn.core.geometry import Axis, Window, divisors, index_dtype, pair, pool_axes
from portable_nn.core.registry import find

Array = npt.NDArray[Any]


def _ranges(axis: Axis) -> list[tuple[slice, slice] | None]:
    """Return, for each window position, which outputs it lies inside the input for, and the input slice they read."""
    found: list[tuple[slice, slice] | None] = []
    for k in range(axis.kernel):
        offset = k * axis.dilation - axis.before
        first = max(0, -(offset // axis.stride))
        last = min(axis.out - 1, (axis.size - 1 - offset) // axis.stride)
        if last < first:
            found.append(None)
            continue
        start = first * axis.stride + offset
        found.append((slice(first, last + 1), slice(start, start + (last - first) * axis.stride + 1, axis.stride)))
    return found


def _slices(window: Window) -> Iterator[tuple[int, tuple[Any, ...], tuple[Any, ...]]]:
    """Yield (number of the position, output slices, input slices)."""
    columns = _ranges(window[1])
    for p, row in enumerate(_ranges(window[0])):
        for q, col in enumerate(columns):
            if row is not None and col is not None:
                yield p * window[1].kernel + q, (..., row[0], col[0]), (..., row[1], col[1])


def max_pool2d(x: Array, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> tuple[Array, Array]:
    """Return the maxima and the winners' numbers."""
    window = pool_axes("max_pool2d", x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    h, w = window
    shape = (*x.shape[:2], h.out, w.out)
    best, index = np.full(shape, -np.inf, x.dtype), np.zeros(shape, index_dtype(window))
    # Where -inf is all a window holds, its first position inside the input wins.
    unseen = np.ones((h.out, w.out), np.bool_) if not np.isfinite(x.min(initial=0.0)) else None
    for number, out, at in _slices(window):
        value, mine = x[at], best[out]
        better = ~(value <= mine) & (mine == mine)  # a NaN beats numbers, and nothing beats a NaN
        if unseen is not None:
            better |= unseen[out[1:]]
            unseen[out[1:]] = False
        np.copyto(mine, value, where=better)
        np.copyto(index[out], index.dtype.type(number), where=better)
    return best, index


def max_pool2d_grad(
    g: Array, index: Array, input_size: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> Array:
    """Return each cotangent at its winner."""
    size = pair("max_pool2d_grad", "input_size", input_size, 0)
    window = pool_axes("max_pool2d_grad", size, kernel_size, stride, padding, dilation, ceil_mode)
    dx = np.zeros((*g.shape[:2], *size), g.dtype)
    for number, out, at in _slices(window):
        shown = dx[at]
        shown += np.where(index[out] == number, g[out], g.dtype.type(0))
    return dx


def avg_pool2d(x: Array, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool, count_include_pad: bool) -> Array:
    """Return the means."""
    window = pool_axes("avg_pool2d", x.shape[2:], kernel_size, stride, padding, 1, ceil_mode)
    total = np.zeros((*x.shape[:2], window[0].out, window[1].out), x.dtype)
    for _, out, at in _slices(window):
        shown = total[out]
        shown += x[at]
    total /= divisors(window, count_include_pad).astype(x.dtype)
    return total


def avg_pool2d_grad(
    g: Array, input_size: Any, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool, count_include_pad: bool
) -> Array:
    """Return the shares of every window added up."""
    size = pair("avg_pool2d_grad", "input_size", input_size, 0)
    window = pool_axes("avg_pool2d_grad", size, kernel_size, stride, padding, 1, ceil_mode)
    share = g / divisors(window, count_include_pad).astype(g.dtype)
    dx = np.zeros((*g.shape[:2], *size), g.dtype)
    for _, out, at in _slices(window):
        shown = dx[at]
        shown += share[out]
    return dx


def adaptive_avg_pool2d(x: Array, output_size: Any) -> Array:
    """Return the mean of whole planes where that is asked; the body otherwise."""
    if output_size in (1, (1, 1)):
        return np.asarray(x.mean(axis=(2, 3), keepdims=True))
    return np.asarray(find("adaptive_avg_pool2d").body(x, output_size))
