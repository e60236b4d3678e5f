"""Losses of yes-or-no targets: binary cross entropy with and without logits, focal loss, Dice loss.

Over 250 lines because the four, their gradients and the weights they share are read together.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from ..core import dtypes
from ..core.array import Array
from ..core.elementwise import Choice, elementwise
from ..core.errors import SettingError, ShapeError
from ..core.op import op
from ..core.registry import find
from ..core.samples import A, bad, bench, s
from ..core.spec import Spec
from ..core.tape import Saved
from .distance import pair_out, reduced_loss
from .loss import check_reduction
from .robust_loss import pair_bad, pair_samples, share

_BENCH = (bench("masks", A((16, 1, 256, 256)), A((16, 1, 256, 256), 0.0, 1.0)),)


def _weighted_out(name: str, input: Spec, target: Spec, reduction: Any, **weights: Spec | None) -> Spec:
    for what, spec in weights.items():
        if spec is None:
            continue
        lead = input.ndim - spec.ndim
        if lead < 0 or any(n not in (1, m) for n, m in zip(spec.shape, input.shape[lead:], strict=True)) or spec.dtype != input.dtype:
            raise ShapeError(
                f"{name}: {what} is {spec.dtype.name} {spec.shape} but must broadcast to input, {input.dtype.name} {input.shape}; "
                f"give each size as input's or 1, counted from the last axis, and the same dtype"
            )
    return pair_out(name, input, target, reduction)


def _optional(text: str, *names: str, instead: str = "") -> Choice:
    """Return `text` times the first of `names`, if it was given; `instead` of `text` where the second was not."""
    weight = names[0]
    texts = tuple(f"{t}{w}" for t in dict.fromkeys((text, instead or text)) for w in ("", f" * {weight}"))

    def pick(settings: Mapping[str, Any], absent: frozenset[str]) -> str:
        del settings
        chosen = instead if len(names) > 1 and names[1] in absent else text
        return chosen if weight in absent else f"{chosen} * {weight}"

    return Choice(pick, texts)


def _bce_out(input: Spec, target: Spec, weight: Spec | None, reduction: Any) -> Spec:
    return _weighted_out("binary_cross_entropy", input, target, reduction, weight=weight)


def _bce_vjp(c: Saved, g: Any) -> dict[str, Any]:
    scale = share(c)
    return {
        "input": lambda: binary_cross_entropy_grad_input(g, c.input, c.target, c.weight, scale=scale),
        "target": lambda: binary_cross_entropy_grad_target(g, c.input, c.weight, scale=scale),
    }


_W = A((5,), 0.2, 2.0)
_WEIGHTED = (
    s("weight", A((3, 5), 0.05, 0.95), A((3, 5), 0, 1), A((3, 5), 0.2, 2.0)),
    s("weight per class, sum", A((2, 3, 5), 0.05, 0.95), A((2, 3, 5), 0, 1), _W, reduction="sum"),
    s("weight per row, none", A((4, 5), 0.05, 0.95, view="transposed"), A((4, 5), 0, 1), A((4, 1), 0.2, 2.0), reduction="none"),
    s("weight, empty", A((0, 5), 0.05, 0.95), A((0, 5), 0, 1), _W, reduction="sum"),
)
_WEIGHT_BAD = bad("weight", ShapeError, ("weight", "(3,)", "(2, 5)"), A((2, 5)), A((2, 5)), A((3,)))


@op(
    out=_bce_out, vjp=_bce_vjp, saves=("input", "target", "weight"),
    samples=(
        *pair_samples((0.05, 0.95), (0.0, 1.0)), *_WEIGHTED,
        s("certain", A((2, 2), values=(0.0, 0.0, 1.0, 1.0)), A((2, 2), values=(0.0, 1.0, 0.0, 1.0)), gradient=False, why="the logarithm is cut off"),
        s("no probability", A((3,), values=(-0.5, 1.5, float("nan"))), A((3,), 0.2, 0.8), gradient=False, why="NaN"),
    ),
    bad=(*pair_bad("binary_cross_entropy"), _WEIGHT_BAD), bench=_BENCH, flops=lambda call: 6 * call.spec(0).size, reduces=lambda call: call.spec(0).size,
)  # fmt: skip
def binary_cross_entropy(input: Array, target: Array, weight: Array | None = None, reduction: str = "mean") -> Array:
    """Binary cross entropy of probabilities: the mean of ``-w (t log x + (1 - t) log(1 - x))``.

    Parameters
    ----------
    input : array
        x, probabilities; real floating.
    target : array
        t, from 0 to 1; shape and dtype of `input`.
    weight : array, optional
        w, broadcast to `input`; has no gradient.
    reduction : "mean", "sum" or "none"
        The mean divides by the number of elements, whatever the weights; that of nothing is NaN.

    Returns
    -------
    array
        0-d, or the shape of `input` for "none"; dtype of `input`.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        Shapes or dtypes that do not fit; an unknown reduction.

    Notes
    -----
    Logarithms are not taken below -100, so that a certain and wrong answer costs 100, as in PyTorch. A probability
    outside [0, 1] gives NaN (PyTorch raises). `binary_cross_entropy_with_logits` loses nothing near 0 and 1.
    Costs 6 flop per element.
    """
    with np.errstate(all="ignore"):
        each = -(target * np.maximum(np.log(input), -100) + (1 - target) * np.maximum(np.log1p(-input), -100))
        return reduced_loss((each if weight is None else each * weight).astype(input.dtype), reduction)


_GRAD = A((3, 5), 0.05, 0.95)


@elementwise(
    _optional("scale * g * (x - t) / maximum((1 - x) * x, 1e-12)", "weight"),
    samples=(s("scale", A(()), _GRAD, A((3, 5), 0, 1), scale=0.5), s("weight", A((3, 5)), _GRAD, A((3, 5), 0, 1), A((5,), 0.2, 2))),
)
def binary_cross_entropy_grad_input(g: Array, x: Array, t: Array, weight: Array | None = None, *, scale: float = 1.0) -> Array:
    """Gradient of `binary_cross_entropy` by its input: ``z = scale g w (x - t) / max(x (1 - x), 1e-12)``, PyTorch's cut."""


