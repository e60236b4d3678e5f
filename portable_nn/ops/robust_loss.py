"""Losses of regression and of distributions, element by element: Huber, smooth L1, Kullback-Leibler; in PyTorch's spelling."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..core.array import Array
from ..core.elementwise import Choice, elementwise
from ..core.errors import DTypeError, SettingError, ShapeError
from ..core.op import op
from ..core.samples import A, Sample, bad, bench, s
from ..core.spec import Spec
from ..core.tape import Saved
from .distance import pair_out, reduced_loss

_BENCH = (bench("pixels", A((64, 3, 64, 64)), A((64, 3, 64, 64))),)


def pair_bad(name: str) -> tuple[Any, ...]:
    """Return the wrong calls every loss of a pair refuses."""
    return (
        bad("shapes", ShapeError, (name, "(3, 1)", "(3,)"), A((3, 1)), A((3,))),
        bad("dtypes", DTypeError, (name, "float32", "float64"), A((3,), dtype="float32"), A((3,), dtype="float64")),
        bad("reduction", SettingError, (name, "'avg'", "'mean'"), A((3,)), A((3,)), reduction="avg"),
    )


def pair_samples(x: tuple[float, float], t: tuple[float, float], name: str = "", **settings: Any) -> tuple[Sample, ...]:
    """Return samples of pairs drawn from the ranges `x` and `t`: every reduction, views, sizes that are odd, one or none."""

    def pair(*shape: int, views: tuple[str, str] = ("", "")) -> tuple[A, A]:
        return A(shape, *x, view=views[0]), A(shape, *t, view=views[1])

    start = f"{name}, " if name else ""
    return (
        s(f"{start}mean", *pair(3, 5), reduction="mean", **settings),
        s(f"{start}sum", *pair(2, 3, 40), reduction="sum", **settings),
        s(f"{start}none", *pair(4, 5), reduction="none", **settings),
        s(f"{start}views", *pair(33, 5, views=("transposed", "reversed")), reduction="mean", **settings),
        s(f"{start}views, none", *pair(2, 3, 4, 5, views=("channels_last", "strided")), reduction="none", **settings),
        s(f"{start}long", *pair(70, 70), reduction="mean", **settings),
        s(f"{start}one", *pair(), reduction="sum", **settings),
        s(f"{start}empty", *pair(0, 3), reduction="sum", **settings),
    )


def share(c: Saved, name: str = "input") -> float:
    """Return what a gradient is multiplied by for the call's reduction: 1 / n for the mean of n."""
    size = c.spec_of(name).size
    return 1.0 / size if c.reduction == "mean" and size else 1.0


def _huber_out(input: Spec, target: Spec, reduction: Any, delta: Any) -> Spec:
    if not (isinstance(delta, int | float) and delta > 0):
        raise SettingError(f"huber_loss: delta is {delta!r} but must be a number above 0; use l1_loss for the limit at 0")
    return pair_out("huber_loss", input, target, reduction)


def _huber_vjp(c: Saved, g: Any) -> dict[str, Any]:
    rule = partial(huber_loss_grad, g, delta=c.delta, scale=share(c))
    return {"input": lambda: rule(c.input, c.target), "target": lambda: rule(c.target, c.input)}


@op(
    out=_huber_out, vjp=_huber_vjp, saves=("input", "target"),
    samples=(*pair_samples((-0.4, 0.4), (-0.4, 0.4)), *pair_samples((-1, 1), (3, 5), "far"), s("delta", A((3, 40), -3, -2), A((3, 40), 4, 5), delta=4.5)),
    bad=(*pair_bad("huber_loss"), bad("delta", SettingError, ("delta", "0.0", "l1_loss"), A((3,)), A((3,)), delta=0.0)),
    bench=_BENCH, flops=lambda call: 5 * call.spec(0).size, reduces=lambda call: call.spec(0).size,
)  # fmt: skip
def huber_loss(input: Array, target: Array, reduction: str = "mean", delta: float = 1.0) -> Array:
    """Huber loss: the mean of ``d² / 2`` where ``|d| <= delta``, else ``delta (|d| - delta / 2)``; ``d = x - t``.

    Parameters
    ----------
    input, target : array
        x and t: equal shapes, one real floating dtype.
    reduction : "mean", "sum" or "none"
        The mean of nothing is NaN.
    delta : float
        Above 0.

    Returns
    -------
    array
        0-d, or the shape of `input` for "none"; dtype of `input`.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        Shapes or dtypes that differ; an unknown reduction; a `delta` that is not above 0.

    Notes
    -----
    Costs 5 flop per element. Huber 1964; the convention is PyTorch's ``torch.nn.functional.huber_loss``.
    """
    d = np.abs(input - target)
    return reduced_loss(np.where(d <= delta, d * d / 2, delta * (d - delta / 2)).astype(input.dtype), reduction)


