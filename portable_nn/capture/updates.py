"""Updates of many parameters as one call: what is updated lies in one block, its gradients in another, and so does the state.

An optimiser makes one elementwise call per parameter, all with the same numbers. If parameter, gradient and state of each lie
at the same place of a block of their own, one call over the blocks does them all; plans see nothing but longer arrays. It
needs memory that the capture may arrange: donated inputs, and gradients that a call of the step makes.
"""

from __future__ import annotations

from typing import Any

from ..core.call import Call
from ..core.elementwise import Elementwise
from ..core.program import Fixed, Operand, Program, Step
from ..core.spec import Spec, Weak
from .graph import readers, rebase

_ALIGNMENT = 64  # elements: every part begins on a cache line, whatever the dtype


def join_updates(program: Program) -> None:
    """Join elementwise calls on donated inputs that differ in nothing but their arrays."""
    groups: dict[Any, list[Step]] = {}
    for step in program.steps:
        key = _key(step)
        if key is not None:
            groups.setdefault(key, []).append(step)
    for steps in groups.values():
        _join(program, steps)


def _key(step: Step) -> Any:
    """Return what calls must have in common; None for calls that cannot be joined."""
    if step.view or not isinstance(step.op.expression, Elementwise):
        return None
    specs = [s for s in (*step.call.inputs, *step.call.outputs) if isinstance(s, Spec)]
    if any(s.shape != specs[0].shape or not s.contiguous or not s.size for s in specs):
        return None
    return (
        step.op.name, repr(dict(step.call.settings)), tuple(s.dtype for s in specs),
        tuple(None if type(x) is int else (type(x.value), repr(x.value)) if isinstance(x, Fixed) else x for x in step.inputs),
    )  # fmt: skip


def _join(program: Program, steps: list[Step]) -> None:
    """Join those of `steps` for which it is possible."""
    homes = {program.results[position]: program.inputs[i] for position, i in program.donated.items()}
    reads, order = _all_reads(program), {id(s): at for at, s in enumerate(program.steps)}
    producers = program.producers()
    taken: set[int] = set()
    fitting: list[tuple[Step, tuple[int | None, ...]]] = []
    for step in steps:
        pattern = _pattern(program, step, homes, reads, producers, order[id(step)], taken)
        if pattern is not None:
            fitting.append((step, pattern))
            taken |= {program.base(x) for x in (*step.reads(), *step.outputs)}
    for pattern in dict.fromkeys(p for _, p in fitting):
        members = [s for s, p in fitting if p == pattern]
        last = max((order[id(s)] for s in members), default=0)
        # Nobody may read a result, or an input once it is overwritten, before or after the one call.
        members = [s for s in members if all(at >= last for x in s.outputs for at in reads.get(program.base(x), ()))]
        if len(members) > 1:
            _replace(program, members, pattern)
            return _join(program, [s for s in steps if s not in members])
    return None


def _all_reads(program: Program) -> dict[int, list[int]]:
    """Return the positions of the steps that read the memory of each slot that owns some, views included."""
    found: dict[int, list[int]] = {}
    for slot, positions in readers(program).items():
        found.setdefault(program.base(slot), []).extend(positions)
    return found


def _pattern(
    program: Program, step: Step, homes: dict[int, int], reads: dict[int, list[int]], producers: dict[int, int], at: int, taken: set[int]
) -> tuple[int | None, ...] | None:  # fmt: skip
    """Return, for each array operand and then each output, the operand in whose place it lies; None if the call does not fit."""
    places: list[int | None] = []
    states: dict[int, int] = {}
    for position, x in enumerate(step.inputs):
        if type(x) is not int:
            continue
        base = program.base(x)
        whole = program.slots[base].spec
        if base in taken or whole.size != program.slots[x].spec.size or program.slots[x].offset or not whole.contiguous:
            return None
        if base in homes.values() and base == x and max(reads[base]) == at and reads[base].count(at) == 1:
            states[x] = position
            places.append(position)
        elif base in producers and producers[base] < at and base not in program.results and reads[base].count(at) == 1:
            places.append(None)
        else:
            return None
    for slot in step.outputs:
        home = homes.get(slot)
        if home not in states or program.results.count(slot) != 1:
            return None
        places.append(states[home])
    return tuple(places)


def _replace(program: Program, members: list[Step], pattern: tuple[int | None, ...]) -> None:
    """Put one call over blocks in the place of the last of `members`."""
    first = members[0]
    offsets, total = [], 0
    for step in members:
        offsets.append(total)
        total += -(-step.call.outputs[0].size // _ALIGNMENT) * _ALIGNMENT
    inputs: list[Operand] = list(first.inputs)
    specs: list[Spec | Weak | None] = list(first.call.inputs)
    places: dict[int, tuple[int, int]] = {}
    blocks: dict[int, int] = {}
    for position, x in enumerate(first.inputs):
        if type(x) is int:
            spec = first.call.inputs[position]
            assert isinstance(spec, Spec)
            specs[position] = Spec((total,), spec.dtype)
            blocks[position] = inputs[position] = program.new_slot(Spec((total,), spec.dtype))
            for step, offset in zip(members, offsets, strict=True):
                slot = step.inputs[position]
                assert type(slot) is int
                places[program.base(slot)] = blocks[position], offset
    arrays = sum(type(x) is int for x in first.inputs)
    outputs = []
    for number, home in enumerate(pattern[arrays:]):
        assert home is not None
        outputs.append(blocks[home])
        for step, offset in zip(members, offsets, strict=True):
            places[step.outputs[number]] = blocks[home], offset
    rebase(program, places)
    made = Call(first.op.name, tuple(specs), tuple(program.slots[b].spec for b in outputs), first.call.settings)
    joined = Step(first.op, made, tuple(inputs), tuple(outputs))
    last = max(program.steps.index(s) for s in members)
    program.steps[last] = joined
    program.steps = [s for s in program.steps if s not in members]
