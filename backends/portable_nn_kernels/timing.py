"""Whose launch is it? What profiles and error messages say of a launch: its op, and the bytes of its arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from portable_nn.core.call import Call
from portable_nn.core.fused import Fed, Fused
from portable_nn.core.op import Op
from portable_nn.core.spec import Spec

from .device import DeviceBackend
from .launch import Plan

# Name, bytes of each operand, output and scratch array, operations.
_NO_OP: tuple[str, tuple[int, ...], int] = ("", (), 0)


@dataclass(frozen=True, slots=True)
class KernelTime:
    """One launch, timed by the device: kernel, the op it belongs to, nanoseconds, bytes of the arrays it was given.

    `start` is when it began, in nanoseconds of the host's `time.perf_counter_ns`; the two clocks are laid together once, when
    profiling begins, so it is right to some microseconds.
    """

    kernel: str
    op: str
    ns: int
    bytes: int
    start: int


class KernelTimes(list[KernelTime]):
    """What `profiling` gives: empty inside its block, filled when that ends.

    Parameters
    ----------
    recorded : sequence
        What the adapter notes per launch.
    """

    def __init__(self, recorded: Sequence[Any]) -> None:
        super().__init__()
        self._recorded = recorded

    @property
    def launched(self) -> int:
        """How many launches there were so far; of use inside the block, to tell whose they are."""
        return len(self._recorded)


class TimedBackend(DeviceBackend):
    """A device backend that knows, while it binds a launch, which call the launch belongs to."""

    _planned = _NO_OP

    def bind_plan(self, op: Op | Fused | Fed, call: Call, plan: Plan, fixed: bool = False) -> list[Any]:
        """Bind the launches of a planned call, remembering whose they are."""
        specs = (*call.inputs, *call.outputs, *plan.scratch)
        operations = op.flops(call) if op.flops else call.outputs[0].size
        self._planned = (op.name, tuple(s.nbytes if isinstance(s, Spec) else 0 for s in specs), int(operations))
        try:
            return super().bind_plan(op, call, plan, fixed)
        finally:
            self._planned = _NO_OP  # what is bound outside a call (writes into arrays) has no op

    def described(self, slots: Sequence[int | None]) -> tuple[str, int, int]:
        """Return op and bytes of the launch being bound, whose arguments lie at `slots`, and the operations of the whole call."""
        op, sizes, operations = self._planned
        return op, sum(sizes[s] for s in {s for s in slots if s is not None} if s < len(sizes)), operations
