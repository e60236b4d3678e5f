"""Layer norm of a sum, with the sum: what begins every block of a transformer that normalises first, in one launch.

The gradient of the sum arrives on two ways, straight and through the norm; one launch adds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from ..core.array import Array
from ..core.errors import DTypeError, SettingError, ShapeError
from ..core.op import op
from ..core.samples import A, bad, bench, s
from ..core.spec import Spec
from ..core.tape import Saved
from .layer_norm import layer_norm_grad, layer_norm_out, normal_rows, parameter_gradients, row_length
from .norm import floating, normalized


def _out(x: Spec, residual: Spec, normalized_shape: Any, weight: Spec | None, bias: Spec | None, eps: float) -> tuple[Spec, ...]:
    if x.shape != residual.shape:
        raise ShapeError(f"add_layer_norm: x has shape {x.shape} but residual {residual.shape}; they must be the same (broadcast_to makes them so)")
    if x.dtype != residual.dtype:
        raise DTypeError(f"add_layer_norm: x is {x.dtype.name} but residual {residual.dtype.name}; convert one with astype")
    y, mean, rstd = layer_norm_out(x, normalized_shape, weight, bias, eps, "add_layer_norm")
    return Spec(x.shape, x.dtype), y, mean, rstd


def _vjp(c: Saved, straight: Array | None, g: Array | None) -> dict[str, Any]:
    if g is None:
        return {"x": straight, "residual": straight, "weight": None, "bias": None}
    if straight is None:
        of_sum = layer_norm_grad(g, c.total, c.weight, c.mean, c.rstd, normalized_shape=c.normalized_shape)
    else:
        of_sum = add_layer_norm_grad(straight, g, c.total, c.weight, c.mean, c.rstd, normalized_shape=c.normalized_shape)
    return {"x": of_sum, "residual": of_sum, **parameter_gradients(c, g, c.total)}


@op(
    out=_out,
    outputs=("total", "y"),
    residuals=("mean", "rstd"),
    vjp=_vjp,
    saves=("total", "weight", "mean", "rstd"),
    flops=lambda call: 9 * call.outputs[0].size,
    reduces=row_length,
    samples=(
        s("affine", A((6, 17)), A((6, 17)), 17, A((17,), 0.5, 1.5), A((17,))),
        s("plain", A((6, 17)), A((6, 17)), (17,)),
        s("weight only", A((3, 65)), A((3, 65)), 65, A((65,), 0.5, 1.5)),
        s("bias only", A((3, 65)), A((3, 65)), 65, None, A((65,))),
        s("vectors, no affine", A((5, 64)), A((5, 64)), 64),
        s("two axes", A((3, 4, 5)), A((3, 4, 5)), (4, 5), A((4, 5), 0.5, 1.5), A((4, 5))),
        s("batch axes", A((2, 3, 33)), A((2, 3, 33)), (33,), A((33,)), A((33,))),
        s("long row", A((2, 1031)), A((2, 1031)), 1031, A((1031,)), A((1031,))),
        s("eps", A((3, 9)), A((3, 9)), 9, A((9,)), A((9,)), eps=0.1),
        s("views", A((6, 8), view="transposed"), A((6, 8), view="strided"), 8, A((8,), view="strided"), A((8,), view="reversed")),
        s("views of long rows", A((6, 40), view="reversed"), A((6, 40), view="expanded"), 40, A((40,), view="strided"), A((40,))),
        s("length one", A((5, 1)), A((5, 1)), 1, gradient=False, why="the gradient of the norm is 0 by cancellation"),
        s("empty", A((0, 4)), A((0, 4)), 4, gradient=False, why="no rows"),
        s("many rows", A((300, 5)), A((300, 5)), 5, A((5,)), A((5,))),
        s("a NaN stays in its row", A((2, 3), values=(1.0, float("nan"), 2.0, 3.0, 5.0, 4.0)), A((2, 3)), 3, gradient=False, why="holds NaN"),
    ),
    bad=(
        bad("shapes", ShapeError, ("(6, 17)", "(17,)", "broadcast_to"), A((6, 17)), A((17,)), 17),
        bad("dtypes", DTypeError, ("float32", "float64", "astype"), A((2, 3), dtype="float32"), A((2, 3), dtype="float64"), 3),
        bad("weight", ShapeError, ("add_layer_norm", "weight", "(16,)", "(17,)"), A((6, 17)), A((6, 17)), 17, A((16,))),
        bad("integers", DTypeError, ("add_layer_norm", "int32"), A((6, 17), dtype="int32"), A((6, 17), dtype="int32"), 17),
        bad("eps", SettingError, ("add_layer_norm", "-1"), A((6, 17)), A((6, 17)), 17, eps=-1.0),
    ),
    bench=(
        bench("row", A((64, 1024)), A((64, 1024)), 1024, A((1024,)), A((1024,))),
        bench("large", A((8192, 1024)), A((8192, 1024)), 1024, A((1024,)), A((1024,))),
    ),
)  # fmt: skip
def add_layer_norm(
    x: Array, residual: Array, normalized_shape: int | Sequence[int], weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5
) -> Any:
    """Add, and normalise each row of the sum: ``total = x + residual``, ``y = layer_norm(total, weight, bias)``.

    Parameters
    ----------
    x, residual : array, shape (..., D)
        Of one shape and one real floating dtype. D stands for the axes of `normalized_shape`.
    normalized_shape : int or sequence of int
        The last axes of x, over which is normalised.
    weight, bias : array, shape (D), optional
        1 and 0 when left out.
    eps : float
        Added to the variance.

    Returns
    -------
    total, y : array, shape (..., D)
        x's dtype; statistics in float32 or wider. What is normalised is the sum before it is rounded.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        Shapes or dtypes that differ; last axes that differ from `normalized_shape`; integers; a negative eps.

    Notes
    -----
    About 9 operations per element; four arrays move, where a sum and a layer norm move five, and five instead of seven
    in the gradient. A NaN makes its row NaN.
    """
    total: Array = x + residual
    return total, *normal_rows(total, normalized_shape, weight, bias, eps)


def _grad_out(straight: Spec, g: Spec, total: Spec, weight: Spec | None, mean: Spec, rstd: Spec, normalized_shape: Any) -> Spec:
    rows, _ = normalized("add_layer_norm_grad", total, normalized_shape, weight=weight)
    if straight.shape != total.shape or g.shape != total.shape or mean.shape != (rows,) or rstd.shape != (rows,):
        raise ShapeError(
            f"add_layer_norm_grad: straight {straight.shape} and g {g.shape} must have total's shape {total.shape}, "
            f"mean {mean.shape} and rstd {rstd.shape} must be {(rows,)}"
        )
    if straight.dtype != g.dtype:
        raise DTypeError(f"add_layer_norm_grad: straight is {straight.dtype.name} but g {g.dtype.name}; convert one with astype")
    floating("add_layer_norm_grad", g=g, total=total, weight=weight)
    return Spec(total.shape, total.dtype)


@op(
    out=_grad_out,
    outputs=("gx",),
    flops=lambda call: 10 * call.outputs[0].size,
    reduces=row_length,
    samples=(
        s("affine", A((6, 17)), A((6, 17)), A((6, 17)), A((17,)), A((6,), -0.1, 0.1), A((6,), 0.5, 1.5), normalized_shape=17),
        s("plain", A((6, 65)), A((6, 65)), A((6, 65)), None, A((6,), -0.1, 0.1), A((6,), 0.5, 1.5), normalized_shape=65),
        s("weight, vectors", A((5, 96)), A((5, 96)), A((5, 96)), A((96,)), A((5,), -0.1, 0.1), A((5,), 0.5, 1.5), normalized_shape=96),
        s("two axes", A((3, 4, 5)), A((3, 4, 5)), A((3, 4, 5)), A((4, 5)), A((3,)), A((3,), 0.5, 1.5), normalized_shape=(4, 5)),
        s("views", A((6, 17), view="strided"), A((6, 17), view="transposed"), A((6, 17), view="reversed"), A((17,)), A((6,)), A((6,), 0.5, 1.5), normalized_shape=17),
        s("no rows", A((0, 9)), A((0, 9)), A((0, 9)), None, A((0,)), A((0,)), normalized_shape=9),
    ),
    bad=(
        bad("shapes", ShapeError, ("(2, 3)", "(3, 3)"), A((2, 3)), A((3, 3)), A((3, 3)), None, A((3,)), A((3,)), normalized_shape=3),
        bad("weight", ShapeError, ("weight", "(2,)", "(3,)"), A((3, 3)), A((3, 3)), A((3, 3)), A((2,)), A((3,)), A((3,)), normalized_shape=3),
        bad("dtypes", DTypeError, ("straight is float64", "g float32"), A((3, 3), dtype="float64"), A((3, 3), dtype="float32"),
            A((3, 3), dtype="float32"), None, A((3,), dtype="float32"), A((3,), dtype="float32"), normalized_shape=3),
    ),
    bench=(bench("large", A((8192, 1024)), A((8192, 1024)), A((8192, 1024)), A((1024,)), A((8192,)), A((8192,), 0.5, 1.5), normalized_shape=1024),),
)  # fmt: skip
def add_layer_norm_grad(
    straight: Array, g: Array, total: Array, weight: Array | None, mean: Array, rstd: Array, *, normalized_shape: int | Sequence[int]
) -> Array:
    """Gradient of `add_layer_norm` by x and by residual: ``gx = straight + rstd (h - mean(h) - xhat mean(h xhat))``, ``h = g w``.

    Parameters
    ----------
    straight, g : array, shape (..., D)
        The cotangents of total and of y, of one dtype.
    total : array, shape (..., D)
        The sum.
    weight : array, shape (D), or None
    mean, rstd : array, shape (rows,)
        Of the forward pass.
    normalized_shape : int or sequence of int
        As in `add_layer_norm`.

    Returns
    -------
    array, shape (..., D)
        total's dtype.
    """
    length = prod((normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape)
    h = (g if weight is None else g * weight).reshape(-1, length)
    xhat = (total.reshape(-1, length) - mean[:, None]) * rstd[:, None]
    inner = h - h.mean(axis=1, keepdims=True) - xhat * (h * xhat).mean(axis=1, keepdims=True)
    made: Array = straight + (inner * rstd[:, None]).reshape(total.shape)
    return made
