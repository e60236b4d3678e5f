"""PReLU: a leaky ReLU whose slope is learnt, for all channels or one per channel; its gradients by x and by the slope."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import dtypes
from ..core.array import Array
from ..core.call import Call
from ..core.errors import DTypeError, ShapeError
from ..core.op import op
from ..core.samples import A, bad, bench, s
from ..core.spec import Spec
from ..core.tape import Saved


def _check(name: str, x: Spec, weight: Spec) -> None:
    for operand, spec in (("x", x), ("weight", weight)):
        if not dtypes.is_float(spec.dtype) or spec.dtype != x.dtype:
            raise DTypeError(f"{name}: {operand} is {spec.dtype.name} and x {x.dtype.name}; one floating dtype is needed, convert with astype")
    channels = x.shape[1] if x.ndim > 1 else 1
    if weight.ndim > 1 or weight.size not in (1, channels):
        raise ShapeError(f"{name}: weight has shape {weight.shape} but x of shape {x.shape} needs (1,) or one slope per channel, ({channels},)")


def _broadcast(weight: Any, ndim: int) -> Any:
    return weight if weight.size == 1 else weight.reshape(-1, *(1,) * (ndim - 2))


def _out(x: Spec, weight: Spec) -> Spec:
    _check("prelu", x, weight)
    return Spec(x.shape, x.dtype)


def _vjp(c: Saved, g: Array) -> dict[str, Any]:
    return {"x": lambda: prelu_grad(g, c.x, c.weight), "weight": lambda: prelu_weight_grad(g, c.x, c.spec_of("weight").shape)}


_X = A((2, 3, 4, 5), -2.0, -0.1)


@op(
    out=_out, vjp=_vjp, saves=("x", "weight"), flops=lambda call: 2 * call.outputs[0].size,
    samples=(
        s("per channel", _X, A((3,))),
        s("one slope", _X, A((1,))),
        s("slope without axes", A((7,), -2.0, -0.1), A(())),
        s("positive", A((2, 3, 4), 0.1, 2.0), A((3,))),
        s("two axes", A((5, 40), -2.0, -0.1), A((40,), view="strided")),
        s("channels last", A((2, 3, 4, 5), -2.0, -0.1, view="channels_last"), A((3,), view="reversed")),
        s("transposed", A((2, 3, 4), -2.0, -0.1, view="transposed"), A((3,))),
        s("one channel", A((3, 1, 4), -2.0, -0.1), A((1,))),
        s("empty", A((0, 3, 2)), A((3,))),
        s("special", A((1, 5), values=(0.0, float("nan"), float("inf"), -float("inf"), -0.0)), A((5,)), gradient=False, why="NaN, inf, kink"),
    ),
    bad=(
        bad("channels", ShapeError, ("(4,)", "(3,)"), _X, A((4,))),
        bad("no channel axis", ShapeError, ("(3,)", "(1,)"), A((5,)), A((3,))),
        bad("two slopes, no channel axis", ShapeError, ("(2,)", "(1,)"), A((5,)), A((2,))),
        bad("dtypes", DTypeError, ("float32", "float64"), A((2, 3), dtype="float64"), A((3,), dtype="float32")),
        bad("integers", DTypeError, "int32", A((2, 3), dtype="int32"), A((3,), dtype="int32")),
    ),
    bench=(bench("map", A((32, 64, 32, 32)), A((64,))),),
)  # fmt: skip
def prelu(x: Array, weight: Array) -> Array:
    """Leaky ReLU with learnt slopes: ``y = x`` where ``x > 0``, else ``w[c] x``, as `torch.nn.functional.prelu`.

    Parameters
    ----------
    x : array, shape (N, C, ...)
        Floating.
    weight : array, shape (C,), (1,) or ()
        One slope per channel, or one for all. Of x's dtype.

    Returns
    -------
    array, shape (N, C, ...)

    Raises
    ------
    ShapeError, DTypeError
        Another number of slopes; different or integer dtypes.

    Notes
    -----
    2 operations per element. NaN stays NaN. The gradient at 0 is ``w``. He et al. 2015, arXiv:1502.01852.
    """
    with np.errstate(invalid="ignore"):
        return np.where(x > 0, x, x * _broadcast(weight, x.ndim))


def _grad_out(g: Spec, x: Spec, weight: Spec) -> Spec:
    _check("prelu_grad", x, weight)
    if g.shape != x.shape or g.dtype != x.dtype:
        raise ShapeError(f"prelu_grad: g is {g.dtype.name} {g.shape} but x is {x.dtype.name} {x.shape}; they must be the same")
    return Spec(x.shape, x.dtype)


@op(
    out=_grad_out, outputs=("gx",), flops=lambda call: 2 * call.outputs[0].size,
    samples=(
        s("per channel", A((2, 3, 4, 5)), A((2, 3, 4, 5)), A((3,))),
        s("one slope", A((2, 37)), A((2, 37)), A((1,))),
        s("views", A((2, 3, 4), view="expanded"), A((2, 3, 4), view="channels_last"), A((3,), view="strided")),
        s("empty", A((0, 3)), A((0, 3)), A((3,))),
    ),
    bad=(bad("shapes", ShapeError, ("(2, 3)", "(2, 4)"), A((2, 3)), A((2, 4)), A((4,))),),
    bench=(bench("map", A((32, 64, 32, 32)), A((32, 64, 32, 32)), A((64,))),),
)  # fmt: skip
def prelu_grad(g: Array, x: Array, weight: Array) -> Array:
    """Gradient of `prelu` by x: ``gx = g`` where ``x > 0``, else ``w[c] g``.

    Parameters
    ----------
    g, x : array, shape (N, C, ...)
    weight : array, shape (C,), (1,) or ()

    Returns
    -------
    array, shape (N, C, ...)
    """
    return np.where(x > 0, g, g * _broadcast(weight, x.ndim))


def _weight_out(g: Spec, x: Spec, weight_shape: Any) -> Spec:
    made = Spec(tuple(weight_shape), x.dtype)
    _check("prelu_weight_grad", x, made)
    if g.shape != x.shape or g.dtype != x.dtype:
        raise ShapeError(f"prelu_weight_grad: g is {g.dtype.name} {g.shape} but x is {x.dtype.name} {x.shape}; they must be the same")
    return made


def _terms(call: Call) -> int:
    return max(call.spec(0).size // max(call.outputs[0].size, 1), 1)


@op(
    out=_weight_out, outputs=("gw",), flops=lambda call: 2 * call.spec(0).size, reduces=_terms,
    samples=(
        s("per channel", A((2, 3, 4, 5)), A((2, 3, 4, 5)), (3,)),
        s("one slope", A((2, 37)), A((2, 37)), (1,)),
        s("slope without axes", A((2, 3, 37)), A((2, 3, 37)), ()),
        s("many rows", A((300, 5)), A((300, 5)), (5,)),
        s("long", A((2, 3, 4000)), A((2, 3, 4000)), (3,)),
        s("views", A((2, 3, 4), view="expanded"), A((2, 3, 4), view="channels_last"), (3,)),
        s("no examples", A((0, 3, 2)), A((0, 3, 2)), (3,)),
    ),
    bad=(bad("shapes", ShapeError, ("(2, 3)", "(2, 4)"), A((2, 3)), A((2, 4)), (4,)),),
    bench=(bench("map", A((32, 64, 32, 32)), A((32, 64, 32, 32)), (64,)),),
)  # fmt: skip
def prelu_weight_grad(g: Array, x: Array, weight_shape: tuple[int, ...]) -> Array:
    """Gradient of `prelu` by its slopes: ``gw[c] = sum of g x`` over the elements of channel c that are not above 0.

    Parameters
    ----------
    g, x : array, shape (N, C, ...)
    weight_shape : tuple of int
        (C,), (1,) or (): the slopes' shape.

    Returns
    -------
    array, shape `weight_shape`
        Summed in float32 or wider, in a fixed order.
    """
    shape = tuple(weight_shape)
    terms = np.where(x > 0, 0, g * x).astype(x.dtype)
    each = len(shape) == 1 and x.ndim > 1 and shape == (x.shape[1],)
    made: Array = np.sum(terms, axis=(0, *range(2, x.ndim)) if each else None, dtype=x.dtype)
    return np.reshape(made, shape)
