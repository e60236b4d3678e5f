"""Plans of scaled dot-product attention and its gradients: (batch, heads, length, features) at any strides, tiles of queries or keys."""

from __future__ import annotations

from math import prod, sqrt

from portable_nn.core import dtypes
from portable_nn.core.call import Call
from portable_nn.core.dtypes import TAGS
from portable_nn.core.spec import Spec, broadcast_strides
from portable_nn_kernels.launch import Arg, Const, Define, In, Launch, Out, Plan, Profile, Ref, Scratch

from . import plans
from .copies import copy_launch, fill_launch
from .norm import contiguous, stat_operand

_REGISTERS = 64  # results a work-item keeps, at most


class _Problem:
    """One call's sizes, operands as four axes, and what its launches share. `at` is the place of query among the operands."""

    def __init__(self, call: Call, profile: Profile, at: int) -> None:
        self.launches: list[Launch] = []
        self.scratch: list[Spec] = []
        self.profile = profile
        query, key, value = (call.spec(at + i) for i in range(3))
        self.dtype, self.compute = query.dtype, dtypes.accumulator(query.dtype)
        self.length, self.span, self.width, self.depth = query.shape[-2], key.shape[-2], query.shape[-1], value.shape[-1]
        self.heads = query.shape[-3] if query.ndim > 2 else 1
        self.shared = self.heads // key.shape[-3] if key.ndim > 2 and key.shape[-3] else 1
        self.batch = prod(query.shape[:-3])
        self.refs: list[Ref] = []
        self.strides: list[int] = []
        for i, spec in enumerate((query, key, value)):
            made, ref = self._four(spec, In(at + i))
            self.refs.append(ref)
            self.strides += made
        mask = call.inputs[-1]
        self.mask_ref, self.mask_tag, self.mask = self.refs[0], TAGS[self.dtype], 0
        mask_strides = [0, 0, 0, 0]
        if isinstance(mask, Spec):
            full = (*query.shape[:-1], self.span)
            read = Spec(full, mask.dtype, broadcast_strides(mask, full))
            mask_strides, self.mask_ref = self._four(read, In(len(call.inputs) - 1))
            self.mask, self.mask_tag = (1 if mask.dtype == dtypes.bool_ else 2), TAGS[mask.dtype]
        self.strides += mask_strides
        self.causal = bool(call.settings["is_causal"])
        scale = call.settings["scale"]
        self.scale = 1 / sqrt(self.width) if scale is None else float(scale)

    def _four(self, spec: Spec, ref: Ref) -> tuple[list[int], Ref]:
        """Return the strides over batch, head, position, feature; copies where several batch axes do not merge."""
        lead = spec.shape[:-3]
        if len(lead) > 1 and not spec.contiguous:
            target = Spec(spec.shape, spec.dtype)
            self.scratch.append(target)
            if spec.size:
                self.launches.append(copy_launch(spec, ref, target, Scratch(len(self.scratch) - 1), self.profile))
            spec, ref = target, Scratch(len(self.scratch) - 1)
        batch = spec.strides[-4] if lead else 0
        return [batch, *([0] * (3 - spec.ndim)), *spec.strides[-3:]], ref

    def registers(self, *features: int) -> tuple[int, ...]:
        """Return RM and the registers for each number of features: even, 16 features each."""
        each = [2 * max(1, -(-n // 32)) for n in features]
        wide = 4 if self.compute == dtypes.float32 else 2
        rows = next((r for r in (4, 2, 1) if r <= wide and r * sum(each) <= _REGISTERS), 1)
        return rows, *each

    def launch(self, kernel: str, kind: int, refs: tuple[Ref, ...], positions: int, heads: int, rows: int, e: int, f: int) -> None:
        """Add a launch of one group per tile of positions, head and batch entry."""
        numbers = (self.heads, self.shared, self.length, self.span, self.width, self.depth)
        tags: tuple[tuple[str, Define], ...] = (
            ("T", TAGS[self.dtype]), ("TMASK", self.mask_tag), ("R", TAGS[self.compute]), ("RM", rows), ("RE", e), ("RF", f),
            ("CAUSAL", int(self.causal)), ("MASK", self.mask), ("KIND", kind),
        )  # fmt: skip
        args: tuple[Arg, ...] = (
            *refs, *(Const("i64", v) for v in numbers), Const(TAGS[self.compute], self.scale), *(Const("i64", v) for v in self.strides)
        )  # fmt: skip
        groups = -(-positions // (16 * rows)) * heads * self.batch
        self.launches.append(Launch(kernel, "attention.c", (groups,), (256,), args, tags))

    def plan(self) -> Plan:
        """Return everything added."""
        return Plan(tuple(self.launches), tuple(self.scratch))


@plans("scaled_dot_product_attention")
def attention(call: Call, profile: Profile) -> Plan:
    """Plan one launch; without keys, zeros and -inf."""
    y = call.outputs[0]
    it = _Problem(call, profile, 0)
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
    count, f = it.registers(it.depth)
    it.launch("pnn_attention", 0, (*it.refs, it.mask_ref, Out(0), lse), it.length, it.heads, count, 2, f)
    return it.plan()


def _backward(call: Call, profile: Profile) -> tuple[_Problem, tuple[Ref, ...]]:
    """Return the problem and its operands g, q, k, v, lse, delta, mask: g in C order, delta computed by a launch of its own."""
    it = _Problem(call, profile, 1)
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
    rows, e, f = it.registers(it.width, it.depth)
    it.launch("pnn_attention_grad_key_value", 4, (*refs, Out(0), Out(1)), it.span, it.heads // it.shared, rows, e, f)
    return it.plan()


def _zeros(call: Call, profile: Profile) -> Plan:
    return Plan(tuple(fill_launch(spec, Out(i), 0.0, profile) for i, spec in enumerate(call.outputs) if spec.size))
