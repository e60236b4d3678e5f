"""Axes: adding, dropping, merging, turning round and moving them. All of these are views, `flatten` where strides allow.

Over 250 lines because each op carries its record and its page.
"""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Any

import numpy as np

from ..core.array import Array
from ..core.call import Call
from ..core.errors import SettingError, ShapeError
from ..core.op import op
from ..core.samples import A, bad, s
from ..core.spec import Spec
from ..core.tape import Saved
from .layout import Ints, axes_of, axis_of, broadcast_to, permute, reshape, reshape_strides, view_as_out


def _expand_dims_out(x: Spec, axis: Any) -> Spec:
    at = axis_of("expand_dims", axis, x.ndim + 1)
    return Spec((*x.shape[:at], 1, *x.shape[at:]), x.dtype, (*x.strides[:at], 1, *x.strides[at:]))


def _reshape_back(c: Saved, g: Any) -> dict[str, Any]:
    return {"x": partial(reshape, g, c.spec_of("x").shape)}


@op(
    out=_expand_dims_out,
    view=view_as_out,
    vjp=_reshape_back,
    samples=(
        s("front", A((3, 5))), s("middle", A((3, 5), view="transposed"), 1), s("last", A((4, 6), view="reversed"), -1),
        s("zero-d", A(()), 0), s("empty", A((0, 3)), 1),
    ),
    bad=(bad("axis", SettingError, "axis 3", A((3, 5)), 3),),
    flops=lambda call: 0,
)  # fmt: skip
def expand_dims(x: Array, axis: int = 0) -> Array:
    """Insert an axis of length 1 at `axis` of the result.

    Parameters
    ----------
    x : array
    axis : int
        From ``-ndim - 1`` to ``ndim``.

    Returns
    -------
    array
        A view of `x`.

    Raises
    ------
    SettingError
        An axis outside that range.
    """
    return np.expand_dims(x, axis)


def _squeeze_axes(x: Spec, axis: Any) -> tuple[int, ...]:
    if axis is None:
        return tuple(a for a, n in enumerate(x.shape) if n == 1)
    axes = axes_of("squeeze", axis, x.ndim)
    for a in axes:
        if x.shape[a] != 1:
            raise ShapeError(f"squeeze: axis {a} of shape {x.shape} has length {x.shape[a]}; only axes of length 1 can go")
    return axes


def _squeeze_out(x: Spec, axis: Any) -> Spec:
    gone = _squeeze_axes(x, axis)
    left = [a for a in range(x.ndim) if a not in gone]
    return Spec(tuple(x.shape[a] for a in left), x.dtype, tuple(x.strides[a] for a in left))


@op(
    out=_squeeze_out,
    view=view_as_out,
    vjp=_reshape_back,
    samples=(
        s("one", A((3, 1, 5)), 1), s("several", A((1, 3, 1)), (0, -1)), s("all", A((1, 4, 1, 3))), s("none", A((3, 5))),
        s("to zero-d", A((1, 1))), s("strided", A((1, 6), view="strided"), 0), s("empty", A((0, 1)), 1),
    ),
    bad=(
        bad("length", ShapeError, ("axis 0", "(3, 1)"), A((3, 1)), 0),
        bad("axis", SettingError, "axis 2", A((3, 1)), 2),
    ),
    flops=lambda call: 0,
)  # fmt: skip
def squeeze(x: Array, axis: Ints | None = None) -> Array:
    """Drop axes of length 1.

    Parameters
    ----------
    x : array
    axis : int or sequence of int, optional
        Which; all axes of length 1 by default.

    Returns
    -------
    array
        A view of `x`.

    Raises
    ------
    ShapeError
        An axis of another length.
    """
    return np.squeeze(x, axis)


def _flatten_shape(x: Spec, start_dim: Any, end_dim: Any) -> tuple[int, ...]:
    if x.ndim == 0:
        return (1,)
    start, end = axis_of("flatten", start_dim, x.ndim), axis_of("flatten", end_dim, x.ndim)
    if start > end:
        raise SettingError(f"flatten: start_dim {start_dim} lies behind end_dim {end_dim} in shape {x.shape}")
    return (*x.shape[:start], prod(x.shape[start : end + 1]), *x.shape[end + 1 :])


def _flatten_out(x: Spec, start_dim: Any, end_dim: Any) -> Spec:
    shape = _flatten_shape(x, start_dim, end_dim)
    return Spec(shape, x.dtype, reshape_strides(x, shape))


def _flatten_view(call: Call) -> tuple[tuple[int, ...], int] | None:
    strides = reshape_strides(call.spec(0), call.outputs[0].shape)
    return None if strides is None else (strides, 0)


