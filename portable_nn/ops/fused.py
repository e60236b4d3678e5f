"""Ops that do in one launch what several others do, where the work in between is saved: a product or a convolution, and its activation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import dtypes
from ..core.array import Array
from ..core.call import Call
from ..core.errors import DTypeError, SettingError, ShapeError
from ..core.expression import NUMPY_CALLS
from ..core.geometry import conv_window
from ..core.op import op
from ..core.registry import find
from ..core.samples import A, bad, bench, s
from ..core.spec import Spec
from ..core.tape import Saved
from .conv import conv2d, conv2d_flops, conv2d_out, conv2d_terms, conv2d_vjp, correlated
from .conv_any import settings_of
from .linear import linear, linear_out, linear_vjp

ACTIVATIONS = ("relu", "sigmoid", "tanh", "silu", "gelu")
_BY_RESULT = ("relu", "sigmoid", "tanh")  # their gradient is a function of y


def _check(name: str, activation: Any, plain: str) -> None:
    if activation not in ACTIVATIONS:
        raise SettingError(f"{name}: activation is {activation!r} but must be one of {', '.join(map(repr, ACTIVATIONS))}; {plain} is without")


def _inner(c: Saved, g: Any, again: Callable[[], Any]) -> Any:
    """Return the cotangent of what the activation was taken of; `again` computes that, where y does not tell."""
    return find(f"{c.activation}_grad")(g, c.y if c.activation in _BY_RESULT else again())


def _activated(z: Any, activation: str) -> Any:
    """Return f(z)."""
    with np.errstate(all="ignore"):
        if activation == "relu":
            return np.maximum(z, 0)
        if activation == "tanh":
            return np.tanh(z)
        if activation == "gelu":
            return (0.5 * z * (1 + NUMPY_CALLS["erf"](z / np.sqrt(np.asarray(2, z.dtype))))).astype(z.dtype)
        return (z if activation == "silu" else 1) / (1 + np.exp(-z))


def _out(x: Spec, weight: Spec, bias: Spec | None, activation: Any) -> Spec:
    _check("linear_act", activation, "linear")
    made = linear_out(x, weight, bias, "linear_act")
    if not dtypes.is_float(made.dtype):
        raise DTypeError(f"linear_act: {made.dtype.name} was given but float is needed; convert with astype")
    return made


def _vjp(c: Saved, g: Any) -> dict[str, Any]:
    # Needed by all three gradients.
    return linear_vjp(c, _inner(c, g, lambda: linear(c.x, c.weight, c.bias)))


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
    return _activated(z if bias is None else z + bias, activation)


def _conv2d_act_out(
    x: Spec, weight: Spec, bias: Spec | None, stride: Any, padding: Any, dilation: Any, groups: Any, activation: Any
) -> Spec:
    _check("conv2d_act", activation, "conv2d")
    return conv2d_out(x, weight, bias, stride, padding, dilation, groups, "conv2d_act")


def _conv2d_act_vjp(c: Saved, g: Any) -> dict[str, Any]:
    return conv2d_vjp(c, _inner(c, g, lambda: conv2d(c.x, c.weight, c.bias, **settings_of(c))))


@op(
    out=_conv2d_act_out, vjp=_conv2d_act_vjp, saves=("x", "weight", "bias", "y"), reduces=conv2d_terms,
    flops=lambda call: conv2d_flops(call) + call.outputs[0].size,
    samples=(
        s("relu", A((2, 3, 5, 6), 0.1, 1), A((4, 3, 3, 3), 0.1, 1), A((4,), 0.1, 1), padding=1),
        s("relu, below 0", A((2, 3, 5, 6), 0.1, 1), A((4, 3, 3, 3), -1, -0.1), A((4,), -1, -0.1), padding=1),
        s("one of everything", A((1, 1, 1, 1)), A((1, 1, 1, 1)), A((1,)), activation="silu"),
        s("no bias, tanh", A((2, 3, 5, 5)), A((4, 3, 3, 3)), activation="tanh"),
        s("sigmoid, stride 2", A((2, 3, 9, 8)), A((5, 3, 3, 3)), A((5,)), stride=2, padding=1, activation="sigmoid"),
        s("gelu, tile edges", A((3, 7, 6, 7)), A((37, 7, 3, 3)), A((37,)), padding=1, activation="gelu"),
        s("silu, rows of 16", A((2, 3, 3, 16)), A((40, 3, 3, 3)), A((40,)), padding=1, activation="silu"),
        s("silu, several blocks", A((1, 18, 4, 5)), A((70, 18, 2, 2)), A((70,)), activation="silu"),
        s("gelu, groups", A((2, 6, 5, 4)), A((8, 3, 3, 3)), A((8,)), padding=1, groups=2, activation="gelu"),
        s("silu, depthwise", A((2, 5, 6, 18)), A((5, 1, 3, 3)), A((5,)), padding=1, groups=5, activation="silu"),
        s("tanh, few channels, long rows", A((2, 3, 5, 21)), A((6, 3, 5, 5)), A((6,)), padding=2, activation="tanh"),
        s("asymmetric padding, dilation", A((1, 2, 6, 5)), A((3, 2, 3, 2)), A((3,)), padding=((0, 2), (3, 1)), dilation=(2, 1), activation="gelu"),
        s("channels last", A((2, 16, 4, 6), view="channels_last"), A((16, 16, 3, 3), view="channels_last"), padding=1, activation="silu"),
        s("views", A((3, 2, 5, 4), view="reversed"), A((4, 2, 3, 3), view="strided"), A((4,), view="reversed"), activation="sigmoid"),
        s("no images", A((0, 2, 5, 4)), A((4, 2, 3, 3)), A((4,)), gradient=False, why="nothing is summed"),
        s("NaN stays in its windows", A((1, 1, 4, 4), values=(*range(5), float("nan"), *range(10))), A((1, 1, 2, 2)),
          gradient=False, why="holds NaN"),
    ),
    bad=(
        bad("channels", ShapeError, ("conv2d_act", "x has 2 channels", "expects 3"), A((1, 2, 3, 3)), A((4, 3, 3, 3))),
        bad("activation", SettingError, ("'elu'", "'relu'", "conv2d is without"), A((1, 1, 3, 3)), A((1, 1, 3, 3)), activation="elu"),
        bad("groups", SettingError, ("conv2d_act", "groups is 2"), A((1, 3, 3, 3)), A((4, 3, 3, 3)), groups=2),
        bad("integers", DTypeError, ("conv2d_act", "int32"), A((1, 1, 3, 3), dtype="int32"), A((1, 1, 3, 3), dtype="int32")),
    ),
    bench=(
        bench("LeNet, digits, second", A((64, 16, 8, 8)), A((32, 16, 3, 3)), A((32,)), padding=1),
        bench("pointwise, 64 to 64", A((32, 64, 32, 32)), A((64, 64, 1, 1)), A((64,)), activation="silu"),
        bench("MobileNet depthwise", A((8, 64, 56, 56)), A((64, 1, 3, 3)), A((64,)), padding=1, groups=64, activation="silu"),
    ),
)  # fmt: skip
def conv2d_act(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: int | tuple[int, int] = 1,
    padding: Any = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    activation: str = "relu",
) -> Array:
    """Convolution and activation in one launch: ``y = f(conv2d(x, weight, bias))``.

    Parameters
    ----------
    x, weight, bias, stride, padding, dilation, groups
        As in `conv2d`.
    activation : "relu", "sigmoid", "tanh", "silu" or "gelu"
        f; "gelu" is the exact one.

    Returns
    -------
    Array
        (N, O, OH, OW), as `conv2d`. The sum is not rounded to its dtype before f is taken.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        As `conv2d`; an unknown activation.

    Notes
    -----
    Saves one pass over y, which counts where filters are small: pointwise and depthwise convolutions. The gradient of
    "relu", "sigmoid" and "tanh" is taken from y; that of "silu" and "gelu" convolves again, so that only y is kept.
    """
    window = conv_window("conv2d_act", x.shape[2:], weight.shape[2:], stride, padding, dilation)
    return _activated(correlated(x, weight, bias, window, groups), activation)