@elementwise(
    _optional("scale * g * (maximum(log1p(-x), -100) - maximum(log(x), -100))", "weight"),
    samples=(s("scale", A(()), _GRAD, scale=0.5), s("weight", A((3, 5)), _GRAD, A((5,), 0.2, 2))),
)
def binary_cross_entropy_grad_target(g: Array, x: Array, weight: Array | None = None, *, scale: float = 1.0) -> Array:
    """Gradient of `binary_cross_entropy` by its target: ``z = scale g w (log(1 - x) - log x)``, logarithms cut at -100."""


def _logits_out(input: Spec, target: Spec, weight: Spec | None, reduction: Any, pos_weight: Spec | None) -> Spec:
    return _weighted_out("binary_cross_entropy_with_logits", input, target, reduction, weight=weight, pos_weight=pos_weight)


def _logits_vjp(c: Saved, g: Any) -> dict[str, Any]:
    scale = share(c)
    return {
        "input": lambda: binary_cross_entropy_with_logits_grad_input(g, c.input, c.target, c.weight, c.pos_weight, scale=scale),
        "target": lambda: binary_cross_entropy_with_logits_grad_target(g, c.input, c.weight, c.pos_weight, scale=scale),
    }


@op(
    out=_logits_out, vjp=_logits_vjp, saves=("input", "target", "weight", "pos_weight"),
    samples=(
        *pair_samples((-4, 4), (0.0, 1.0)), *_WEIGHTED,
        s("pos_weight", A((4, 5), -4, 4), A((4, 5), 0, 1), pos_weight=_W),
        s("both weights, sum", A((4, 5), -4, 4, view="strided"), A((4, 5), 0, 1), A((4, 1), 0.2, 2.0), reduction="sum", pos_weight=_W),
        s("pos_weight, none", A((4, 5), -4, 4), A((4, 5), 0, 1), reduction="none", pos_weight=A((), 0.2, 2.0)),
        s("certain", A((2, 3), values=(200.0, -200.0, 1e4, -1e4, 88.0, -88.0)), A((2, 3), values=(0.0, 1.0, 1.0, 0.0, 0.0, 0.0)), gradient=False, why="too steep for differences"),
    ),
    bad=(
        *pair_bad("binary_cross_entropy_with_logits"), _WEIGHT_BAD,
        bad("pos_weight", ShapeError, ("pos_weight", "(2, 1, 5)"), A((2, 5)), A((2, 5)), pos_weight=A((2, 1, 5))),
    ),
    bench=_BENCH, flops=lambda call: 7 * call.spec(0).size, reduces=lambda call: call.spec(0).size,
)  # fmt: skip
def binary_cross_entropy_with_logits(
    input: Array, target: Array, weight: Array | None = None, reduction: str = "mean", pos_weight: Array | None = None
) -> Array:
    """Binary cross entropy of scores: the mean of ``w ((1 - t) x + (1 + (p - 1) t) log(1 + e^-x))``.

    Parameters
    ----------
    input : array
        x, scores (logits); real floating.
    target : array
        t, from 0 to 1; shape and dtype of `input`.
    weight : array, optional
        w, broadcast to `input`; has no gradient.
    reduction : "mean", "sum" or "none"
        The mean divides by the number of elements, whatever the weights; that of nothing is NaN.
    pos_weight : array, optional
        p, what a yes counts more than a no; broadcast to `input`; has no gradient.

    Returns
    -------
    array
        0-d, or the shape of `input` for "none"; dtype of `input`.

    Notes
    -----
    Nothing overflows: ``log(1 + e^-x) = max(-x, 0) + log(1 + e^-|x|)``. Costs 7 flop per element, PyTorch's convention
    (with `reduction` before `pos_weight`).
    """
    with np.errstate(all="ignore"):
        more = 1 if pos_weight is None else 1 + (pos_weight - 1) * target
        each = (1 - target) * input + more * (np.log1p(np.exp(-np.abs(input))) + np.maximum(-input, 0))
        return reduced_loss((each if weight is None else each * weight).astype(input.dtype), reduction)


