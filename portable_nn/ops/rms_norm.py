"""Root-mean-square norm and its gradients: ``xhat = x rstd`` with ``rstd = 1 / sqrt(mean(x x) + eps)``, row by row.

With the cotangent ``g`` of ``y = xhat w`` and ``h = g w``: ``gx = rstd (h - xhat mean(h xhat))``, ``gw = sum g xhat``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ..core import dtypes
from ..core.array import Array
from ..core.call import Call
from ..core.errors import DTypeError, SettingError, ShapeError
from ..core.op import op
from ..core.registry import find
from ..core.samples import A, bad, bench, s
from ..core.spec import Shape, Spec
from ..core.tape import Saved
from .norm import normalized

EPSILON = 2.0**-23  # float32's, in which most rows are computed; one number, so that a dtype changes rounding only


def _form(normalized_shape: int | Sequence[int]) -> Shape:
    return (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)


def _check(name: str, x: Spec, normalized_shape: Any, eps: float | None, **others: Spec | None) -> int:
    """Return the number of rows, or raise."""
    rows, _ = normalized(name, x, normalized_shape)
    for operand, spec in (("x", x), *others.items()):
        if spec is not None and not dtypes.is_float(spec.dtype):
            raise DTypeError(f"{name}: {operand} is {spec.dtype.name} but a real floating dtype is needed; convert with astype")
    weight = others.get("weight")
    if weight is not None and weight.shape != _form(normalized_shape):
        raise ShapeError(f"{name}: weight has shape {weight.shape} but normalized_shape is {_form(normalized_shape)}; they must be the same")
    if eps is not None and not eps >= 0:
        raise SettingError(f"{name}: eps is {eps} but must be 0 or more")
    return rows


def _out(x: Spec, normalized_shape: Any, weight: Spec | None, eps: float | None) -> tuple[Spec, Spec]:
    rows = _check("rms_norm", x, normalized_shape, eps, weight=weight)
    return Spec(x.shape, x.dtype), Spec((rows,), dtypes.accumulator(x.dtype))


def _vjp(c: Saved, g: Array) -> dict[str, Any]:
    shape = c.normalized_shape

    def weight() -> Array:
        made: Array = rms_norm_weight_grad(g, c.x, c.rstd, normalized_shape=shape)
        spec = c.spec_of("weight")
        return made if made.dtype == spec.dtype else find("astype")(made, spec.dtype)

    return {"x": lambda: rms_norm_grad(g, c.x, c.weight, c.rstd, normalized_shape=shape), "weight": weight}


def _length(call: Call) -> int:
    return prod(_form(call.settings["normalized_shape"]))


@op(
    out=_out,
    residuals=("rstd",),
    vjp=_vjp,
    saves=("x", "weight", "rstd"),
    flops=lambda call: 4 * call.outputs[0].size,
    reduces=_length,
    samples=(
        s("weight", A((6, 17)), 17, A((17,), 0.5, 1.5)),
        s("plain", A((6, 17)), (17,)),
        s("long rows", A((3, 1031)), 1031, A((1031,), 0.5, 1.5)),
        s("two axes", A((3, 4, 5)), (4, 5), A((4, 5), 0.5, 1.5)),
        s("batch axes", A((2, 3, 33)), (33,), A((33,))),
        s("eps", A((3, 9)), 9, A((9,)), eps=0.1),
        s("no eps", A((2, 5), 0.5, 1.5), 5, eps=0.0),
        s("many rows", A((300, 5)), 5, A((5,))),
        s("views", A((6, 8), view="transposed"), 8, A((8,), view="strided")),
        s("expanded", A((4, 40), view="expanded"), 40, A((40,), view="reversed")),
        s("no rows", A((0, 4)), 4, gradient=False, why="no rows"),
        s("NaN stays in its row", A((2, 3), values=(1, float("nan"), 3, 4, 5, 6)), 3, gradient=False, why="NaN", dtypes=("float32", "float64")),
    ),
    bad=(
        bad("shape", ShapeError, ("(6, 17)", "(16,)"), A((6, 17)), 16),
        bad("weight", ShapeError, ("weight", "(16,)", "(17,)"), A((6, 17)), 17, A((16,))),
        bad("dtype", DTypeError, ("int32",), A((6, 17), dtype="int32"), 17),
        bad("eps", SettingError, ("-1",), A((6, 17)), 17, eps=-1.0),
    ),
    bench=(bench("row", A((64, 1024)), 1024, A((1024,))), bench("transformer", A((8192, 1024)), 1024, A((1024,)))),
)  # fmt: skip
def rms_norm(x: Array, normalized_shape: int | Sequence[int], weight: Array | None = None, eps: float | None = None) -> Any:
    """Scale each row to a root mean square of one: ``y = x / sqrt(mean(x x) + eps) w``, mean over the last axes.

    Parameters
    ----------
    x : array, shape (..., D)
        D stands for the axes of `normalized_shape`. Real floating dtype.
    normalized_shape : int or sequence of int
        The last axes of x, over which is normalised.
    weight : array, shape (D), optional
        1 when left out.
    eps : float, optional
        Added to the mean square. 2^-23, the machine epsilon of float32, when left out, for every dtype.

    Returns
    -------
    array, shape (..., D)
        x's dtype; the mean square in float32 or wider.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        Last axes that differ from `normalized_shape`; integer x; a negative eps.

    Notes
    -----
    4 operations per element; the row is read twice, from cache. A NaN makes its row NaN.
    Zhang and Sennrich 2019, arXiv:1910.07467.
    """
    rows = x.reshape(-1, prod(_form(normalized_shape)))
    rstd = 1 / np.sqrt(np.mean(rows * rows, axis=1, dtype=x.dtype) + x.dtype.type(EPSILON if eps is None else eps))
    y = (rows * rstd[:, None]).reshape(x.shape)
    return (y if weight is None else y * weight), rstd


def _grad_check(name: str, g: Spec, x: Spec, rstd: Spec, normalized_shape: Any, weight: Spec | None = None) -> None:
    rows = _check(name, x, normalized_shape, None, g=g, rstd=rstd, weight=weight)
    if g.shape != x.shape or rstd.shape != (rows,):
        raise ShapeError(f"{name}: g {g.shape} must have x's shape {x.shape}, and rstd {rstd.shape} must be {(rows,)}")


def _grad_out(g: Spec, x: Spec, weight: Spec | None, rstd: Spec, normalized_shape: Any) -> Spec:
    _grad_check("rms_norm_grad", g, x, rstd, normalized_shape, weight)
    return Spec(x.shape, x.dtype)


@op(
    out=_grad_out,
    outputs=("gx",),
    flops=lambda call: 8 * call.outputs[0].size,
    reduces=_length,
    samples=(
        s("weight", A((6, 17)), A((6, 17)), A((17,)), A((6,), 0.5, 1.5), normalized_shape=17),
        s("plain", A((6, 65)), A((6, 65)), None, A((6,), 0.5, 1.5), normalized_shape=65),
        s("two axes", A((3, 4, 5), view="transposed"), A((3, 4, 5), view="reversed"), A((4, 5)), A((3,), 0.5, 1.5, view="strided"), normalized_shape=(4, 5)),
        s("no rows", A((0, 5)), A((0, 5)), None, A((0,)), normalized_shape=5),
    ),
    bad=(bad("shapes", ShapeError, ("(2, 3)", "(3, 3)"), A((2, 3)), A((3, 3)), None, A((3,)), normalized_shape=3),),
    bench=(bench("transformer", A((8192, 1024)), A((8192, 1024)), A((1024,)), A((8192,), 0.5, 1.5), normalized_shape=1024),),
)  # fmt: skip
def rms_norm_grad(g: Array, x: Array, weight: Array | None, rstd: Array, *, normalized_shape: int | Sequence[int]) -> Array:
    """Gradient of `rms_norm` by x: ``gx = rstd (h - xhat mean(h xhat))`` with ``h = g w`` and ``xhat = x rstd``, row by row.

    Parameters
    ----------
    g, x : array, shape (..., D)
    weight : array, shape (D), or None
    rstd : array, shape (rows,)
        Of the forward pass.
    normalized_shape : int or sequence of int
        As in `rms_norm`.

    Returns
    -------
    array, shape (..., D)
    """
    length = prod(_form(normalized_shape))
    h = (g if weight is None else g * weight).reshape(-1, length)
    xhat = x.reshape(-1, length) * rstd[:, None]
    made: Array = ((h - xhat * np.mean(h * xhat, axis=1, keepdims=True)) * rstd[:, None]).reshape(x.shape)
    return made


def _weight_out(g: Spec, x: Spec, rstd: Spec, normalized_shape: Any) -> Spec:
    _grad_check("rms_norm_weight_grad", g, x, rstd, normalized_shape)
    return Spec(_form(normalized_shape), dtypes.accumulator(x.dtype))


@op(
    out=_weight_out,
    outputs=("gw",),
    flops=lambda call: 3 * call.spec(0).size,
    reduces=lambda call: max(call.spec(0).size // _length(call), 1),
    samples=(
        s("plain", A((6, 17)), A((6, 17)), A((6,), 0.5, 1.5), normalized_shape=17),
        s("two axes", A((3, 4, 5), view="transposed"), A((3, 4, 5)), A((3,), 0.5, 1.5, view="reversed"), normalized_shape=(4, 5)),
        s("many rows", A((1031, 17)), A((1031, 17)), A((1031,), 0.5, 1.5), normalized_shape=17),
        s("long rows, in parts", A((3301, 41)), A((3301, 41)), A((3301,), 0.5, 1.5), normalized_shape=41),
        s("no rows", A((0, 9)), A((0, 9)), A((0,)), normalized_shape=9),
    ),
    bad=(bad("shapes", ShapeError, ("(2, 3)", "(3, 3)"), A((2, 3)), A((3, 3)), A((3,)), normalized_shape=3),),
    bench=(bench("transformer", A((8192, 1024)), A((8192, 1024)), A((8192,), 0.5, 1.5), normalized_shape=1024),),
)  # fmt: skip
def rms_norm_weight_grad(g: Array, x: Array, rstd: Array, *, normalized_shape: int | Sequence[int]) -> Array:
    """Gradient of `rms_norm` by its weight: ``gw = sum over rows of g x rstd``.

    Parameters
    ----------
    g, x : array, shape (..., D)
    rstd : array, shape (rows,)
    normalized_shape : int or sequence of int
        As in `rms_norm`.

    Returns
    -------
    array, shape (D)
        In float32 or wider.
    """
    shape = _form(normalized_shape)
    rows = (-1, prod(shape))
    made: Array = np.sum(g.reshape(rows) * (x.reshape(rows) * rstd[:, None]), axis=0).reshape(shape)
    return made
