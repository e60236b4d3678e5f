"""Pooling with any number of spatial axes: the shape rules and reference bodies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from itertools import product
from math import prod
from typing import Any

import numpy as np

from ..core import dtypes
from ..core.call import Call
from ..core.errors import DTypeError, ShapeError
from ..core.geometry import (
    Axis,
    channels_last,
    divisors,
    index_dtype,
    ints,
    is_channels_last,
    pool_axes,
    pool_axes_of,
    positions,
)
from ..core.spec import Spec
from .conv_any import form

Axes = tuple[Axis, ...]
Host = np.ndarray[Any, Any]


def check(name: str, operand: str, spec: Spec, rank: int) -> None:
    """Raise unless `spec` is floating and has `rank` spatial axes."""
    if spec.ndim != rank + 2:
        raise ShapeError(f"{name}: {operand} has shape {spec.shape} but {rank + 2} axes {form('N, C', rank)} are needed; reshape it")
    if not dtypes.is_float(spec.dtype):
        raise DTypeError(f"{name}: {operand} is {spec.dtype.name} but a floating dtype is needed; convert it with astype")


def _check_grad(name: str, g: Spec, axes: Axes) -> None:
    check(name, "g", g, len(axes))
    made = tuple(a.out for a in axes)
    if g.shape[2:] != made:
        raise ShapeError(
            f"{name}: g has shape {g.shape} but pooling an input of {tuple(a.size for a in axes)} so gives (N, C, {', '.join(map(str, made))}); "
            f"pass the settings of the forward call"
        )


def check_index(name: str, g: Spec, index: Spec, axes: Axes) -> None:
    """Raise unless `index` is the index that goes with `g`."""
    if index.shape != g.shape:
        raise ShapeError(f"{name}: index has shape {index.shape} but g has {g.shape}; pass the index of the forward call")
    if index.dtype != index_dtype(axes):
        raise DTypeError(f"{name}: index is {index.dtype.name} but windows of this size have {index_dtype(axes).name}")


def like(x: Spec, size: Sequence[int], dtype: dtypes.DType | None = None) -> Spec:
    """Return the spec of x's images in another size: channels-last if those are, C order otherwise."""
    shape, kind = (*x.shape[:2], *size), dtype or x.dtype
    return channels_last(shape, kind) if is_channels_last(x) else Spec(shape, kind)


def pooled(x: Spec, axes: Axes, dtype: dtypes.DType | None = None) -> Spec:
    """Return the spec of what pooling makes of x."""
    return like(x, [a.out for a in axes], dtype)


def max_out(name: str, rank: int) -> Callable[..., tuple[Spec, Spec]]:
    """Return the shape rule of a maximum: y and index."""

    def out(x: Spec, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any) -> tuple[Spec, Spec]:
        check(name, "x", x, rank)
        axes = pool_axes(name, x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
        return pooled(x, axes), pooled(x, axes, index_dtype(axes))

    return out


def max_grad_out(name: str, rank: int) -> Callable[..., Spec]:
    """Return the shape rule of a maximum's gradient."""

    def out(g: Spec, index: Spec, input_size: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any) -> Spec:
        size = ints(name, "input_size", input_size, rank, 0)
        axes = pool_axes(name, size, kernel_size, stride, padding, dilation, ceil_mode)
        _check_grad(name, g, axes)
        check_index(name, g, index, axes)
        return like(g, size)

    return out


def avg_out(name: str, rank: int) -> Callable[..., Spec]:
    """Return the shape rule of a mean."""

    def out(x: Spec, kernel_size: Any, stride: Any, padding: Any, ceil_mode: Any, count_include_pad: Any) -> Spec:
        check(name, "x", x, rank)
        axes = pool_axes(name, x.shape[2:], kernel_size, stride, padding, 1, ceil_mode)
        return pooled(x, axes)

    return out


def avg_grad_out(name: str, rank: int) -> Callable[..., Spec]:
    """Return the shape rule of a mean's gradient."""

    def out(g: Spec, input_size: Any, kernel_size: Any, stride: Any, padding: Any, ceil_mode: Any, count_include_pad: Any) -> Spec:
        size = ints(name, "input_size", input_size, rank, 0)
        _check_grad(name, g, pool_axes(name, size, kernel_size, stride, padding, 1, ceil_mode))
        return like(g, size)

    return out


def taps(call: Call) -> int:
    """Return the number of positions of a window."""
    return max(1, prod(a.kernel for a in pool_axes_of(call)))


def covering(call: Call) -> int:
    """Return how many windows cover one input position, at most."""
    return prod(-(-a.kernel // a.stride) if a.stride else -(-a.out // max(a.size, 1)) + 1 for a in pool_axes_of(call))


def forward_flops(call: Call) -> int:
    """Return one operation per position of each window."""
    return call.outputs[0].size * taps(call)


def grad_flops(call: Call) -> int:
    """Return one addition per element of g (maximum) or per position of each window (mean)."""
    return call.spec(0).size * (1 if "max" in call.op else taps(call))


def _windows(axes: Axes) -> Iterator[tuple[int, Any, Host]]:
    """Yield, per position of a window: its number, the input positions of all windows, and which of them are inside."""
    found = [positions(a) for a in axes]
    for number, place in enumerate(product(*(range(a.kernel) for a in axes))):
        at = np.ix_(*(f[0][:, p] for f, p in zip(found, place, strict=True)))
        inside = reduce(np.logical_and.outer, [f[1][:, p] for f, p in zip(found, place, strict=True)])
        yield number, (slice(None), slice(None), *at), np.asarray(inside)


def maximum(x: Host, axes: Axes) -> tuple[Host, Host]:
    """Return the maxima and the number of each one's position in its window."""
    shape = (*x.shape[:2], *(a.out for a in axes))
    best, index, seen = np.full(shape, -np.inf, x.dtype), np.zeros(shape, index_dtype(axes)), np.zeros(shape, np.bool_)
    for number, at, inside in _windows(axes):
        value = x[at]
        better = (~seen | (value > best) | (np.isnan(value) & ~np.isnan(best))) & inside
        best = np.where(better, value, best)
        index[better] = number
        seen |= inside
    return best, index


def mean(x: Host, axes: Axes, count_include_pad: bool) -> Host:
    """Return the means."""
    total = np.zeros((*x.shape[:2], *(a.out for a in axes)), x.dtype)
    for _, at, inside in _windows(axes):
        total += np.where(inside, x[at], 0)
    return np.asarray(total / divisors(axes, count_include_pad).astype(x.dtype))


def scatter(g: Host, axes: Axes, share: Callable[[int], Host]) -> Host:
    """Return an input's gradient: `share(number)` of each window is added at its position of that number, if that is inside."""
    dx = np.zeros((*g.shape[:2], *(a.size for a in axes)), g.dtype)
    for number, at, inside in _windows(axes):
        np.add.at(dx, at, np.where(inside, share(number), 0))
    return dx