_X = A((3, 5), -3, 3)


@elementwise(
    _optional("scale * g * (1 - t - (1 + (pos_weight - 1) * t) / (1 + exp(x)))", "weight", "pos_weight", instead="scale * g * (1 / (1 + exp(-x)) - t)"),
    samples=(s("scale", A(()), _X, A((3, 5), 0, 1), scale=0.5), s("weights", A((3, 5)), _X, A((3, 5), 0, 1), A((3, 1), 0.2, 2), A((5,), 0.2, 2))),
)
def binary_cross_entropy_with_logits_grad_input(
    g: Array, x: Array, t: Array, weight: Array | None = None, pos_weight: Array | None = None, *, scale: float = 1.0
) -> Array:
    """Gradient of `binary_cross_entropy_with_logits` by its input: ``z = scale g w (1 - t - (1 + (p - 1) t) / (1 + e^x))``.

    Parameters
    ----------
    g : array
        Cotangent.
    x, t, weight, pos_weight : array
        Operands of the loss.
    scale : float
        1 / n for the mean.

    Returns
    -------
    array
        Shape of `x`.
    """


@elementwise(
    _optional("scale * g * ((pos_weight - 1) * (log1p(exp(-abs(x))) + maximum(-x, 0)) - x)", "weight", "pos_weight", instead="-(scale * x) * g"),
    samples=(s("scale", A(()), _X, scale=0.5), s("weights", A((3, 5)), _X, A((3, 1), 0.2, 2), A((5,), 0.2, 2))),
)
def binary_cross_entropy_with_logits_grad_target(
    g: Array, x: Array, weight: Array | None = None, pos_weight: Array | None = None, *, scale: float = 1.0
) -> Array:
    """Gradient of `binary_cross_entropy_with_logits` by its target: ``z = scale g w ((p - 1) log(1 + e^-x) - x)``.

    Parameters
    ----------
    g : array
        Cotangent.
    x, weight, pos_weight : array
        Operands of the loss.
    scale : float
        1 / n for the mean.

    Returns
    -------
    array
        Shape of `x`.
    """


