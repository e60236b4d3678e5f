"""Losses of regression: mean square and mean absolute difference, in PyTorch's functional spelling."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..core import dtypes
from ..core.array import Array
from ..core.elementwise import elementwise
from ..core.errors import DTypeError, SettingError, ShapeError
from ..core.op import op
from ..core.samples import A, bad, bench, s
from ..core.spec import Spec
from ..core.tape import Saved
from .loss import check_reduction

_SAMPLES = (
    s("mean", A((3, 5)), A((3, 5), 2.0, 3.0)),
    s("sum", A((2, 3, 40)), A((2, 3, 40), 2.0, 3.0), reduction="sum"),
    s("none", A((4, 5)), A((4, 5), 2.0, 3.0), reduction="none"),
    s("views", A((33, 5), view="transposed"), A((33, 5), 2.0, 3.0, view="reversed")),
    s("many axes", A((2, 3, 4, 5), view="channels_last"), A((2, 3, 4, 5), 2.0, 3.0, view="strided")),
    s("long", A((70, 70)), A((70, 70), 2.0, 3.0)),
    s("one", A(()), A((), 2.0, 3.0)),
    s("empty", A((0, 3)), A((0, 3)), reduction="sum"),
)
_BAD = (
    bad("shapes", ShapeError, ("(3, 1)", "(3,)"), A((3, 1)), A((3,))),
    bad("dtypes", DTypeError, ("float32", "float64"), A((3,), dtype="float32"), A((3,), dtype="float64")),
    bad("reduction", SettingError, ("'avg'", "'mean'"), A((3,)), A((3,)), reduction="avg"),
)
_BENCH = (bench("pixels", A((64, 3, 64, 64)), A((64, 3, 64, 64))),)


def pair_out(name: str, input: Spec, target: Spec, reduction: Any) -> Spec:
    """Return the spec of a loss of two arrays of one shape and float dtype, or raise."""
    check_reduction(name, reduction)
    if input.dtype != target.dtype or not dtypes.is_float(input.dtype):
        raise DTypeError(f"{name}: input is {input.dtype.name} and target {target.dtype.name} but one float dtype is needed; convert with astype")
    if input.shape != target.shape:
        raise ShapeError(f"{name}: input has shape {input.shape} but target {target.shape}; make them equal with reshape or broadcast_to")
    return Spec(input.shape if reduction == "none" else (), input.dtype)


def reduced_loss(each: Any, reduction: str) -> Any:
    """Return the losses of the elements as they are, their mean or their sum."""
    if reduction == "none":
        return each
    with np.errstate(all="ignore"):
        return np.asarray(np.sum(each) / each.dtype.type(each.size) if reduction == "mean" else np.sum(each), dtype=each.dtype)


def _vjp(c: Saved, g: Any) -> dict[str, Any]:
    rule = mse_loss_grad if c.call.op == "mse_loss" else l1_loss_grad
    scale = 1.0 / c.spec_of("input").size if c.reduction == "mean" and c.spec_of("input").size else 1.0
    return {
        "input": lambda: rule(g, c.input, c.target, scale=scale),
        "target": lambda: rule(g, c.target, c.input, scale=scale),  # both depend on the difference alone
    }


@op(
    out=partial(pair_out, "mse_loss"), vjp=_vjp, saves=("input", "target"), samples=_SAMPLES, bad=_BAD, bench=_BENCH,
    flops=lambda call: 3 * call.spec(0).size, reduces=lambda call: call.spec(0).size,
)  # fmt: skip
def mse_loss(input: Array, target: Array, reduction: str = "mean") -> Array:
    """Mean square error: ``loss = (1 / n) Σ_i (x[i] - t[i])²``; the sum, or every term, for "sum" and "none".

    Equal shapes and float dtypes (PyTorch broadcasts with a warning, here it is an error); the mean of nothing is NaN.
    Costs 3 flop per element.

    Parameters
    ----------
    input, target : array
        Equal shapes, one real floating dtype.
    reduction : "mean", "sum" or "none"

    Returns
    -------
    array
        0-d, or the shape of `input` for "none"; dtype of `input`.
    """
    return reduced_loss((input - target) ** 2, reduction)


@op(
    out=partial(pair_out, "l1_loss"), vjp=_vjp, saves=("input", "target"), samples=_SAMPLES, bad=_BAD, bench=_BENCH,
    flops=lambda call: 3 * call.spec(0).size, reduces=lambda call: call.spec(0).size,
)  # fmt: skip
def l1_loss(input: Array, target: Array, reduction: str = "mean") -> Array:
    """Mean absolute error: ``loss = (1 / n) Σ_i |x[i] - t[i]|``; see `mse_loss`. The gradient where x = t is 0.

    Parameters
    ----------
    input, target : array
        Equal shapes, one real floating dtype.
    reduction : "mean", "sum" or "none"

    Returns
    -------
    array
        0-d, or the shape of `input` for "none"; dtype of `input`.
    """
    return reduced_loss(np.abs(input - target), reduction)


_GRAD = (s("scalar cotangent", A(()), A((3, 5)), A((3, 5)), scale=0.5), s("one each", A((4, 5)), A((4, 5)), A((4, 5))))


@elementwise("2 * scale * (x - t) * g", samples=_GRAD)
def mse_loss_grad(g: Array, x: Array, t: Array, scale: float = 1.0) -> Array:
    """Gradient of `mse_loss` by x: ``z = 2 scale (x - t) g``, with scale = 1 / n for the mean."""


@elementwise("scale * sign(x - t) * g", samples=_GRAD)
def l1_loss_grad(g: Array, x: Array, t: Array, scale: float = 1.0) -> Array:
    """Gradient of `l1_loss` by x: ``z = scale sign(x - t) g``, with scale = 1 / n for the mean."""
