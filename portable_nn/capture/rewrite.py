"""Rewriting a recorded program: every pass takes a program and changes it in place, and what it computes stays the same.

The order matters: equal calls first, so that fusion sees each value once; what nobody reads last.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.backend import Backend
from ..core.program import Fixed, Operand, Program, Step
from .endings import end_gradients
from .feed import feed_convolutions
from .fuse import join_activations, join_elementwise, skip_identities
from .graph import parts, substitute, with_inputs
from .layout import keep_channels_last
from .relu_gradients import join_relu_gradients, mask_before_pooling
from .updates import join_updates

_FILLS = {"zeros_like": 0, "ones_like": 1}
_SMALL = 4096  # elements: a larger array would cost more memory than a launch costs time


def rewritten(recorded: Program, target: Backend) -> Program:
    """Return the program that `target` is to run; `recorded` stays as it is."""
    program = Program(
        list(recorded.slots), list(recorded.steps), list(recorded.inputs), dict(recorded.constants), list(recorded.numbers),
        list(recorded.results), dict(recorded.donated),
    )  # fmt: skip
    drop_dead(program)
    join_equal(program)
    if target.plans_memory:
        skip_identities(program)
        mask_before_pooling(program)
        if target.wants_channels_last:
            keep_channels_last(program)
            join_relu_gradients(program)
        join_activations(program)
        join_updates(program)
        join_elementwise(program, target)
        if target.wants_channels_last:
            feed_convolutions(program, target)
            end_gradients(program, target)
        keep_constants(program, target)
    drop_dead(program)
    return program


def drop_dead(program: Program) -> None:
    """Drop calls whose outputs nobody reads."""
    pieces = parts(program)
    needed = set(program.results) | {program.base(slot) for slot in program.results}
    kept: list[Step] = []
    for step in reversed(program.steps):
        if needed.intersection(step.outputs):
            needed.update(x for slot in step.reads() for x in (slot, *pieces.get(slot, ())))
            kept.append(step)
    program.steps = kept[::-1]


def keep_constants(program: Program, target: Backend) -> None:
    """Make arrays that depend on nothing constants of the program: above all the one that every gradient begins with."""
    handed_out = {program.base(slot) for slot in program.results}
    pieces = parts(program)
    for step in program.steps:
        slot, spec = step.outputs[0], step.call.outputs[0]
        if step.op.name in _FILLS and spec.size <= _SMALL and slot not in handed_out and slot not in pieces and program.base(slot) == slot:
            program.constants[slot] = target.from_numpy(np.full(spec.shape, _FILLS[step.op.name], spec.dtype))
    program.steps = [step for step in program.steps if step.outputs[0] not in program.constants]


def join_equal(program: Program) -> None:
    """Compute equal calls on equal operands once: ops are pure functions, random ones too (their key is an operand)."""
    same: dict[int, int] = {}
    seen: dict[tuple[Any, ...], Step] = {}
    kept: list[Step] = []
    for step in program.steps:
        inputs = tuple(same.get(x, x) if type(x) is int else x for x in step.inputs)
        key = (step.op.name, repr(dict(step.call.settings)), step.call.residuals, step.call.outputs, *map(_key, inputs))
        first = seen.get(key)
        if first is not None:
            same.update(zip(step.outputs, first.outputs, strict=True))
            continue
        seen[key] = step
        kept.append(with_inputs(step, inputs))
    program.steps = kept
    substitute(program, same)


def _key(x: Operand) -> Any:
    return (type(x.value), repr(x.value)) if isinstance(x, Fixed) else x