_GRAD = (s("scalar cotangent", A(()), A((3, 5), -2, -1.5), A((3, 5)), scale=0.5), s("one each", A((4, 5)), A((4, 5)), A((4, 5), 2, 3), scale=1.0))


@elementwise("scale * minimum(maximum(x - t, -delta), delta) * g", samples=(*_GRAD, s("delta", A((3,)), A((3,)), A((3,), 2, 3), delta=0.5)))
def huber_loss_grad(g: Array, x: Array, t: Array, delta: float = 1.0, scale: float = 1.0) -> Array:
    """Gradient of `huber_loss` by x: ``z = scale min(max(x - t, -delta), delta) g``, with scale = 1 / n for the mean."""


def _smooth_out(input: Spec, target: Spec, reduction: Any, beta: Any) -> Spec:
    if not (isinstance(beta, int | float) and beta >= 0):
        raise SettingError(f"smooth_l1_loss: beta is {beta!r} but must be a number not below 0")
    return pair_out("smooth_l1_loss", input, target, reduction)


def _smooth_vjp(c: Saved, g: Any) -> dict[str, Any]:
    rule = partial(smooth_l1_loss_grad, g, beta=c.beta, scale=share(c))
    return {"input": lambda: rule(c.input, c.target), "target": lambda: rule(c.target, c.input)}


@op(
    out=_smooth_out, vjp=_smooth_vjp, saves=("input", "target"),
    samples=(
        *pair_samples((-0.4, 0.4), (-0.4, 0.4)), *pair_samples((-1, 1), (3, 5), "far"),
        s("beta", A((3, 40), -3, -2), A((3, 40), 4, 5), beta=8.5), s("beta 0 is l1", A((3, 4)), A((3, 4), 2, 3), beta=0),
    ),
    bad=(*pair_bad("smooth_l1_loss"), bad("beta", SettingError, ("beta", "-1.0"), A((3,)), A((3,)), beta=-1.0)),
    bench=_BENCH, flops=lambda call: 5 * call.spec(0).size, reduces=lambda call: call.spec(0).size,
)  # fmt: skip
def smooth_l1_loss(input: Array, target: Array, reduction: str = "mean", beta: float = 1.0) -> Array:
    """Smooth L1 loss: the mean of ``d² / (2 beta)`` where ``|d| < beta``, else ``|d| - beta / 2``; ``d = x - t``.

    Parameters
    ----------
    input, target : array
        x and t: equal shapes, one real floating dtype.
    reduction : "mean", "sum" or "none"
        The mean of nothing is NaN.
    beta : float
        Not below 0; 0 gives `l1_loss`.

    Returns
    -------
    array
        0-d, or the shape of `input` for "none"; dtype of `input`.

    Notes
    -----
    `huber_loss` divided by its delta. Costs 5 flop per element. Girshick 2015, arXiv:1504.08083.
    """
    d = np.abs(input - target)
    with np.errstate(all="ignore"):
        return reduced_loss(np.where(d < beta, d * d / np.asarray(2 * beta, d.dtype), d - beta / 2).astype(input.dtype), reduction)


@elementwise("d = x - t; scale * where(abs(d) < beta, d / beta, sign(d)) * g", samples=(*_GRAD, s("beta", A((3,)), A((3,)), A((3,), 2, 3), beta=4.5)))
def smooth_l1_loss_grad(g: Array, x: Array, t: Array, beta: float = 1.0, scale: float = 1.0) -> Array:
    """Gradient of `smooth_l1_loss` by x: ``z = scale g d / beta`` where ``|d| < beta``, else ``scale g sign(d)``; ``d = x - t``."""


def _kl_out(input: Spec, target: Spec, reduction: Any, log_target: Any) -> Spec:
    if reduction == "batchmean" and input.ndim == 0:
        raise ShapeError("kl_div: input is 0-d but reduction 'batchmean' divides by the length of its first axis; use 'sum'")
    return pair_out("kl_div", input, target, "sum" if reduction == "batchmean" else reduction)


