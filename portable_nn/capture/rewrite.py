"""Rewriting a recorded program: every pass takes a program and changes it in place, and what it computes stays the same.

The order matters: equal calls first, so that fusion sees each value once; what nobody reads last.
"""

from __future__ import annotations

from typing import Any

from ..core.backend import Backend
from ..core.program import Fixed, Operand, Program, Slot, Step


def rewritten(recorded: Program, target: Backend) -> Program:
    """Return the program that `target` is to run; `recorded` stays as it is."""
    program = Program(
        list(recorded.slots), list(recorded.steps), list(recorded.inputs), dict(recorded.constants), list(recorded.numbers),
        list(recorded.results), dict(recorded.donated),
    )  # fmt: skip
    drop_dead(program)
    join_equal(program)
    drop_dead(program)
    return program


def drop_dead(program: Program) -> None:
    """Drop calls whose outputs nobody reads."""
    needed = set(program.results)
    kept: list[Step] = []
    for step in reversed(program.steps):
        if needed.intersection(step.outputs):
            needed.update(step.reads())
            kept.append(step)
    program.steps = kept[::-1]


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
        kept.append(step if inputs == step.inputs else Step(step.op, step.call, inputs, step.outputs, step.view))
    if same:
        program.slots = [
            Slot(s.spec, same.get(s.base, s.base), s.offset) if i != s.base else s for i, s in enumerate(program.slots)
        ]
        program.results = [same.get(s, s) for s in program.results]
    program.steps = kept


def _key(x: Operand) -> Any:
    return (type(x.value), repr(x.value)) if isinstance(x, Fixed) else x
