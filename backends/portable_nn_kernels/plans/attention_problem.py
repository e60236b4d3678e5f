"""What the plans of one attention call share: sizes, operands as four axes, strides, launches collected."""

from __future__ import annotations

from math import prod, sqrt

from portable_nn.core import dtypes
from portable_nn.core.call import Call
from portable_nn.core.dtypes import TAGS
from portable_nn.core.spec import Spec, broadcast_strides
from portable_nn_kernels.launch import Arg, Const, Define, In, Launch, Plan, Profile, Ref, Scratch

from .copies import copy_launch

_REGISTERS = 64  # results a work-item keeps, at most


class Problem:
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
        self.operands: list[tuple[Spec, Ref]] = []
        self.strides: list[int] = []
        for i, spec in enumerate((query, key, value)):
            made, ref = self._four(spec, In(at + i))
            self.refs.append(ref)
            self.strides += made
            heads = spec.shape[-3] if spec.ndim > 2 else 1
            self.operands.append((Spec((self.batch, heads, *spec.shape[-2:]), spec.dtype, tuple(made)), ref))
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
