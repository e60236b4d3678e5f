"""The contract of a backend: it knows memory, compilation and launch, and nothing about ops.

A backend lives in a package of its own (`portable_nn_opencl`, ...) that exposes `VERSION` (portable_nn's own version
for the built-in ones), `backend(device: str | None) -> Backend` and `status() -> Status`. The built-in ones are in
`selection.TABLE`; others register the entry point group ``portable_nn.backends``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .errors import NoKernel
from .program import Program, Replay, replay_by_calls
from .spec import Spec

if TYPE_CHECKING:
    from .call import Call
    from .fused import Fed
    from .op import Op
    from .tuning import Tunable

# Takes the call's operands (arrays, Python scalars, None) in signature order, returns the outputs of `call.outputs`.
Prepared = Callable[[Sequence[Any]], tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A device as `portable-nn info` shows it."""

    name: str
    kind: str
    platform: str = ""
    driver: str = ""
    units: int = 0
    memory_bytes: int = 0
    float64: bool = True
    float16: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """What an adapter package says of itself through `status()`.

    `state` is "ready", "not installed", "no device" or "broken"; `reason` says why it is not ready.
    """

    name: str
    state: str
    reason: str = ""
    devices: tuple[DeviceInfo, ...] = ()
    install: str = ""


class Backend(ABC):
    """What every backend implements. One instance per device; arrays remember theirs."""

    name: str
    device: str
    plans_memory = False  # whether `replay` places memory itself and takes `core.fused` calls: then captures fuse for it
    wants_channels_last = False  # whether images inside a captured step are better off with their channels innermost

    @abstractmethod
    def prepare(self, op: Op, call: Call) -> Prepared:
        """Do everything about `call` that needs no values, once; return what runs it.

        The result allocates the outputs and launches; it never waits. Raises `NoKernel` when the backend
        cannot run this call, naming op, dtype and reason.
        """

    @abstractmethod
    def from_numpy(self, x: npt.NDArray[Any]) -> Any:
        """Copy a NumPy array to the device (C order). The host array may change right after."""

    @abstractmethod
    def to_numpy(self, x: Any) -> npt.NDArray[Any]:
        """Wait for `x` and copy it to a new NumPy array. Raises `DeviceValueError` if a kernel reported one."""

    @abstractmethod
    def spec_of(self, x: Any) -> Spec:
        """Return shape, dtype and strides (in elements) of one of this backend's arrays."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until all launched work is done, and raise what it reported."""

    @abstractmethod
    def devices(self) -> list[DeviceInfo]:
        """Return the devices this backend could use, the current one first."""

    def tunables(self) -> tuple[Tunable, ...]:
        """Return the sizes that `portable-nn tune` may vary; by default none."""
        return ()

    def use_sizes(self, sizes: Mapping[str, Any]) -> None:
        """Plan with these sizes from now on, and with the declared ones where it names none."""
        if sizes:
            raise NoKernel(f"backend {self.name} has no sizes to tune")

    def write(self, target: Any, value: Any) -> None:
        """Copy `value` into `target`, an array or view of this backend of the same shape, converting the dtype."""
        del target, value
        raise NoKernel(f"backend {self.name} does not write into arrays")

    def warm_up(self, f: Callable[..., Any], *args: Any) -> None:
        """Make ready for `f(*args)`, whose arguments are trees of arrays and constants, without running it.

        A backend that compiles kernels runs `f` on shapes alone and compiles what it would launch, on every core:
        one kernel after the other at the first call would keep most of them idle. By default nothing is done.
        """
        del f, args

    def version_of(self, x: Any) -> int:
        """Return a number that grows when `x` is written to in place."""
        del x
        return 0

    def replay(self, program: Program) -> Replay:
        """Make ready to run a captured step again and again; see `core.program`.

        By default every call is prepared once, and a replay runs one after the other. A backend that places memory itself
        gives the program one plan of it, binds every launch to fixed buffers, and may take the memory of donated inputs.
        """
        return replay_by_calls(self, program)

    def ends_in_mapping(self, op: Op, call: Call) -> bool:
        """Tell whether a `core.fused` call may begin with this one, which is not elementwise (with `plans_memory`)."""
        del op, call
        return False

    def feeds(self, op: Fed, call: Call) -> bool:
        """Tell whether a convolution can make its images as `op` says (with `wants_channels_last`)."""
        del op, call
        return False

    def supports(self, dtype: np.dtype[Any]) -> bool:
        """Tell whether arrays of `dtype` can be stored and computed with."""
        del dtype
        return True
