"""Recording: a backend whose arrays have no values and whose calls are written down, and the recording itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ..api import backend_of
from ..core.array import DeviceArray
from ..core.backend import Backend, DeviceInfo, Prepared
from ..core.call import Call
from ..core.errors import ArgumentError, CaptureError, StaleArray
from ..core.number import Number
from ..core.op import LIST, SETTING, Op
from ..core.program import Fixed, Given, Operand, Program, Step
from ..core.recording import current
from ..core.spec import Spec
from ..core.tape import Traced


class Memory:
    """Stands for the memory of a slot."""

    __slots__ = ("base", "recording", "version")

    def __init__(self, recording: Recording, base: int) -> None:
        self.recording = recording
        self.base = base
        self.version = 0


class RecordingBackend(Backend):
    """Writes calls down for `target`. One object per target, so that op caches do not grow with every recording."""

    name = "capture"

    def __init__(self, target: Backend) -> None:
        self.target = target
        self.device = target.device

    def prepare(self, op: Op, call: Call) -> Prepared:
        """Return what adds the call to the recording that is under way."""
        view = op.view(call) if op.view is not None else None

        def run(operands: Sequence[Any]) -> tuple[Any, ...]:
            recorder = current.get()
            if not isinstance(recorder, Recording) or recorder.backend is not self:
                raise StaleArray(f"{op.name}: an array of a recording was used after it; a captured step must not keep its arrays")
            return recorder.add(op, call, operands, view)

        return run

    def from_numpy(self, x: npt.NDArray[Any]) -> Any:
        """Return what stands for a copy of `x`: a constant of the step."""
        recorder = current.get()
        assert isinstance(recorder, Recording)
        return recorder.lift(self.target.from_numpy(x))

    def to_numpy(self, x: Any) -> npt.NDArray[Any]:
        """Refuse: the value is not there yet."""
        raise refusal(f"the values of an array of shape {x.shape}, {x.dtype.name}")

    def write(self, target: Any, value: Any) -> None:
        """Refuse: what is written could not be told from what was read before."""
        raise CaptureError(
            f"a captured step writes into an array of shape {target.shape}, but steps are recorded as pure functions; "
            "compute a new array (ops.where, ops.concat) and return it"
        )

    def spec_of(self, x: Any) -> Spec:
        """Return the spec of an array."""
        found: Spec = x.spec
        return found

    def synchronize(self) -> None:
        """Refuse: nothing runs yet."""
        raise refusal("the device to be finished")

    def devices(self) -> list[DeviceInfo]:
        """Return the target's devices."""
        return self.target.devices()

    def supports(self, dtype: Any) -> bool:
        """Tell whether the target computes with `dtype`."""
        return self.target.supports(dtype)


recording_backend = cache(RecordingBackend)


def refusal(what: str) -> CaptureError:
    """Return the error for a step that asks for what is known only when it runs."""
    return CaptureError(
        f"a captured step asks for {what}, which is known only when it runs; return the array and look at it outside, "
        "or decide with ops.where inside"
    )


