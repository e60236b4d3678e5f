"""Layer norm and its gradients.

With ``xhat = (x - mean) rstd`` over a row, the cotangent ``g`` of ``y = xhat w + b`` and ``h = g w`` (w varies inside
the row):

    gb = sum over rows of g      gw = sum over rows of g xhat      gx = rstd (h - mean(h) - xhat mean(h xhat))
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ..core.array import Array
from ..core.call import Call
from ..core.errors import DTypeError, SettingError, ShapeError
from ..core.op import op
from ..core.registry import find
from ..core.samples import A, bad, bench, s
from ..core.spec import Spec
from ..core.tape import Saved
from .norm import floating, normalized, positive_eps, statistic


def layer_norm_out(x: Spec, normalized_shape: Any, weight: Spec | None, bias: Spec | None, eps: float, op: str = "layer_norm") -> tuple[Spec, ...]:
    """Return the specs of y, mean and rstd; `op` is for messages."""
    rows, _ = normalized(op, x, normalized_shape, weight=weight, bias=bias)
    positive_eps(op, eps)
    dtype = floating(op, x=x)
    if weight is not None or bias is not None:
        floating(op, weight=weight, bias=bias)
    stat = Spec((rows,), statistic(dtype))
    return Spec(x.shape, dtype), stat, stat


def normal_rows(x: Array, normalized_shape: int | Sequence[int], weight: Array | None, bias: Array | None, eps: float) -> tuple[Array, Array, Array]:
    """Return y, mean and rstd: the body of the ops that normalise rows."""
    length = prod((normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape)
    rows = x.reshape(-1, length)
    mean = np.mean(rows, axis=1, dtype=x.dtype)
    centred = rows - mean[:, None]
    rstd = 1 / np.sqrt(np.mean(centred * centred, axis=1, dtype=x.dtype) + x.dtype.type(eps))
    y = (centred * rstd[:, None]).reshape(x.shape)
    if weight is not None:
        y = y * weight
    return (y if bias is None else y + bias), mean, rstd


def _layer_norm_vjp(c: Saved, g: Array) -> dict[str, Any]:
    of_x = lambda: layer_norm_grad(g, c.x, c.weight, c.mean, c.rstd, normalized_shape=c.normalized_shape)  # noqa: E731
    return {"x": of_x, **parameter_gradients(c, g, c.x)}


def parameter_gradients(c: Saved, g: Array, x: Array) -> dict[str, Any]:
    """Return the gradients of weight and bias, if they are wanted; `x` is what was normalised."""
    given: dict[str, Any] = {}
    if c.needs("weight") or c.needs("bias"):
        made = layer_norm_weight_grad(g, x, c.mean, c.rstd, normalized_shape=c.normalized_shape)
        for name, value in zip(("weight", "bias"), made, strict=True):
            spec = c.spec_of(name)
            given[name] = value if spec is None or value.dtype == spec.dtype else find("astype")(value, spec.dtype)
    return given


def row_length(call: Call) -> int:
    """Return the number of elements of a row."""
    wanted = call.settings["normalized_shape"]
    return wanted if isinstance(wanted, int) else prod(wanted)


@op(
    out=layer_norm_out,
    residuals=("mean", "rstd"),
    vjp=_layer_norm_vjp,
    saves=("x", "weight", "mean", "rstd"),
    flops=lambda call: 8 * call.outputs[0].size,
    reduces=row_length,
    samples=(
        s("affine", A((6, 17)), 17, A((17,), 0.5, 1.5), A((17,))),
        s("plain", A((6, 17)), (17,)),
        s("weight only", A((3, 65)), 65, A((65,), 0.5, 1.5)),
        s("bias only", A((3, 65)), 65, None, A((65,))),
        s("two axes", A((3, 4, 5)), (4, 5), A((4, 5), 0.5, 1.5), A((4, 5))),
        s("batch axes", A((2, 3, 33)), (33,), A((33,)), A((33,))),
        s("long row", A((2, 1031)), 1031, A((1031,)), A((1031,))),
        s("eps", A((3, 9)), 9, A((9,)), A((9,)), eps=0.1),
        s("eps 0", A((3, 9)), 9, eps=0),
        s("views", A((6, 8), view="transposed"), 8, A((8,), view="strided"), A((8,), view="reversed")),
        s("length one", A((5, 1)), 1, gradient=False, why="the gradient is 0 by cancellation"),
        s("empty", A((0, 4)), 4, gradient=False, why="no rows"),
        s("far from zero", A((4, 129), 10.0, 11.0), 129, dtypes=("float32", "float64"), gradient=False, why="only the variance is at stake"),
        s("many rows", A((300, 5)), 5, A((5,)), A((5,))),
    ),
    bad=(
        bad("shape", ShapeError, ("(6, 17)", "(16,)"), A((6, 17)), 16),
        bad("weight", ShapeError, ("weight", "(16,)", "(17,)"), A((6, 17)), 17, A((16,))),
        bad("empty row", ShapeError, ("no mean",), A((3, 0)), 0),
        bad("dtype", DTypeError, ("int32",), A((6, 17), dtype="int32"), 17),
        bad("eps", SettingError, ("-1",), A((6, 17)), 17, eps=-1.0),
    ),
    bench=(bench("row", A((64, 1024)), 1024, A((1024,)), A((1024,))), bench("large", A((8192, 1024)), 1024, A((1024,)), A((1024,)))),
)  # fmt: skip
def layer_norm(
    x: Array, normalized_shape: int | Sequence[int], weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5
) -> Any:
    """Normalise each row: ``y = (x - mean) / sqrt(var + eps) w + b``, mean and biased variance over the last axes.

    Parameters
    ----------
    x : array, shape (..., D)
        D stands for the axes of `normalized_shape`. Real floating dtype.
    normalized_shape : int or sequence of int
        The last axes of x, over which is normalised.
    weight, bias : array, shape (D), optional
        1 and 0 when left out.
    eps : float
        Added to the variance.

    Returns
    -------
    array, shape (..., D)
        x's dtype; statistics in float32 or wider.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        Last axes that differ from `normalized_shape`; integer x; a negative eps.

    Notes
    -----
    About 8 operations per element; the row is read twice, from cache. A NaN makes its row NaN.
    Ba, Kiros and Hinton 2016, arXiv:1607.06450.
    """
    return normal_rows(x, normalized_shape, weight, bias, eps)


def _layer_grad_out(g: Spec, x: Spec, weight: Spec | None, mean: Spec, rstd: Spec, normalized_shape: Any) -> Spec:
    rows, _ = normalized("layer_norm_grad", x, normalized_shape, weight=weight)
    if g.shape != x.shape or mean.shape != (rows,) or rstd.shape != (rows,):
        raise ShapeError(f"layer_norm_grad: g {g.shape} must have x's shape {x.shape}, mean {mean.shape} and rstd {rstd.shape} must be {(rows,)}")
    floating("layer_norm_grad", g=g, x=x, weight=weight)
    return Spec(x.shape, x.dtype)


@op(
    out=_layer_grad_out,
    outputs=("gx",),
    flops=lambda call: 9 * call.outputs[0].size,
    reduces=row_length,
    samples=(
        s("affine", A((6, 17)), A((6, 17)), A((17,)), A((6,), -0.1, 0.1), A((6,), 0.5, 1.5), normalized_shape=17),
        s("plain", A((6, 65)), A((6, 65)), None, A((6,), -0.1, 0.1), A((6,), 0.5, 1.5), normalized_shape=65),
        s("two axes", A((3, 4, 5)), A((3, 4, 5)), A((4, 5)), A((3,)), A((3,), 0.5, 1.5), normalized_shape=(4, 5)),
        s("views", A((6, 17), view="transposed"), A((6, 17), view="reversed"), A((17,)), A((6,)), A((6,), 0.5, 1.5), normalized_shape=17),
    ),
    bad=(
        bad("shapes", ShapeError, ("(2, 3)", "(3, 3)"), A((2, 3)), A((3, 3)), None, A((3,)), A((3,)), normalized_shape=3),
        bad("weight", ShapeError, ("weight", "(2,)", "(3,)"), A((3, 3)), A((3, 3)), A((2,)), A((3,)), A((3,)), normalized_shape=3),
    ),
    bench=(bench("large", A((8192, 1024)), A((8192, 1024)), A((1024,)), A((8192,)), A((8192,), 0.5, 1.5), normalized_shape=1024),),
)  # fmt: skip
def layer_norm_grad(g: Array, x: Array, weight: Array | None, mean: Array, rstd: Array, *, normalized_shape: int | Sequence[int]) -> Array:
    """Gradient of `layer_norm` by x: ``gx = rstd (h - mean(h) - xhat mean(h xhat))`` with ``h = g w``, row by row.

    Parameters
    ----------
    g, x : array, shape (..., D)
    weight : array, shape (D), or None
    mean, rstd : array, shape (rows,)
        Of the forward pass.
    normalized_shape : int or sequence of int
        As in `layer_norm`.

    Returns
    -------
    array, shape (..., D)
    """
    length = prod((normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape)
    h = (g if weight is None else g * weight).reshape(-1, length)
    xhat = (x.reshape(-1, length) - mean[:, None]) * rstd[:, None]
    inner = h - h.mean(axis=1, keepdims=True) - xhat * (h * xhat).mean(axis=1, keepdims=True)
    made: Array = (inner * rstd[:, None]).reshape(x.shape)
    return made


def _layer_weight_out(g: Spec, x: Spec, mean: Spec, rstd: Spec, normalized_shape: Any) -> tuple[Spec, Spec]:
    rows, _ = normalized("layer_norm_weight_grad", x, normalized_shape)
    if g.shape != x.shape or mean.shape != (rows,) or rstd.shape != (rows,):
        raise ShapeError(f"layer_norm_weight_grad: g {g.shape} must have x's shape {x.shape}, mean {mean.shape} and rstd {rstd.shape} must be {(rows,)}")
    dtype = statistic(floating("layer_norm_weight_grad", g=g, x=x))
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    return Spec(shape, dtype), Spec(shape, dtype)


@op(
    out=_layer_weight_out,
    outputs=("gw", "gb"),
    flops=lambda call: 5 * call.spec(0).size,
    reduces=lambda call: call.spec(0).size // row_length(call),
    samples=(
        s("plain", A((6, 17)), A((6, 17)), A((6,), -0.1, 0.1), A((6,), 0.5, 1.5), normalized_shape=17),
        s("two axes", A((3, 4, 5)), A((3, 4, 5)), A((3,)), A((3,), 0.5, 1.5), normalized_shape=(4, 5)),
        s("views", A((6, 17), view="strided"), A((6, 17), view="transposed"), A((6,)), A((6,), 0.5, 1.5), normalized_shape=17),
        s("many rows", A((1031, 17)), A((1031, 17)), A((1031,)), A((1031,), 0.5, 1.5), normalized_shape=17),
        s("long rows, in blocks", A((71, 45)), A((71, 45)), A((71,), -0.1, 0.1), A((71,), 0.5, 1.5), normalized_shape=45),
        s("long rows, in parts", A((3301, 41)), A((3301, 41)), A((3301,), -0.1, 0.1), A((3301,), 0.5, 1.5), normalized_shape=41),
        s("no rows", A((0, 9)), A((0, 9)), A((0,)), A((0,)), normalized_shape=9),
        s("no long rows", A((0, 40)), A((0, 40)), A((0,)), A((0,)), normalized_shape=40),
    ),
    bad=(bad("shapes", ShapeError, ("(2, 3)", "(3, 3)"), A((2, 3)), A((3, 3)), A((3,)), A((3,)), normalized_shape=3),),
    bench=(bench("large", A((8192, 1024)), A((8192, 1024)), A((8192,)), A((8192,), 0.5, 1.5), normalized_shape=1024),),
)  # fmt: skip
def layer_norm_weight_grad(g: Array, x: Array, mean: Array, rstd: Array, *, normalized_shape: int | Sequence[int]) -> Any:
    """Gradients of `layer_norm` by weight and bias: ``gw = sum over rows of g xhat``, ``gb = sum over rows of g``.

    Parameters
    ----------
    g, x : array, shape (..., D)
    mean, rstd : array, shape (rows,)
    normalized_shape : int or sequence of int
        As in `layer_norm`.

    Returns
    -------
    gw, gb : array, shape (D)
        In float32 or wider.
    """
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    rows = g.reshape(-1, prod(shape))
    xhat = (x.reshape(rows.shape) - mean[:, None]) * rstd[:, None]
    return np.sum(rows * xhat, axis=0).reshape(shape), np.sum(rows, axis=0).reshape(shape)
