"""Normalisation: batch norm (training and inference) and layer norm, with their gradients.

With M elements per channel (or per row), ``xhat = (x - mean) rstd`` and the cotangent ``g`` of ``y = xhat w + b``:

    gb = sum g          gw = sum g xhat          gx = w rstd (g - gb / M - xhat gw / M)

because mean and variance depend on every x. In inference the statistics are constants: ``gx = g w rstd``. For layer
norm ``w`` varies inside the row: with ``h = g w``, ``gx = rstd (h - mean(h) - xhat mean(h xhat))``.
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
from ..core.spec import Spec
from ..core.tape import Saved


def _floating(name: str, **specs: Spec | None) -> dtypes.DType:
    """Return the promoted dtype; raise unless every operand is real floating."""
    for operand, spec in specs.items():
        if spec is not None and not dtypes.is_float(spec.dtype):
            raise DTypeError(f"{name}: {operand} is {spec.dtype.name} but a real floating dtype is needed; convert with astype")
    return dtypes.promote(name, *(spec.dtype for spec in specs.values() if spec is not None))


def _positive_eps(name: str, eps: float) -> None:
    if not eps >= 0:
        raise SettingError(f"{name}: eps is {eps} but must be 0 or more")


def _per_channel(name: str, x: Spec, **specs: Spec | None) -> None:
    """Raise unless x has a channel axis and each operand one number per channel."""
    if x.ndim < 2:
        raise ShapeError(f"{name}: x has shape {x.shape} but at least two axes (N, C, ...) are needed")
    for operand, spec in specs.items():
        if spec is not None and spec.shape != (x.shape[1],):
            raise ShapeError(f"{name}: {operand} has shape {spec.shape} but x of shape {x.shape} has {x.shape[1]} channels: {(x.shape[1],)} is needed")


def _stat(dtype: dtypes.DType) -> dtypes.DType:
    return dtypes.accumulator(dtype)


def _channels(v: Any, ndim: int) -> Any:
    return np.reshape(v, (1, -1) + (1,) * (ndim - 2))


def _axes(x: Any) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _spread(call: Call) -> int:
    """Return how many elements one channel sums over."""
    x = call.spec(1 if call.op.endswith("grad") else 0)
    return x.size // max(x.shape[1], 1)


# -- inference --------------------------------------------------------------------------------------------------------


def _batch_norm_out(
    x: Spec, running_mean: Spec, running_var: Spec, weight: Spec | None, bias: Spec | None, training: bool, momentum: float, eps: float
) -> Spec:
    _per_channel("batch_norm", x, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    _positive_eps("batch_norm", eps)
    if training:
        raise SettingError(
            f"batch_norm: training=True (momentum {momentum}) would write running statistics in place, which pure functions do not; "
            f"use batch_norm_train, which returns the statistics of the batch"
        )
    _floating("batch_norm", running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    return x.with_dtype(_floating("batch_norm", x=x))


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
    _per_channel("batch_norm_train", x, weight=weight, bias=bias)
    _positive_eps("batch_norm_train", eps)
    dtype = _floating("batch_norm_train", x=x)
    if weight is not None or bias is not None:
        _floating("batch_norm_train", weight=weight, bias=bias)
    if x.size // max(x.shape[1], 1) < 1:
        raise ShapeError(f"batch_norm_train: x has shape {x.shape}: a channel without elements has no mean")
    stat = Spec((x.shape[1],), _stat(dtype))
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
    reduces=_spread,
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


def _train_grad_out(g: Spec, x: Spec, weight: Spec | None, mean: Spec, rstd: Spec) -> tuple[Spec, ...]:
    if g.shape != x.shape:
        raise ShapeError(f"batch_norm_train_grad: g has shape {g.shape} but x has {x.shape}; they must be the same")
    _per_channel("batch_norm_train_grad", x, weight=weight, mean=mean, rstd=rstd)
    dtype = _floating("batch_norm_train_grad", g=g, x=x)
    stat = Spec((x.shape[1],), _stat(dtype))
    return Spec(x.shape, x.dtype, x.strides if _channels_last(x) else None), stat, stat


_G = A((4, 3, 5, 7))


@op(
    out=_train_grad_out,
    outputs=("gx", "gw", "gb"),
    flops=lambda call: 9 * call.outputs[0].size,
    reduces=_spread,
    samples=(
        s("affine", _G, _X, _C, A((3,), -0.1, 0.1), _C),
        s("plain", _G, _X, None, A((3,), -0.1, 0.1), _C),
        s("two axes", A((9, 5)), A((9, 5)), A((5,)), A((5,), -0.1, 0.1), A((5,), 0.5, 1.5)),
        s("channels last", A((2, 3, 4, 5), view="channels_last"), A((2, 3, 4, 5), view="channels_last"), _C, A((3,)), _C),
        s("many rows", A((67, 3, 4, 4)), A((67, 3, 4, 4)), _C, A((3,)), _C),
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
    m = x.size // max(x.shape[1], 1)
    xhat = (x - _channels(mean, x.ndim)) * _channels(rstd, x.ndim)
    gb = np.sum(g, axis=_axes(x), dtype=x.dtype)
    gw = np.sum(g * xhat, axis=_axes(x), dtype=x.dtype)
    gx = (g - _channels(gb / m, x.ndim) - xhat * _channels(gw / m, x.ndim)) * _channels(rstd, x.ndim)
    return (gx if weight is None else gx * _channels(weight, x.ndim)), gw, gb


# -- layer norm -------------------------------------------------------------------------------------------------------


def normalized(name: str, x: Spec, normalized_shape: int | Sequence[int]) -> tuple[int, int]:
    """Return (rows, row length) of x for the trailing axes `normalized_shape`."""
    wanted = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not wanted or x.shape[x.ndim - len(wanted) :] != wanted:
        raise ShapeError(f"{name}: x has shape {x.shape} but its last axes must be normalized_shape {wanted}")
    length = prod(wanted)
    if length == 0:
        raise ShapeError(f"{name}: normalized_shape {wanted} is empty: a row without elements has no mean")
    return x.size // length, length


def _layer_norm_out(x: Spec, normalized_shape: Any, weight: Spec | None, bias: Spec | None, eps: float) -> tuple[Spec, ...]:
    rows, _ = normalized("layer_norm", x, normalized_shape)
    _positive_eps("layer_norm", eps)
    wanted = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    for name, spec in (("weight", weight), ("bias", bias)):
        if spec is not None and spec.shape != wanted:
            raise ShapeError(f"layer_norm: {name} has shape {spec.shape} but normalized_shape is {wanted}; they must be the same")
    dtype = _floating("layer_norm", x=x)
    if weight is not None or bias is not None:
        _floating("layer_norm", weight=weight, bias=bias)
    stat = Spec((rows,), _stat(dtype))
    return Spec(x.shape, dtype), stat, stat


def _layer_norm_vjp(c: Saved, g: Array) -> dict[str, Any]:
    shape = c.normalized_shape

    def parameters() -> tuple[Array, Array]:
        made: tuple[Array, Array] = layer_norm_weight_grad(g, c.x, c.mean, c.rstd, normalized_shape=shape)
        return made

    given: dict[str, Any] = {"x": lambda: layer_norm_grad(g, c.x, c.weight, c.mean, c.rstd, normalized_shape=shape)}
    if c.needs("weight") or c.needs("bias"):
        for name, value in zip(("weight", "bias"), parameters(), strict=True):
            spec = c.spec_of(name)
            given[name] = value if spec is None or value.dtype == spec.dtype else find("astype")(value, spec.dtype)
    return given


def _row(call: Call) -> int:
    wanted = call.settings["normalized_shape"]
    return wanted if isinstance(wanted, int) else prod(wanted)


@op(
    out=_layer_norm_out,
    residuals=("mean", "rstd"),
    vjp=_layer_norm_vjp,
    saves=("x", "weight", "mean", "rstd"),
    flops=lambda call: 8 * call.outputs[0].size,
    reduces=_row,
    samples=(
        s("affine", A((6, 17)), 17, A((17,), 0.5, 1.5), A((17,))),
        s("plain", A((6, 17)), (17,)),
        s("weight only", A((3, 65)), 65, A((65,), 0.5, 1.5)),
        s("bias only", A((3, 65)), 65, None, A((65,))),
        s("two axes", A((3, 4, 5)), (4, 5), A((4, 5), 0.5, 1.5), A((4, 5))),
        s("batch axes", A((2, 3, 33)), (33,), A((33,)), A((33,))),
        s("long row", A((2, 1031)), 1031, A((1031,)), A((1031,))),
        s("eps", A((3, 9)), 9, A((9,)), A((9,)), eps=0.1),
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
    length = prod((normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape)
    rows = x.reshape(-1, length)
    mean = np.mean(rows, axis=1, dtype=x.dtype)
    centred = rows - mean[:, None]
    rstd = 1 / np.sqrt(np.mean(centred * centred, axis=1, dtype=x.dtype) + x.dtype.type(eps))
    y = (centred * rstd[:, None]).reshape(x.shape)
    if weight is not None:
        y = y * weight
    return (y if bias is None else y + bias), mean, rstd


def _layer_grad_out(g: Spec, x: Spec, weight: Spec | None, mean: Spec, rstd: Spec, normalized_shape: Any) -> Spec:
    rows, _ = normalized("layer_norm_grad", x, normalized_shape)
    if g.shape != x.shape or mean.shape != (rows,) or rstd.shape != (rows,):
        raise ShapeError(f"layer_norm_grad: g {g.shape} must have x's shape {x.shape}, mean {mean.shape} and rstd {rstd.shape} must be {(rows,)}")
    _floating("layer_norm_grad", g=g, x=x, weight=weight)
    return Spec(x.shape, x.dtype)


@op(
    out=_layer_grad_out,
    outputs=("gx",),
    flops=lambda call: 9 * call.outputs[0].size,
    reduces=_row,
    samples=(
        s("affine", A((6, 17)), A((6, 17)), A((17,)), A((6,), -0.1, 0.1), A((6,), 0.5, 1.5), normalized_shape=17),
        s("plain", A((6, 65)), A((6, 65)), None, A((6,), -0.1, 0.1), A((6,), 0.5, 1.5), normalized_shape=65),
        s("two axes", A((3, 4, 5)), A((3, 4, 5)), A((4, 5)), A((3,)), A((3,), 0.5, 1.5), normalized_shape=(4, 5)),
        s("views", A((6, 17), view="transposed"), A((6, 17), view="reversed"), A((17,)), A((6,)), A((6,), 0.5, 1.5), normalized_shape=17),
    ),
    bad=(bad("shapes", ShapeError, ("(2, 3)", "(3, 3)"), A((2, 3)), A((3, 3)), None, A((3,)), A((3,)), normalized_shape=3),),
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
    dtype = _stat(_floating("layer_norm_weight_grad", g=g, x=x))
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    return Spec(shape, dtype), Spec(shape, dtype)


@op(
    out=_layer_weight_out,
    outputs=("gw", "gb"),
    flops=lambda call: 5 * call.spec(0).size,
    reduces=lambda call: call.spec(0).size // _row(call),
    samples=(
        s("plain", A((6, 17)), A((6, 17)), A((6,), -0.1, 0.1), A((6,), 0.5, 1.5), normalized_shape=17),
        s("two axes", A((3, 4, 5)), A((3, 4, 5)), A((3,)), A((3,), 0.5, 1.5), normalized_shape=(4, 5)),
        s("views", A((6, 17), view="strided"), A((6, 17), view="transposed"), A((6,)), A((6,), 0.5, 1.5), normalized_shape=17),
        s("many rows", A((1031, 9)), A((1031, 9)), A((1031,)), A((1031,), 0.5, 1.5), normalized_shape=9),
        s("no rows", A((0, 9)), A((0, 9)), A((0,)), A((0,)), normalized_shape=9),
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
