"""Batch normalisation: inference with given statistics, training with the batch's own, and the gradient.

With M elements per channel, ``xhat = (x - mean) rstd`` and the cotangent ``g`` of ``y = xhat w + b``:

    gb = sum g          gw = sum g xhat          gx = w rstd (g - gb / M - xhat gw / M)

because mean and variance depend on every x. In inference the statistics are constants: ``gx = g w rstd``.
Over 250 lines: three ops whose docstrings are pages and whose samples are tables.
"""

from __future__ import annotations

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
from .norm import floating, per_channel, positive_eps, statistic


def _channels(v: Any, ndim: int) -> Any:
    return np.reshape(v, (1, -1) + (1,) * (ndim - 2))


def _axes(x: Any) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def spread(call: Call) -> int:
    """Return how many elements one channel sums over."""
    x = call.spec(1 if call.op.endswith("grad") else 0)
    return x.size // max(x.shape[1], 1)


# -- inference --------------------------------------------------------------------------------------------------------


def _batch_norm_out(
    x: Spec, running_mean: Spec, running_var: Spec, weight: Spec | None, bias: Spec | None, training: bool, momentum: float, eps: float
) -> Spec:
    per_channel("batch_norm", x, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    positive_eps("batch_norm", eps)
    if training:
        raise SettingError(
            f"batch_norm: training=True (momentum {momentum}) would write running statistics in place, which pure functions do not; "
            f"use batch_norm_train, which returns the statistics of the batch"
        )
    floating("batch_norm", running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    return x.with_dtype(floating("batch_norm", x=x))


def _batch_norm_vjp(c: Saved, g: Array) -> dict[str, Any]:
    x = c.spec_of("x")
    shape = (1, x.shape[1]) + (1,) * (x.ndim - 2)
    axes = (0, *range(2, x.ndim))
    rstd = find("rsqrt")(c.running_var + c.eps)
    scale = rstd if c.weight is None else rstd * c.weight

    def channel(v: Any) -> Any:
        return find("reshape")(v, shape)

    def reduced(v: Any) -> Any:
        return find("sum")(v, axis=axes)

    def like(v: Any, name: str) -> Any:
        wanted = c.spec_of(name).dtype
        return v if v.dtype == wanted else find("astype")(v, wanted)

    def xhat() -> Any:
        return (c.x - channel(c.running_mean)) * channel(rstd)

    return {
        "x": lambda: like(g * channel(scale), "x"),
        "weight": lambda: like(reduced(g * xhat()), "weight"),
        "bias": lambda: like(reduced(g), "bias"),
        "running_mean": lambda: like(-(reduced(g) * scale), "running_mean"),
        "running_var": lambda: like(reduced(g * xhat()) * scale * rstd * -0.5, "running_var"),
    }


_X, _C = A((4, 3, 5, 7)), A((3,), 0.5, 1.5)


@op(
    out=_batch_norm_out,
    vjp=_batch_norm_vjp,
    saves=("x", "running_mean", "running_var", "weight"),
    flops=lambda call: 4 * call.outputs[0].size,
    samples=(
        s("affine", _X, A((3,)), _C, _C, A((3,))),
        s("plain", _X, A((3,)), _C),
        s("weight only", _X, A((3,)), _C, _C),
        s("two axes", A((9, 5)), A((5,)), A((5,), 0.5, 1.5), A((5,)), A((5,))),
        s("eps", A((2, 3, 4)), A((3,)), _C, _C, A((3,)), eps=0.1),
        s("channels last", A((2, 3, 4, 5), view="channels_last"), A((3,)), _C, _C, A((3,))),
        s("one", A((1, 1, 1, 1)), A((1,)), A((1,), 0.5, 1.5), A((1,)), A((1,))),
        s("empty", A((0, 3, 4)), A((3,)), _C, gradient=False, why="nothing is summed"),
        s("momentum is unused", _X, A((3,)), _C, momentum=0.5, training=False),
    ),
    bad=(
        bad("channels", ShapeError, ("weight", "(4,)", "3 channels"), _X, A((3,)), A((3,)), A((4,))),
        bad("axes", ShapeError, ("(5,)", "two axes"), A((5,)), A((5,)), A((5,))),
        bad("training", SettingError, ("batch_norm_train",), _X, A((3,)), A((3,)), training=True),
        bad("eps", SettingError, ("-1",), _X, A((3,)), A((3,)), eps=-1.0),
        bad("dtype", DTypeError, ("int32", "floating"), A((2, 3), dtype="int32"), A((3,)), A((3,))),
    ),
    bench=(bench("stage", A((32, 64, 32, 32)), A((64,)), A((64,), 0.5, 1.5), A((64,)), A((64,))),),
)  # fmt: skip
def batch_norm(
    x: Array, running_mean: Array, running_var: Array, weight: Array | None = None, bias: Array | None = None,
    training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Array:  # fmt: skip
    """Batch normalisation with given statistics (inference): ``y = (x - mean_c) / sqrt(var_c + eps) w_c + b_c``.

    Parameters
    ----------
    x : array, shape (N, C, ...)
        Real floating dtype.
    running_mean, running_var : array, shape (C,)
    weight, bias : array, shape (C,), optional
        1 and 0 when left out.
    training, momentum
        There for PyTorch's signature: ``training=True`` raises, see `batch_norm_train`.
    eps : float
        Added to the variance.

    Returns
    -------
    array, shape (N, C, ...)
        x's dtype; computed in float32 or wider.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        Lengths that are not C; integer x; a negative eps; training.

    Notes
    -----
    4 operations per element. Ioffe and Szegedy 2015, arXiv:1502.03167.
    """
    del training, momentum
    scale = 1 / np.sqrt(running_var.astype(x.dtype) + x.dtype.type(eps))
    y = (x - _channels(running_mean, x.ndim)) * _channels(scale, x.ndim)
    if weight is not None:
        y = y * _channels(weight, x.ndim)
    return y if bias is None else y + _channels(bias, x.ndim)


# -- training ---------------------------------------------------------------------------------------------------------


def _train_out(x: Spec, weight: Spec | None, bias: Spec | None, eps: float) -> tuple[Spec, ...]:
    per_channel("batch_norm_train", x, weight=weight, bias=bias)
    positive_eps("batch_norm_train", eps)
    dtype = floating("batch_norm_train", x=x)
    if weight is not None or bias is not None:
        floating("batch_norm_train", weight=weight, bias=bias)
    if x.size // max(x.shape[1], 1) < 1:
        raise ShapeError(f"batch_norm_train: x has shape {x.shape}: a channel without elements has no mean")
    stat = Spec((x.shape[1],), statistic(dtype))
    return Spec(x.shape, dtype, x.strides if _channels_last(x) else None), stat, stat, stat


def _channels_last(x: Spec) -> bool:
    """Tell whether the channel axis is innermost and the rest dense around it."""
    order = (0, *range(2, x.ndim), 1)
    moved = Spec(tuple(x.shape[i] for i in order), x.dtype, tuple(x.strides[i] for i in order))
    return moved.contiguous and not x.contiguous


def _train_vjp(c: Saved, g: Array, *_: Array | None) -> dict[str, Any]:
    gx, gw, gb = batch_norm_train_grad(g, c.x, c.weight, c.mean, c.rstd)

    def like(v: Any, name: str) -> Any:
        spec = c.spec_of(name)
        return v if spec is None or v.dtype == spec.dtype else find("astype")(v, spec.dtype)

    return {"x": gx, "weight": like(gw, "weight"), "bias": like(gb, "bias")}


_TRAINED = (
    s("affine", _X, _C, A((3,))),
    s("plain", _X),
    s("weight only", _X, _C),
    s("bias only", _X, None, A((3,))),
    s("two axes", A((9, 5)), A((5,), 0.5, 1.5), A((5,))),
    s("three axes", A((3, 4, 33)), A((4,), 0.5, 1.5), A((4,))),
    s("eps", A((4, 3, 4)), _C, A((3,)), eps=0.1),
    s("channels last", A((2, 3, 4, 5), view="channels_last"), _C, A((3,))),
    s("transposed", A((6, 5), view="transposed"), A((5,), 0.5, 1.5), A((5,))),
    s("far from zero", A((8, 2, 9, 9), 10.0, 11.0), dtypes=("float32", "float64"), gradient=False, why="only the variance is at stake"),
    s("many rows", A((67, 3, 4, 4)), _C, A((3,))),
    s("one channel", A((3, 1, 17, 19)), A((1,), 0.5, 1.5), A((1,))),
    s("NaN channel", A((2, 2, 2), values=(1, float("nan"), 3, 4, 5, 6, 7, 8)), gradient=False, why="NaN", dtypes=("float32", "float64")),
)  # fmt: skip


@op(
    out=_train_out,
    outputs=("y", "mean", "var"),
    integer_outputs=("mean", "var"),
    residuals=("rstd",),
    vjp=_train_vjp,
    saves=("x", "weight", "mean", "rstd"),
    flops=lambda call: 8 * call.outputs[0].size,
    reduces=spread,
    samples=_TRAINED,
    bad=(
        bad("channels", ShapeError, ("bias", "(4,)", "3 channels"), _X, _C, A((4,))),
        bad("empty", ShapeError, ("(0, 3)", "no mean"), A((0, 3))),
        bad("eps", SettingError, ("-1",), _X, eps=-1.0),
        bad("dtype", DTypeError, ("int32", "floating"), A((2, 3), dtype="int32")),
    ),
    bench=(bench("stage", A((32, 64, 32, 32)), A((64,)), A((64,))), bench("resnet20", A((128, 16, 32, 32)), A((16,)), A((16,)))),
)
def batch_norm_train(x: Array, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5) -> Any:
    """Batch normalisation by the batch's own statistics: ``y = (x - mean_c) / sqrt(var_c + eps) w_c + b_c``.

    Parameters
    ----------
    x : array, shape (N, C, ...)
        Real floating dtype.
    weight, bias : array, shape (C,), optional
        1 and 0 when left out.
    eps : float
        Added to the variance.

    Returns
    -------
    y : array, shape (N, C, ...)
        x's dtype.
    mean, var : array, shape (C,)
        Mean and biased variance (divided by M, not M - 1) over every axis but C, in float32 or wider. No gradient
        flows through them; they are there for running statistics.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        Lengths that are not C; no elements per channel; integer x; a negative eps.

    Notes
    -----
    Two passes over x for the statistics (a sum of squares would cancel), one to normalise; about 8 operations per
    element. A NaN makes its channel NaN.
    """
    mean = np.mean(x, axis=_axes(x), dtype=x.dtype)
    centred = x - _channels(mean, x.ndim)
    var = np.mean(centred * centred, axis=_axes(x), dtype=x.dtype)
    rstd = 1 / np.sqrt(var + x.dtype.type(eps))
    y = centred * _channels(rstd, x.ndim)
    if weight is not None:
        y = y * _channels(weight, x.ndim)
    if bias is not None:
        y = y + _channels(bias, x.ndim)
    return y, mean, var, rstd


def train_grad_out(name: str, g: Spec, x: Spec, weight: Spec | None, mean: Spec, rstd: Spec) -> tuple[Spec, ...]:
    """Return the specs of gx, gw and gb; `name` is the op's, for errors."""
    if g.shape != x.shape:
        raise ShapeError(f"{name}: g has shape {g.shape} but x has {x.shape}; they must be the same")
    per_channel(name, x, weight=weight, mean=mean, rstd=rstd)
    dtype = floating(name, g=g, x=x)
    stat = Spec((x.shape[1],), statistic(dtype))
    return Spec(x.shape, x.dtype, x.strides if _channels_last(x) else None), stat, stat


def _train_grad_out(g: Spec, x: Spec, weight: Spec | None, mean: Spec, rstd: Spec) -> tuple[Spec, ...]:
    return train_grad_out("batch_norm_train_grad", g, x, weight, mean, rstd)


def train_grads(g: Any, x: Any, weight: Any, mean: Any, rstd: Any) -> Any:
    """Return gx, gw and gb, in NumPy."""
    m = x.size // max(x.shape[1], 1)
    xhat = (x - _channels(mean, x.ndim)) * _channels(rstd, x.ndim)
    gb = np.sum(g, axis=_axes(x), dtype=x.dtype)
    gw = np.sum(g * xhat, axis=_axes(x), dtype=x.dtype)
    gx = (g - _channels(gb / m, x.ndim) - xhat * _channels(gw / m, x.ndim)) * _channels(rstd, x.ndim)
    return (gx if weight is None else gx * _channels(weight, x.ndim)), gw, gb


_G = A((4, 3, 5, 7))


@op(
    out=_train_grad_out,
    outputs=("gx", "gw", "gb"),
    flops=lambda call: 9 * call.outputs[0].size,
    reduces=spread,
    samples=(
        s("affine", _G, _X, _C, A((3,), -0.1, 0.1), _C),
        s("plain", _G, _X, None, A((3,), -0.1, 0.1), _C),
        s("two axes", A((9, 5)), A((9, 5)), A((5,)), A((5,), -0.1, 0.1), A((5,), 0.5, 1.5)),
        s("channels last", A((2, 3, 4, 5), view="channels_last"), A((2, 3, 4, 5), view="channels_last"), _C, A((3,)), _C),
        s("many rows", A((67, 3, 4, 4)), A((67, 3, 4, 4)), _C, A((3,)), _C),
        s("17 channels", A((300, 17)), A((300, 17)), A((17,)), A((17,), -0.1, 0.1), A((17,), 0.5, 1.5)),
    ),
    bad=(bad("shapes", ShapeError, ("(2, 3)", "(3, 3)"), A((2, 3)), A((3, 3)), None, A((3,)), A((3,))),),
    bench=(bench("stage", A((32, 64, 32, 32)), A((32, 64, 32, 32)), A((64,)), A((64,)), A((64,), 0.5, 1.5)),),
)  # fmt: skip
def batch_norm_train_grad(g: Array, x: Array, weight: Array | None, mean: Array, rstd: Array) -> Any:
    """Gradients of `batch_norm_train`: ``gb = sum g``, ``gw = sum g xhat``, ``gx = w rstd (g - gb / M - xhat gw / M)``.

    Parameters
    ----------
    g, x : array, shape (N, C, ...)
        Cotangent of y, and the input.
    weight : array, shape (C,), or None
    mean, rstd : array, shape (C,)
        Statistics of the forward pass; ``rstd = 1 / sqrt(var + eps)``.

    Returns
    -------
    gx : array, shape (N, C, ...)
    gw, gb : array, shape (C,)
        In float32 or wider.
    """
    return train_grads(g, x, weight, mean, rstd)
