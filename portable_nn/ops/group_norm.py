"""Group norm and instance norm, and the gradient they share.

A row is what is normalised together: the L C / G elements of one group of channels of one example. With M of them,
``xhat = (x - mean) rstd``, cotangent ``g`` of ``y = xhat w + b`` and ``h = g w``:

    gb = sum g      gw = sum g xhat      gx = rstd (h - mean(h) - xhat mean(h xhat))

gb and gw are per channel; the two means are sums over a row's channels of ``w`` times their parts of gb and gw, so g and
x are read twice in all. An instance norm is a group norm of one channel per group.
Over 250 lines because both norms and their gradient share checks and reference.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import dtypes
from ..core.array import Array
from ..core.call import Call
from ..core.errors import DTypeError, SettingError, ShapeError
from ..core.op import op, setting_int
from ..core.registry import find
from ..core.samples import A, bad, bench, s
from ..core.spec import Spec
from ..core.tape import Saved


def _check(name: str, x: Spec, num_groups: Any, eps: float, **per_channel: Spec | None) -> int:
    """Return the number of groups, or raise for what no group norm can take."""
    if x.ndim < 2:
        raise ShapeError(f"{name}: x has shape {x.shape} but at least two axes (N, C, ...) are needed")
    if not dtypes.is_float(x.dtype):
        raise DTypeError(f"{name}: x is {x.dtype.name} but a real floating dtype is needed; convert with astype")
    groups: int = setting_int(name, "num_groups", num_groups)
    if groups < 1 or x.shape[1] % groups:
        raise SettingError(f"{name}: num_groups is {groups} but must be at least 1 and divide the {x.shape[1]} channels of x of shape {x.shape}")
    if x.shape[0] and not x.size:
        raise ShapeError(f"{name}: x has shape {x.shape}: a group without elements has no mean")
    for operand, spec in per_channel.items():
        if spec is None:
            continue
        if spec.shape != (x.shape[1],):
            raise ShapeError(f"{name}: {operand} has shape {spec.shape} but x of shape {x.shape} has {x.shape[1]} channels: {(x.shape[1],)} is needed")
        if not dtypes.is_float(spec.dtype):
            raise DTypeError(f"{name}: {operand} is {spec.dtype.name} but a real floating dtype is needed; convert with astype")
    if not eps >= 0:
        raise SettingError(f"{name}: eps is {eps} but must be 0 or more")
    return groups


def _row(call: Call) -> int:
    """Return how many elements are normalised together, or summed per channel if those are more."""
    x = call.spec(0)
    groups: int = call.settings.get("num_groups", x.shape[1])
    return max(x.size // max(x.shape[0] * groups, 1), 1)


def _affine(v: np.ndarray[Any, Any], ndim: int) -> np.ndarray[Any, Any]:
    return v.reshape(1, -1, *(1,) * (ndim - 2))


def _normalised(x: np.ndarray[Any, Any], groups: int, weight: Any, bias: Any, eps: float) -> tuple[Any, Any, Any]:
    rows = x.reshape(x.shape[0], groups, x.size // max(x.shape[0] * groups, 1))
    m = max(rows.shape[2], 1)
    mean = np.sum(rows, axis=2) / m
    centred = rows - mean[..., None]
    rstd = 1 / np.sqrt(np.sum(centred * centred, axis=2) / m + x.dtype.type(eps))
    y = (centred * rstd[..., None]).reshape(x.shape)
    y = y if weight is None else y * _affine(weight, x.ndim)
    return (y if bias is None else y + _affine(bias, x.ndim)), mean, rstd


def _like(value: Array, spec: Spec | None) -> Array:
    return value if spec is None or value.dtype == spec.dtype else find("astype")(value, spec.dtype)


def _vjp(c: Saved, g: Array) -> dict[str, Any]:
    groups = c.num_groups if "num_groups" in c.call.settings else c.spec_of("x").shape[1]
    gx, gw, gb = group_norm_grad(g, c.x, c.weight, c.mean, c.rstd, num_groups=groups)
    return {"x": gx, "weight": _like(gw, c.spec_of("weight")), "bias": _like(gb, c.spec_of("bias"))}


# -- group norm -------------------------------------------------------------------------------------------------------


def _out(x: Spec, num_groups: Any, weight: Spec | None, bias: Spec | None, eps: float) -> tuple[Spec, ...]:
    groups = _check("group_norm", x, num_groups, eps, weight=weight, bias=bias)
    stat = Spec((x.shape[0], groups), dtypes.accumulator(x.dtype))
    return Spec(x.shape, x.dtype), stat, stat


_X, _C = A((3, 6, 5, 7)), A((6,), 0.5, 1.5)


@op(
    out=_out,
    residuals=("mean", "rstd"),
    vjp=_vjp,
    saves=("x", "weight", "mean", "rstd"),
    flops=lambda call: 8 * call.outputs[0].size,
    reduces=_row,
    samples=(
        s("affine", _X, 2, _C, A((6,))),
        s("plain", _X, 3),
        s("weight only", _X, 2, _C),
        s("bias only", _X, 2, None, A((6,))),
        s("one group", A((2, 5, 4)), 1, A((5,)), A((5,))),
        s("two axes", A((4, 12)), 3, A((12,)), A((12,))),
        s("two axes, long rows", A((3, 80)), 2, A((80,)), A((80,))),
        s("three axes", A((2, 4, 37)), 2, A((4,)), A((4,))),
        s("volumes", A((2, 4, 2, 3, 5)), 2, A((4,)), A((4,))),
        s("long channels", A((2, 4, 19, 23)), 2, A((4,)), A((4,))),
        s("eps", A((2, 4, 9)), 2, A((4,)), A((4,)), eps=0.1),
        s("channels last", A((2, 6, 4, 5), view="channels_last"), 3, A((6,), view="strided"), A((6,), view="reversed")),
        s("transposed", A((3, 4, 6), view="transposed"), 2, A((4,)), A((4,))),
        s("no examples", A((0, 4, 3)), 2, gradient=False, why="nothing is normalised"),
        s("far from zero", A((2, 4, 9, 9), 10.0, 11.0), 2, dtypes=("float32", "float64"), gradient=False, why="only the variance is at stake"),
        s("NaN stays in its group", A((1, 4, 2), values=(1, float("nan"), 3, 4, 5, 6, 7, 9)), 2, gradient=False, why="NaN", dtypes=("float32", "float64")),
    ),
    bad=(
        bad("groups", SettingError, ("num_groups is 4", "6 channels"), _X, 4),
        bad("no groups", SettingError, ("num_groups is 0",), _X, 0),
        bad("axes", ShapeError, ("(6,)", "two axes"), A((6,)), 2),
        bad("weight", ShapeError, ("weight", "(4,)", "6 channels"), _X, 2, A((4,))),
        bad("empty", ShapeError, ("(2, 4, 0)", "no mean"), A((2, 4, 0)), 2),
        bad("eps", SettingError, ("-1",), _X, 2, eps=-1.0),
        bad("dtype", DTypeError, ("int32", "floating"), A((2, 4), dtype="int32"), 2),
    ),
    bench=(
        bench("ResNet stage", A((32, 64, 32, 32)), 32, A((64,)), A((64,))),
        bench("diffusion U-Net", A((4, 320, 64, 64)), 32, A((320,)), A((320,))),
    ),
)  # fmt: skip
def group_norm(x: Array, num_groups: int, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5) -> Any:
    """Normalise groups of channels: ``y[n, c, l] = (x[n, c, l] - mean[n, g]) / sqrt(var[n, g] + eps) w[c] + b[c]``.

    Mean and biased variance run over the C / G channels of group ``g = c G / C`` and over l, every axis after C.

    Parameters
    ----------
    x : array, shape (N, C, ...)
        Real floating dtype.
    num_groups : int
        G, a divisor of C.
    weight, bias : array, shape (C,), optional
        1 and 0 when left out.
    eps : float
        Added to the variance.

    Returns
    -------
    array, shape (N, C, ...)
        x's dtype, in C order; statistics in float32 or wider.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        G that does not divide C; lengths that are not C; groups without elements; integer x; a negative eps.

    Notes
    -----
    About 8 operations per element; a row is read three times, from cache where it fits. A NaN makes its group NaN.
    Wu and He 2018, arXiv:1803.08494.
    """
    return _normalised(x, num_groups, weight, bias, eps)


# -- instance norm ----------------------------------------------------------------------------------------------------


def _instance_out(x: Spec, weight: Spec | None, bias: Spec | None, eps: float) -> tuple[Spec, ...]:
    if x.ndim < 3:
        raise ShapeError(f"instance_norm: x has shape {x.shape} but at least three axes (N, C, L, ...) are needed")
    if x.shape[1] == 0:
        raise ShapeError(f"instance_norm: x has shape {x.shape}: there are no channels")
    _check("instance_norm", x, x.shape[1], eps, weight=weight, bias=bias)
    stat = Spec(x.shape[:2], dtypes.accumulator(x.dtype))
    return Spec(x.shape, x.dtype), stat, stat


@op(
    out=_instance_out,
    residuals=("mean", "rstd"),
    vjp=_vjp,
    saves=("x", "weight", "mean", "rstd"),
    flops=lambda call: 8 * call.outputs[0].size,
    reduces=_row,
    samples=(
        s("affine", _X, _C, A((6,))),
        s("plain", A((2, 3, 19))),
        s("large planes", A((2, 3, 17, 16)), A((3,)), A((3,))),
        s("eps", A((2, 3, 9)), A((3,)), A((3,)), eps=0.1),
        s("channels last", A((2, 3, 4, 5), view="channels_last"), A((3,)), A((3,))),
    ),
    bad=(
        bad("axes", ShapeError, ("(2, 3)", "three axes"), A((2, 3))),
        bad("weight", ShapeError, ("(4,)", "6 channels"), _X, A((4,))),
        bad("eps", SettingError, ("-1",), _X, eps=-1.0),
    ),
    bench=(bench("style transfer", A((4, 64, 128, 128)), A((64,)), A((64,))),),
)  # fmt: skip
def instance_norm(x: Array, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5) -> Any:
    """Normalise each channel of each example: `group_norm` with one channel per group.

    ``y[n, c, l] = (x[n, c, l] - mean[n, c]) / sqrt(var[n, c] + eps) w[c] + b[c]``. PyTorch's running statistics are left
    out: with given statistics an instance norm is `batch_norm`.

    Parameters
    ----------
    x : array, shape (N, C, L, ...)
        Real floating dtype.
    weight, bias : array, shape (C,), optional
        1 and 0 when left out.
    eps : float
        Added to the variance.

    Returns
    -------
    array, shape (N, C, L, ...)
        x's dtype, in C order.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        As `group_norm`.

    Notes
    -----
    About 8 operations per element. Ulyanov, Vedaldi and Lempitsky 2016, arXiv:1607.08022.
    """
    return _normalised(x, x.shape[1], weight, bias, eps)


# -- their gradient ---------------------------------------------------------------------------------------------------


def _grad_out(g: Spec, x: Spec, weight: Spec | None, mean: Spec, rstd: Spec, num_groups: Any) -> tuple[Spec, ...]:
    name = "group_norm_grad"
    groups = _check(name, x, num_groups, 0.0, weight=weight)
    if g.shape != x.shape or not dtypes.is_float(g.dtype):
        raise ShapeError(f"{name}: g is {g.dtype.name} {g.shape} but x is {x.dtype.name} {x.shape}; they must have one shape and floating dtypes")
    for operand, spec in (("mean", mean), ("rstd", rstd)):
        if spec.shape != (x.shape[0], groups):
            raise ShapeError(f"{name}: {operand} has shape {spec.shape} but x of shape {x.shape} in {groups} groups needs {(x.shape[0], groups)}")
    channel = Spec((x.shape[1],), dtypes.accumulator(x.dtype))
    return Spec(x.shape, x.dtype), channel, channel


def _summed(call: Call) -> int:
    x = call.spec(1)
    return max(_row(call), x.size // max(x.shape[1], 1), 1)


@op(
    out=_grad_out,
    outputs=("gx", "gw", "gb"),
    flops=lambda call: 13 * call.outputs[0].size,
    reduces=_summed,
    samples=(
        s("affine", A((3, 6, 5, 7)), _X, _C, A((3, 2), -0.1, 0.1), A((3, 2), 0.5, 1.5), num_groups=2),
        s("plain", A((3, 6, 5, 7)), _X, None, A((3, 6), -0.1, 0.1), A((3, 6), 0.5, 1.5), num_groups=6),
        s("two axes", A((5, 12)), A((5, 12)), A((12,)), A((5, 3), -0.1, 0.1), A((5, 3), 0.5, 1.5), num_groups=3),
        s("long rows", A((2, 4, 131)), A((2, 4, 131)), A((4,)), A((2, 2), -0.1, 0.1), A((2, 2), 0.5, 1.5), num_groups=2),
        s("views", A((2, 4, 6), view="channels_last"), A((2, 4, 6), view="reversed"), A((4,), view="strided"),
          A((2, 2), view="transposed"), A((2, 2), 0.5, 1.5, view="transposed"), num_groups=2),
        s("17 channels", A((2, 17, 3)), A((2, 17, 3)), A((17,)), A((2, 1), -0.1, 0.1), A((2, 1), 0.5, 1.5), num_groups=1),
        s("no examples", A((0, 4, 6)), A((0, 4, 6)), A((4,)), A((0, 2)), A((0, 2)), num_groups=2),
    ),
    bad=(bad("shapes", ShapeError, ("(2, 4)", "(3, 4)"), A((2, 4)), A((3, 4)), None, A((3, 2)), A((3, 2)), num_groups=2),),
    bench=(bench("stage", A((32, 64, 32, 32)), A((32, 64, 32, 32)), A((64,)), A((32, 32)), A((32, 32), 0.5, 1.5), num_groups=32),),
)  # fmt: skip
def group_norm_grad(g: Array, x: Array, weight: Array | None, mean: Array, rstd: Array, *, num_groups: int) -> Any:
    """Gradients of `group_norm`: ``gx = rstd (h - mean(h) - xhat mean(h xhat))`` with ``h = g w``, and gw, gb per channel.

    Parameters
    ----------
    g, x : array, shape (N, C, ...)
        Cotangent of y, and the input.
    weight : array, shape (C,), or None
    mean, rstd : array, shape (N, G)
        Statistics of the forward pass; ``rstd = 1 / sqrt(var + eps)``.
    num_groups : int
        G.

    Returns
    -------
    gx : array, shape (N, C, ...)
    gw, gb : array, shape (C,)
        ``gw = sum g xhat`` and ``gb = sum g`` over every axis but C, in float32 or wider.
    """
    form = (x.shape[0], num_groups, x.size // max(x.shape[0] * num_groups, 1))
    xhat = (x.reshape(form) - mean[..., None]) * rstd[..., None]
    h = (g if weight is None else g * _affine(weight, x.ndim)).reshape(form)
    m = max(form[2], 1)
    gx = (h - h.sum(axis=2, keepdims=True) / m - xhat * (h * xhat).sum(axis=2, keepdims=True) / m) * rstd[..., None]
    axes = (0, *range(2, x.ndim))
    return gx.reshape(x.shape), np.sum(g * xhat.reshape(x.shape), axis=axes), np.sum(g, axis=axes)