def _focal_out(inputs: Spec, targets: Spec, alpha: Any, gamma: Any, reduction: Any) -> Spec:
    if not (isinstance(alpha, int | float) and alpha <= 1):
        raise SettingError(f"sigmoid_focal_loss: alpha is {alpha!r} but must be a number from 0 to 1, or negative for no weights")
    if not (isinstance(gamma, int | float) and gamma >= 0):
        raise SettingError(f"sigmoid_focal_loss: gamma is {gamma!r} but must be a number not below 0")
    return pair_out("sigmoid_focal_loss", inputs, targets, reduction)


def _focal_vjp(c: Saved, g: Any) -> dict[str, Any]:
    settings = {"alpha": float(c.alpha), "gamma": float(c.gamma), "scale": share(c, "inputs")}
    return {
        "inputs": lambda: sigmoid_focal_loss_grad_input(g, c.inputs, c.targets, **settings),
        "targets": lambda: sigmoid_focal_loss_grad_target(g, c.inputs, c.targets, **settings),
    }


@op(
    out=_focal_out, vjp=_focal_vjp, saves=("inputs", "targets"),
    samples=(
        *pair_samples((-4, 4), (0.05, 0.95)),
        s("hard targets", A((3, 4), -4, 4), A((3, 4), values=(0.0, 1.0, 1.0, 0.0) * 3), reduction="mean"),
        s("no weights", A((3, 4), -4, 4), A((3, 4), 0.05, 0.95), alpha=-1, gamma=1.5),
        s("alpha 0", A((3, 4), -4, 4), A((3, 4), 0.05, 0.95), alpha=0.0, reduction="mean"),
        s("gamma 0", A((3, 4), -4, 4), A((3, 4), 0.05, 0.95), 0.5, 0.0, "sum"),
        s("certain", A((2, 3), values=(200.0, -200.0, 1e4, -1e4, 88.0, -88.0)), A((2, 3), values=(0.0, 1.0, 1.0, 0.0, 0.0, 1.0)), gradient=False, why="too steep for differences"),
    ),
    bad=(
        *pair_bad("sigmoid_focal_loss"), bad("alpha", SettingError, ("alpha", "1.5"), A((3,)), A((3,)), alpha=1.5),
        bad("gamma", SettingError, ("gamma", "-1.0"), A((3,)), A((3,)), gamma=-1.0),
    ),
    bench=(bench("anchors", A((8, 20000, 20)), A((8, 20000, 20), 0.0, 1.0), reduction="sum"),),
    flops=lambda call: 20 * call.spec(0).size, reduces=lambda call: call.spec(0).size,
)  # fmt: skip
def sigmoid_focal_loss(inputs: Array, targets: Array, alpha: float = 0.25, gamma: float = 2, reduction: str = "none") -> Array:
    """Focal loss of scores: ``a q^gamma ce`` with ce the binary cross entropy and q the probability of the other answer.

    ``p = 1 / (1 + e^-x)``, ``q = p (1 - t) + (1 - p) t``, ``a = alpha t + (1 - alpha) (1 - t)``, or 1 for ``alpha < 0``.

    Parameters
    ----------
    inputs : array
        x, scores (logits); real floating.
    targets : array
        t, from 0 to 1; shape and dtype of `inputs`.
    alpha : float
        Weight of a yes, up to 1; negative for none.
    gamma : float
        How much easy answers count less; not below 0.
    reduction : "none", "mean" or "sum"

    Returns
    -------
    array
        0-d, or the shape of `inputs` for "none"; dtype of `inputs`.

    Notes
    -----
    Scores beyond ±80 count as ±80 in p. Costs 20 flop per element. Lin et al. 2017, arXiv:1708.02002; the signature is
    ``torchvision.ops.sigmoid_focal_loss``'s.
    """
    x, t = inputs, targets
    with np.errstate(all="ignore"):
        ce = np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x)))
        p, other = 1 / (1 + np.exp(-np.clip(x, -80, 80))), 1 / (1 + np.exp(np.clip(x, -80, 80)))
        each = (p * (1 - t) + other * t) ** gamma * ce
        each = each if alpha < 0 else each * (alpha * t + (1 - alpha) * (1 - t))
    return reduced_loss(each.astype(x.dtype), reduction)


