"""What rewrites share: replacing one slot by another, and putting steps in another order."""

from __future__ import annotations

from collections.abc import Mapping

from ..core.program import Operand, Program, Slot, Step


def substitute(program: Program, same: Mapping[int, int]) -> None:
    """Make everything that reads a slot of `same` read what it maps to, views included."""
    if not same:
        return
    slots = program.slots

    def final(slot: int) -> int:
        while slot in same:
            slot = same[slot]
        return slot

    def moved(number: int, s: Slot) -> Slot:
        if s.base == number or s.base not in same:
            return s
        home = slots[final(s.base)]
        return Slot(s.spec, home.base, home.offset + s.offset)

    program.slots = [moved(i, s) for i, s in enumerate(slots)]
    program.results = [final(s) for s in program.results]
    program.steps = [with_inputs(s, tuple(final(x) if type(x) is int else x for x in s.inputs)) for s in program.steps]


def rebase(program: Program, places: Mapping[int, tuple[int, int]]) -> None:
    """Move slots that own memory, and their views, into other slots: slot -> (base, offset)."""
    program.slots = [
        Slot(s.spec, places[s.base][0], places[s.base][1] + s.offset) if s.base in places else s for s in program.slots
    ]


def with_inputs(step: Step, inputs: tuple[Operand, ...]) -> Step:
    """Return the step with other operands; itself if they are the same."""
    return step if inputs == step.inputs else Step(step.op, step.call, inputs, step.outputs, step.view)


def readers(program: Program) -> dict[int, list[int]]:
    """Return, for each slot, the positions of the steps that read it itself (not a view of it), len(steps) for a result."""
    found: dict[int, list[int]] = {}
    for at, step in enumerate(program.steps):
        for slot in set(step.reads()):
            found.setdefault(slot, []).append(at)
    for slot in program.results:
        found.setdefault(slot, []).append(len(program.steps))
    return found


def parts(program: Program) -> dict[int, set[int]]:
    """Return, for each slot whose memory is written piece by piece, the slots that are its pieces."""
    found: dict[int, set[int]] = {}
    for step in program.steps:
        for slot in step.outputs:
            if not step.view and program.base(slot) != slot:
                found.setdefault(program.base(slot), set()).add(slot)
    return found
