"""Running sums along an axis, in the array API's spelling."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import dtypes
from ..core.array import Array
from ..core.axes import axis_of
from ..core.call import Call
from ..core.errors import DTypeError, SettingError
from ..core.op import op
from ..core.registry import find
from ..core.samples import A, bad, bench, s
from ..core.spec import Spec
from ..core.tape import Saved
from .reduction import NAN_SAMPLE, element_flops, sum_dtype


def _axis(axis: Any, ndim: int) -> int:
    if axis is None and ndim != 1:
        raise SettingError(f"cumulative_sum: axis is None but x has {ndim} axes; name the axis to sum along")
    return axis_of("cumulative_sum", 0 if axis is None else axis, ndim)


def _out(x: Spec, axis: Any, dtype: Any, include_initial: Any) -> Spec:
    at = _axis(axis, x.ndim)
    if dtypes.kind(x.dtype) not in ("bool", "int", "float"):
        raise DTypeError(f"cumulative_sum: x is {x.dtype.name} but bool, int or float is needed; sum real and imaginary part apart")
    return Spec((*x.shape[:at], x.shape[at] + bool(include_initial), *x.shape[at + 1 :]), sum_dtype("cumulative_sum", x, dtype))


def _vjp(c: Saved, g: Any) -> dict[str, Any]:
    spec = c.spec_of("x")
    at = _axis(c.axis, spec.ndim)

    def pull() -> Any:
        flip, given = find("flip"), g
        if c.include_initial:
            given = find("getitem")(given, (*[(None, None, None)] * at, (1, None, None)))
        made = flip(cumulative_sum(flip(given, axis=at), at), axis=at)
        return find("astype")(made, spec.dtype, copy=False)

    return {"x": pull}


def _terms(call: Call) -> int:
    x = call.spec(0)
    return x.shape[_axis(call.settings["axis"], x.ndim)]


@op(
    out=_out, vjp=_vjp,
    samples=(
        s("one axis", A((7,))),
        s("rows", A((3, 5)), axis=1),
        s("columns", A((33, 5)), axis=0),
        s("middle", A((2, 7, 40)), axis=1),
        s("long row", A((2, 1031)), axis=-1),
        s("past two tiles", A((5000,))),
        s("many parts", A((40000,)), dtypes=("float32", "float64")),
        s("long column", A((1500, 3)), axis=0),
        s("initial", A((3, 5)), axis=1, include_initial=True),
        s("initial, long column", A((70, 17)), axis=0, include_initial=True),
        s("transposed", A((33, 40), view="transposed"), axis=1),
        s("reversed", A((6, 37), view="reversed"), axis=0),
        s("strided", A((4, 70), view="strided"), axis=1),
        s("channels last", A((2, 3, 4, 5), view="channels_last"), axis=2),
        s("expanded", A((4, 6), view="expanded"), axis=0),
        s("size one", A((3, 1)), axis=1),
        s("empty", A((0, 3)), axis=1),
        s("nothing, initial", A((3, 0)), axis=1, include_initial=True),
        s("byte", A((300,), dtype="uint8", low=0, high=255)),
        s("past 32 bits", A((37,), dtype="int32", low=2**30, high=2**31 - 1)),
        s("bool", A((70,), dtype="bool")),
        s("half to float", A((9, 40), dtype="float16"), axis=1, dtype="float32", gradient=False, why="the operand is float16"),
        s("int wraps", A((9,), dtype="int8", low=-99, high=99), dtype="int8"),
        NAN_SAMPLE,
    ),
    bad=(
        bad("axis", SettingError, ("axis 2", "2 axes"), A((2, 3)), axis=2),
        bad("no axis", SettingError, ("None", "2 axes"), A((2, 3))),
        bad("complex", DTypeError, ("complex64", "float"), A((3,), dtype="complex64")),
        bad("float to int", DTypeError, ("int32", "float32"), A((2,), dtype="float32"), dtype="int32"),
    ),
    bench=(bench("rows", A((8192, 1024)), axis=1), bench("columns", A((1024, 8192)), axis=0), bench("8M", A((8 << 20,)))),
    flops=element_flops, reduces=_terms,
)  # fmt: skip
def cumulative_sum(x: Array, axis: int | None = None, *, dtype: Any = None, include_initial: bool = False) -> Array:
    """Add up along an axis, keeping every sum: ``y[k, c] = Σ_{c' <= c} x[k, c']``.

    Parameters
    ----------
    x : array
        bool, integer or real floating.
    axis : int, optional
        May be left out for an array of one axis.
    dtype : dtype, optional
        Of the result. By default that of `x`; int64 for bool and signed integers, uint64 for unsigned ones.
    include_initial : bool
        Begin with a 0: one element more along the axis.

    Returns
    -------
    array
        Shape of `x`, or one longer along `axis`.

    Raises
    ------
    SettingError, DTypeError
        An axis that is not there, or none for an array of several; a dtype that does not hold that of `x`.

    Notes
    -----
    Terms are added in blocks, and the blocks to what came before, in an order that depends on shape and device only;
    halves in float32, rounded once each. NaN stays from where it occurs. Integers wrap. One addition per element; the
    gradient is the running sum from the other end.
    """
    at = 0 if axis is None else axis % x.ndim
    wide = sum_dtype("cumulative_sum", Spec(x.shape, x.dtype), dtype)
    made = np.cumsum(x, axis=at, dtype=wide)
    if include_initial:
        made = np.concatenate([np.zeros((*x.shape[:at], 1, *x.shape[at + 1 :]), wide), made], axis=at)
    return made
