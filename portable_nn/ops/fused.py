"""Ops that do in one launch what several others do, where the work in between is saved: a product and its activation."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import dtypes
from ..core.array import Array
from ..core.call import Call
from ..core.errors import DTypeError, SettingError, ShapeError
from ..core.expression import NUMPY_CALLS
from ..core.op import op
from ..core.registry import find
from ..core.samples import A, bad, bench, s
from ..core.spec import Spec
from ..core.tape import Saved
from .linear import linear, linear_out, linear_vjp

ACTIVATIONS = ("relu", "sigmoid", "tanh", "silu", "gelu")
_BY_RESULT = ("relu", "sigmoid", "tanh")  # their gradient is a function of y


def _out(x: Spec, weight: Spec, bias: Spec | None, activation: Any) -> Spec:
    if activation not in ACTIVATIONS:
        raise SettingError(f"linear_act: activation is {activation!r} but must be one of {', '.join(map(repr, ACTIVATIONS))}; linear is without")
    made = linear_out(x, weight, bias, "linear_act")
    if not dtypes.is_float(made.dtype):
        raise DTypeError(f"linear_act: {made.dtype.name} was given but float is needed; convert with astype")
    return made


def _vjp(c: Saved, g: Any) -> dict[str, Any]:
    # Needed by all three gradients.
    if c.activation in _BY_RESULT:
        inner = find(f"{c.activation}_grad")(g, c.y)
    else:
        inner = find(f"{c.activation}_grad")(g, linear(c.x, c.weight, c.bias))
    return linear_vjp(c, inner)


def _depth(call: Call) -> int:
    return call.spec(0).shape[-1] + 1


@op(
    out=_out, vjp=_vjp, saves=("x", "weight", "bias", "y"),
    samples=(
        s("relu", A((5, 7), 0.1, 1), A((3, 7), 0.1, 1), A((3,), 0.1, 1)),
        s("relu, below 0", A((5, 7), 0.1, 1), A((3, 7), -1, -0.1), A((3,), -1, -0.1)),
        s("no bias", A((5, 7)), A((3, 7)), activation="tanh"),
        s("sigmoid", A((5, 7)), A((3, 7)), A((3,)), activation="sigmoid"),
        s("silu, tile edge", A((33, 65)), A((31, 65)), A((31,)), activation="silu"),
        s("gelu", A((17, 40)), A((48, 40)), A((48,)), activation="gelu"),
        s("whole tiles", A((64, 120)), A((64, 120)), A((64,)), activation="gelu"),
        s("whole tiles, relu", A((64, 120), 0.1, 1), A((64, 120), 0.1, 1)),
        s("deep", A((3, 4099), -0.05, 0.05), A((5, 4099)), A((5,)), activation="tanh"),
        s("batch axes", A((2, 3, 9)), A((4, 9)), A((4,)), activation="silu"),
        s("vector", A((9,)), A((4, 9)), A((4,)), activation="tanh"),
        s("views", A((6, 8), view="transposed"), A((5, 8), view="strided"), A((5,), view="reversed"), activation="sigmoid"),
        s("empty batch", A((0, 3)), A((4, 3)), A((4,)), gradient=False, why="nothing is summed"),
    ),
    bad=(
        bad("features", ShapeError, ("linear_act", "7 features", "8"), A((5, 7)), A((3, 8))),
        bad("activation", SettingError, ("'none'", "'relu'", "linear is without"), A((5, 7)), A((3, 7)), activation="none"),
        bad("int", DTypeError, ("int32", "float"), A((5, 7), dtype="int32"), A((3, 7), dtype="int32")),
    ),
    bench=(bench("mlp", A((128, 784)), A((512, 784)), A((512,))), bench("wide", A((4096, 64)), A((256, 64)), A((256,)), activation="gelu")),
    flops=lambda call: call.outputs[0].size * (2 * _depth(call) + 1), reduces=_depth,
)  # fmt: skip
def linear_act(x: Array, weight: Array, bias: Array | None = None, activation: str = "relu") -> Array:
    """Affine map and activation in one launch: ``y[.., o] = f(Σ_i x[.., i] weight[o, i] + bias[o])``.

    Parameters
    ----------
    x : array, shape (..., I)
    weight : array, shape (O, I)
    bias : array, shape (O,), optional
    activation : "relu", "sigmoid", "tanh", "silu" or "gelu"
        f; "gelu" is the exact one.

    Returns
    -------
    array, shape (..., O)
        Promoted dtype. The sum is not rounded to it before f is taken.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        Shapes that do not fit; integers; an unknown activation.

    Notes
    -----
    Saves one pass over y, which counts where I is small. The gradient of "relu", "sigmoid" and "tanh" is taken from y;
    that of "silu" and "gelu" computes the affine map again, so that only y is kept.
    """
    z = np.matmul(x, np.swapaxes(weight, 0, 1))
    z = z if bias is None else z + bias
    with np.errstate(all="ignore"):
        if activation == "relu":
            return np.maximum(z, 0)
        if activation == "tanh":
            return np.tanh(z)
        if activation == "gelu":
            return (0.5 * z * (1 + NUMPY_CALLS["erf"](z / np.sqrt(np.asarray(2, z.dtype))))).astype(z.dtype)
        return (z if activation == "silu" else 1) / (1 + np.exp(-z))
