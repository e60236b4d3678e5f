"""Order along an axis: sort and argsort in the array API's spelling, topk in PyTorch's, and their gradient.

Over 250 lines because each op carries its record and its page.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..core import dtypes
from ..core.array import Array
from ..core.axes import axis_of
from ..core.call import Call
from ..core.errors import DTypeError, SettingError, ShapeError
from ..core.op import op, setting_int
from ..core.samples import A, Sample, bad, bench, s
from ..core.spec import Spec
from ..core.tape import Saved
from .gather import check_indices, check_integer, take_along_dim

_FLOATS = ("float32", "float64", "float16", "bfloat16")
_NAN, _INF = float("nan"), float("inf")


def _comparable(name: str, x: Spec, axis: Any) -> int:
    if dtypes.kind(x.dtype) not in ("bool", "int", "float"):
        raise DTypeError(f"{name}: x is {x.dtype.name}, which has no order; sort the absolute values or the real parts")
    return axis_of(name, axis, x.ndim)


def _places(x: Any, axis: int, descending: bool) -> Any:
    """Return what sorts `x` along `axis`: equals in the order of their places, NaN last in both directions."""
    if not descending:
        return np.argsort(x, axis=axis, kind="stable")
    keys = np.sort(np.unique(x))  # NaN, if any, last
    rank = np.searchsorted(keys[~np.isnan(keys)] if keys.dtype.kind == "f" else keys, x)
    return np.argsort(np.where(x == x, -rank, 1), axis=axis, kind="stable")


def _samples(**settings: Any) -> tuple[Sample, ...]:
    """Return samples over sizes on both sides of what a group sorts, ties, axes, views and special values."""
    special = (1.0, _NAN, -_INF, 0.0, -0.0, _INF, _NAN, -1.0, 0.0)
    return (
        s("rows", A((3, 5), unique=True), **settings),
        s("ties", A((2, 9), dtype="int32", low=0, high=3), **settings),
        s("first axis", A((33, 5), unique=True), axis=0, **settings),
        s("middle", A((2, 17, 3), unique=True), axis=1, **settings),
        s("power of two", A((2, 64), unique=True), **settings),
        s("one more", A((2, 65), unique=True), **settings),
        s("long", A((1, 1031), unique=True), dtypes=("float32", "float64"), **settings),
        s("past a group", A((2, 5000)), dtypes=("float32", "float64"), gradient=False, why="ties within a step", **settings),
        s("long ties", A((20000,), dtype="uint8", low=0, high=255), **settings),
        s("descending", A((4, 7), unique=True), descending=True, **settings),
        s("descending ties", A((2, 70), dtype="int8", low=-3, high=3), descending=True, **settings),
        s("views", A((33, 6), view="transposed", unique=True), axis=0, **settings),
        s("reversed", A((6, 7), view="reversed", unique=True), axis=0, descending=True, **settings),
        s("channels last", A((2, 3, 4, 5), view="channels_last", unique=True), axis=2, **settings),
        s("strided", A((3, 40), view="strided", unique=True), **settings),
        s("bool", A((2, 9), dtype="bool"), **settings),
        s("signed", A((5,), dtype="int64", values=(-(1 << 62), 5, -1, 1 << 62, 0)), **settings),
        s("unsigned", A((5,), dtype="uint32", values=(1 << 31, 5, (1 << 32) - 1, 0, 7)), descending=True, **settings),
        s("special", A((9,), values=special), gradient=False, dtypes=_FLOATS, why="NaN, inf, ties", **settings),
        s("special, descending", A((9,), values=special), descending=True, gradient=False, dtypes=_FLOATS, why="NaN, inf, ties", **settings),
        s("size one", A((3, 1), unique=True), **settings),
        s("empty", A((0, 3)), **settings),
        s("unstable", A((2, 4), unique=True), stable=False, **settings),
    )


_BAD = (
    bad("axis", SettingError, ("axis 2", "2 axes"), A((2, 3)), axis=2),
    bad("complex", DTypeError, ("complex64", "order"), A((3,), dtype="complex64")),
)
_BENCH = (bench("rows", A((1024, 1000))), bench("8192x64", A((8192, 64))), bench("long", A((1 << 20,))))


def _comparisons(call: Call) -> int:
    x = call.spec(0)
    axis = call.settings["axis" if "axis" in call.settings else "dim"]
    n = x.shape[axis_of(call.op, axis, x.ndim)]
    return x.size * max(n - 1, 0).bit_length()


def _sort_out(x: Spec, axis: Any, descending: Any, stable: Any) -> tuple[Spec, Spec]:
    _comparable("sort", x, axis)
    return Spec(x.shape, x.dtype), Spec(x.shape, dtypes.int64)


def _sort_vjp(c: Saved, g: Any) -> dict[str, Any]:
    spec = c.spec_of("x")
    at = axis_of("sort", c.axis, spec.ndim)
    return {"x": lambda: sort_grad(g, c.places, spec.shape[at], at)}


@op(out=_sort_out, residuals=("places",), vjp=_sort_vjp, saves=("places",), samples=_samples(), bad=_BAD, bench=_BENCH, flops=_comparisons)
def sort(x: Array, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Array:
    """Values in order along an axis.

    Parameters
    ----------
    x : array
        bool, integer or real floating.
    axis : int
    descending : bool
        Largest first.
    stable : bool
        Equal values keep their order either way: this sort is always stable.

    Returns
    -------
    array
        Shape and dtype of `x`. NaN come last in both directions; -0.0 equals 0.0.

    Raises
    ------
    SettingError, DTypeError
        An axis that is not there; complex numbers.

    Notes
    -----
    Blocks are sorted in local memory (GPUs) or by one work-item (CPUs), then merged: about ``log2 n`` comparisons per
    element. The gradient carries each cotangent back to where its value came from.
    """
    places = _places(x, axis, descending)
    return np.take_along_axis(x, places, axis), places


def _argsort_out(x: Spec, axis: Any, descending: Any, stable: Any) -> Spec:
    _comparable("argsort", x, axis)
    return Spec(x.shape, dtypes.int64)


@op(out=_argsort_out, integer_outputs=("y",), samples=_samples(), bad=_BAD, bench=_BENCH[:1], flops=_comparisons)
def argsort(x: Array, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Array:
    """Places that sort along an axis: ``sort(x)[k, j] = x[k, y[k, j]]``, int64; equals in the order of their places; see `sort`."""
    return _places(x, axis, descending)


def _topk_out(input: Spec, k: Any, dim: Any, largest: Any, sorted: Any) -> tuple[Spec, Spec]:
    at, count = _comparable("topk", input, dim), setting_int("topk", "k", k)
    if not 0 <= count <= input.shape[at]:
        raise SettingError(f"topk: k is {count} but axis {at} of input has {input.shape[at]} elements (shape {input.shape}); choose k from 0 to that")
    shape = (*input.shape[:at], count, *input.shape[at + 1 :])
    return Spec(shape, input.dtype), Spec(shape, dtypes.int64)


def _topk_vjp(c: Saved, g: Any, _: Any) -> dict[str, Any]:
    spec = c.spec_of("input")
    at = axis_of("topk", c.dim, spec.ndim)
    return {"input": lambda: sort_grad(g, c.indices, spec.shape[at], at)}


@op(
    out=_topk_out, outputs=("values", "indices"), integer_outputs=("indices",), vjp=_topk_vjp, saves=("indices",),
    samples=(
        s("classes", A((7, 10), unique=True), 5),
        s("one", A((3, 33), unique=True), 1),
        s("smallest", A((3, 17), unique=True), 4, largest=False),
        s("first axis", A((33, 5), unique=True), 3, dim=0),
        s("middle", A((2, 17, 3), unique=True), 2, 1),
        s("all", A((2, 9), unique=True), 9),
        s("many", A((2, 1031), unique=True), 100, dtypes=("float32", "float64")),
        s("past a group", A((1, 5000), unique=True), 7, dtypes=("float32", "float64")),
        s("many past a group", A((20000,), unique=True), 3000, dtypes=("float32", "float64")),
        s("ties", A((2, 300), dtype="int32", low=0, high=5), 40),
        s("unsorted", A((3, 40), unique=True), 5, sorted=False),
        s("views", A((33, 6), view="transposed", unique=True), 4, dim=0),
        s("strided", A((3, 40), view="reversed", unique=True), 6, largest=False),
        s("special", A((9,), values=(1.0, _NAN, -_INF, 0.0, -0.0, _INF, _NAN, -1.0, 0.0)), 8, gradient=False, dtypes=_FLOATS, why="NaN, inf, ties"),
        s("none", A((3, 4)), 0),
        s("empty", A((0, 4)), 2),
    ),
    bad=(
        bad("k", SettingError, ("k is 6", "5 elements"), A((2, 5)), 6),
        bad("dim", SettingError, ("axis 2", "2 axes"), A((2, 3)), 1, 2),
        bad("complex", DTypeError, ("complex64", "order"), A((3,), dtype="complex64"), 1),
    ),
    bench=(bench("classes", A((256, 1000)), 5), bench("vocabulary", A((32, 50257)), 50)), flops=_comparisons,
)  # fmt: skip
def topk(input: Array, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> tuple[Array, Array]:
    """Return the k largest values along an axis, or the smallest, and where they are.

    Parameters
    ----------
    input : array
        bool, integer or real floating.
    k : int
        From 0 to the length of the axis.
    dim : int
    largest : bool
        False: the smallest.
    sorted : bool
        The result is in order either way.

    Returns
    -------
    values : array
        `k` long along `dim`, the first in order first; dtype of `input`.
    indices : array
        int64. Of equal values the first places are taken, in order.

    Raises
    ------
    SettingError, DTypeError
        A `k` above the length of the axis, an axis that is not there; complex numbers.

    Notes
    -----
    NaN are taken last, whichever end is asked for (PyTorch takes them for the largest). For k up to 32 a CPU reads each
    element once; else see `sort`.
    """
    places = np.take(_places(input, dim, largest), np.arange(k), axis=dim)
    return np.take_along_axis(input, places, dim), places


def _grad_out(g: Spec, indices: Spec, size: Any, dim: Any) -> Spec:
    check_integer("sort_grad", "indices", indices)
    at, length = axis_of("sort_grad", dim, g.ndim), setting_int("sort_grad", "size", size)
    if g.shape != indices.shape or g.shape[at] > length:
        raise ShapeError(f"sort_grad: g has shape {g.shape}, indices {indices.shape}, and axis {at} becomes {length} long; g and indices must be equal and not longer")
    return Spec((*g.shape[:at], length, *g.shape[at + 1 :]), g.dtype)


@op(
    out=_grad_out, outputs=("z",), vjp=lambda c, g: {"g": partial(take_along_dim, g, c.indices, c.dim)}, saves=("indices",),
    samples=(
        s("rows", A((2, 3)), A((2, 3), dtype="int64", values=(2, 0, 1, 0, 1, 2)), 3, 1),
        s("topk", A((2, 2)), A((2, 2), dtype="int32", values=(4, 0, 1, 3)), 5, -1),
        s("first axis", A((2, 3), view="transposed"), A((2, 3), dtype="int64", values=(2, 0, 1, 0, 1, 2), view="transposed"), 40, 0),
        s("none", A((3, 0)), A((3, 0), dtype="int64"), 4, 1),
        s("one of one", A((3, 1)), A((3, 1), dtype="int64", values=(0, 0, 0)), 1, 1),
    ),
    bad=(bad("shape", ShapeError, ("(2, 2)", "(2, 1)"), A((2, 2)), A((2, 1), dtype="int64"), 3, 1),),
    flops=lambda call: 0,
)  # fmt: skip
def sort_grad(g: Array, indices: Array, size: int, dim: int) -> Array:
    """Gradient of `sort` and `topk`: ``z[k, indices[k, j]] = g[k, j]``, 0 elsewhere, `size` long along `dim`.

    Parameters
    ----------
    g : array
        Cotangent of the values.
    indices : array
        Where they came from; shape of `g`. No place may occur twice in a line: which one counts is then not said.
    size : int
        Length of the result along `dim`.
    dim : int

    Returns
    -------
    array
        Shape of `g` with `size` along `dim`; dtype of `g`.
    """
    at = dim % g.ndim
    check_indices("sort_grad", indices, size)
    made = np.zeros((*g.shape[:at], size, *g.shape[at + 1 :]), g.dtype)
    np.put_along_axis(made, indices.astype(np.int64), g, at)
    return made
