"""Creation and conversion: arrays made from a shape or from another array's shape, and `astype`."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..core import dtypes
from ..core.array import Array, ArrayOrScalar
from ..core.elementwise import is_dense
from ..core.errors import DTypeError
from ..core.op import op, setting_dtype
from ..core.registry import find
from ..core.samples import A, bad, bench, s
from ..core.spec import Spec, Weak
from ..core.tape import Saved

_FLOATS = ("float16", "bfloat16", "float32", "float64")
_LIKE = (
    s("plain", A((3, 5))),
    s("transposed", A((4, 6), view="transposed")),
    s("expanded", A((4, 6), view="expanded")),
    s("channels last", A((2, 3, 4, 5), view="channels_last")),
    s("zero-d", A(())),
    s("empty", A((0, 3))),
    s("other dtype", A((3, 300)), dtype="int32"),
    s("to half", A((7,)), dtype="bfloat16"),
)
_LIKE_BAD = (bad("dtype", DTypeError, "datetime64", A((2,)), dtype="datetime64[s]"),)
_LIKE_BENCH = (bench("activation", A((32, 64, 56, 56))),)


def _like(name: str, x: Spec, dtype: Any) -> Spec:
    """Return the spec of a new array like `x`; a dense layout (channels-last, a transpose) is kept."""
    return Spec(x.shape, setting_dtype(name, dtype) or x.dtype, x.strides if is_dense(x) else None)


def _astype_out(x: Spec, dtype: Any, copy: bool) -> Spec:
    wanted = setting_dtype("astype", dtype)
    if wanted is None:
        raise DTypeError("astype: dtype is None; name the dtype to convert to")
    if dtypes.kind(x.dtype) == "complex" and dtypes.kind(wanted) != "complex":
        raise DTypeError(f"astype: {x.dtype.name} does not convert to {wanted.name}; take the real or imaginary part first")
    if not copy and wanted == x.dtype:
        return x
    return _like("astype", x, wanted)


def _astype_vjp(c: Saved, g: Any) -> dict[str, Any]:
    return {"x": partial(astype, g, c.spec_of("x").dtype, copy=False)}


@op(
    out=_astype_out,
    view=lambda call: None if call.settings["copy"] or call.outputs[0] is not call.inputs[0] else (call.spec(0).strides, 0),
    vjp=_astype_vjp,
    samples=(
        *(s(f"to {name}", A((3, 5)), name) for name in _FLOATS),
        s("to int32", A((4, 33), low=-40.0, high=40.0), "int32", gradient=False, why="a step function"),
        s("to uint8", A((300,), low=0.0, high=200.0), "uint8", gradient=False, why="a step function"),
        s("to bool", A((5,), values=(0.0, -0.0, 0.5, float("nan"), -2.0)), "bool", gradient=False, dtypes=_FLOATS, why="a step function"),
        s("bool to float", A((2, 9), dtype="bool"), "float32"),
        s("int64 to half", A((70,), dtype="int64", low=-3000, high=3000), "float16"),
        s("int8 to int64", A((9, 5), dtype="int8", low=-99, high=99, view="transposed"), "int64"),
        s("real to complex", A((6,)), "complex64", dtypes=("float32",), gradient=False, why="complex gradients are not defined"),
        s("ties to even", A((4,), dtype="float32", values=(1.00048828125, 1.00146484375, 1.00390625, 1.01171875)), "bfloat16"),
        s("same dtype, no copy", A((3, 4), dtype="float32", view="transposed"), "float32", copy=False),
        s("reversed strided", A((4, 6), view="reversed"), "float32"),
        s("NaN inf", A((3,), values=(float("nan"), float("inf"), -float("inf"))), "float16", gradient=False, dtypes=_FLOATS, why="NaN and inf"),
        s("zero-d", A(()), "float32"),
        s("empty", A((0, 4)), "float64"),
    ),
    bad=(
        bad("complex to real", DTypeError, ("complex64", "float32"), A((2,), dtype="complex64"), "float32"),
        bad("unknown dtype", DTypeError, ("datetime64",), A((2,)), "datetime64[s]"),
    ),
    bench=(bench("to half", A((32, 64, 56, 56), dtype="float32"), "float16"), bench("pixels", A((256, 3, 32, 32), dtype="uint8", low=0, high=255), "float32")),
    flops=lambda call: 0,
)
def astype(x: Array, dtype: Any, *, copy: bool = True) -> Array:
    """Convert to another dtype: ``y[i] = dtype(x[i])``.

    Parameters
    ----------
    x : array
    dtype : dtype
        Of the result. To a narrower float the value is rounded to nearest, ties to even; float to integer drops the
        fraction; anything but 0 becomes True in bool.
    copy : bool
        False returns `x` itself where the dtype is already right.

    Returns
    -------
    array
        The shape of `x`. A dense layout, such as channels-last, is kept.

    Raises
    ------
    DTypeError
        A dtype that is not stored; complex to real.

    Notes
    -----
    A float that the integer dtype does not hold, NaN included, gives an undefined integer. No arithmetic is counted.
    The gradient is converted back.
    """
    with np.errstate(all="ignore"):
        return x.astype(dtypes.canonical(dtype), copy=copy)


@op(out=lambda x, dtype: _like("zeros_like", x, dtype), integer_outputs=("y",), samples=_LIKE, bad=_LIKE_BAD, bench=_LIKE_BENCH, flops=lambda call: 0)
def zeros_like(x: Array, *, dtype: Any = None) -> Array:
    """Return zeros of the shape of `x`, whose values are not read.

    Parameters
    ----------
    x : array
    dtype : dtype, optional
        That of `x` by default.

    Returns
    -------
    array
        A dense layout of `x` is kept. It has no gradient.
    """
    return np.zeros(x.shape, setting_dtype("zeros_like", dtype) or x.dtype)


@op(out=lambda x, dtype: _like("ones_like", x, dtype), integer_outputs=("y",), samples=_LIKE, bad=_LIKE_BAD, bench=_LIKE_BENCH, flops=lambda call: 0)
def ones_like(x: Array, *, dtype: Any = None) -> Array:
    """Return ones of the shape of `x`, whose values are not read; see `zeros_like`."""
    return np.ones(x.shape, setting_dtype("ones_like", dtype) or x.dtype)


def check_fill(name: str, dtype: Any, fill_value: Spec | Weak) -> None:
    """Raise unless `fill_value` is one number of a kind that `dtype` holds."""
    if isinstance(fill_value, Weak):
        dtypes.promote(name, dtype, fill_value.kind)
    elif fill_value.shape != ():
        raise DTypeError(f"{name}: fill_value has shape {fill_value.shape} but must be a number or a 0-d array; use broadcast_to")


def _full_like_out(x: Spec, fill_value: Spec | Weak, dtype: Any) -> Spec:
    made = _like("full_like", x, dtype)
    check_fill("full_like", made.dtype, fill_value)
    return made


def _full_vjp(c: Saved, g: Any) -> dict[str, Any]:
    # The values of x are not read: no gradient reaches it.
    return {"x": None, "fill_value": lambda: astype(find("sum")(g), c.spec_of("fill_value").dtype, copy=False)}


@op(
    out=_full_like_out,
    vjp=_full_vjp,
    samples=(
        s("scalar", A((3, 5)), 2),
        s("float scalar", A((3, 300)), -0.75, dtypes=_FLOATS),
        s("array", A((4, 6), view="transposed"), A(())),
        s("other dtype", A((7,)), 3, dtype="int16"),
        s("infinity", A((7,)), float("-inf"), dtypes=_FLOATS, gradient=False, why="infinite"),
        s("bool", A((9,)), True, dtype="bool"),
        s("empty", A((0, 3)), 1),
    ),
    bad=(
        bad("float into int", DTypeError, ("float", "int32"), A((2,), dtype="int32"), 0.5),
        bad("array of one axis", DTypeError, ("(2,)", "0-d"), A((2,)), A((2,))),
    ),
    flops=lambda call: 0,
)
def full_like(x: Array, fill_value: ArrayOrScalar, *, dtype: Any = None) -> Array:
    """Return an array of the shape of `x` with `fill_value` everywhere.

    Parameters
    ----------
    x : array
        Its values are not read.
    fill_value : Python scalar or 0-d array
        Its kind must fit the dtype. It may change from call to call at no cost.
    dtype : dtype, optional
        That of `x` by default.

    Returns
    -------
    array
        A dense layout of `x` is kept. The gradient of `fill_value` is the sum of the cotangent.

    Raises
    ------
    DTypeError
        A scalar of a kind that the dtype does not hold; an array that is not 0-d.
    """
    return np.full(x.shape, fill_value, setting_dtype("full_like", dtype) or x.dtype)
