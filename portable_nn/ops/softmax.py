"""Softmax, softmin and log-softmax along one axis, their gradients, and logsumexp; in PyTorch's functional spelling."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..core import dtypes
from ..core.array import Array
from ..core.axes import axis_of, reduced_axes, reduced_shape
from ..core.call import Call
from ..core.elementwise import elementwise
from ..core.errors import DTypeError, SettingError, ShapeError
from ..core.op import op
from ..core.registry import find
from ..core.samples import A, bad, bench, s
from ..core.spec import Spec
from ..core.tape import Saved

_FLOATS = ("float32", "float64", "float16", "bfloat16")
_NAN, _INF = float("nan"), float("inf")


def _floating(name: str, x: Spec) -> None:
    if not dtypes.is_float(x.dtype):
        raise DTypeError(f"{name}: x is {x.dtype.name} but float is needed; convert with astype")


def _out(name: str, x: Spec, dim: Any) -> Spec:
    _floating(name, x)
    axis_of(name, dim, x.ndim)
    return Spec(x.shape, x.dtype)


def _grad_out(name: str, g: Spec, y: Spec, dim: Any) -> Spec:
    if g.shape != y.shape or g.dtype != y.dtype:
        raise ShapeError(f"{name}: g is {g.dtype.name} {g.shape} but y is {y.dtype.name} {y.shape}; they must be the same")
    return _out(name, y, dim)


def _length(call: Call) -> int:
    x = call.spec(0)
    return x.shape[axis_of(call.op, call.settings["dim"], x.ndim)]


def _grad_length(call: Call) -> int:
    return 2 * _length(call)


def _samples(n: int) -> tuple[Any, ...]:
    """Return samples with `n` operands."""

    def a(*shape: int, view: str = "", scale: float = 3.0) -> tuple[A, ...]:
        return tuple(A(shape, -scale if i == 0 or n == 1 else 0.05, scale if n == 1 else 1.0, view=view) for i in range(n))

    return (
        s("logits", *a(7, 10), 1),
        s("last axis", *a(3, 5), -1),
        s("long rows", *a(3, 1031), 1),
        s("row past a group", *a(2, 257), dim=1),
        s("first axis", *a(33, 5), 0),
        s("channels of images", *a(2, 10, 3, 3), 1),
        s("long middle", *a(2, 67, 3), 1),
        s("attention", *a(2, 3, 4, 40), -1),
        s("transposed", *a(33, 40, view="transposed"), 1),
        s("reversed", *a(6, 37, view="reversed"), 1),
        s("strided", *a(4, 40, view="strided"), 1),
        s("channels last", *a(2, 40, 4, 5, view="channels_last"), 1),
        s("one class", *a(4, 1), 1),
        s("one axis", *a(6), 0),
        s("empty", *a(0, 3), 1),
        s("empty axis", *a(3, 0), 1, gradient=False, why="logsumexp of nothing is -inf"),
    )


_EXTREME = (
    s("large", A((2, 3), values=(1e4, 1e4 - 1.0, -1e4, -3e4, 0.0, 3e4)), 1, gradient=False, why="too steep for differences"),
    s("minus inf", A((2, 3), values=(0.0, -_INF, 1.0, -_INF, -_INF, 2.0)), 1, gradient=False, dtypes=_FLOATS, why="inf"),
    s("NaN", A((2, 3), values=(0.0, _NAN, 1.0, 1.0, 2.0, 3.0)), 1, gradient=False, dtypes=_FLOATS, why="NaN"),
)
_BAD = (
    bad("dim", SettingError, ("axis 2", "2 axes"), A((2, 3)), 2),
    bad("int", DTypeError, ("int32", "float"), A((2, 3), dtype="int32"), 1),
)
_GRAD_BAD = (bad("shapes", ShapeError, ("(2, 3)", "(2, 4)"), A((2, 3)), A((2, 4)), 1),)
_BENCH = (
    bench("64x1024", A((64, 1024)), 1), bench("8192x1024", A((8192, 1024)), 1), bench("digits", A((64, 10)), 1),
    bench("segmentation", A((4, 21, 128, 128)), 1),
)  # fmt: skip
_GRAD_BENCH = tuple(bench(b.name, b.args[0], b.args[0], 1) for b in _BENCH)


def _softmax_vjp(c: Saved, g: Any) -> dict[str, Any]:
    return {"x": partial(softmax_grad, g, c.y, c.dim)}


def _log_softmax_vjp(c: Saved, g: Any) -> dict[str, Any]:
    return {"x": partial(log_softmax_grad, g, c.y, c.dim)}


@op(
    out=partial(_out, "softmax"), vjp=_softmax_vjp, saves=("y",), samples=(*_samples(1), *_EXTREME), bad=_BAD, bench=_BENCH,
    flops=lambda call: 4 * call.spec(0).size, reduces=_length,
)  # fmt: skip
def softmax(x: Array, dim: int) -> Array:
    """Softmax: ``y[k, c] = exp(x[k, c] - m[k]) / Σ_c' exp(x[k, c'] - m[k])`` with ``m[k] = max_c x[k, c]``.

    Parameters
    ----------
    x : array
        Real floating; c runs over axis `dim`, k over the others.
    dim : int

    Returns
    -------
    array
        Shape and dtype of `x`; every slice along `dim` sums to 1.

    Raises
    ------
    SettingError, DTypeError
        An axis that is not there; a dtype that is not floating.

    Notes
    -----
    A slice with a NaN, with +inf, or with nothing but -inf is NaN. Halves are computed in float32 and rounded once.
    Costs 4 flop per element (subtract, exp, add, divide).
    """
    with np.errstate(all="ignore"):
        e = np.exp(x - np.max(x, axis=dim, keepdims=True, initial=-np.inf))
        return e / np.sum(e, axis=dim, keepdims=True)


def _softmin_vjp(c: Saved, g: Any) -> dict[str, Any]:
    return {"x": lambda: find("negative")(softmax_grad(g, c.y, c.dim))}


@op(
    out=partial(_out, "softmin"), vjp=_softmin_vjp, saves=("y",), samples=(*_samples(1), *_EXTREME), bad=_BAD, bench=_BENCH[:1],
    flops=lambda call: 5 * call.spec(0).size, reduces=_length,
)  # fmt: skip
def softmin(x: Array, dim: int) -> Array:
    """Softmin: ``softmax(-x)``, without an array for -x; see `softmax`."""
    with np.errstate(all="ignore"):
        e = np.exp(np.min(x, axis=dim, keepdims=True, initial=np.inf) - x)
        return e / np.sum(e, axis=dim, keepdims=True)


@op(
    out=partial(_out, "log_softmax"), vjp=_log_softmax_vjp, saves=("y",), samples=(*_samples(1), *_EXTREME), bad=_BAD, bench=_BENCH,
    flops=lambda call: 4 * call.spec(0).size, reduces=_length,
)  # fmt: skip
def log_softmax(x: Array, dim: int) -> Array:
    """Logarithm of the softmax: ``y[k, c] = x[k, c] - m[k] - log Σ_c' exp(x[k, c'] - m[k])``; see `softmax`.

    Never the logarithm of a rounded softmax, so it stays exact where that would be 0. Costs 4 flop per element.
    """
    with np.errstate(all="ignore"):
        t = x - np.max(x, axis=dim, keepdims=True, initial=-np.inf)
        return t - np.log(np.sum(np.exp(t), axis=dim, keepdims=True))


def _softmax_grad_vjp(c: Saved, g: Any) -> dict[str, Any]:
    # z = y (g0 - <g0, y>): linear in g0 with a symmetric matrix; by y: g (g0 - <g0, y>) - g0 <g, y>.
    def by_y() -> Any:
        total, mul, sub = find("sum"), find("multiply"), find("subtract")
        inner = total(mul(c.g, c.y), axis=c.dim, keepdims=True)
        outer = total(mul(g, c.y), axis=c.dim, keepdims=True)
        return sub(mul(g, sub(c.g, inner)), mul(c.g, outer))

    return {"g": partial(softmax_grad, g, c.y, c.dim), "y": by_y}


@op(
    out=partial(_grad_out, "softmax_grad"), outputs=("z",), vjp=_softmax_grad_vjp, saves=("g", "y"), samples=_samples(2), bad=_GRAD_BAD, bench=_GRAD_BENCH,
    flops=lambda call: 4 * call.spec(0).size, reduces=_grad_length,
)  # fmt: skip
def softmax_grad(g: Array, y: Array, dim: int) -> Array:
    """Gradient of `softmax`: ``z[k, c] = y[k, c] (g[k, c] - Σ_c' g[k, c'] y[k, c'])``, y the softmax and g its cotangent.

    Parameters
    ----------
    g : array
        Cotangent.
    y : array
        The softmax; shape and dtype of `g`.
    dim : int
        Axis of the softmax.

    Returns
    -------
    array
        Shape and dtype of `y`.
    """
    return y * (g - np.sum(g * y, axis=dim, keepdims=True))


def _log_softmax_grad_vjp(c: Saved, g: Any) -> dict[str, Any]:
    # z = g0 - exp(y) Σ g0.
    def p() -> Any:
        return find("exp")(c.y)

    def by_g() -> Any:
        return find("subtract")(g, find("sum")(find("multiply")(g, p()), axis=c.dim, keepdims=True))

    def by_y() -> Any:
        return find("negative")(find("multiply")(find("multiply")(g, p()), find("sum")(c.g, axis=c.dim, keepdims=True)))

    return {"g": by_g, "y": by_y}


@op(
    out=partial(_grad_out, "log_softmax_grad"), outputs=("z",), vjp=_log_softmax_grad_vjp, saves=("g", "y"), samples=_samples(2), bad=_GRAD_BAD,
    bench=_GRAD_BENCH, flops=lambda call: 4 * call.spec(0).size, reduces=_grad_length,
)  # fmt: skip
def log_softmax_grad(g: Array, y: Array, dim: int) -> Array:
    """Gradient of `log_softmax`: ``z[k, c] = g[k, c] - exp(y[k, c]) Σ_c' g[k, c']``, y the log-softmax, g its cotangent.

    Parameters
    ----------
    g : array
        Cotangent.
    y : array
        The log-softmax; shape and dtype of `g`.
    dim : int
        Axis of the softmax.

    Returns
    -------
    array
        Shape and dtype of `y`.
    """
    with np.errstate(all="ignore"):
        return g - np.exp(y) * np.sum(g, axis=dim, keepdims=True)


def _lse_out(x: Spec, dim: Any, keepdim: bool) -> Spec:
    _floating("logsumexp", x)
    axes = reduced_axes("logsumexp", dim, x.ndim)
    if len(axes) != 1:
        raise SettingError(f"logsumexp: dim is {dim!r} but one axis is needed; reshape to join axes")
    return Spec(reduced_shape(x.shape, axes, bool(keepdim)), x.dtype)


def _lse_vjp(c: Saved, g: Any) -> dict[str, Any]:
    spec = c.spec_of("x")
    shape = reduced_shape(spec.shape, reduced_axes("logsumexp", c.dim, spec.ndim), True)
    reshape = find("reshape")
    return {"x": lambda: logsumexp_grad(reshape(g, shape), c.x, reshape(c.y, shape))}


@op(
    out=_lse_out, vjp=_lse_vjp, saves=("x", "y"),
    samples=(
        *_samples(1), *_EXTREME, s("keepdim", A((4, 40), -3.0, 3.0), 1, keepdim=True),
        s("all minus inf", A((2, 2), values=(-_INF, -_INF, _INF, 0.0)), 1, gradient=False, dtypes=_FLOATS, why="inf"),
    ),
    bad=_BAD, bench=_BENCH, flops=lambda call: 3 * call.spec(0).size, reduces=_length,
)  # fmt: skip
def logsumexp(x: Array, dim: int, keepdim: bool = False) -> Array:
    """Logarithm of a sum of exponentials: ``y[k] = m[k] + log Σ_c exp(x[k, c] - m[k])``, c along axis `dim`.

    Real floating dtypes. -inf for an empty axis or one of nothing but -inf, inf with an inf, NaN with a NaN.
    `keepdim` keeps the axis with length 1. Costs 3 flop per element.

    Parameters
    ----------
    x : array
        Real floating.
    dim : int
        Axis summed over.
    keepdim : bool
        Keep it with length 1.

    Returns
    -------
    array
        Shape of `x` without the axis; dtype of `x`.
    """
    with np.errstate(all="ignore"):
        m = np.max(x, axis=dim, keepdims=True, initial=-np.inf)
        m = np.where(np.isinf(m), 0, m).astype(x.dtype)
        y = m + np.log(np.sum(np.exp(x - m), axis=dim, keepdims=True))
    return np.asarray(y if keepdim else np.squeeze(y, dim))


@elementwise(
    "where(x == -inf, 0, g * exp(x - y))",
    samples=(s("rows", A((4, 1)), A((4, 9)), A((4, 1), 2.0, 4.0)), s("all minus inf", A((1,)), A((2,), values=(-_INF, -_INF)), A((1,), values=(-_INF,)), dtypes=_FLOATS)),
)
def logsumexp_grad(g: Array, x: Array, y: Array) -> Array:
    """Gradient of `logsumexp`: ``z = g exp(x - y)``, 0 where x is -inf; g and y keep the reduced axis with length 1."""
