"""Replay of a captured step on a device: every launch bound once to fixed memory, so that a call only launches.

Memory is of five kinds. What the caller gives and what is handed out change at every replay; constants stay where they are;
state (donated inputs, in whose place results are written) is kept from one replay to the next; everything else shares an arena.
Over 250 lines because a replay is made in one go, top to bottom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

from portable_nn.core.dtypes import uint8
from portable_nn.core.elementwise import is_dense
from portable_nn.core.errors import StaleArray
from portable_nn.core.program import Fixed, Given, Program, Slot, Step
from portable_nn.core.spec import Spec

from .launch import In, Launch, Out, Plan, Ref, slots_of
from .memory import Block, alive, place, rounded
from .plans.copies import copy_launch

if TYPE_CHECKING:
    from .device import DeviceBackend


@dataclass(eq=False, slots=True)
class FixedLaunch:
    """A launch of a replay.

    Parameters
    ----------
    launch : Launch
    bound : object
        What `DeviceBackend.bind_fixed` returned.
    given : list
        What the launch's slots are positions in: arrays and numbers. Changed in place between replays.
    changing : set of int
        Positions of `given` that change.
    op : str
        Whose launch it is.
    nbytes : int
        Of the arrays it is given, each once.
    """

    launch: Launch
    bound: Any
    given: list[Any]
    changing: set[int]
    op: str
    nbytes: int


class PlannedReplay:
    """A captured step, planned and bound.

    Attributes
    ----------
    launches : list of FixedLaunch
        In order.
    arena_bytes : int
        Memory that the step's intermediate arrays and scratch share; `alive_bytes` is what no plan can go below, and
        `separate_bytes` what they would take without sharing.
    state_bytes : int
        Memory of donated inputs.
    packings : list of FixedLaunch
        What is launched before the first replay, and again only when a constant was written to: packed weights.
    """

    def __init__(self, backend: DeviceBackend, program: Program) -> None:
        self.backend = backend
        self.program = program = replace(program, slots=list(program.slots), steps=list(program.steps))
        self._states = _place_states(program)
        self._lower()
        self._classify()
        self._bind()
        self._allocate()
        self._fill()
        self.run = backend.launcher(self.launches)
        self._packing = backend.launcher(self.packings) if self.packings else None
        self._constants = list(program.constants.values())
        self._packed: list[int] = []  # versions of the constants that were packed last
        self._handed: dict[int, Any] = {}  # by input position: the state array handed out by the last replay

    # -- making -----------------------------------------------------------------------------------------------------

    def _lower(self) -> None:
        """Plan every step."""
        backend, program = self.backend, self.program
        self._work: list[tuple[tuple[Any, ...], tuple[int, ...], Plan, Step | None]] = []  # the copies at the end are no steps
        kept = [s for s in program.steps if not s.view]
        program.steps = kept
        for step in kept:
            in_place = any(_overlap(program.slots[x], program.slots[y]) for x in step.reads() for y in step.outputs)
            same = frozenset(i for i, x in enumerate(step.inputs) if self._never_changes(x))
            self._work.append((step.inputs, step.outputs, backend.lower(step.op, step.call, in_place, same), step))

    def _never_changes(self, x: Any) -> bool:
        """Tell whether an operand is a constant of which packed forms may be kept."""
        return self.backend.counts_writes and type(x) is int and self.program.base(x) in self.program.constants

    def _copy(self, source: int, target: int) -> None:
        """Add a copy between two slots of one shape."""
        slots = self.program.slots
        if slots[source].spec.size:
            launch = copy_launch(slots[source].spec, In(0), slots[target].spec, Out(0), self.backend.profile)
            self._work.append(((source,), (target,), Plan((launch,)), None))

    def _bind(self) -> None:
        """Build all programs together, which may take less time than one after another, and bind every launch."""
        backend, program = self.backend, self.program
        states = {program.slots[program.inputs[i]].spec for i in self._states}
        takes = [copy_launch(spec, In(0), spec, Out(0), backend.profile) for spec in states if spec.size]  # see _take_states
        backend.build([*(launch for _, _, plan, _ in self._work for launch in plan.launches), *takes])
        self._bound = [
            backend.bind_plan(step.op, step.call, plan, fixed=True) if step else [backend.bind_fixed(x, slots_of(x, 1, 1)) for x in plan.launches]
            for _, _, plan, step in self._work
        ]

    def _classify(self) -> None:
        """Decide of what kind the memory of every slot is, and copy what must leave its place."""
        program = self.program
        state_bases = {program.base(program.inputs[i]) for i in self._states}
        late: list[tuple[int, int]] = []
        self._results: list[int] = []  # slot per result
        for position, slot in enumerate(program.results):
            donated = program.donated.get(position)
            if donated in self._states:
                home = program.inputs[donated]
                if slot != home and not _same_place(program, slot, home):
                    if program.base(slot) in state_bases:  # another state's memory: it may be overwritten before it is read
                        aside = program.new_slot(program.slots[home].spec)
                        self._copy(slot, aside)
                        slot = aside
                    late.append((slot, home))
                self._results.append(home)
            elif program.base(slot) in state_bases:
                aside = program.new_slot(Spec(program.slots[slot].spec.shape, program.slots[slot].spec.dtype))
                self._copy(slot, aside)
                self._results.append(aside)
            else:
                self._results.append(slot)
        for source, target in late:
            self._copy(source, target)
        self._state_bases = state_bases
        self._input_bases = {slot: i for i, slot in enumerate(program.inputs) if program.base(slot) not in state_bases}
        fixed = {*state_bases, *self._input_bases, *program.constants}
        self._result_bases = {program.base(s) for p, s in enumerate(self._results)} - fixed

    def _allocate(self) -> None:
        """Place what is neither given, handed out, constant nor state in the arena."""
        program = self.program
        elsewhere = {*self._state_bases, *self._input_bases, *program.constants, *self._result_bases}
        blocks: dict[int, Block] = {}
        scratch: list[list[Block]] = []
        for at, (inputs, outputs, plan, _) in enumerate(self._work):
            for slot in (*(x for x in inputs if type(x) is int), *outputs):
                base = program.base(slot)
                if base not in elsewhere:
                    block = blocks.setdefault(base, Block(program.slots[base].spec.nbytes, at, at))
                    block.last = at
            scratch.append([Block(spec.nbytes, at, at) for spec in plan.scratch])
        self._kept = [self._packed_scratch(inputs, plan) for inputs, _, plan, _ in self._work]
        every = [*blocks.values(), *(b for row, kept in zip(scratch, self._kept, strict=True) for i, b in enumerate(row) if i not in kept)]
        self.arena_bytes = place(every)
        self.alive_bytes, self.separate_bytes = alive(every), sum(rounded(b.nbytes) for b in every)
        offsets, self.state_bytes = dict[int, int](), 0
        for base in sorted(self._state_bases):
            offsets[base] = self.state_bytes
            self.state_bytes += rounded(program.slots[base].spec.nbytes)
        backend = self.backend
        self._arena = backend.allocate(Spec((self.arena_bytes,), uint8)) if every else None
        self._state = backend.allocate(Spec((self.state_bytes,), uint8)) if self.state_bytes else None

        def part(block: Any, nbytes: int, spec: Spec, more: int = 0) -> Any:
            return backend.alias(block, spec, nbytes // spec.dtype.itemsize + more)

        self._arrays: dict[int, Any] = {}  # by slot: arrays that stay where they are
        for number, s in enumerate(program.slots):
            if s.base in blocks:
                self._arrays[number] = part(self._arena, blocks[s.base].offset, s.spec, s.offset)
            elif s.base in offsets:
                self._arrays[number] = part(self._state, offsets[s.base], s.spec, s.offset)
            elif s.base in program.constants:
                whole = program.constants[s.base]
                self._arrays[number] = whole if number == s.base else backend.alias(whole, s.spec, s.offset)
        self._scratch = [
            [backend.allocate(spec) if i in kept else part(self._arena, b.offset, spec) for i, (b, spec) in enumerate(zip(row, work[2].scratch, strict=True))]
            for row, kept, work in zip(scratch, self._kept, self._work, strict=True)
        ]

    def _packed_scratch(self, inputs: tuple[Any, ...], plan: Plan) -> dict[int, Launch]:
        """Return the launches of a call that pack a constant, by the number of the scratch they write."""
        found: dict[int, Launch] = {}
        for launch in plan.launches:
            refs = [arg for arg in launch.args if isinstance(arg, Ref)]
            read = [inputs[ref.index] for ref in refs if ref.role == "in"]
            if launch.packs and len(read) == 1 and self._never_changes(read[0]):
                found[next(ref.index for ref in refs if ref.role == "scratch")] = launch
        return found

    def _fill(self) -> None:
        """Give every launch its arrays, and note what changes from replay to replay."""
        program = self.program
        self.launches: list[FixedLaunch] = []
        self.packings: list[FixedLaunch] = []
        changes: list[tuple[list[Any], int, int]] = []  # (given, position, slot)
        self._numbers: list[tuple[list[Any], int, int]] = []  # (given, position, index of the number)
        for (inputs, outputs, plan, step), every, scratch, kept in zip(self._work, self._bound, self._scratch, self._kept, strict=True):
            op = step.op.name if step else "copy"
            given: list[Any] = []
            changing: set[int] = set()
            for x in (*inputs, *outputs):
                if type(x) is int:
                    if x not in self._arrays:
                        changing.add(len(given))
                        changes.append((given, len(given), x))
                    given.append(self._arrays.get(x))
                elif isinstance(x, Given):
                    changing.add(len(given))
                    self._numbers.append((given, len(given), x.index))
                    given.append(None)
                else:
                    given.append(x.value if isinstance(x, Fixed) else None)
            given += scratch
            specs = [program.slots[x].spec if type(x) is int else None for x in (*inputs, *outputs)] + list(plan.scratch)
            for launch, made in zip(plan.launches, every, strict=True):
                used = {slot for slot in slots_of(launch, len(inputs), len(outputs)) if slot is not None}
                nbytes = sum(spec.nbytes for spec in (specs[slot] for slot in used) if spec is not None)
                once = any(launch is packing for packing in kept.values())
                (self.packings if once else self.launches).append(FixedLaunch(launch, made, given, changing & used, op, nbytes))
        self._place(changes)

    def _place(self, changes: list[tuple[list[Any], int, int]]) -> None:
        """Give numbers to what a replay puts in its place: what it is given, what it makes, constants it hands out, views of these."""
        program = self.program
        states = {position: i for position, i in program.donated.items() if i in self._states}
        others = [n for position, n in enumerate(self._results) if position not in states]
        self._made = [program.slots[base].spec for base in self._result_bases]
        still = [n for n in dict.fromkeys(others) if n in self._arrays]
        self._still = [self._arrays[n] for n in still]
        number = count(len(program.inputs))
        at = self._input_bases | {slot: next(number) for slot in (*self._result_bases, *still)}
        self._views: list[tuple[int, Spec, int]] = []  # (of what, spec, offset)
        for n in sorted({*(slot for _, _, slot in changes), *others} - set(at)):
            slot = program.slots[n]
            self._views.append((at[slot.base], slot.spec, slot.offset))
            at[n] = next(number)
        self._changes = [(given, position, at[n]) for given, position, n in changes]  # (given, position, number)
        self._outs = [0 if position in states else at[n] for position, n in enumerate(self._results)]  # numbers
        self._state_outs = [(position, i, self._arrays[self._results[position]]) for position, i in states.items()]

    # -- running ----------------------------------------------------------------------------------------------------

    def __call__(self, arrays: Sequence[Any], numbers: Sequence[Any]) -> list[Any]:
        """Launch the step on these arrays and numbers; return its results."""
        backend = self.backend
        if self._states:
            self._refuse_states(arrays)
            self._take_states(arrays)
        places = [*arrays, *map(backend.allocate, self._made), *self._still]
        for of, spec, offset in self._views:
            places.append(backend.alias(places[of], spec, offset))
        changes = self._changes
        for given, at, number in changes:
            given[at] = places[number]
        for given, at, index in self._numbers:
            given[at] = numbers[index]
        if self._packing is not None:
            versions = [backend.version_of(x) for x in self._constants]
            if versions != self._packed:
                self._packing()
                self._packed = versions
        self.run()
        results = [*map(places.__getitem__, self._outs)]
        for position, i, array in self._state_outs:
            made = self._handed.get(i)
            if made is None:
                made = self._handed[i] = backend.shared(array)
            results[position] = made
        for given, at, _ in changes:  # what is given and handed out lives no longer than its user wants
            given[at] = None
        return results

    def _refuse_states(self, arrays: Sequence[Any]) -> None:
        """Raise if a state is given once more as an argument that is not donated: it would be overwritten while it is read."""
        ours = {id(x) for x in self._handed.values()}
        for i in self._input_bases.values():
            if id(arrays[i]) in ours:
                raise StaleArray(
                    f"an array of shape {arrays[i].shape} was given to a captured step as its state, which it writes in place, and "
                    "once more as another argument; copy it for that (ops.astype)"
                )

    def _take_states(self, arrays: Sequence[Any]) -> None:
        """Copy states that are not there already into their place, and make what was handed out before unusable."""
        backend, handed = self.backend, self._handed
        strange = [i for i in self._states if handed.get(i) is not arrays[i]]
        ours = {id(x) for x in handed.values()}
        # Two of our own arrays exchanged: both must be read before either is written.
        copies = []
        for i in strange:
            x = arrays[i]
            if ours:
                spec = backend.spec_of(x)
                aside = backend.allocate(spec if spec.contiguous else Spec(spec.shape, spec.dtype))
                backend.write(aside, x)
                x = aside
            copies.append((self._arrays[self.program.inputs[i]], x))
        for target, x in copies:
            backend.write(target, x)
        for x in handed.values():
            backend.revoke(x)
        handed.clear()


def _overlap(a: Slot, b: Slot) -> bool:
    """Tell whether two arrays may have elements in common: parts of one block that lie apart have none."""
    apart = a.offset + a.spec.size <= b.offset or b.offset + b.spec.size <= a.offset
    return a.base == b.base and not (a.spec.contiguous and b.spec.contiguous and apart)


def _same_place(program: Program, a: int, b: int) -> bool:
    x, y = program.slots[a], program.slots[b]
    return x.base == y.base and x.offset == y.offset and x.spec is y.spec


def _place_states(program: Program) -> set[int]:
    """Let results take the memory of donated inputs where that changes nothing; return the donated positions of inputs.

    A result may be written over its input by the last step that reads the input, if that step is elementwise: each
    element is read before it is written, by the same work-item. Other results are copied into place at the end.
    """
    states = {i for i in program.donated.values() if _owns(program, program.inputs[i])}
    producers, last = program.producers(), program.last_uses()
    counts: dict[int, int] = {}
    for slot in program.results:
        counts[program.base(slot)] = counts.get(program.base(slot), 0) + 1
    moved: dict[int, int] = {}
    taken: set[int] = set()
    for position, i in program.donated.items():
        home, slot = program.inputs[i], program.results[position]
        at = producers.get(slot)
        if i not in states or at is None or program.base(slot) != slot or _same_place(program, slot, home):
            continue
        step = program.steps[at]
        alone = [x for x in step.reads() if program.base(x) == program.base(home)] == [home]
        fits = step.op.expression is not None and program.slots[slot].spec is program.slots[home].spec
        if fits and alone and last[program.base(home)] == at and counts[slot] == 1 and home not in taken and program.base(home) == home:
            moved[slot] = home
            taken.add(home)
    program.slots = [Slot(s.spec, moved.get(s.base, s.base), s.offset) for s in program.slots]
    return states


def _owns(program: Program, slot: int) -> bool:
    spec = program.slots[slot].spec
    return spec.size > 0 and is_dense(spec)
