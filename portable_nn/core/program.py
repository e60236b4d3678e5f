"""Program: a recorded step as a list of op calls over numbered arrays. What captures rewrite, and backends bind and replay."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .fused import Fed, Fused
from .spec import Spec

if TYPE_CHECKING:
    from .backend import Backend
    from .call import Call
    from .op import Op

# Takes the arrays and the numbers of a call, in the program's order; returns its results.
Replay = Callable[[Sequence[Any], Sequence[Any]], list[Any]]


@dataclass(frozen=True, slots=True)
class Slot:
    """An array of a program: what it is, and whose memory it lies in.

    Parameters
    ----------
    spec : Spec
    base : int
        Number of the slot that owns the memory: its own, or that of which it is a view or a part.
    offset : int
        Elements between the base's first and its own.
    """

    spec: Spec
    base: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Given:
    """A number operand that is an expression of the step's numbers: entry `index` of `Program.numbers`."""

    index: int


@dataclass(frozen=True, slots=True)
class Fixed:
    """A number operand that is the same at every replay."""

    value: Any


Operand = int | Given | Fixed | None


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """An op call over slots.

    Parameters
    ----------
    op : Op, Fused or Fed
    call : Call
    inputs : tuple of Operand
        One per entry of `call.inputs`: a slot number, a number, or None.
    outputs : tuple of int
        Slot numbers.
    view : bool
        The output is a view of an operand: nothing is computed.
    """

    op: Op | Fused | Fed
    call: Call
    inputs: tuple[Operand, ...]
    outputs: tuple[int, ...]
    view: bool = False

    def reads(self) -> Iterator[int]:
        """Give the slots that are read."""
        return (x for x in self.inputs if type(x) is int)


@dataclass(slots=True)
class Program:
    """A recorded step.

    Parameters
    ----------
    slots : list of Slot
    steps : list of Step
        In an order in which they can run.
    inputs : list of int
        Slots of the arrays that a call is given, in order.
    constants : dict of int to array
        Arrays that the step uses and is not given.
    numbers : list of str
        Expressions (see `core.number`) of the numbers that operands are.
    results : list of int
        Slots handed out.
    donated : dict of int to int
        Position of a result: position of the input whose memory it may take, because the caller gives that input up.
    """

    slots: list[Slot] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    constants: dict[int, Any] = field(default_factory=dict)
    numbers: list[str] = field(default_factory=list)
    results: list[int] = field(default_factory=list)
    donated: dict[int, int] = field(default_factory=dict)

    def base(self, slot: int) -> int:
        """Return the slot that owns the memory of `slot`."""
        return self.slots[slot].base

    def new_slot(self, spec: Spec, base: int | None = None, offset: int = 0) -> int:
        """Add a slot; return its number."""
        number = len(self.slots)
        self.slots.append(Slot(spec, number if base is None else base, offset))
        return number

    def producers(self) -> dict[int, int]:
        """Return, for each slot that a step makes, the position of the step."""
        return {slot: at for at, step in enumerate(self.steps) for slot in step.outputs}

    def last_uses(self) -> dict[int, int]:
        """Return, for each slot that owns memory, the position of the last step that reads or writes it.

        Views count for their base. What is handed out is used to the end, one position after the last step.
        """
        last: dict[int, int] = {}
        for at, step in enumerate(self.steps):
            for slot in (*step.reads(), *step.outputs):
                last[self.base(slot)] = at
        for slot in self.results:
            last[self.base(slot)] = len(self.steps)
        return last


def replay_by_calls(backend: Backend, program: Program) -> Replay:
    """Return a replay that runs one prepared call after the other: what a backend without a memory plan does.

    Arrays are dropped after their last use, so that their memory can serve the next call.
    """
    env: list[Any] = [None] * len(program.slots)
    for slot, value in program.constants.items():
        env[slot] = value
    last: dict[int, int] = {}  # by slot: a view holds its base by itself
    for at, step in enumerate(program.steps):
        for slot in (*step.reads(), *step.outputs):
            last[slot] = at
    kept = set(program.results) | set(program.constants)
    runs = []
    for at, step in enumerate(program.steps):
        assert not isinstance(step.op, Fused | Fed)  # made only for backends that plan memory
        dead = tuple(s for s in {*step.reads(), *step.outputs} if last[s] == at and s not in kept)
        runs.append((backend.prepare(step.op, step.call), step.inputs, step.outputs, dead))
    inputs, results = tuple(program.inputs), tuple(program.results)
    handed = (*inputs, *results)

    def replay(arrays: Sequence[Any], numbers: Sequence[Any]) -> list[Any]:
        for slot, x in zip(inputs, arrays, strict=True):
            env[slot] = x
        try:
            for run, operands, outputs, dead in runs:
                given = [
                    env[x] if type(x) is int else numbers[x.index] if type(x) is Given else x.value if type(x) is Fixed else None
                    for x in operands
                ]
                for slot, made in zip(outputs, run(given), strict=True):
                    env[slot] = made
                for slot in dead:
                    env[slot] = None
            return [env[slot] for slot in results]
        finally:
            for slot in handed:
                if slot not in program.constants:
                    env[slot] = None

    return replay