class Recording:
    """The recording of one step: a program under construction.

    Parameters
    ----------
    target : Backend
        Where the program will run.
    """

    def __init__(self, target: Backend) -> None:
        self.target = target
        self.backend: Backend = recording_backend(target)
        self.program = Program()
        self.held: set[int] = set()  # numbers of the call whose values the step took
        self._lifted: dict[int, tuple[Any, DeviceArray]] = {}
        self._slots: dict[tuple[int, int, Spec], int] = {}
        self._numbers: dict[str, int] = {}

    # -- what dispatch asks (core.recording.Recorder) ---------------------------------------------------------------

    def lift(self, x: Any) -> Any:
        """Return what stands for `x`: a constant, unless it is of this recording already."""
        if type(x) is DeviceArray and x.backend is self.backend:
            if x.storage.recording is not self:
                raise StaleArray("an array of an earlier recording was used; a captured step must not keep its arrays")
            return x
        found = self._lifted.get(id(x))
        if found is not None:
            return found[1]
        owner = backend_of(x)
        if owner is not self.target:
            raise ArgumentError(
                f"capture: the step runs on {self.target.name} ({self.target.device}) but uses an array of {owner.name} "
                f"({owner.device}); bring them together with portable_nn.asarray(x, backend={self.target.name!r})"
            )
        made = self.stand_in(x)
        self._lifted[id(x)] = (x, made)  # `x` is kept, so that its id is not used again
        self.program.constants[made.storage.base] = x
        return made

    def arguments(self, op: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments with real arrays lifted and numbers that are settings taken."""
        roles = tuple(op.roles.values())
        made = tuple(self._argument(v, roles[i] if i < len(roles) else SETTING) for i, v in enumerate(args))
        return made, {k: self._argument(v, op.roles.get(k, SETTING)) for k, v in kwargs.items()}

    def refuse(self, what: str) -> Any:
        """Raise."""
        raise refusal(what)

    def hold(self, leaves: frozenset[int]) -> None:
        """Remember that the recording is right only for these values."""
        self.held |= leaves

    def _argument(self, value: Any, role: str) -> Any:
        if role == SETTING:
            return _plain(value)
        if role == LIST and isinstance(value, list | tuple):
            return [self._operand(v) for v in value]
        return self._operand(value)

    def _operand(self, value: Any) -> Any:
        if isinstance(value, np.generic):
            value = np.asarray(value)
        if value is None or isinstance(value, Number | Traced | bool | int | float | complex):
            return value
        return self.lift(value) if hasattr(value, "dtype") and hasattr(value, "shape") else value

    # -- building ---------------------------------------------------------------------------------------------------

    def stand_in(self, x: Any) -> DeviceArray:
        """Return a new array that stands for the real array `x`."""
        return self._array(self.program.new_slot(self.target.spec_of(x)))

    def input(self, x: Any) -> DeviceArray:
        """Return what stands for an argument. One given twice is two inputs: next time they may differ."""
        made = self.stand_in(x)
        self.program.inputs.append(made.storage.base)
        return made

    def add(self, op: Op, call: Call, operands: Sequence[Any], view: tuple[tuple[int, ...], int] | None) -> tuple[Any, ...]:
        """Write a call down; return what stands for its outputs."""
        inputs = tuple(self._read(x) for x in operands)
        if view is not None:
            source = next(x for x in inputs if type(x) is int)
            strides, offset = view
            spec = Spec(call.outputs[0].shape, call.outputs[0].dtype, strides)
            base = self.program.slots[source].base
            at = self.program.slots[source].offset + offset
            known = self._slots.get((base, at, spec))
            if known is None:
                known = self._slots[base, at, spec] = self.program.new_slot(spec, base, at)
                self.program.steps.append(Step(op, call, inputs, (known,), view=True))
            return (self._array(known),)
        outputs = tuple(self.program.new_slot(spec) for spec in call.outputs)
        self.program.steps.append(Step(op, call, inputs, outputs))
        return tuple(self._array(slot) for slot in outputs)

    def slot_of(self, x: DeviceArray) -> int:
        """Return the slot of an array of this recording."""
        base: int = x.storage.base
        own = self.program.slots[base]
        return base if x.spec is own.spec and x.offset == 0 else self._slots[base, x.offset, x.spec]

    def _array(self, slot: int) -> DeviceArray:
        s = self.program.slots[slot]
        return DeviceArray(Memory(self, s.base), s.spec, s.offset, self.backend)

    def _read(self, x: Any) -> Operand:
        if type(x) is DeviceArray:
            return self.slot_of(self.lift(x))
        if isinstance(x, Number):
            index = self._numbers.get(x.text)
            if index is None:
                index = self._numbers[x.text] = len(self.program.numbers)
                self.program.numbers.append(x.text)
            return Given(index)
        return None if x is None else Fixed(x)


def _plain(value: Any) -> Any:
    """Return a setting with the present values of the numbers in it."""
    if isinstance(value, Number):
        return value.taken()
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(_plain(v) for v in value)
    return value
