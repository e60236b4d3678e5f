"""Plans of losses of pairs: one expression per element, mapped, or reduced as it is computed; Dice from two such sums.

A loss without weights that is reduced reads its operands once, in one reduction whose MAP is the expression. Weights are
further operands, which a reduction does not have: the elements are written to scratch, then summed.
"""

from __future__ import annotations

import re

from portable_nn.core.call import Call
from portable_nn.core.dtypes import TAGS, accumulator
from portable_nn.core.expression import compute_tag
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import In, Out, Plan, Profile, Ref, Term

from . import plans
from .extremum import Steps
from .mapping import Operand, map_launch
from .reduction import Kind, Source, averaging

_CROSS_ENTROPY = "(maximum(x, 0) - x * t + log1p(exp(-abs(x))))"
_LOW = "minimum(maximum(x, -80), 80)"
_OTHER = f"((1 - t) / (1 + exp(-{_LOW})) + t / (1 + exp({_LOW})))"
# The loss of one element, over x, t, and settings; no assignments, since a macro takes it.
_TERMS = {
    "huber_loss": "where(abs(x - t) <= delta, 0.5 * (x - t) * (x - t), delta * (abs(x - t) - 0.5 * delta))",
    "smooth_l1_loss": "where(abs(x - t) < beta, 0.5 * (x - t) * (x - t) / beta, abs(x - t) - 0.5 * beta)",
    "smooth_l1_loss at beta 0": "abs(x - t)",  # compilers warn of a division by 0 even where it is not reached
    "kl_div": "where(t == 0, 0, t * (log(t) - x))",
    "kl_div of logarithms": "where(t == -inf, 0, exp(t) * (t - x))",
    "binary_cross_entropy": "-(t * maximum(log(x), -100) + (1 - t) * maximum(log1p(-x), -100))",
    "binary_cross_entropy_with_logits": _CROSS_ENTROPY,
    "with pos_weight": "(1 - t) * x + (1 + (pos_weight - 1) * t) * (log1p(exp(-abs(x))) + maximum(-x, 0))",
    "sigmoid_focal_loss": f"(alpha * t + (1 - alpha) * (1 - t)) * {_OTHER} ** gamma * {_CROSS_ENTROPY}",
    "focal without weights": f"{_OTHER} ** gamma * {_CROSS_ENTROPY}",
}


def term_of(text: str, settings: tuple[tuple[str, float], ...], tag: str) -> Term:
    """Return `text` with its settings as literals."""
    for name, value in settings:
        text = re.sub(rf"\b{name}\b", f"({value!r})", text)
    return Term(tag, text)


def term(value: Term, dtype_kind: Kind) -> Kind:
    """Return `dtype_kind` with the map `value`, an expression of x and t."""
    more = (("MAP_TERM(v_x, v_t, j)", value),)
    return Kind(dtype_kind.combine, dtype_kind.acc, dtype_kind.init, "MAP_TERM", dtype_kind.finish, dtype_kind.divisor, more)


def _text(call: Call) -> str:
    if call.op == "kl_div" and call.settings["log_target"]:
        return _TERMS["kl_div of logarithms"]
    if call.op == "smooth_l1_loss" and call.settings["beta"] == 0:
        return _TERMS["smooth_l1_loss at beta 0"]
    if call.op == "sigmoid_focal_loss" and call.settings["alpha"] < 0:
        return _TERMS["focal without weights"]
    if call.op == "binary_cross_entropy_with_logits" and call.inputs[3] is not None:
        return _TERMS["with pos_weight"]
    return _TERMS[call.op]


@plans(*(name for name in _TERMS if " " not in name))
def pair_loss(call: Call, profile: Profile) -> Plan:
    """Map, reduce, or one after the other."""
    x, y, reduction = call.spec(0), call.outputs[0], call.settings["reduction"]
    names = ("x", "t", "weight", "pos_weight")
    operands = [Operand(n, s, In(i)) for i, (n, s) in enumerate(zip(names, call.inputs, strict=False)) if isinstance(s, Spec)]
    numbers = tuple((n, float(v)) for n, v in call.settings.items() if isinstance(v, int | float) and not isinstance(v, bool))
    text = _text(call)
    if any(operand.name == "weight" for operand in operands):
        text = f"weight * ({text})"
    value = term_of(text, numbers, compute_tag(TAGS[x.dtype]))
    steps = Steps(profile)
    if reduction == "none":
        if y.size:
            steps.launches.append(map_launch(x.shape, operands, [Operand("out", y, Out(0))], [], [value], profile))
        return steps.plan()
    divisor = {"mean": x.size, "sum": 1}.get(reduction) if reduction != "batchmean" else x.shape[0]
    assert divisor is not None
    kind, every = averaging(x.dtype, divisor), tuple(range(x.ndim))
    if len(operands) == 2:
        steps.reduce(Source(x, In(0)), every, Out(0), y.dtype, term(value, kind), Source(call.spec(1), In(1)))
        return steps.plan()
    each = Spec(x.shape, accumulator(x.dtype))
    ref = steps.reserve(each)
    if x.size:
        steps.launches.append(map_launch(x.shape, operands, [Operand("out", each, ref)], [], [value], profile))
    steps.reduce(Source(each, ref), every, Out(0), y.dtype, kind)
    return steps.plan()


@plans("dice_loss")
def dice_loss(call: Call, profile: Profile) -> Plan:
    """Take both sums, then what they make for every region."""
    x, t, y = call.spec(0), call.spec(1), call.outputs[0]
    steps = Steps(profile)
    sums = Spec((*x.shape[:2], *[1] * (x.ndim - 2)), accumulator(x.dtype))
    refs: list[Ref] = [Out(1), Out(2)] if call.residuals else [steps.reserve(sums), steps.reserve(sums)]
    tag, inside = compute_tag(TAGS[x.dtype]), tuple(range(2, x.ndim))
    for ref, text in zip(refs, ("x * t", "x + t"), strict=True):
        kind = term(term_of(text, (), tag), averaging(x.dtype, 1))
        steps.reduce(Source(x, In(0)), inside, ref, sums.dtype, kind, Source(t, In(1)))
    value = term_of("1 - (2 * x + smooth) / (t + smooth)", (("smooth", float(call.settings["smooth"])),), tag)
    overlap, total = refs
    if call.settings["reduction"] == "none":
        if y.size:
            flat = Spec(y.shape, sums.dtype)
            operands = [Operand("x", flat, overlap), Operand("t", flat, total)]
            steps.launches.append(map_launch(y.shape, operands, [Operand("out", y, Out(0))], [], [value], profile))
        return steps.plan()
    divisor = sums.size if call.settings["reduction"] == "mean" else 1
    steps.reduce(Source(sums, overlap), tuple(range(x.ndim)), Out(0), y.dtype, term(value, averaging(x.dtype, divisor)), Source(sums, total))
    return steps.plan()
