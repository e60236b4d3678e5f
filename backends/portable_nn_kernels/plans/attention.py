"""Plans of scaled dot-product attention and its gradients: (batch, heads, length, features) at any strides, tiles of queries or keys."""

from __future__ import annotations

from portable_nn.core.call import Call
from portable_nn.core.dtypes import TAGS
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import Const, Define, In, Launch, Out, Plan, Profile, Ref, Scratch

from . import attention_cpu, plans
from .attention_problem import Problem
from .copies import fill_launch
from .norm import contiguous, stat_operand


@plans("scaled_dot_product_attention")
def attention(call: Call, profile: Profile) -> Plan:
    """Plan one launch; without keys, zeros and -inf."""
    y = call.outputs[0]
    it = Problem(call, profile, 0)
    rows = it.batch * it.heads * it.length
    if rows == 0 or (y.size == 0 and not call.residuals):
        return Plan(())
    if it.span == 0:
        made = [fill_launch(y, Out(0), 0.0, profile)] if y.size else []
        return Plan((*made, fill_launch(call.outputs[1], Out(1), -float("inf"), profile)) if call.residuals else tuple(made))
    lse: Ref = Out(1)
    if not call.residuals:
        it.scratch.append(Spec((rows,), it.compute))
        lse = Scratch(len(it.scratch) - 1)
    if profile.shape == "cpu":
        return attention_cpu.forward(it, lse)
    count, f = it.registers(it.depth)
    it.launch("pnn_attention", 0, (*it.refs, it.mask_ref, Out(0), lse), it.length, it.heads, count, 2, f)
    return it.plan()


def _backward(call: Call, profile: Profile) -> tuple[Problem, tuple[Ref, ...]]:
    """Return the problem and its operands g, q, k, v, lse, delta, mask: g in C order, delta computed by a launch of its own."""
    it = Problem(call, profile, 1)
    g = contiguous(call.spec(0), In(0), it.scratch, it.launches, profile)
    y = contiguous(call.spec(4), In(4), it.scratch, it.launches, profile)
    lse = stat_operand(call.spec(5), it.compute, In(5), it.scratch, it.launches, profile)
    rows = it.batch * it.heads * it.length
    it.scratch.append(Spec((rows,), it.compute))
    delta = Scratch(len(it.scratch) - 1)
    args = (g, y, delta, Const("i64", rows), Const("i64", it.depth))
    tags: tuple[tuple[str, Define], ...] = (
        ("T", TAGS[it.dtype]), ("TMASK", TAGS[it.dtype]), ("R", TAGS[it.compute]), ("RM", 1), ("RE", 2), ("RF", 2), ("CAUSAL", 0), ("MASK", 0), ("KIND", 1),
    )  # fmt: skip
    it.launches.append(Launch("pnn_attention_delta", "attention.c", (-(-rows // 64),), (64,), args, tags))
    return it, (g, *it.refs, lse, delta, it.mask_ref)


def _nothing(call: Call) -> bool:
    """Tell whether some sum is empty, so that every gradient is zero or has no elements."""
    return any(call.spec(i).size == 0 for i in (0, 1, 2))


@plans("attention_grad_query")
def attention_grad_query(call: Call, profile: Profile) -> Plan:
    """Plan delta and the sums over keys."""
    if _nothing(call):
        return _zeros(call, profile)
    it, refs = _backward(call, profile)
    if profile.shape == "cpu":
        return attention_cpu.backward(it, call, refs[0], refs[4], refs[5])
    rows, e = it.registers(it.width)
    it.launch("pnn_attention_grad_query", 2, (*refs, Out(0)), it.length, it.heads, rows, e, 2)
    return it.plan()


@plans("attention_grad_mask")
def attention_grad_mask(call: Call, profile: Profile) -> Plan:
    """Plan delta and the gradient of every score."""
    if _nothing(call):
        return _zeros(call, profile)
    it, refs = _backward(call, profile)
    rows, _ = it.registers(1)
    it.launch("pnn_attention_grad_mask", 3, (*refs, Out(0)), it.length, it.heads, rows, 2, 2)
    return it.plan()


@plans("attention_grad_key_value")
def attention_grad_key_value(call: Call, profile: Profile) -> Plan:
    """Plan delta and the sums over queries."""
    if _nothing(call):
        return _zeros(call, profile)
    it, refs = _backward(call, profile)
    if profile.shape == "cpu":
        return attention_cpu.backward(it, call, refs[0], refs[4], refs[5])
    rows, e, f = it.registers(it.width, it.depth)
    it.launch("pnn_attention_grad_key_value", 4, (*refs, Out(0), Out(1)), it.span, it.heads // it.shared, rows, e, f)
    return it.plan()


def _zeros(call: Call, profile: Profile) -> Plan:
    return Plan(tuple(fill_launch(spec, Out(i), 0.0, profile) for i, spec in enumerate(call.outputs) if spec.size))
