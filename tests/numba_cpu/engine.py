"""NumbaOnCpu: `CudaOnCpu` with numba's kernels in place of the CUDA text."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from cuda_cpu.engine import CudaOnCpu

from portable_nn_kernels.launch import Launch
from portable_nn_numba.programs import converted, program_of, slots_of
from portable_nn_numba.shim import word_arguments

from .build import Kernel

_C = {np.int32: ctypes.c_int32, np.int64: ctypes.c_int64, np.uint32: ctypes.c_uint32, np.uint64: ctypes.c_uint64,
      np.float32: ctypes.c_float, np.float64: ctypes.c_double}  # fmt: skip


def _scalar(value: Any) -> Any:
    return _C[type(value)](value.item())


class NumbaOnCpu(CudaOnCpu):
    """Numba's kernels on the CPU, thread by thread."""

    name = "numba_cpu"
    package = "portable_nn_numba"
    device = "fibers"

    def bind(self, launch: Launch, slots: Sequence[int | None]) -> Callable[[Sequence[Any]], None]:
        """Compile the kernel; return what runs it."""
        if 0 in launch.groups:
            return lambda _: None
        kernel = self._kernel(launch)
        found = slots_of(launch, slots)
        preset: list[list[Any]] = [[] for _ in kernel.parameters]
        for at, value in found.constants:
            preset[at] = [_scalar(value)]
        for at in found.words:
            data = ctypes.c_void_p(self._word.ctypes.data)
            preset[at] = [data if value is data else _scalar(value) for value in word_arguments(data)]

        def call(given: Sequence[Any]) -> None:
            values = list(preset)
            for at, slot in found.arrays:
                x = given[slot]
                values[at], values[at + 1] = [ctypes.c_void_p(x.storage.raw.ctypes.data)], [ctypes.c_int64(x.offset)]
            for at, slot, kind in found.values:
                values[at] = [_scalar(converted(kind, given[slot], launch.kernel))]
            if self.launched is not None:
                self.launched.append(launch.kernel)
            kernel(launch.groups, launch.size, [v for several in values for v in several], self.reverse)

        return call

    def _kernel(self, launch: Launch) -> Kernel:
        program = program_of(launch)
        found = self._kernels.get(program.digest)
        if found is None:
            found = self._kernels[program.digest] = Kernel(program)
        return found

    @property
    def _kernels(self) -> dict[str, Kernel]:
        return self.__dict__.setdefault("_compiled", {})  # type: ignore[no-any-return]