def _kl_vjp(c: Saved, g: Any) -> dict[str, Any]:
    spec = c.spec_of("input")
    scale = 1.0 / max(spec.shape[0], 1) if c.reduction == "batchmean" else share(c)
    log_target = bool(c.log_target)
    return {
        "input": lambda: kl_div_grad_input(g, c.target, log_target=log_target, scale=scale),
        "target": lambda: kl_div_grad_target(g, c.input, c.target, log_target=log_target, scale=scale),
    }


@op(
    out=_kl_out, vjp=_kl_vjp, saves=("input", "target"),
    samples=(
        *pair_samples((-3, -0.1), (0.05, 1)),
        s("batchmean", A((3, 5), -3, -0.1), A((3, 5), 0.05, 1), reduction="batchmean"),
        s("log_target", A((3, 5), -3, -0.1), A((3, 5), -3, -0.1), log_target=True),
        s("log_target, batchmean", A((3, 40), -3, -0.1), A((3, 40), -3, -0.1, view="transposed"), reduction="batchmean", log_target=True),
        s("log_target, none", A((3, 4), -3, -0.1), A((3, 4), -3, -0.1), reduction="none", log_target=True),
        s("zeros", A((2, 2), -3, -0.1), A((2, 2), values=(0.0, 1.0, 0.5, 0.0)), gradient=False, why="steep at 0"),
        s("log of zero", A((2,), -3, -0.1), A((2,), values=(-float("inf"), 0.0)), log_target=True, gradient=False, why="inf"),
    ),
    bad=(*pair_bad("kl_div"), bad("0-d", ShapeError, ("0-d", "batchmean"), A(()), A(()), reduction="batchmean")),
    bench=(bench("distillation", A((64, 1000)), A((64, 1000), 0.0, 1.0), reduction="batchmean"),),
    flops=lambda call: 3 * call.spec(0).size, reduces=lambda call: call.spec(0).size,
)  # fmt: skip
def kl_div(input: Array, target: Array, reduction: str = "mean", log_target: bool = False) -> Array:
    """Kullback-Leibler divergence: ``t (log t - x)`` for each element, x the *logarithm* of the model's probability.

    Parameters
    ----------
    input : array
        x, log-probabilities; real floating.
    target : array
        t, probabilities, or their logarithms with `log_target`; shape and dtype of `input`. An element whose
        probability is 0 counts 0.
    reduction : "mean", "batchmean", "sum" or "none"
        "batchmean", the sum divided by the length of the first axis, is the divergence of distributions; "mean" divides
        by the number of elements, as PyTorch's default does.
    log_target : bool

    Returns
    -------
    array
        0-d, or the shape of `input` for "none"; dtype of `input`.

    Notes
    -----
    Costs 3 flop per element. A negative probability gives NaN.
    """
    with np.errstate(all="ignore"):
        p, log_p = (np.exp(target), target) if log_target else (target, np.log(target))
        each = np.where(p == 0, 0, p * (log_p - input)).astype(input.dtype)
        if reduction == "batchmean":
            return np.asarray(np.sum(each) / each.dtype.type(input.shape[0]), dtype=each.dtype)
    return reduced_loss(each, reduction)


def _log_or_not(log_target: str, plain: str) -> Choice:
    return Choice(lambda settings, absent: log_target if settings["log_target"] else plain, (log_target, plain))


@elementwise(
    _log_or_not("-(scale * exp(t)) * g", "-(scale * t) * g"),
    samples=(s("scale", A(()), A((3, 5), 0, 1), scale=0.5), s("log", A((3,)), A((3,), -3, 0), log_target=True)),
)
def kl_div_grad_input(g: Array, t: Array, *, log_target: bool = False, scale: float = 1.0) -> Array:
    """Gradient of `kl_div` by its input: ``z = -scale p g`` with p the target's probability."""


@elementwise(
    _log_or_not("where(t == -inf, 0, scale * exp(t) * (t - x + 1) * g)", "where(t == 0, 0, scale * (log(t) - x + 1) * g)"),
    samples=(s("scale", A(()), A((3, 5)), A((3, 5), 0.1, 1), scale=0.5), s("log", A((3,)), A((3,)), A((3,), -3, 0), log_target=True)),
)
def kl_div_grad_target(g: Array, x: Array, t: Array, *, log_target: bool = False, scale: float = 1.0) -> Array:
    """Gradient of `kl_div` by its target: ``z = scale (log t - x + 1) g``, times t for a logarithm; 0 where the probability is 0."""
