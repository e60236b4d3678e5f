"""Delegation: an op whose work is another op's on views of its operands gives that op's launches, without a copy.

`view_of` plans the other op's call with reshaped specs; `embedded` puts a plan into another one, its operands, outputs and
scratch renamed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from portable_nn.core.call import Call
from portable_nn.core.spec import Spec, Weak
from portable_nn_kernels.launch import Arg, Plan, Profile, Ref, Scratch

from . import RULES


def with_unit_axis(spec: Spec, axis: int) -> Spec:
    """Return the same elements with an axis of length 1 before `axis`."""
    strides = (*spec.strides[:axis], 0, *spec.strides[axis:])
    return Spec((*spec.shape[:axis], 1, *spec.shape[axis:]), spec.dtype, strides)


def view_of(
    op: str, inputs: Sequence[Spec | Weak | None], outputs: Sequence[Spec], settings: Mapping[str, Any], profile: Profile, residuals: bool = False
) -> Plan:
    """Return the plan of `op` for these specs: views of the operands and outputs of the call that delegates, in its order."""
    return RULES[op](Call(op, tuple(inputs), tuple(outputs), MappingProxyType(dict(settings)), residuals), profile)


def embedded(plan: Plan, refs: Mapping[Ref, Ref], first: int) -> Plan:
    """Return `plan` as a part of another: arrays named by `refs`, and scratch counted from `first`."""

    def renamed(arg: Arg) -> Arg:
        if not isinstance(arg, Ref):
            return arg
        return Scratch(arg.index + first) if arg.role == "scratch" else refs.get(arg, arg)

    launches = tuple(replace(launch, args=tuple(renamed(arg) for arg in launch.args)) for launch in plan.launches)
    return Plan(launches, plan.scratch)
