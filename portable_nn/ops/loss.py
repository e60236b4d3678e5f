"""Losses of classification: cross entropy and negative log-likelihood, in PyTorch's functional spelling and semantics.

Over 250 lines because cross entropy, its gradient and what they check are read together.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import dtypes
from ..core.array import Array
from ..core.call import Call
from ..core.errors import DeviceValueError, DTypeError, SettingError, ShapeError
from ..core.op import op, setting_int
from ..core.registry import find
from ..core.samples import A, bad, bench, s
from ..core.spec import Spec
from ..core.tape import Saved

REDUCTIONS = ("mean", "sum", "none")


def check_reduction(name: str, reduction: Any) -> None:
    """Raise unless `reduction` is one PyTorch knows."""
    if reduction not in REDUCTIONS:
        raise SettingError(f"{name}: reduction is {reduction!r} but must be one of {', '.join(map(repr, REDUCTIONS))}")


def class_axis(ndim: int) -> int:
    """Return the axis of the classes: 1, or 0 for a single sample."""
    return 1 if ndim > 1 else 0


def _checked(
    name: str, input: Spec, target: Spec, weight: Spec | None, ignore_index: Any, reduction: Any, smoothing: Any, soft: bool
) -> tuple[int, ...]:
    """Check everything that needs no values; return the shape of the rows."""
    check_reduction(name, reduction)
    setting_int(name, "ignore_index", ignore_index)
    if not (isinstance(smoothing, int | float) and 0 <= smoothing <= 1):
        raise SettingError(f"{name}: label_smoothing is {smoothing!r} but must be a number from 0 to 1")
    if not dtypes.is_float(input.dtype):
        raise DTypeError(f"{name}: input is {input.dtype.name} but float scores are needed; convert with astype")
    if input.ndim == 0:
        raise ShapeError(f"{name}: input is 0-d but needs a class axis: shape (C,), (N, C) or (N, C, d1, ...)")
    axis = class_axis(input.ndim)
    rows = (*input.shape[:axis], *input.shape[axis + 1 :])
    classes = input.shape[axis]
    if classes == 0:
        raise ShapeError(f"{name}: input has no classes (shape {input.shape}, class axis {axis}); at least one is needed")
    if dtypes.is_float(target.dtype):
        if not soft:
            raise DTypeError(f"{name}: target is {target.dtype.name} but integer labels are needed")
        if target.shape != input.shape or target.dtype != input.dtype:
            raise ShapeError(
                f"{name}: floating target is {target.dtype.name} {target.shape} but input is {input.dtype.name} {input.shape}; "
                f"class probabilities need the same shape and dtype, labels an integer dtype"
            )
        if ignore_index != -100:
            raise SettingError(f"{name}: ignore_index is {ignore_index} but the target holds probabilities; leave it at -100")
    elif dtypes.is_integer(target.dtype):
        if target.shape != rows:
            raise ShapeError(f"{name}: target has shape {target.shape} but input of shape {input.shape} (class axis {axis}) needs labels of shape {rows}")
    else:
        raise DTypeError(f"{name}: target is {target.dtype.name} but integer labels or float probabilities are needed")
    if weight is not None and (weight.shape != (classes,) or weight.dtype != input.dtype):
        raise ShapeError(f"{name}: weight is {weight.dtype.name} {weight.shape} but one {input.dtype.name} per class, shape ({classes},), is needed")
    return rows


def _out(input: Spec, target: Spec, weight: Spec | None, ignore_index: Any, reduction: Any, label_smoothing: Any) -> tuple[Spec, ...]:
    rows = _checked("cross_entropy", input, target, weight, ignore_index, reduction, label_smoothing, True)
    wide = dtypes.accumulator(input.dtype)
    return Spec(rows if reduction == "none" else (), input.dtype), Spec(rows, wide), Spec((), wide)


def _by_rows(x: Any) -> Any:
    """Return an array with the class axis moved to the end."""
    return np.moveaxis(x, class_axis(x.ndim), -1)


def row_weights(name: str, input: Any, target: Any, weight: Any, ignore_index: int, smoothing: float) -> tuple[Any, Any]:
    """Return, for each row and class, how much -log p counts in the loss, and each row's share of the mean's divisor.

    Raises
    ------
    DeviceValueError
        A label outside [0, C) that is not `ignore_index`.
    """
    classes = input.shape[class_axis(input.ndim)]
    w = np.ones(classes, input.dtype) if weight is None else weight
    if target.dtype.kind not in "iu":
        return w * (_by_rows(target) * (1 - smoothing) + smoothing / classes), np.ones(_by_rows(input).shape[:-1], input.dtype)
    kept = target != ignore_index
    wrong = kept & ((target < 0) | (target >= classes))
    if np.any(wrong):
        at = int(np.flatnonzero(wrong)[0])
        raise DeviceValueError(f"{name}: {OUT_OF_RANGE}".format(value=target.reshape(-1)[at], index=at, classes=classes))
    label = np.where(kept, target, 0)
    hot = (label[..., None] == np.arange(classes)) & kept[..., None]
    counts = (1 - smoothing) * w * hot + smoothing / classes * w * kept[..., None]
    return counts, w[label] * kept


OUT_OF_RANGE = "label {value} at position {index} is not in [0, {classes}) and is not ignore_index"


def _vjp(c: Saved, g: Any) -> dict[str, Any]:
    settings = {name: c.call.settings[name] for name in ("ignore_index", "reduction", "label_smoothing")}
    given: dict[str, Any] = {"input": lambda: cross_entropy_grad(g, c.input, c.target, c.lse, c.total, c.weight, **settings)}
    if c.needs("target"):
        given["target"] = lambda: _target_grad(c, g)
    return given


def _target_grad(c: Saved, g: Any) -> Any:
    """Return d loss / d probabilities: -(1 - smoothing) w log p, for whoever learns the targets too."""
    spec = c.spec_of("input")
    axis = class_axis(spec.ndim)
    multiply, reshape = find("multiply"), find("reshape")
    scale = -(1.0 - c.label_smoothing)
    if c.reduction == "mean":
        scale /= spec.size // spec.shape[axis]
    made = multiply(find("log_softmax")(c.input, axis), scale)
    if c.weight is not None:
        made = multiply(made, reshape(c.weight, (-1, *([1] * (spec.ndim - 1 - axis)))))
    return multiply(made, reshape(g, (*spec.shape[:axis], 1, *spec.shape[axis + 1 :])) if c.reduction == "none" else g)


def _labels(shape: tuple[int, ...], classes: int, dtype: str = "int64", **more: Any) -> A:
    return A(shape, low=0, high=classes, dtype=dtype, **more)


def _probabilities(*shape: int, view: str = "") -> A:
    return A(shape, 0.05, 0.4, view=view)


_W = A((5,), 0.2, 2.0)
_SAMPLES = (
    s("digits", A((7, 10), -3.0, 3.0), _labels((7,), 10)),
    s("int32", A((3, 5)), _labels((3,), 5, "int32")),
    s("uint8", A((3, 5)), _labels((3,), 5, "uint8")),
    s("many classes", A((3, 1031), -3.0, 3.0), _labels((3,), 1031)),
    s("past a group of rows", A((70, 5)), _labels((70,), 5)),
    s("sum", A((4, 5)), _labels((4,), 5), reduction="sum"),
    s("none", A((4, 5)), _labels((4,), 5), reduction="none"),
    s("weight", A((6, 5)), _labels((6,), 5), _W),
    s("weight, none", A((6, 5)), _labels((6,), 5), _W, reduction="none"),
    s("ignored", A((4, 5)), A((4,), dtype="int64", values=(1, -100, 4, -100)), _W),
    s("ignore_index", A((4, 40)), A((4,), dtype="int64", values=(1, 0, 39, 0)), ignore_index=0),
    s("all ignored", A((2, 5)), A((2,), dtype="int64", values=(-100, -100)), gradient=False, why="0 / 0 is NaN"),
    s("smoothing", A((6, 5)), _labels((6,), 5), label_smoothing=0.1),
    s("smoothing, weight", A((6, 40)), _labels((6,), 40), A((40,), 0.2, 2.0), label_smoothing=0.3),
    s("smoothing, ignored, sum", A((3, 5)), A((3,), dtype="int64", values=(1, -100, 4)), _W, reduction="sum", label_smoothing=0.2),
    s("images", A((2, 5, 3, 4)), _labels((2, 3, 4), 5), _W),
    s("images, none", A((2, 40, 3)), _labels((2, 3), 40), reduction="none"),
    s("images of many classes, smoothing", A((1, 70, 4, 5)), _labels((1, 4, 5), 70), label_smoothing=0.2),
    s("channels last", A((2, 40, 3, 4), view="channels_last"), _labels((2, 3, 4), 40)),
    s("one sample", A((5,)), _labels((), 5)),
    s("soft", A((4, 10)), _probabilities(4, 10)),
    s("soft, long", A((2, 300)), _probabilities(2, 300), reduction="sum"),
    s("soft, weight, smoothing", A((4, 5)), _probabilities(4, 5), _W, label_smoothing=0.1),
    s("soft, images, none", A((2, 5, 3)), _probabilities(2, 5, 3, view="transposed"), _W, reduction="none"),
    s("soft, one sample", A((5,)), _probabilities(5)),
    s("views", A((6, 5), view="transposed"), _labels((6,), 5, view="reversed")),
    s("large scores", A((2, 3), values=(1e4, 0.0, -1e4, -3e4, 0.0, 3e4)), A((2,), dtype="int64", values=(1, 2)), gradient=False, why="steep"),
    s("empty", A((0, 5)), _labels((0,), 5), gradient=False, why="the mean of nothing is NaN"),
    s("empty, none", A((0, 5)), _labels((0,), 5), reduction="none"),
)
_BAD = (
    bad("classes first", ShapeError, ("(4, 5)", "(5,)", "(4,)"), A((4, 5)), _labels((5,), 4)),
    bad("soft shape", ShapeError, ("(4, 5)", "(4, 6)"), A((4, 5)), A((4, 6))),
    bad("weight", ShapeError, ("(3,)", "(5,)"), A((4, 5)), _labels((4,), 5), A((3,))),
    bad("reduction", SettingError, ("'batchmean'", "'mean'"), A((4, 5)), _labels((4,), 5), reduction="batchmean"),
    bad("smoothing", SettingError, ("1.5", "0 to 1"), A((4, 5)), _labels((4,), 5), label_smoothing=1.5),
    bad("int scores", DTypeError, ("int32", "float"), A((4, 5), dtype="int32"), _labels((4,), 5)),
    bad("bool labels", DTypeError, "bool", A((4, 5)), A((4,), dtype="bool")),
    bad("label", DeviceValueError, ("cross_entropy", "7", "position 1", "[0, 5)"), A((3, 5)), A((3,), dtype="int64", values=(1, 7, 2))),
)
_BENCH = (
    bench("digits", A((64, 10)), _labels((64,), 10)),
    bench("ImageNet", A((64, 1000)), _labels((64,), 1000), label_smoothing=0.1),
    bench("tokens", A((8192, 1024)), _labels((8192,), 1024)),
    bench("segmentation", A((4, 21, 128, 128)), _labels((4, 128, 128), 21)),
)


def _flops(call: Call) -> int:
    return 4 * call.spec(0).size


@op(
    out=_out, outputs=("loss",), residuals=("lse", "total"), vjp=_vjp, saves=("input", "target", "weight", "lse", "total"),
    samples=_SAMPLES, bad=_BAD, bench=_BENCH, flops=_flops,
    reduces=lambda call: call.spec(0).size if call.settings["reduction"] != "none" else call.spec(0).shape[class_axis(call.spec(0).ndim)],
)  # fmt: skip
def cross_entropy(
    input: Array, target: Array, weight: Array | None = None, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0
) -> Array:
    """Cross entropy of scores and labels: ``loss[n] = Σ_c q[n, c] (log Σ_c' exp(x[n, c']) - x[n, c])``.

    Labels t make ``q[n, c] = (1 - ε) w[t[n]] [c = t[n]] + ε w[c] / C``, probabilities p make
    ``q[n, c] = w[c] ((1 - ε) p[n, c] + ε / C)``, with ε the label smoothing and w the class weights (1 by default).

    Parameters
    ----------
    input : array
        Scores x (logits), shape (N, C), (N, C, d1, ...) or (C,); real floating.
    target : array
        Integer labels of shape (N,), (N, d1, ...) or (); or probabilities: shape and dtype of `input`.
    weight : array, optional
        Shape (C,), dtype of `input`; has no gradient.
    ignore_index : int
        Rows with this label count neither in the loss nor in the mean.
    reduction : "mean", "sum" or "none"
        The mean of labels divides by ``Σ_n w[t[n]]`` over the rows that count, as PyTorch does; that of probabilities
        by the number of rows.
    label_smoothing : float
        From 0 to 1.

    Returns
    -------
    array
        0-d, or one loss per row; dtype of `input`. The mean of no row is NaN.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        Shapes or dtypes that do not fit; an unknown reduction; a smoothing outside 0 to 1.
    DeviceValueError
        A label outside [0, C): at once on NumPy, at the next synchronisation on a device.

    Notes
    -----
    Residuals are the log-sum-exp of each row and the divisor of the mean, from which the gradient is one launch.
    Costs 4 flop per score. The convention is PyTorch's ``torch.nn.functional.cross_entropy``.
    """
    counts, shares = row_weights("cross_entropy", input, target, weight, ignore_index, label_smoothing)
    x = _by_rows(input)
    with np.errstate(all="ignore"):
        m = np.max(x, axis=-1, keepdims=True)
        lse = (m + np.log(np.sum(np.exp(x - m), axis=-1, keepdims=True)))[..., 0]
        each = np.sum(np.where(counts == 0, 0, counts * (lse[..., None] - x)), axis=-1)
        total = np.asarray(np.sum(shares), dtype=lse.dtype)
        if reduction == "none":
            return each, lse, total
        loss = np.sum(each)
        return np.asarray(loss / total if reduction == "mean" else loss, dtype=lse.dtype), lse, total


def _grad_out(
    g: Spec, input: Spec, target: Spec, lse: Spec, total: Spec, weight: Spec | None, ignore_index: Any, reduction: Any, label_smoothing: Any
) -> Spec:
    rows = _checked("cross_entropy_grad", input, target, weight, ignore_index, reduction, label_smoothing, True)
    if g.shape != (rows if reduction == "none" else ()) or lse.shape != rows or total.shape != ():
        raise ShapeError(
            f"cross_entropy_grad: g has shape {g.shape}, lse {lse.shape}, total {total.shape}, but input of shape {input.shape} "
            f"with reduction {reduction!r} needs {rows if reduction == 'none' else ()}, {rows} and ()"
        )
    return Spec(input.shape, input.dtype)


def _grad_samples() -> tuple[Any, ...]:
    """Return samples: a cotangent, the forward operands, and any log-sum-exp and divisor (the gradient is linear in neither)."""
    found = []
    for one in _SAMPLES:
        x, t = one.args[:2]
        if one.name in ("large scores", "all ignored"):
            continue
        axis = class_axis(len(x.shape))
        rows = (*x.shape[:axis], *x.shape[axis + 1 :])
        g = A(rows if one.settings.get("reduction") == "none" else (), 0.5, 1.5)
        found.append(s(one.name, g, x, t, A(rows, 2.0, 4.0), A((), 2.0, 5.0), *one.args[2:], **one.settings))
    return tuple(found)


@op(
    out=_grad_out, outputs=("z",), samples=_grad_samples(),
    bad=(bad("g", ShapeError, ("(3,)", "(4, 5)"), A((3,)), A((4, 5)), _labels((4,), 5), A((4,)), A(()), reduction="none"),),
    bench=tuple(bench(b.name, A(()), b.args[0], b.args[1], A(b.args[1].shape), A((), 2.0, 5.0), **b.settings) for b in _BENCH),
    flops=lambda call: 4 * call.spec(1).size, reduces=lambda call: call.spec(1).shape[class_axis(call.spec(1).ndim)],
)  # fmt: skip
def cross_entropy_grad(
    g: Array, input: Array, target: Array, lse: Array, total: Array, weight: Array | None = None, ignore_index: int = -100,
    reduction: str = "mean", label_smoothing: float = 0.0,
) -> Array:  # fmt: skip
    """Gradient of `cross_entropy` by its scores: ``z[n, c] = h[n] (exp(x[n, c] - lse[n]) Σ_c' q[n, c'] - q[n, c])``.

    ``h[n]`` is ``g[n]`` without reduction, ``g`` for the sum, and ``g / total`` for the mean; q as in `cross_entropy`.

    Parameters
    ----------
    g : array
        Cotangent of the loss.
    input, target, weight, ignore_index, reduction, label_smoothing
        As in `cross_entropy`.
    lse, total : array
        Residuals of `cross_entropy`: log-sum-exp per row, and the divisor of the mean.

    Returns
    -------
    array
        Shape and dtype of `input`; 0 in ignored rows. 4 flop per score.
    """
    counts, _ = row_weights("cross_entropy_grad", input, target, weight, ignore_index, label_smoothing)
    h = (g / total if reduction == "mean" else g)[..., None]
    with np.errstate(all="ignore"):
        p = np.exp(_by_rows(input) - lse[..., None])
        made = h * (p * np.sum(counts, axis=-1, keepdims=True) - counts)
    kept = np.any(counts != 0, axis=-1, keepdims=True)
    return np.moveaxis(np.where(kept, made, 0), -1, class_axis(input.ndim)).astype(input.dtype)


def _nll_out(input: Spec, target: Spec, weight: Spec | None, ignore_index: Any, reduction: Any) -> tuple[Spec, ...]:
    rows = _checked("nll_loss", input, target, weight, ignore_index, reduction, 0.0, False)
    return Spec(rows if reduction == "none" else (), input.dtype), Spec((), dtypes.accumulator(input.dtype))


def _nll_vjp(c: Saved, g: Any) -> dict[str, Any]:
    spec = c.spec_of("input")
    return {"input": lambda: nll_loss_grad(g, c.target, c.total, c.weight, spec.shape, c.ignore_index, c.reduction)}


_NLL_SAMPLES = tuple(
    one for one in _SAMPLES if "label_smoothing" not in one.settings and one.args[1].dtype is not None and one.name not in ("large scores", "int32")
)


@op(
    out=_nll_out, outputs=("loss",), residuals=("total",), vjp=_nll_vjp, saves=("target", "weight", "total"), samples=_NLL_SAMPLES,
    bad=(
        bad("soft", DTypeError, ("float32", "integer"), A((4, 5)), A((4, 5), dtype="float32")),
        bad("label", DeviceValueError, ("nll_loss", "-3", "position 0", "[0, 5)"), A((2, 5)), A((2,), dtype="int64", values=(-3, 2))),
    ),
    bench=_BENCH[:1], flops=lambda call: call.spec(1).size, reduces=lambda call: call.spec(1).size,
)  # fmt: skip
def nll_loss(input: Array, target: Array, weight: Array | None = None, ignore_index: int = -100, reduction: str = "mean") -> Array:
    """Negative log-likelihood: ``loss[n] = -w[t[n]] x[n, t[n]]``, x log-probabilities; see `cross_entropy` for the rest."""
    counts, shares = row_weights("nll_loss", input, target, weight, ignore_index, 0.0)
    each = np.sum(np.where(counts == 0, 0, -counts * _by_rows(input)), axis=-1)
    total = np.asarray(np.sum(shares), dtype=each.dtype)
    if reduction == "none":
        return each, total
    return np.asarray(np.sum(each) / total if reduction == "mean" else np.sum(each), dtype=each.dtype), total


def _nll_grad_out(g: Spec, target: Spec, total: Spec, weight: Spec | None, shape: Any, ignore_index: Any, reduction: Any) -> Spec:
    made = Spec(tuple(shape), g.dtype)
    rows = _checked("nll_loss_grad", made, target, weight, ignore_index, reduction, 0.0, False)
    wanted = rows if reduction == "none" else ()
    if g.shape != wanted or total.shape != ():
        raise ShapeError(f"nll_loss_grad: g has shape {g.shape}, total {total.shape}, but shape {made.shape} with reduction {reduction!r} needs {wanted} and ()")
    return made


@op(
    out=_nll_grad_out, outputs=("z",),
    samples=(
        s("mean", A(()), _labels((4,), 5), A((), 1.0, 2.0), _W, shape=(4, 5)),
        s("none, images", A((2, 3)), A((2, 3), dtype="int64", values=(0, 1, -100, 4, 4, 2)), A((), 1.0, 2.0), None, (2, 5, 3), reduction="none"),
        s("sum, long", A(()), _labels((2,), 300), A((), 1.0, 2.0), None, (2, 300), reduction="sum"),
        s("one sample", A(()), _labels((), 5), A((), 1.0, 2.0), None, (5,)),
        s("ignored, views", A((4,), view="reversed"), _labels((4,), 5, view="strided"), A((), 1.0, 2.0), None, (4, 5), 2, reduction="none"),
        s("empty", A(()), _labels((0,), 5), A((), 1.0, 2.0), None, (0, 5)),
        s("one class", A(()), _labels((1,), 1), A((), 1.0, 2.0), None, (1, 1)),
    ),
    bad=(
        bad("cotangent", ShapeError, ("(3,)", "'mean'", "()"), A((3,)), _labels((4,), 5), A(()), None, (4, 5)),
        bad("total", ShapeError, ("total (4,)",), A(()), _labels((4,), 5), A((4,)), None, (4, 5)),
    ),
    flops=lambda call: call.spec(1).size,
)  # fmt: skip
def nll_loss_grad(
    g: Array, target: Array, total: Array, weight: Array | None = None, shape: tuple[int, ...] = (), ignore_index: int = -100,
    reduction: str = "mean",
) -> Array:  # fmt: skip
    """Gradient of `nll_loss` by its input of `shape`: ``z[n, c] = -h[n] w[c] [c = t[n]]``, h as in `cross_entropy_grad`.

    Parameters
    ----------
    g : array
        Cotangent of the loss.
    target, weight, ignore_index, reduction
        As in `nll_loss`.
    total : array
        Its residual: the divisor of the mean.
    shape : tuple of int
        Shape of the log-probabilities.

    Returns
    -------
    array
        Of `shape`, dtype of `g`.
    """
    counts, _ = row_weights("nll_loss_grad", np.broadcast_to(g.dtype.type(0), shape), target, weight, ignore_index, 0.0)
    h = (g / total if reduction == "mean" else g)[..., None]
    return np.moveaxis(-h * counts, -1, class_axis(len(shape))).astype(g.dtype)
