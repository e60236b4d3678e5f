"""Reductions: many elements made one along axes, in the array API's spelling; and `sum_to`, which undoes broadcasting.

Over 250 lines because the family is meant to be read in one piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import prod as product
from typing import Any

import numpy as np

from ..core import dtypes
from ..core.array import Array
from ..core.axes import reduced_axes, reduced_shape, sum_to_axes
from ..core.call import Call
from ..core.errors import DTypeError, SettingError, ShapeError
from ..core.op import op, setting_dtype
from ..core.registry import find
from ..core.samples import A, bad, bench, s
from ..core.spec import Spec
from ..core.tape import Saved

Axis = int | Sequence[int] | None
_FLOATS = ("float32", "float64", "float16", "bfloat16")
_NAN, _INF = float("nan"), float("inf")


def count_of(call: Call) -> int:
    """Return how many elements of operand 0 are reduced into one."""
    x = call.spec(0)
    return product(x.shape[i] for i in reduced_axes(call.op, call.settings["axis"], x.ndim))


def _kept(c: Saved, g: Any, x: str = "x") -> Any:
    """Return `g`, shaped as the output, with the reduced axes put back as ones."""
    spec = c.spec_of(x)
    shape = reduced_shape(spec.shape, reduced_axes(c.call.op, c.axis, spec.ndim), True)
    return g if g.shape == shape else find("reshape")(g, shape)


def _like(g: Any, spec: Spec) -> Any:
    if g.dtype != spec.dtype:
        g = find("astype")(g, spec.dtype)
    return find("broadcast_to")(g, spec.shape)


def reduced(x: Spec, axis: Any, keepdims: bool, name: str, kinds: tuple[str, ...], dtype: Any = None) -> Spec:
    """Return the spec of a reduction of `x`, whose dtype must be of one of `kinds`."""
    axes = reduced_axes(name, axis, x.ndim)
    if dtypes.kind(x.dtype) not in kinds:
        raise DTypeError(f"{name}: x is {x.dtype.name} but {' or '.join(kinds)} is needed; convert with astype")
    return Spec(reduced_shape(x.shape, axes, bool(keepdims)), dtype or x.dtype)


def sum_dtype(name: str, x: Spec, dtype: Any) -> Any:
    """Return the dtype of a sum: as asked; else 64 bits wide for bools and integers, by the array API."""
    asked = setting_dtype(dtype=dtype, op_name=name)
    if asked is None:
        if x.dtype in dtypes.UNSIGNED:
            return dtypes.uint64
        return dtypes.int64 if dtypes.kind(x.dtype) in ("bool", "int") else x.dtype
    order = ("bool", "int", "float")
    if dtypes.kind(asked) not in ("int", "float") or order.index(dtypes.kind(asked)) < order.index(dtypes.kind(x.dtype)):
        raise DTypeError(f"{name}: dtype is {asked.name} but x is {x.dtype.name}; give an integer or float dtype that holds it")
    return asked


def element_flops(call: Call) -> int:
    """Return one operation per element of operand 0."""
    return call.spec(0).size


def axes_samples(low: float = -1.0, high: float = 1.0, unique: bool = False, empty: bool = True) -> tuple[Any, ...]:
    """Return samples over every layout and choice of axes."""

    def a(*shape: int, view: str = "") -> A:
        return A(shape, low, high, view=view, unique=unique)

    found = [
        s("all", a(3, 5)),
        s("rows", a(3, 5), axis=1),
        s("columns", a(3, 5), axis=0),
        s("keepdims", a(3, 5), axis=-1, keepdims=True),
        s("middle", a(2, 3, 4), axis=1),
        s("outer and inner", a(2, 3, 4), axis=(0, 2)),
        s("channels of images", a(2, 3, 5, 7), axis=(0, 2, 3), keepdims=True),
        s("alternate axes", a(2, 3, 2, 3, 2), axis=(0, 2, 4)),
        s("long row", a(2, 1031), axis=1),
        s("long column", a(67, 3), axis=0),
        s("wide columns", a(5, 131), axis=0),
        s("columns by vectors", a(67, 128), axis=0),
        s("columns by more vectors", a(3, 512), axis=0),
        s("row past a group", a(3, 257), axis=1),
        s("transposed", a(33, 5, view="transposed"), axis=0),
        s("reversed", a(6, 7, view="reversed"), axis=0),
        s("strided", a(4, 9, view="strided"), axis=1),
        s("channels last", a(2, 3, 4, 5, view="channels_last"), axis=(2, 3)),
        s("zero-d", a()),
        s("no axes", a(2, 3), axis=()),
        s("size one", a(1, 1), axis=0),
        s("empty kept", a(0, 3), axis=1),
    ]
    if not unique:
        found.append(s("expanded", a(4, 6, view="expanded"), axis=0))
    if empty:
        found.append(s("empty reduced", a(0, 3), axis=0, gradient=False, why="the mean of nothing is NaN"))
    return tuple(found)


NAN_SAMPLE = s("NaN inf", A((3, 3), values=(1.0, _NAN, 2.0, _INF, 1.0, 2.0, -_INF, _INF, 0.0)), axis=1, gradient=False, dtypes=_FLOATS, why="NaN and inf")
BAD_AXIS = (
    bad("axis", SettingError, ("axis 2", "2 axes"), A((2, 3)), axis=2),
    bad("axis twice", SettingError, ("(1, -1)", "twice"), A((2, 3)), axis=(1, -1)),
)
BENCH = (
    bench("8M to one", A((8 << 20,))),
    bench("rows", A((8192, 1024)), axis=1),
    bench("bias gradient", A((128, 512)), axis=0),
    bench("channels", A((32, 64, 32, 32)), axis=(0, 2, 3)),
)
_INTS = s("int", A((4, 9), dtype="int32", low=-99, high=99, view="transposed"), axis=0)


def _sum_vjp(c: Saved, g: Any) -> dict[str, Any]:
    return {"x": lambda: _like(_kept(c, g), c.spec_of("x"))}


@op(
    out=lambda x, axis, keepdims, dtype: reduced(x, axis, keepdims, "sum", ("bool", "int", "float"), sum_dtype("sum", x, dtype)),
    vjp=_sum_vjp,
    samples=(
        *axes_samples(), NAN_SAMPLE, _INTS,
        s("past 32 bits", A((2, 37), dtype="int32", low=2**30, high=2**31 - 1), axis=1),
        s("byte", A((300,), dtype="uint8", low=0, high=255)),
        s("empty between kept axes", A((2, 0, 3, 4, 5)), axis=(1, 3)),
        s("bool", A((70,), dtype="bool")),
        s("half to float", A((9, 40), dtype="float16"), axis=1, dtype="float32", gradient=False, why="the operand is float16"),
        s("int wraps", A((3,), dtype="int8", low=-99, high=99), dtype="int8"),
    ),
    bad=(*BAD_AXIS, bad("float to int", DTypeError, ("int32", "float32"), A((2,), dtype="float32"), dtype="int32")),
    bench=BENCH, flops=element_flops, reduces=count_of,
)  # fmt: skip
def sum(x: Array, axis: Axis = None, *, keepdims: bool = False, dtype: Any = None) -> Array:
    """Sum over axes: ``y[k] = Σ_r x[k, r]``, where r runs over `axis` and k over the other axes.

    Parameters
    ----------
    x : array
        bool, integer or real floating.
    axis : int, tuple of int or None
        Axes to sum over; None means all, () none.
    keepdims : bool
        Keep the summed axes with length 1.
    dtype : dtype, optional
        Of the result. By default that of `x`; int64 for bool and signed integers, uint64 for unsigned ones.

    Returns
    -------
    array
        0 for an empty sum.

    Notes
    -----
    float16 and bfloat16 are summed in float32 and rounded once; terms are added in blocks and the blocks in a tree, in
    an order that depends on shape and device only. Integers wrap. Costs one addition per element of `x`.
    """
    wide = sum_dtype("sum", Spec(x.shape, x.dtype), dtype)
    return np.asarray(np.sum(x, axis=reduced_axes("sum", axis, x.ndim), keepdims=keepdims, dtype=wide))


def _divided(c: Saved, g: Any) -> Any:
    return find("divide")(g, float(count_of(c.call)))


@op(
    out=lambda x, axis, keepdims: reduced(x, axis, keepdims, "mean", ("float",)),
    vjp=lambda c, g: {"x": lambda: _like(_divided(c, _kept(c, g)), c.spec_of("x"))},
    samples=(*axes_samples(), NAN_SAMPLE),
    bad=(*BAD_AXIS, bad("int", DTypeError, ("int32", "float"), A((2,), dtype="int32"))),
    bench=BENCH, flops=element_flops, reduces=count_of,
)  # fmt: skip
def mean(x: Array, axis: Axis = None, *, keepdims: bool = False) -> Array:
    """Arithmetic mean over axes: ``y[k] = Σ_r x[k, r] / R``; real floating dtypes; see `sum`. NaN for an empty axis."""
    axes = reduced_axes("mean", axis, x.ndim)
    return np.asarray(np.sum(x, axis=axes, keepdims=keepdims) / x.dtype.type(product(x.shape[i] for i in axes)))


def _sum_to_out(x: Spec, shape: Any) -> Spec:
    wanted = (shape,) if isinstance(shape, int) else tuple(shape)
    lead = x.ndim - len(wanted)
    if lead < 0 or any(n not in (1, m) for n, m in zip(wanted, x.shape[lead:], strict=True)):
        raise ShapeError(f"sum_to: x has shape {x.shape}, which nothing of shape {wanted} broadcasts to; each size of shape must be x's or 1")
    if dtypes.kind(x.dtype) not in ("int", "float"):
        raise DTypeError(f"sum_to: x is {x.dtype.name} but int or float is needed; convert with astype")
    return Spec(wanted, x.dtype, x.strides if wanted == x.shape else None)


@op(
    out=_sum_to_out,
    view=lambda call: (call.spec(0).strides, 0) if call.outputs[0].shape == call.spec(0).shape else None,
    vjp=lambda c, g: {"x": lambda: find("broadcast_to")(g, c.spec_of("x").shape)},
    samples=(
        s("leading", A((4, 3, 5)), (3, 5)),
        s("bias", A((6, 1, 5)), (5,)),
        s("middle", A((4, 3, 5)), (4, 1, 5)),
        s("channel", A((2, 3, 7, 7)), (3, 1, 1)),
        s("to zero-d", A((3, 5)), ()),
        s("same", A((3, 5), view="transposed"), (3, 5)),
        s("last", A((33, 70), view="transposed"), (33, 1)),
        s("empty", A((0, 3)), (1, 3)),
        s("int", A((3, 4), dtype="int32", low=-9, high=9), (4,)),
    ),
    bad=(bad("shape", ShapeError, ("(3, 5)", "(4,)"), A((3, 5)), (4,)),),
    bench=(bench("bias", A((128, 512)), (512,)), bench("channel", A((32, 64, 32, 32)), (64, 1, 1))),
    flops=element_flops,
    reduces=lambda call: call.spec(0).size // max(call.outputs[0].size, 1),
)  # fmt: skip
def sum_to(x: Array, shape: Sequence[int]) -> Array:
    """Sum `x` down to a shape that broadcasts to its own: the adjoint of `broadcast_to`.

    Parameters
    ----------
    x : array
        Integer or real floating.
    shape : tuple of int
        Each size is that of `x`, counted from the last axis, or 1.

    Returns
    -------
    array
        dtype of `x` (integers do not widen); a view where nothing is to sum.

    Raises
    ------
    ShapeError
        Nothing of that shape broadcasts to that of `x`.
    """
    wanted = (shape,) if isinstance(shape, int) else tuple(shape)
    axes = sum_to_axes(x.shape, wanted)
    wide = dtypes.accumulator(x.dtype)  # ops that may answer with a view are given the halves as they are
    return x if wanted == x.shape else np.asarray(np.sum(x, axis=axes, dtype=wide)).astype(x.dtype).reshape(wanted)


def _prod_vjp(c: Saved, g: Any) -> dict[str, Any]:
    spec = c.spec_of("x")
    return {"x": lambda: prod_grad(find("astype")(_kept(c, g), spec.dtype, copy=False), c.x)}


@op(
    out=lambda x, axis, keepdims, dtype: reduced(x, axis, keepdims, "prod", ("int", "float"), sum_dtype("prod", x, dtype)),
    vjp=_prod_vjp, saves=("x",),
    samples=(
        *axes_samples(0.9, 1.1), NAN_SAMPLE, s("int", A((4, 5), dtype="int32", low=-3, high=4), axis=0),
        s("half to float", A((3, 5), dtype="float16"), axis=1, dtype="float32", gradient=False, why="the operand is float16"),
        s("one zero", A((2, 3), values=(2.0, 0.0, 3.0, 1.0, 2.0, 3.0)), axis=1),
        s("two zeros", A((2, 3), values=(0.0, 0.0, 3.0, 0.0, 2.0, 0.0)), axis=1, gradient=False, why="0, where differences leave a step squared"),
    ),
    bad=BAD_AXIS, bench=BENCH[1:2], flops=element_flops, reduces=count_of,
)  # fmt: skip
def prod(x: Array, axis: Axis = None, *, keepdims: bool = False, dtype: Any = None) -> Array:
    """Product over axes: ``y[k] = Π_r x[k, r]``; 1 for an empty axis; dtypes as for `sum`. Integers wrap.

    Parameters
    ----------
    x : array
        Integer or real floating.
    axis : int, tuple of int or None
        Axes reduced over; None means all, () none.
    keepdims : bool
        Keep the reduced axes with length 1.
    dtype : dtype, optional
        Of the result; by default as for `sum`.

    Returns
    -------
    array
        Shape of `x` without the reduced axes; dtype as asked.
    """
    wide = sum_dtype("prod", Spec(x.shape, x.dtype), dtype)
    return np.asarray(np.prod(x, axis=reduced_axes("prod", axis, x.ndim), keepdims=keepdims, dtype=wide))


def _prod_grad_out(g: Spec, x: Spec) -> Spec:
    if g.ndim != x.ndim or g.dtype != x.dtype or not {n in (1, m) for n, m in zip(g.shape, x.shape, strict=True)} <= {True}:
        raise ShapeError(f"prod_grad: g is {g.dtype.name} {g.shape} but x, {x.dtype.name} {x.shape}, with the reduced axes of length 1 is needed")
    if not dtypes.is_float(x.dtype):
        raise DTypeError(f"prod_grad: x is {x.dtype.name} but float is needed; convert with astype")
    return Spec(x.shape, x.dtype)


@op(
    out=_prod_grad_out, outputs=("z",),
    samples=(
        s("rows", A((2, 1)), A((2, 5), 0.5, 2.0)), s("views", A((33, 1)), A((33, 5), 0.5, 2.0, view="transposed")), s("columns", A((1, 40)), A((3, 40), 0.5, 2.0)),
        s("zeros", A((3, 1)), A((3, 3), values=(2.0, 0.0, 3.0, 0.0, 0.0, 3.0, 1.0, 2.0, 4.0)), gradient=False, why="no second gradient"),
    ),
    flops=lambda call: 4 * call.spec(1).size, reduces=lambda call: call.spec(1).size // max(call.spec(0).size, 1),
)  # fmt: skip
def prod_grad(g: Array, x: Array) -> Array:
    """Gradient of `prod`: ``z[k, r] = g[k] Π_{r' ≠ r} x[k, r']``, with zeros counted, not divided by.

    `g` keeps the reduced axes with length 1.

    Parameters
    ----------
    g : array
        Cotangent of the product.
    x : array
        What was multiplied; real floating.

    Returns
    -------
    array
        Shape and dtype of `x`.
    """
    axes = sum_to_axes(x.shape, g.shape)
    zero = x == 0
    others = np.prod(np.where(zero, 1, x), axis=axes, keepdims=True)
    zeros = np.sum(zero, axis=axes, keepdims=True)
    with np.errstate(all="ignore"):
        made = np.where(zero, np.where(zeros == 1, others, 0), np.where(zeros == 0, others / np.where(zero, 1, x), 0))
    return (g * made).astype(x.dtype)


def _var_out(name: str, x: Spec, axis: Any, correction: Any, keepdims: bool) -> tuple[Spec, ...]:
    if isinstance(correction, bool) or not isinstance(correction, int | float):
        raise SettingError(f"{name}: correction is {correction!r} but must be a number: 0 for the population, 1 for a sample")
    y = reduced(x, axis, keepdims, name, ("float",))
    return y, Spec(reduced_shape(x.shape, reduced_axes(name, axis, x.ndim), True), dtypes.accumulator(x.dtype))


def freedom(call: Call) -> float:
    """Return what a variance is divided by: terms less the correction, never below 0."""
    return float(max(count_of(call) - call.settings["correction"], 0))


def _var_vjp(c: Saved, g: Any) -> dict[str, Any]:
    def pull() -> Any:
        multiply, spec = find("multiply"), c.spec_of("x")
        scale = find("divide")(_kept(c, g), float(freedom(c.call)))
        scale = find("divide")(scale, _kept(c, c.y)) if c.call.op == "std" else multiply(scale, 2.0)
        mean_of = find("astype")(c.mean, spec.dtype, copy=False)
        return multiply(find("subtract")(c.x, mean_of), scale)

    return {"x": pull}


_VAR_SAMPLES = (
    *(one for one in axes_samples() if one.name not in ("zero-d", "no axes", "size one", "expanded", "empty reduced")),
    s("sample", A((4, 9)), axis=1, correction=1), s("far from 0", A((3, 100), 100.0, 101.0), axis=1, dtypes=("float32", "float64")),
    s("one term", A((3, 1)), axis=1, correction=1, gradient=False, why="0 / 0 is NaN"),
    s("empty reduced", A((0, 3)), axis=0, gradient=False, why="0 / 0 is NaN"), NAN_SAMPLE,
)  # fmt: skip


@op(
    out=partial(_var_out, "var"), residuals=("mean",), vjp=_var_vjp, saves=("x", "mean"), samples=_VAR_SAMPLES,
    bad=(*BAD_AXIS, bad("correction", SettingError, ("'n'", "number"), A((2, 3)), correction="n")), bench=BENCH[1:],
    flops=lambda call: 4 * call.spec(0).size, reduces=count_of,
)  # fmt: skip
def var(x: Array, axis: Axis = None, *, correction: float = 0, keepdims: bool = False) -> Array:
    """Variance over axes: ``y[k] = Σ_r (x[k, r] - m[k])² / (R - correction)`` with m the mean and R the number of terms.

    Real floating dtypes; computed in two passes, so that a large mean does no harm; NaN or inf if ``R <= correction``.
    The array API's default correction is 0, PyTorch's 1. Costs 4 flop per element.

    Parameters
    ----------
    x : array
        Real floating.
    axis : int, tuple of int or None
        Axes reduced over; None means all, () none.
    keepdims : bool
        Keep the reduced axes with length 1.
    correction : int or float
        Taken from the number of terms.

    Returns
    -------
    array
        Shape of `x` without the reduced axes; dtype of `x`.
    """
    y, m = _moments("var", x, axis, correction)
    return (y if keepdims else y.reshape(reduced_shape(x.shape, reduced_axes("var", axis, x.ndim), False))), m


@op(
    out=partial(_var_out, "std"), residuals=("mean",), vjp=_var_vjp, saves=("x", "mean", "y"), samples=_VAR_SAMPLES, bad=BAD_AXIS, bench=BENCH[1:2],
    flops=lambda call: 4 * call.spec(0).size, reduces=count_of,
)  # fmt: skip
def std(x: Array, axis: Axis = None, *, correction: float = 0, keepdims: bool = False) -> Array:
    """Return the standard deviation over axes, the square root of `var`; its gradient at 0 is NaN.

    Parameters
    ----------
    x : array
        Real floating.
    axis : int, tuple of int or None
        Axes reduced over; None means all, () none.
    keepdims : bool
        Keep the reduced axes with length 1.
    correction : int or float
        Taken from the number of terms.

    Returns
    -------
    array
        Shape of `x` without the reduced axes; dtype of `x`.
    """
    y, m = _moments("std", x, axis, correction)
    y = np.sqrt(y)
    return (y if keepdims else y.reshape(reduced_shape(x.shape, reduced_axes("std", axis, x.ndim), False))), m


def _moments(name: str, x: Any, axis: Any, correction: float) -> tuple[Any, Any]:
    axes = reduced_axes(name, axis, x.ndim)
    terms = product(x.shape[i] for i in axes)
    with np.errstate(all="ignore"):
        m = np.sum(x, axis=axes, keepdims=True) / x.dtype.type(terms)
        return np.sum((x - m) ** 2, axis=axes, keepdims=True) / x.dtype.type(max(terms - correction, 0)), m