_FOCAL = (
    "b = minimum(maximum(x, -80), 80); p = 1 / (1 + exp(-b)); n = 1 / (1 + exp(b)); q = p * (1 - t) + n * t; "
    "ce = maximum(x, 0) - x * t + log1p(exp(-abs(x))); a = where(alpha < 0, 1, alpha * t + (1 - alpha) * (1 - t))"
)
_FOCAL_GRAD = (s("scale", A(()), _X, A((3, 5), 0.05, 0.95), alpha=0.5, gamma=1.5, scale=0.5), s("one each", A((3, 5)), _X, A((3, 5), 0.05, 0.95)))


@elementwise(f"{_FOCAL}; scale * g * a * q ** gamma * (p - t + gamma * ce * p * n * (1 - 2 * t) / q)", samples=_FOCAL_GRAD)
def sigmoid_focal_loss_grad_input(g: Array, x: Array, t: Array, *, alpha: float = 0.25, gamma: float = 2.0, scale: float = 1.0) -> Array:
    """Gradient of `sigmoid_focal_loss` by its scores: ``z = scale g a q^gamma (p - t + gamma ce p (1 - p) (1 - 2 t) / q)``."""


@elementwise(
    f"{_FOCAL}; scale * g * q ** gamma * (where(alpha < 0, 0, 2 * alpha - 1) * ce + a * (gamma * ce * (n - p) / q - x))", samples=_FOCAL_GRAD
)
def sigmoid_focal_loss_grad_target(g: Array, x: Array, t: Array, *, alpha: float = 0.25, gamma: float = 2.0, scale: float = 1.0) -> Array:
    """Gradient of `sigmoid_focal_loss` by its targets: ``z = scale g q^gamma (a' ce + a (gamma ce (1 - 2 p) / q - x))``."""


def _dice_out(input: Spec, target: Spec, smooth: Any, reduction: Any) -> tuple[Spec, ...]:
    check_reduction("dice_loss", reduction)
    pair_out("dice_loss", input, target, reduction)
    if input.ndim < 3:
        raise ShapeError(f"dice_loss: input has shape {input.shape} but (N, C, d1, ...) is needed: it sums over the axes after the first two")
    if not (isinstance(smooth, int | float) and smooth >= 0):
        raise SettingError(f"dice_loss: smooth is {smooth!r} but must be a number not below 0")
    kept = Spec((*input.shape[:2], *[1] * (input.ndim - 2)), dtypes.accumulator(input.dtype))
    return Spec(input.shape[:2] if reduction == "none" else (), input.dtype), kept, kept


def _dice_vjp(c: Saved, g: Any) -> dict[str, Any]:
    spec = c.spec_of("input")
    regions = spec.shape[0] * spec.shape[1]
    scale = 1.0 / regions if c.reduction == "mean" and regions else 1.0
    each = find("reshape")(g, (*spec.shape[:2], *[1] * (spec.ndim - 2))) if c.reduction == "none" else g
    rule = partial(dice_loss_grad, smooth=float(c.smooth), scale=scale)
    return {"input": lambda: rule(each, c.target, c.overlap, c.total), "target": lambda: rule(each, c.input, c.overlap, c.total)}


