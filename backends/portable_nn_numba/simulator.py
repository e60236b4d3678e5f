"""The numba backend without a device: kernels as plain Python in numba's simulator, on the user's own NumPy arrays.

A Python thread per CUDA thread: seconds for a launch of a few hundred. For tests and for stepping through a kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from portable_nn.core import device_errors, dtypes
from portable_nn.core.backend import DeviceInfo
from portable_nn.core.errors import DeviceValueError
from portable_nn.core.spec import Spec
from portable_nn_kernels.device import DeviceBackend
from portable_nn_kernels.launch import Launch, Profile

from .programs import converted, program_of, slots_of
from .shim import simulate

PROFILE = Profile("gpu", vendor="simulator", name="simulator", units=1, group_limit=256, local_bytes=48 * 1024, float16=True, vector=1)


class SimulatedBackend(DeviceBackend):
    """Ops in numba's simulator."""

    name = "numba"
    device = "simulator"
    profile = PROFILE

    def __init__(self) -> None:
        self.poison: int | None = None
        self._word = np.zeros(3, np.int64)

    def allocate(self, spec: Spec) -> npt.NDArray[Any]:
        """Return an array with undefined contents."""
        raw = np.full(spec.nbytes, 0xCD if self.poison is None else self.poison, np.uint8)
        return _strided(raw.view(spec.dtype), spec)

    def alias(self, x: npt.NDArray[Any], spec: Spec, offset: int) -> npt.NDArray[Any]:
        """Return a view of `x`'s memory."""
        flat, first = flattened(x)
        return _strided(flat[first + offset :] if spec.size else flat[:0], spec)

    def bind(self, launch: Launch, slots: Sequence[int | None]) -> Callable[[Sequence[Any]], None]:
        """Make the kernel; return what simulates it."""
        if 0 in launch.groups:
            return lambda _: None
        program, found = program_of(launch), slots_of(launch, slots)
        preset: list[Any] = [None] * len(program.parameters)
        for at, value in found.constants:
            preset[at] = value
        for at in found.words:
            preset[at] = self._word

        def call(given: Sequence[Any]) -> None:
            arguments = preset.copy()
            for at, slot in found.arrays:
                flat, first = flattened(given[slot])
                arguments[at], arguments[at + 1] = flat.view(program.parameters[at].dtype), np.int64(first)
            for at, slot, kind in found.values:
                arguments[at] = converted(kind, given[slot], launch.kernel)
            simulate(program.function, launch.groups, launch.size, arguments)

        return call

    def from_numpy(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Copy a NumPy array, in C order."""
        return np.array(x, dtypes.canonical(x.dtype), order="C")

    def to_numpy(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a copy of `x`, and raise what kernels reported."""
        self.synchronize()
        return np.array(x, order="C")

    def synchronize(self) -> None:
        """Raise what kernels reported."""
        code, index, value = map(int, self._word)
        if code:
            self._word[:] = 0
            raise DeviceValueError(device_errors.message(code, index, value))

    def spec_of(self, x: npt.NDArray[Any]) -> Spec:
        """Return the spec of a NumPy array."""
        dtype = dtypes.canonical(x.dtype)
        return Spec(x.shape, dtype, tuple(s // dtype.itemsize for s in x.strides))

    def devices(self) -> list[DeviceInfo]:
        """Return the simulator."""
        return [DeviceInfo(self.device, "gpu", "numba", float16=True)]


def _strided(flat: npt.NDArray[Any], spec: Spec) -> npt.NDArray[Any]:
    size = spec.dtype.itemsize
    return np.lib.stride_tricks.as_strided(flat, spec.shape, [s * size for s in spec.strides])


def flattened(x: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], int]:
    """Return the memory that covers `x` as one axis, and where in it `x` begins."""
    if not x.size:
        return np.empty(1, x.dtype), 0
    turned: tuple[Any, ...] = (*(slice(None, None, -1 if s < 0 else 1) for s in x.strides), ...)
    lowest = x[turned]  # a view, of a 0-d array too
    size = x.dtype.itemsize
    reach = sum((n - 1) * s for n, s in zip(lowest.shape, lowest.strides, strict=True)) // size
    flat = np.lib.stride_tricks.as_strided(lowest, (reach + 1,), (size,))
    return flat, (x.__array_interface__["data"][0] - lowest.__array_interface__["data"][0]) // size
