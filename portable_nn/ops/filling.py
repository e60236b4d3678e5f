"""Arrays from a shape alone (full, arange, eye ...), on the chosen backend, and triangles of matrices.

Over 250 lines because each op carries its record and its page.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import ceil, isfinite
from typing import Any

import numpy as np

from ..core import dtypes
from ..core.array import Array, ArrayOrScalar
from ..core.errors import DTypeError, SettingError, ShapeError
from ..core.op import op, setting_dtype, setting_int
from ..core.registry import find
from ..core.samples import A, bad, bench, s
from ..core.spec import Spec, Weak
from ..core.tape import Saved
from .creation import check_fill
from .random import shape_of

_NUMBERS = {"bool": dtypes.bool_, "int": dtypes.int64, "float": dtypes.float32, "complex": dtypes.complex64}
_SHAPES = (
    s("plain", (3, 5)), s("int shape", 300), s("zero-d", ()), s("empty", (0, 3)), s("half", (7,), dtype="bfloat16"),
    s("int64", (2, 9), dtype="int64"), s("bool", 5, dtype="bool"), s("complex", 5, dtype="complex64"),
)  # fmt: skip
_BAD_SHAPES = (
    bad("negative", ShapeError, "(-1, 2)", (-1, 2)),
    bad("not an integer", SettingError, "2.5", (2.5,)),
    bad("dtype", DTypeError, "datetime64", (2,), dtype="datetime64[s]"),
)


def _made(name: str, shape: Any, dtype: Any) -> Spec:
    return Spec(shape_of(name, shape), setting_dtype(name, dtype) or dtypes.float32)


@op(out=lambda shape, dtype: _made("zeros", shape, dtype), integer_outputs=("y",), samples=_SHAPES, bad=_BAD_SHAPES, flops=lambda call: 0)
def zeros(shape: int | Sequence[int], *, dtype: Any = None) -> Array:
    """Return zeros on the chosen backend.

    Parameters
    ----------
    shape : int or sequence of int
    dtype : dtype, optional
        float32 by default.

    Returns
    -------
    array

    Raises
    ------
    ShapeError, DTypeError
        A negative size; a dtype that is not stored.
    """
    return np.zeros(shape, setting_dtype("zeros", dtype) or dtypes.float32)


@op(out=lambda shape, dtype: _made("ones", shape, dtype), integer_outputs=("y",), samples=_SHAPES, bad=_BAD_SHAPES, flops=lambda call: 0)
def ones(shape: int | Sequence[int], *, dtype: Any = None) -> Array:
    """Return ones on the chosen backend; see `zeros`."""
    return np.ones(shape, setting_dtype("ones", dtype) or dtypes.float32)


def empty(shape: int | Sequence[int], *, dtype: Any = None) -> Array:
    """Return an array to be written to; it holds zeros, so that no result depends on what memory held before."""
    return zeros(shape, dtype=dtype)


def _full_out(shape: Any, fill_value: Spec | Weak, dtype: Any) -> Spec:
    made = setting_dtype("full", dtype)
    if made is None:
        made = _NUMBERS[fill_value.kind] if isinstance(fill_value, Weak) else fill_value.dtype
    check_fill("full", made, fill_value)
    return Spec(shape_of("full", shape), made)


_FULL: tuple[tuple[str, Any, Any, dict[str, Any]], ...] = (
    ("float", (3, 5), 0.5, {}), ("int", (300,), 7, {}), ("bool", 5, True, {}), ("dtype", (2, 3), 2, {"dtype": "float64"}),
    ("half", 9, -1.5, {"dtype": "float16"}), ("zero-d", (), 3, {}), ("empty", (0,), 1.0, {}), ("real in complex", 3, 1.5, {"dtype": "complex64"}),
)  # fmt: skip


def _full_vjp(c: Saved, g: Any) -> dict[str, Any]:
    return {"fill_value": lambda: find("astype")(find("sum")(g), c.spec_of("fill_value").dtype, copy=False)}


@op(
    out=_full_out,
    vjp=_full_vjp,
    samples=(
        *(s(name, shape, value, gradient=False, why="no array operand", **more) for name, shape, value, more in _FULL),
        s("infinity", 3, float("inf"), gradient=False, why="infinite"),
        s("array", (4, 6), A(())),
    ),
    bad=(
        bad("float into int", DTypeError, ("float", "int32"), (2,), 0.5, dtype="int32"),
        bad("negative", ShapeError, "(-2,)", (-2,), 1.0),
    ),
    bench=(bench("activation", (32, 64, 56, 56), 0.5),),
    flops=lambda call: 0,
)
def full(shape: int | Sequence[int], fill_value: ArrayOrScalar, *, dtype: Any = None) -> Array:
    """Return `fill_value` everywhere, on the chosen backend, or on that of a 0-d array.

    Parameters
    ----------
    shape : int or sequence of int
    fill_value : Python scalar or 0-d array
        It may change from call to call at no cost.
    dtype : dtype, optional
        By default that of the array; bool, int64, float32 or complex64 for Python scalars.

    Returns
    -------
    array

    Raises
    ------
    ShapeError, DTypeError
        A negative size; a scalar of a kind that the dtype does not hold.
    """
    return np.full(shape, fill_value, _full_out(shape, _spec(fill_value), dtype).dtype)


def _spec(value: Any) -> Spec | Weak:
    if isinstance(value, np.ndarray | np.generic):
        return Spec(value.shape, dtypes.canonical(value.dtype))
    kind = next(k for t, k in ((bool, "bool"), (int, "int"), (float, "float"), (complex, "complex")) if isinstance(value, t))
    return Weak(kind)


def arange_terms(start: Any, stop: Any, step: Any, dtype: Any) -> tuple[Any, int, Any]:
    """Return (start, count, dtype) of `arange`, or raise."""
    first, end = (0, start) if stop is None else (start, stop)
    if not all(isinstance(v, int | float) and isfinite(v) for v in (first, end, step)):
        raise SettingError(f"arange: start {first!r}, stop {end!r} and step {step!r} must be finite numbers")
    if step == 0:
        raise SettingError(f"arange: step is 0 (start {first}, stop {end}); use a positive or negative one")
    made = setting_dtype("arange", dtype)
    if made is None:
        made = dtypes.int64 if all(isinstance(v, int) for v in (first, end, step)) else dtypes.float32
    if dtypes.kind(made) not in ("int", "float"):
        raise DTypeError(f"arange: dtype is {made.name} but int or float is needed")
    return first, max(ceil((end - first) / step), 0), made


def _arange_out(start: Any, stop: Any, step: Any, dtype: Any) -> Spec:
    _, count, made = arange_terms(start, stop, step, dtype)
    return Spec((count,), made)


@op(
    out=_arange_out,
    integer_outputs=("y",),
    samples=(
        s("stop", 7), s("start", 2, 9), s("step", 1, 20, 3), s("down", 5, -5, -2), s("float", 0.0, 1.0, 0.125), s("float stop", 5.0),
        s("none", 3, 3), s("half steps as int", 0, 4, 0.5, dtype="int32"), s("long", 3000), s("half", 0, 40, dtype="float16"), s("float64", 0, 1, 0.1, dtype="float64"), s("uint8", 10, dtype="uint8"),
    ),
    bad=(
        bad("step", SettingError, ("arange", "step is 0"), 0, 3, 0),
        bad("infinite", SettingError, ("inf", "finite"), float("inf")),
        bad("dtype", DTypeError, "bool", 3, dtype="bool"),
    ),
    flops=lambda call: 0,
)  # fmt: skip
def arange(start: float, stop: float | None = None, step: float = 1, *, dtype: Any = None) -> Array:
    """Return evenly spaced numbers: ``y[i] = start + i step``, below `stop`; ``arange(n)`` starts at 0.

    Parameters
    ----------
    start, stop, step : number
        ``ceil((stop - start) / step)`` numbers are made.
    dtype : dtype, optional
        int64 for integers, else float32.

    Returns
    -------
    array

    Raises
    ------
    SettingError, DTypeError
        A step of 0, a number that is not finite; a dtype that is neither int nor float.
    """
    first, count, made = arange_terms(start, stop, step, dtype)
    return (first + np.arange(count) * step).astype(made)


def _linspace_out(start: float, stop: float, num: int, dtype: Any, endpoint: bool) -> Spec:
    del endpoint
    count, made = setting_int("linspace", "num", num), setting_dtype("linspace", dtype) or dtypes.float32
    if count < 0 or not (isfinite(start) and isfinite(stop)):
        raise SettingError(f"linspace: num {num} must not be negative, start {start} and stop {stop} must be finite")
    if not dtypes.is_float(made):
        raise DTypeError(f"linspace: dtype is {made.name} but a real floating dtype is needed")
    return Spec((count,), made)


@op(
    out=_linspace_out,
    integer_outputs=("y",),
    samples=(
        s("plain", 0.0, 1.0, 11), s("down", 3.0, -1.0, 8, dtype="float64"), s("open", 0, 1, 8, endpoint=False), s("one", 2.0, 5.0, 1),
        s("none", 2.0, 5.0, 0), s("long", -1.0, 1.0, 1001), s("half", 0.0, 4.0, 17, dtype="float16"),
    ),
    bad=(bad("num", SettingError, ("linspace", "-1"), 0.0, 1.0, -1), bad("dtype", DTypeError, "int32", 0, 1, 5, dtype="int32")),
    flops=lambda call: 0,
)  # fmt: skip
def linspace(start: float, stop: float, num: int, *, dtype: Any = None, endpoint: bool = True) -> Array:
    """Return `num` evenly spaced numbers from `start` to `stop`, which is the last unless `endpoint` is False.

    Parameters
    ----------
    start, stop : float
    num : int
    dtype : dtype, optional
        A floating dtype, float32 by default.
    endpoint : bool

    Returns
    -------
    array

    Raises
    ------
    SettingError, DTypeError
        A negative `num`, a bound that is not finite; not a floating dtype.
    """
    return np.linspace(start, stop, num, endpoint=endpoint).astype(setting_dtype("linspace", dtype) or dtypes.float32)


def _eye_out(n_rows: int, n_cols: int | None, k: int, dtype: Any) -> Spec:
    setting_int("eye", "k", k)
    return _made("eye", (n_rows, n_rows if n_cols is None else n_cols), dtype)


@op(
    out=_eye_out,
    integer_outputs=("y",),
    samples=(
        s("square", 5), s("wide", 3, 7, k=2), s("tall", 7, 3, k=-1), s("int", 4, dtype="int32"), s("outside", 3, 3, k=9), s("empty", 0, 3), s("large", 70, 300),
    ),
    bad=(bad("negative", ShapeError, "(-1, -1)", -1),),
    flops=lambda call: 0,
)  # fmt: skip
def eye(n_rows: int, n_cols: int | None = None, *, k: int = 0, dtype: Any = None) -> Array:
    """Return a matrix with ones on diagonal `k`: ``y[i, j] = 1 if j - i == k else 0``.

    Parameters
    ----------
    n_rows, n_cols : int
        Square by default.
    k : int
        Positive above the main diagonal.
    dtype : dtype, optional
        float32 by default.

    Returns
    -------
    array

    Raises
    ------
    ShapeError
        A negative size.
    """
    return np.eye(n_rows, n_cols, k, setting_dtype("eye", dtype) or dtypes.float32)


def _tril_vjp(c: Saved, g: Any) -> dict[str, Any]:
    return {"x": partial(tril, g, k=c.k)}


def _triu_vjp(c: Saved, g: Any) -> dict[str, Any]:
    return {"x": partial(triu, g, k=c.k)}


def _triangle_out(name: str, x: Spec, k: int) -> Spec:
    setting_int(name, "k", k)
    if x.ndim < 2:
        raise ShapeError(f"{name}: x has shape {x.shape} but at least two axes are needed")
    return Spec(x.shape, x.dtype)


_TRIANGLES = (
    s("plain", A((5, 7))), s("above", A((5, 7)), k=2), s("below", A((2, 3, 7, 5)), k=-1), s("transposed", A((6, 5), view="transposed")),
    s("reversed", A((6, 5), view="reversed")), s("empty", A((0, 3))), s("large", A((70, 300))), s("bool", A((4, 4), dtype="bool")),
)  # fmt: skip
_BENCH = (bench("attention mask", A((8, 512, 512))),)


@op(
    out=lambda x, k: _triangle_out("tril", x, k),
    vjp=_tril_vjp,
    samples=_TRIANGLES,
    bad=(bad("vector", ShapeError, "(5,)", A((5,))),),
    bench=_BENCH,
    flops=lambda call: 0,
)
def tril(x: Array, *, k: int = 0) -> Array:
    """Keep the lower triangle of matrices: ``y[..., i, j] = x[..., i, j] if j - i <= k else 0``.

    Parameters
    ----------
    x : array
        At least two axes.
    k : int
        Last diagonal kept.

    Returns
    -------
    array

    Raises
    ------
    ShapeError
        Fewer than two axes.
    """
    return np.tril(x, k)


@op(
    out=lambda x, k: _triangle_out("triu", x, k),
    vjp=_triu_vjp,
    samples=_TRIANGLES,
    bad=(bad("vector", ShapeError, "(5,)", A((5,))),),
    bench=_BENCH,
    flops=lambda call: 0,
)
def triu(x: Array, *, k: int = 0) -> Array:
    """Keep the upper triangle of matrices: ``y[..., i, j] = x[..., i, j] if j - i >= k else 0``; see `tril`."""
    return np.triu(x, k)