@op(
    out=_dice_out, outputs=("loss",), residuals=("overlap", "total"), vjp=_dice_vjp, saves=("input", "target", "overlap", "total"),
    samples=(
        s("masks", A((2, 3, 5, 7), 0.05, 0.95), A((2, 3, 5, 7), 0, 1)),
        s("sum", A((2, 1, 40), 0.05, 0.95), A((2, 1, 40), 0, 1), reduction="sum"),
        s("none", A((2, 3, 4, 4), 0.05, 0.95), A((2, 3, 4, 4), 0, 1), reduction="none"),
        s("smooth", A((2, 3, 4, 4), 0.05, 0.95), A((2, 3, 4, 4), 0, 1), 1.0),
        s("views", A((2, 3, 4, 9), 0.05, 0.95, view="channels_last"), A((2, 3, 4, 9), 0, 1, view="strided")),
        s("volume", A((1, 2, 3, 4, 5), 0.05, 0.95), A((1, 2, 3, 4, 5), 0, 1, view="transposed"), reduction="none"),
        s("long", A((2, 2, 1031), 0.05, 0.95), A((2, 2, 1031), 0, 1)),
        s("nothing there", A((1, 2, 3), values=(0.0,) * 6), A((1, 2, 3), values=(0.0,) * 6), gradient=False, why="steep by 1 / smooth"),
        s("empty", A((0, 3, 4)), A((0, 3, 4)), reduction="sum"),
    ),
    bad=(*pair_bad("dice_loss"), bad("axes", ShapeError, ("(2, 5)", "d1"), A((2, 5)), A((2, 5))), bad("smooth", SettingError, ("smooth", "-1.0"), A((2, 1, 5)), A((2, 1, 5)), -1.0)),
    bench=(bench("masks", A((16, 4, 256, 256), 0.0, 1.0), A((16, 4, 256, 256), 0.0, 1.0)),),
    flops=lambda call: 4 * call.spec(0).size, reduces=lambda call: call.spec(0).size,
)  # fmt: skip
def dice_loss(input: Array, target: Array, smooth: float = 1e-5, reduction: str = "mean") -> Array:
    """Dice loss: the mean over n and c of ``1 - (2 Σ_r x[n, c, r] t[n, c, r] + smooth) / (Σ_r x[n, c, r] + t[n, c, r] + smooth)``.

    Parameters
    ----------
    input : array
        x, probabilities, shape (N, C, d1, ...); r runs over d1 and all that follow. Real floating.
    target : array
        t, from 0 to 1; shape and dtype of `input`.
    smooth : float
        Keeps regions that are empty in both at loss 0; not below 0.
    reduction : "mean", "sum" or "none"

    Returns
    -------
    array
        0-d, or shape (N, C) for "none"; dtype of `input`.

    Notes
    -----
    Residuals are both sums, from which the gradient is one launch. Costs 4 flop per element. Milletari et al. 2016,
    arXiv:1606.04797, with sums of first powers, as MONAI's ``DiceLoss``.
    """
    axes = tuple(range(2, input.ndim))
    wide = dtypes.accumulator(input.dtype)
    overlap = np.sum(input * target, axis=axes, keepdims=True, dtype=wide)
    total = np.sum(input + target, axis=axes, keepdims=True, dtype=wide)
    with np.errstate(all="ignore"):
        each = 1 - (2 * overlap + smooth) / (total + smooth)
    return reduced_loss(each.reshape(input.shape[:2]).astype(input.dtype), reduction), overlap, total


@elementwise(
    "d = total + smooth; scale * g * ((2 * overlap + smooth) / d - 2 * t) / d", apart=("overlap", "total"),
    samples=(
        s("mean", A(()), A((2, 3, 5), 0, 1), A((2, 3, 1), 1, 2, dtype="float32"), A((2, 3, 1), 3, 5, dtype="float32"), smooth=0.5, scale=0.25, dtypes=("float32", "float16")),
        s("none", A((2, 3, 1)), A((2, 3, 5), 0, 1), A((2, 3, 1), 1, 2), A((2, 3, 1), 3, 5), dtypes=("float32", "float64")),
    ),
)  # fmt: skip
def dice_loss_grad(g: Array, t: Array, overlap: Array, total: Array, *, smooth: float = 1e-5, scale: float = 1.0) -> Array:
    """Gradient of `dice_loss` by one operand: ``z = scale g ((2 overlap + smooth) / (total + smooth)² - 2 t / (total + smooth))``.

    Parameters
    ----------
    g : array
        Cotangent, 0-d or shape (N, C, 1, ...).
    t : array
        The *other* operand of the loss.
    overlap, total : array
        Residuals of `dice_loss`.
    smooth : float
    scale : float
        1 / (N C) for the mean.

    Returns
    -------
    array
        Shape of `t`.
    """
