"""Indexing and choice: basic indexing as views, its gradient, `where` and `clamp`.

Over 250 lines because each op carries its record and its page.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from ..core.array import Array, ArrayOrScalar
from ..core.call import Call
from ..core.elementwise import Choice, elementwise
from ..core.errors import OutOfRange, SettingError, ShapeError
from ..core.op import op
from ..core.samples import A, bad, bench, s
from ..core.spec import Spec
from ..core.subscript import Index, native
from ..core.tape import Saved

_ALL = (None, None, None)


def _located(name: str, x: Spec, index: Index) -> tuple[Spec, int]:
    """Return the spec of ``x[index]`` and its first element."""
    named = sum(item is not None and item is not Ellipsis for item in index)
    if named > x.ndim:
        raise OutOfRange(f"{name}: the index names {named} axes but the array has {x.ndim} (shape {x.shape})")
    if sum(item is Ellipsis for item in index) > 1:
        raise SettingError(f"{name}: an index may hold one Ellipsis (...), not more")
    items = list(index) if any(item is Ellipsis for item in index) else [*index, Ellipsis]
    at = items.index(Ellipsis)
    items[at : at + 1] = [_ALL] * (x.ndim - named)
    shape: list[int] = []
    strides: list[int] = []
    start = axis = 0
    for item in items:
        if item is None:
            shape.append(1)
            strides.append(1)
            continue
        n, step = x.shape[axis], x.strides[axis]
        if isinstance(item, int):
            if not -n <= item < n:
                raise OutOfRange(f"{name}: index {item} is out of range for axis {axis} of length {n} (shape {x.shape})")
            start += item % n * step
        else:
            try:
                taken = range(*slice(*item).indices(n))
            except ValueError:
                raise SettingError(f"{name}: the step of a slice is 0; use a positive or negative one") from None
            if taken:
                start += taken[0] * step
            shape.append(len(taken))
            strides.append(taken.step * step)
        axis += 1
    return Spec(tuple(shape), x.dtype, tuple(strides)), start


def _getitem_vjp(c: Saved, g: Any) -> dict[str, Any]:
    return {"x": partial(getitem_grad, g, c.spec_of("x").shape, c.index)}


def _getitem_view(call: Call) -> tuple[tuple[int, ...], int]:
    spec, start = _located("getitem", call.spec(0), call.settings["index"])
    return spec.strides, start if spec.size else 0


_INDICES: tuple[tuple[str, Index], ...] = (
    ("int", (1,)),
    ("negative int", (-1, _ALL)),
    ("slice", ((1, 4, None),)),
    ("steps", ((None, None, 2), (None, None, -1))),
    ("negative step", ((4, 0, -2), (1, None, None))),
    ("all ints", (2, 3)),
    ("new axes", (None, _ALL, None, (0, 2, None))),
    ("ellipsis", (Ellipsis, -2)),
    ("past the end", ((2, 99, None), (-99, 3, None))),
    ("empty", ((3, 3, None),)),
    ("everything", ()),
)


@op(
    out=lambda x, index: _located("getitem", x, index)[0],
    view=_getitem_view,
    vjp=_getitem_vjp,
    samples=(
        *(s(name, A((5, 6)), index) for name, index in _INDICES),
        s("transposed", A((5, 6), view="transposed"), (_ALL, 2)),
        s("reversed", A((5, 6), view="reversed"), ((None, None, 2),)),
        s("strided", A((5, 6), view="strided"), (1, (None, None, 3))),
        s("crop", A((2, 3, 9, 8), view="channels_last"), (Ellipsis, (1, -1, None), (2, 7, None))),
        s("int dtype", A((7,), dtype="int64", low=-9, high=9), ((None, None, -3),)),
    ),
    bad=(
        bad("out of range", OutOfRange, ("index 5", "axis 0", "(5, 6)"), A((5, 6)), (5,)),
        bad("too many", OutOfRange, ("3 axes", "(5, 6)"), A((5, 6)), (0, 0, 0)),
        bad("step", SettingError, "step", A((5,)), ((None, None, 0),)),
        bad("two ellipses", SettingError, "one Ellipsis", A((5,)), (Ellipsis, Ellipsis)),
    ),
    flops=lambda call: 0,
)
def getitem(x: Array, index: Index) -> Array:
    """Take a part of an array by basic indexing; what ``x[...]`` calls.

    Parameters
    ----------
    x : array
    index : tuple
        One item per axis: an int, a slice written ``(start, stop, step)``, None for a new axis, or Ellipsis.

    Returns
    -------
    array
        A view of `x`.

    Raises
    ------
    OutOfRange
        An int outside its axis, or more items than axes.
    SettingError
        A step of 0, or two Ellipsis.

    Notes
    -----
    The gradient is `getitem_grad`.
    """
    return x[native(index)]


def _getitem_grad_out(g: Spec, shape: Any, index: Index) -> Spec:
    made = Spec(tuple(shape), g.dtype)
    part = _located("getitem_grad", made, index)[0]
    if part.shape != g.shape:
        raise ShapeError(f"getitem_grad: g has shape {g.shape} but the index takes a part of shape {part.shape} from {made.shape}")
    return made


@op(
    out=_getitem_grad_out,
    vjp=lambda c, g: {"g": partial(getitem, g, c.index)},
    samples=(
        s("int", A((6,)), (5, 6), (1,)),
        s("slice", A((3, 6)), (5, 6), ((1, 4, None),)),
        s("steps", A((3, 6)), (5, 6), ((None, None, 2), (None, None, -1))),
        s("all ints", A(()), (5, 6), (2, 3)),
        s("new axis", A((1, 5, 2)), (5, 6), (None, _ALL, (0, 2, None))),
        s("everything", A((5, 6), view="transposed"), (5, 6), ()),
        s("nothing", A((0, 6)), (5, 6), ((3, 3, None),)),
        s("empty", A((0,)), (0, 6), (_ALL, 1)),
        s("rows of many", A((300, 70)), (400, 700), ((50, 350, None), (630, None, None))),
    ),
    bad=(bad("shape", ShapeError, ("(4, 6)", "(3, 6)"), A((4, 6)), (5, 6), ((1, 4, None),)),),
    bench=(bench("crop", A((32, 64, 56, 56)), (32, 64, 58, 58), (Ellipsis, (1, -1, None), (1, -1, None))),),
    flops=lambda call: 0,
)
def getitem_grad(g: Array, shape: tuple[int, ...], index: Index) -> Array:
    """Gradient of `getitem`: zeros of `shape` with ``y[index] = g``.

    Parameters
    ----------
    g : array
        Cotangent, of the shape of ``x[index]``.
    shape : tuple of int
        The shape that was indexed.
    index : tuple
        As in `getitem`.

    Returns
    -------
    array

    Raises
    ------
    ShapeError
        `g` is not of the shape that the index takes.
    """
    y = np.zeros(shape, g.dtype)
    y[native(index)] = g
    return y


@elementwise(
    "where(condition, x1, x2)",
    gradients={"x1": "where(condition, g, 0)", "x2": "where(condition, 0, g)"},
    kinds=("bool", "int", "float"),
    apart=("condition",),
    samples=(
        s("plain", A((3, 5), dtype="bool"), A((3, 5)), A((3, 5))),
        s("broadcast", A((4, 1, 5), dtype="bool"), A((3, 1)), A((5,))),
        s("scalar", A((4, 9), dtype="bool"), A((4, 9)), 0),
        s("two scalars", A((4, 9), dtype="bool"), 1.5, -1.5),
        s("transposed", A((33, 5), dtype="bool"), A((33, 5), view="transposed"), A((33, 5), view="reversed")),
        s("zero-d", A((), dtype="bool"), A(()), A(())),
        s("empty", A((0, 3), dtype="bool"), A((3,)), A((0, 1))),
        s("NaN not taken", A((3,), dtype="bool", values=(True, False, True)), A((3,), values=(1.0, float("nan"), 2.0)), A((3,)), gradient=False,
          dtypes=("float32", "float64", "float16", "bfloat16"), why="NaN"),
    ),
    bad=(bad("shapes", ShapeError, ("(3,)", "(4,)"), A((3,), dtype="bool"), A((4,)), A((4,))),),
    bench=(bench("mask", A((1024, 1024), dtype="bool"), A((1024, 1024)), A((1024, 1024))),),
)  # fmt: skip
def where(condition: Array, x1: ArrayOrScalar, x2: ArrayOrScalar) -> Array:
    """Choose: ``y = x1 if condition else x2``.

    Parameters
    ----------
    condition : array
        bool; numbers count as true unless 0.
    x1, x2 : array or Python scalar
        Shapes broadcast, dtypes promote.

    Returns
    -------
    array

    Raises
    ------
    ShapeError, DTypeError
        Shapes that do not broadcast; kinds that the array API does not mix.

    Notes
    -----
    What is not chosen takes no part, NaN included; its gradient is 0.
    """


def _limits(both: str, lower: str, upper: str, none: str) -> Choice:
    def pick(settings: Mapping[str, Any], absent: frozenset[str]) -> str:
        del absent
        low, high = settings["min"] is not None, settings["max"] is not None
        return both if low and high else lower if low else upper if high else none

    return Choice(pick, (both, lower, upper, none))


@elementwise(
    _limits("minimum(maximum(x, min), max)", "maximum(x, min)", "minimum(x, max)", "x"),
    gradients={"x": _limits("where(x >= min, where(x <= max, g, 0), 0)", "where(x >= min, g, 0)", "where(x <= max, g, 0)", "g")},
    kinds=("int", "float"),
    samples=(
        s("both", A((3, 5), -2, 2), -1, 1, dtypes=("int8", "int32", "int64", "float16", "bfloat16", "float32", "float64")),
        s("unsigned", A((300,), dtype="uint8", low=0, high=255), 3, 200),
        s("lower", A((3, 5), -2, 2), 0),
        s("upper", A((4, 6), -2, 2, view="transposed"), max=1),
        s("neither", A((3, 5))),
        s("crossed", A((3, 5), -2, 2), 1, 0),
        s("floats", A((300,), -2, 2), -0.5, 0.25, dtypes=("float16", "bfloat16", "float32", "float64")),
        s("empty", A((0, 3)), 0, 1),
        s("NaN inf", A((3,), values=(float("nan"), float("inf"), -float("inf"))), -1.0, 1.0, gradient=False,
          dtypes=("float32", "float64", "float16", "bfloat16"), why="NaN"),
    ),
    bad=(
        bad("NaN", SettingError, ("min", "NaN"), A((3,)), float("nan")),
        bad("below", SettingError, ("min is -1", "uint8", "0 to 255"), A((3,), dtype="uint8"), -1),
        bad("no whole number", SettingError, ("max is 0.5", "int8"), A((3,), dtype="int8"), -1, 0.5),
        bad("text", SettingError, ("min is 'low'", "a real number or None"), A((3,)), "low"),
    ),
    bench=(bench("activation", A((32, 64, 56, 56)), 0.0, 6.0),),
)  # fmt: skip
def clamp(x: Array, min: float | None = None, max: float | None = None) -> Array:
    """Limit: ``y = min(max(x, min), max)``.

    Parameters
    ----------
    x : array
    min, max : number, optional
        None sets no limit. `max` wins where they cross.

    Returns
    -------
    array

    Raises
    ------
    SettingError
        A limit that is NaN; of integers, one that their dtype does not hold.

    Notes
    -----
    NaN stays NaN. The gradient passes where ``min <= x <= max``, as in PyTorch.
    """
