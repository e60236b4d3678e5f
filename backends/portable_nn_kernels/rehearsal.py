"""Rehearsal: a device without memory that plans and binds like a real one, and remembers what it would have launched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from portable_nn.core import dtypes
from portable_nn.core.array import DeviceArray
from portable_nn.core.backend import DeviceInfo
from portable_nn.core.call import Call
from portable_nn.core.errors import BackendError
from portable_nn.core.fused import Fed, Fused
from portable_nn.core.op import Op
from portable_nn.core.spec import Spec

from .device import DeviceBackend
from .launch import Launch, Plan, Profile


class Memory:
    """How many bytes the arrays of a rehearsal hold, and held at most."""

    __slots__ = ("live", "peak")

    def __init__(self) -> None:
        self.live = self.peak = 0


class Storage:
    """Memory that is not there, but is counted."""

    __slots__ = ("memory", "nbytes", "version")

    def __init__(self, nbytes: int, memory: Memory) -> None:
        self.nbytes, self.memory = nbytes, memory
        self.version = 0
        memory.live += nbytes
        memory.peak = max(memory.peak, memory.live)

    def __del__(self) -> None:
        self.memory.live -= self.nbytes


@dataclass(frozen=True, slots=True)
class Recorded:
    """A launch that would have happened, and the call it belongs to (None when bound outside an op)."""

    launch: Launch
    call: Call | None

    @property
    def op(self) -> str:
        """Name of the op."""
        return "" if self.call is None else self.call.op


class Rehearsal(DeviceBackend):
    """A device without memory.

    Parameters
    ----------
    profile : Profile
        What plans are told.
    """

    name = "rehearsal"

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.device = profile.name
        self.memory = Memory()
        self._calls: list[Recorded] | None = None
        self._planned: Call | None = None

    def allocate(self, spec: Spec) -> DeviceArray:
        """Return an array that has a spec and no values."""
        return DeviceArray(Storage(spec.nbytes, self.memory), spec, 0, self)

    def alias(self, x: DeviceArray, spec: Spec, offset: int) -> DeviceArray:
        """Return a view."""
        return DeviceArray(x.storage, spec, x.offset + offset, self)

    def bind_plan(self, op: Op | Fused | Fed, call: Call, plan: Plan, fixed: bool = False) -> list[Any]:
        """Bind what pretends to run, remembering whose it is."""
        self._planned = call
        try:
            return super().bind_plan(op, call, plan, fixed)
        finally:
            self._planned = None  # what is bound outside a call (writes into arrays) has none

    def bind(self, launch: Launch, slots: Sequence[int | None]) -> Callable[[Sequence[Any]], None]:
        """Return what records the launch while a recording is on."""
        del slots
        recorded = Recorded(launch, self._planned)

        def call(given: Sequence[Any]) -> None:
            del given
            if self._calls is not None:
                self._calls.append(recorded)

        return call

    @contextmanager
    def recording(self) -> Iterator[list[Recorded]]:
        """Collect the launches made inside the block.

        Examples
        --------
        >>> with null.recording() as launches:
        ...     pnn.ops.matmul(a, b)
        """
        before, calls = self._calls, []  # type: tuple[list[Recorded] | None, list[Recorded]]
        self._calls = calls
        try:
            yield calls
        finally:
            self._calls = before

    @contextmanager
    def measuring(self) -> Iterator[Memory]:
        """Count memory from here on: `peak` of what is given starts at what is live now.

        Examples
        --------
        >>> with null.measuring() as memory:
        ...     train_step(...)
        >>> memory.peak
        """
        self.memory.peak = self.memory.live
        yield self.memory

    def from_numpy(self, x: npt.NDArray[Any]) -> DeviceArray:
        """Return an array with the spec of `x`."""
        return self.allocate(Spec(x.shape, dtypes.canonical(x.dtype)))

    def to_numpy(self, x: DeviceArray) -> npt.NDArray[Any]:
        """Refuse: there are no values."""
        raise BackendError(
            f"the {self.name} backend has no values (asked for an array of shape {x.shape}, {x.dtype.name}); it only plans. "
            f"Choose another with PORTABLE_NN_BACKEND or portable_nn.use_backend"
        )

    def spec_of(self, x: DeviceArray) -> Spec:
        """Return the spec of an array."""
        return x.spec

    def version_of(self, x: DeviceArray) -> int:
        """Return the number of in-place writes."""
        return int(x.storage.version)

    def synchronize(self) -> None:
        """Do nothing: nothing was launched."""

    def devices(self) -> list[DeviceInfo]:
        """Return the one device that is played."""
        return [DeviceInfo(self.profile.name, self.profile.shape, self.name, units=self.profile.units)]