@op(
    out=_flatten_out,
    view=_flatten_view,
    vjp=_reshape_back,
    samples=(
        s("batch", A((2, 3, 4, 5)), 1), s("all", A((2, 3, 4))), s("middle", A((2, 3, 4, 5)), 1, 2), s("zero-d", A(())),
        s("channels last", A((2, 3, 4, 5), view="channels_last"), 1), s("empty", A((0, 3, 4)), 1),
    ),
    bad=(
        bad("order", SettingError, ("start_dim 2", "end_dim 1"), A((2, 3, 4)), 2, 1),
        bad("axis", SettingError, "axis 5", A((2, 3, 4)), 5),
    ),
    flops=lambda call: 0,
)  # fmt: skip
def flatten(x: Array, start_dim: int = 0, end_dim: int = -1) -> Array:
    """Merge the axes from `start_dim` to `end_dim`, both included, in C order.

    Parameters
    ----------
    x : array
    start_dim, end_dim : int

    Returns
    -------
    array
        A view of `x` where strides can say it, else a copy. A 0-d array becomes one of length 1.

    Raises
    ------
    SettingError
        An axis that is not there, or `start_dim` behind `end_dim`.
    """
    return x.reshape(_flatten_shape(Spec(x.shape, x.dtype), start_dim, end_dim))


def _flip_axes(x: Spec, axis: Any) -> tuple[int, ...]:
    return tuple(range(x.ndim)) if axis is None else axes_of("flip", axis, x.ndim)


def _flip_out(x: Spec, axis: Any) -> Spec:
    turned = _flip_axes(x, axis)
    return Spec(x.shape, x.dtype, tuple(-step if a in turned else step for a, step in enumerate(x.strides)))


def _flip_vjp(c: Saved, g: Any) -> dict[str, Any]:
    return {"x": partial(flip, g, axis=c.axis)}


def _flip_view(call: Call) -> tuple[tuple[int, ...], int]:
    x = call.spec(0)
    turned = _flip_axes(x, call.settings["axis"])
    return call.outputs[0].strides, sum(max(x.shape[a] - 1, 0) * x.strides[a] for a in turned)


@op(
    out=_flip_out,
    view=_flip_view,
    vjp=_flip_vjp,
    samples=(
        s("all", A((3, 5))), s("one", A((3, 5)), axis=-1), s("several", A((2, 3, 4)), axis=(0, 2)),
        s("reversed", A((4, 6), view="reversed"), axis=0), s("channels last", A((2, 3, 4, 5), view="channels_last"), axis=(2, 3)),
        s("zero-d", A(())), s("size one", A((1, 1))), s("empty", A((0, 3))),
    ),
    bad=(bad("axis", SettingError, "axis 2", A((3, 5)), axis=2),),
    flops=lambda call: 0,
)  # fmt: skip
def flip(x: Array, *, axis: Ints | None = None) -> Array:
    """Reverse the order along axes: ``y[i] = x[n - 1 - i]``.

    Parameters
    ----------
    x : array
    axis : int or sequence of int, optional
        All axes by default.

    Returns
    -------
    array
        A view of `x` with negative strides. Do not write to it.

    Raises
    ------
    SettingError
        An axis that is not there.
    """
    return np.flip(x, tuple(axis) if isinstance(axis, list) else axis)  # type: ignore[arg-type]


def unsqueeze(x: Array, dim: int) -> Array:
    """Insert an axis of length 1; PyTorch's name of `expand_dims`."""
    return expand_dims(x, dim)


def expand(x: Array, shape: Ints) -> Array:
    """Repeat axes of length 1 without copying; as `broadcast_to`, where -1 keeps a size, as in PyTorch."""
    sizes = tuple(shape) if isinstance(shape, list | tuple) else (shape,)
    lead = len(sizes) - x.ndim
    return broadcast_to(x, tuple(x.shape[a - lead] if n == -1 and a >= lead else n for a, n in enumerate(sizes)))


def moveaxis(x: Array, source: Ints, destination: Ints) -> Array:
    """Move axes `source` to the places `destination`; the others keep their order. A view."""
    away, to = axes_of("moveaxis", source, x.ndim), axes_of("moveaxis", destination, x.ndim)
    if len(away) != len(to):
        raise SettingError(f"moveaxis: source {source} names {len(away)} axes but destination {destination} {len(to)}")
    order = [a for a in range(x.ndim) if a not in away]
    for place, axis in sorted(zip(to, away, strict=True)):
        order.insert(place, axis)
    return permute(x, tuple(order))


def transpose(x: Array, dim0: int, dim1: int) -> Array:
    """Exchange two axes; as `torch.transpose`. A view."""
    a, b = axis_of("transpose", dim0, x.ndim), axis_of("transpose", dim1, x.ndim)
    order = list(range(x.ndim))
    order[a], order[b] = b, a
    return permute(x, tuple(order))


def matrix_transpose(x: Array) -> Array:
    """Exchange the last two axes. A view."""
    if x.ndim < 2:
        raise ShapeError(f"matrix_transpose: the array has shape {x.shape} but at least two axes are needed")
    return transpose(x, -2, -1)
