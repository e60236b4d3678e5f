"""Largest and smallest along axes, where they are, and whether any or all are true; in the array API's spelling."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..core import dtypes
from ..core.array import Array
from ..core.axes import reduced_axes, reduced_shape
from ..core.errors import DTypeError, SettingError, ShapeError
from ..core.op import op
from ..core.registry import find
from ..core.samples import A, bad, bench, s
from ..core.spec import Spec
from ..core.tape import Saved
from .reduction import BAD_AXIS, BENCH, NAN_SAMPLE, Axis, axes_samples, element_flops, reduced

_TIES = s("ties", A((2, 4), values=(1.0, 3.0, 3.0, 0.0, 2.0, 2.0, 2.0, -1.0)), axis=1, gradient=False, why="a tie is a kink")
_INTS = s("int", A((4, 40), dtype="int32", low=-99, high=99), axis=1)
_BYTES = s("byte", A((3, 5), dtype="uint8", low=0, high=255), axis=0)
_EMPTY = bad("empty axis", ShapeError, ("axis 0", "(0, 3)"), A((0, 3)), axis=0)


def _never_empty(name: str, x: Spec, axis: Any) -> None:
    for i in reduced_axes(name, axis, x.ndim):
        if x.shape[i] == 0:
            raise ShapeError(f"{name}: axis {i} of x has length 0 (shape {x.shape}) and nothing to choose from; give at least one element")


def _out(name: str, x: Spec, axis: Any, keepdims: bool) -> Spec:
    _never_empty(name, x, axis)
    return reduced(x, axis, keepdims, name, ("int", "float"))


def _vjp(c: Saved, g: Any) -> dict[str, Any]:
    spec = c.spec_of("x")
    shape = reduced_shape(spec.shape, reduced_axes(c.call.op, c.axis, spec.ndim), True)
    reshape = find("reshape")
    return {"x": lambda: extremum_grad(reshape(g, shape), c.x, reshape(c.y, shape))}


@op(
    out=partial(_out, "max"), vjp=_vjp, saves=("x", "y"),
    samples=(*axes_samples(unique=True, empty=False), NAN_SAMPLE, _TIES, _INTS, _BYTES), bad=(*BAD_AXIS, _EMPTY), bench=BENCH, flops=element_flops,
)  # fmt: skip
def max(x: Array, axis: Axis = None, *, keepdims: bool = False) -> Array:
    """Largest element over axes: ``y[k] = max_r x[k, r]``; NaN if one is NaN.

    Integer or real floating dtypes; an axis of length 0 raises. The gradient is shared equally among the elements that
    are the largest (or, if that is NaN, among the NaN), as `maximum` does. One comparison per element.

    Parameters
    ----------
    x : array
        Integer or real floating.
    axis : int, tuple of int or None
        Axes reduced over; None means all, () none.
    keepdims : bool
        Keep the reduced axes with length 1.

    Returns
    -------
    array
        Shape of `x` without the reduced axes; dtype of `x`.
    """
    return np.asarray(np.max(x, axis=reduced_axes("max", axis, x.ndim), keepdims=keepdims))


@op(
    out=partial(_out, "min"), vjp=_vjp, saves=("x", "y"),
    samples=(*axes_samples(unique=True, empty=False), NAN_SAMPLE, _TIES, _INTS, _BYTES), bad=(*BAD_AXIS, _EMPTY), bench=BENCH[:2], flops=element_flops,
)  # fmt: skip
def min(x: Array, axis: Axis = None, *, keepdims: bool = False) -> Array:
    """Smallest element over axes: ``y[k] = min_r x[k, r]``; NaN if one is NaN. See `max`.

    Parameters
    ----------
    x : array
        Integer or real floating.
    axis : int, tuple of int or None
        Axes reduced over; None means all, () none.
    keepdims : bool
        Keep the reduced axes with length 1.

    Returns
    -------
    array
        Shape of `x` without the reduced axes; dtype of `x`.
    """
    return np.asarray(np.min(x, axis=reduced_axes("min", axis, x.ndim), keepdims=keepdims))


def _grad_out(g: Spec, x: Spec, y: Spec) -> Spec:
    if g.shape != y.shape or g.ndim != x.ndim or not {n == 1 or n == m for n, m in zip(y.shape, x.shape, strict=True)} <= {True}:
        raise ShapeError(f"extremum_grad: g has shape {g.shape} and y {y.shape}; both must be x's, {x.shape}, with the reduced axes of length 1")
    if not g.dtype == x.dtype == y.dtype or not dtypes.is_float(x.dtype):
        raise DTypeError(f"extremum_grad: g, x and y are {g.dtype.name}, {x.dtype.name}, {y.dtype.name} but one float dtype is needed")
    return Spec(x.shape, x.dtype)


@op(
    out=_grad_out, outputs=("z",),
    samples=(
        s("rows", A((2, 1)), A((2, 4), values=(1.0, 3.0, 3.0, 0.0, 2.0, 2.0, 2.0, -1.0)), A((2, 1), values=(3.0, 2.0)), gradient=False, why="steps"),
        s("columns", A((1, 3)), A((2, 3), values=(1.0, 0.0, 5.0, 1.0, -1.0, 6.0)), A((1, 3), values=(1.0, 0.0, 6.0)), gradient=False, why="steps"),
        s("views", A((3, 1)), A((3, 2), values=(1.0, 0.0, 5.0, 1.0, -1.0, 6.0), view="transposed"), A((3, 1), values=(1.0, 5.0, 6.0)), gradient=False, why="steps"),
        s("NaN", A((1,)), A((3,), values=(1.0, float("nan"), float("nan"))), A((1,), values=(float("nan"),)), gradient=False, why="steps"),
        s("empty", A((0, 1)), A((0, 3)), A((0, 1)), gradient=False, why="empty"),
    ),
    bad=(bad("shape", ShapeError, ("(2, 3)", "(2,)"), A((2,)), A((2, 3)), A((2,))),),
    flops=lambda call: 4 * call.spec(1).size,
)  # fmt: skip
def extremum_grad(g: Array, x: Array, y: Array) -> Array:
    """Gradient of `max` and `min`: ``z[k, r] = g[k] / #{r' : x[k, r'] = y[k]}`` where ``x[k, r] = y[k]``, else 0.

    NaN counts as equal to NaN. g and y keep the reduced axes with length 1.

    Parameters
    ----------
    g : array
        Cotangent of the extremum.
    x : array
        What was reduced; real floating.
    y : array
        The extremum.

    Returns
    -------
    array
        Shape and dtype of `x`.
    """
    axes = tuple(i for i, n in enumerate(y.shape) if n == 1)
    same = (x == y) | ((x != x) & (y != y))
    with np.errstate(all="ignore"):
        return np.where(same, g / np.sum(same, axis=axes, keepdims=True), 0).astype(x.dtype)


def _arg_out(name: str, x: Spec, axis: Any, keepdims: bool) -> Spec:
    _never_empty(name, x, axis)
    return reduced(x, axis, keepdims, name, ("int", "float"), dtypes.default_index())


_ARG_SAMPLES = (
    *(one for one in axes_samples(unique=True, empty=False) if not isinstance(one.settings.get("axis"), tuple)),
    NAN_SAMPLE, _TIES, _INTS,
    s("flattened transposed", A((5, 40), view="transposed", unique=True)),
    s("flattened channels last", A((2, 3, 4, 5), view="channels_last", unique=True), keepdims=True),
)  # fmt: skip
_ARG_BAD = (*BAD_AXIS[:1], _EMPTY, bad("two axes", SettingError, ("(0, 1)", "a whole number or None"), A((2, 3)), axis=(0, 1)))


@op(out=partial(_arg_out, "argmax"), integer_outputs=("y",), samples=_ARG_SAMPLES, bad=_ARG_BAD, bench=BENCH[:3], flops=lambda c: 2 * c.spec(0).size)
def argmax(x: Array, axis: int | None = None, *, keepdims: bool = False) -> Array:
    """Place of the largest element along an axis, int64; the first of equals; the first NaN if there is one.

    Integer or real floating dtypes. None takes the place in the flattened array (C order). No gradient.

    Parameters
    ----------
    x : array
        Integer or real floating; the axis is not empty.
    axis : int or None
        One axis; None flattens in C order.
    keepdims : bool
        Keep the reduced axis with length 1.

    Returns
    -------
    array
        int64.
    """
    return np.asarray(np.argmax(x, axis=axis, keepdims=keepdims))


@op(out=partial(_arg_out, "argmin"), integer_outputs=("y",), samples=_ARG_SAMPLES, bad=_ARG_BAD, bench=BENCH[1:2], flops=lambda c: 2 * c.spec(0).size)
def argmin(x: Array, axis: int | None = None, *, keepdims: bool = False) -> Array:
    """Place of the smallest element along an axis; see `argmax`.

    Parameters
    ----------
    x : array
        Integer or real floating; the axis is not empty.
    axis : int or None
        One axis; None flattens in C order.
    keepdims : bool
        Keep the reduced axis with length 1.

    Returns
    -------
    array
        int64.
    """
    return np.asarray(np.argmin(x, axis=axis, keepdims=keepdims))


def _truth_out(name: str, x: Spec, axis: Any, keepdims: bool) -> Spec:
    return reduced(x, axis, keepdims, name, ("bool", "int", "float"), dtypes.bool_)


_TRUTH = (
    s("all axes", A((3, 5), dtype="bool")),
    s("rows", A((6, 3), dtype="bool"), axis=1),
    s("columns", A((3, 40), dtype="bool", view="transposed"), axis=0, keepdims=True),
    s("long", A((2, 1031), dtype="bool"), axis=1),
    s("ints", A((4, 3), dtype="int32", low=0, high=2), axis=1),
    s("zeros and NaN", A((2, 3), values=(0.0, -0.0, float("nan"), 0.0, 0.0, -0.0)), axis=1),
    s("empty", A((0, 3), dtype="bool"), axis=0),
)

_TRUTH_BENCH = (bench("finite", A((1024, 1024), dtype="bool")),)


@op(out=partial(_truth_out, "any"), integer_outputs=("y",), samples=_TRUTH, bad=BAD_AXIS, bench=_TRUTH_BENCH, flops=element_flops)
def any(x: Array, axis: Axis = None, *, keepdims: bool = False) -> Array:
    """Whether any element over axes is not zero (NaN is not zero), as bool; false for an empty axis.

    Parameters
    ----------
    x : array
        bool, integer or real floating.
    axis : int, tuple of int or None
        Axes reduced over; None means all, () none.
    keepdims : bool
        Keep the reduced axes with length 1.

    Returns
    -------
    array
        Shape of `x` without the reduced axes; bool, so there is no gradient.
    """
    return np.asarray(np.any(x, axis=reduced_axes("any", axis, x.ndim), keepdims=keepdims))


@op(out=partial(_truth_out, "all"), integer_outputs=("y",), samples=_TRUTH, bad=BAD_AXIS, bench=_TRUTH_BENCH, flops=element_flops)
def all(x: Array, axis: Axis = None, *, keepdims: bool = False) -> Array:
    """Whether all elements over axes are not zero, as bool; true for an empty axis.

    Parameters
    ----------
    x : array
        bool, integer or real floating.
    axis : int, tuple of int or None
        Axes reduced over; None means all, () none.
    keepdims : bool
        Keep the reduced axes with length 1.

    Returns
    -------
    array
        Shape of `x` without the reduced axes; bool, so there is no gradient.
    """
    return np.asarray(np.all(x, axis=reduced_axes("all", axis, x.ndim), keepdims=keepdims))
