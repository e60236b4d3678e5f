"""CudaOnCpu: plans for a GPU profile, NumPy memory, and each launch run by fibers before it returns."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from portable_nn.core import device_errors, dtypes
from portable_nn.core.array import DeviceArray
from portable_nn.core.backend import DeviceInfo
from portable_nn.core.errors import BackendError, DeviceValueError
from portable_nn.core.spec import Spec
from portable_nn_kernels.device import DeviceBackend
from portable_nn_kernels.launch import Const, ErrorWord, Launch, Profile, Ref, Value
from portable_nn_kernels.scalars import scalar

from .build import kernel_of

# A mid-size NVIDIA GPU, but for the number of units: samples are small, and the plans for many units differ only in
# how far they split.
PROFILE = Profile(
    "gpu", vendor="nvidia", name="cuda_cpu", units=4, group_limit=256, local_bytes=48 * 1024, float64=True, float16=True, vector=1
)
ORDERS = ("forward", "reverse", "alternate")
_TYPES = {
    "i32": ctypes.c_int32, "i64": ctypes.c_int64, "u32": ctypes.c_uint32, "u64": ctypes.c_uint64,
    "f32": ctypes.c_float, "f64": ctypes.c_double,
}  # fmt: skip
_GRID_LIMITS = (2**31 - 1, 65535, 65535)  # CUDA's, for the grid
_BLOCK_LIMITS = (1024, 1024, 64)


class Storage:
    """Bytes of the host."""

    __slots__ = ("nbytes", "raw", "version")

    def __init__(self, raw: npt.NDArray[np.uint8]) -> None:
        self.raw = raw
        self.nbytes = raw.size
        self.version = 0


class CudaOnCpu(DeviceBackend):
    """CUDA text on the CPU.

    Parameters
    ----------
    order : str, optional
        Of blocks and threads: "forward", "reverse" or "alternate"; PORTABLE_NN_CUDA_CPU_ORDER by default.
    sanitized : bool
        Compile with the address and undefined-behaviour sanitizers (the process must have been started for them).
    """

    name = "cuda_cpu"
    package = "portable_nn_cupy"  # whose gaps it has
    device = "fibers"

    def __init__(self, order: str | None = None, sanitized: bool = False, profile: Profile = PROFILE) -> None:
        self.order = order or os.environ.get("PORTABLE_NN_CUDA_CPU_ORDER", "alternate")
        if self.order not in ORDERS:
            raise BackendError(f"PORTABLE_NN_CUDA_CPU_ORDER is {self.order!r}; it must be one of {', '.join(ORDERS)}")
        self.reverse = self.order == "reverse"
        self.flush = os.environ.get("PORTABLE_NN_CUDA_CPU_FLUSH") == "1"
        self.sanitized = sanitized
        self.profile = profile
        self.poison: int | None = None
        self.launched: list[str] | None = None  # names of the kernels run, if a test wants them
        self._word = np.zeros(3, np.int64)

    def allocate(self, spec: Spec) -> DeviceArray:
        """Return an array with undefined contents."""
        raw = np.full(spec.nbytes, 0xCD if self.poison is None else self.poison, np.uint8)
        return DeviceArray(Storage(raw), spec, 0, self)

    def alias(self, x: DeviceArray, spec: Spec, offset: int) -> DeviceArray:
        """Return a view of `x`'s storage."""
        return DeviceArray(x.storage, spec, x.offset + offset, self)

    def bind(self, launch: Launch, slots: Sequence[int | None]) -> Callable[[Sequence[Any]], None]:
        """Compile the kernel; return what runs it."""
        if 0 in launch.groups:
            return lambda _: None
        for sizes, limits in ((launch.groups, _GRID_LIMITS), (launch.size, _BLOCK_LIMITS)):
            if any(n > limit for n, limit in zip(sizes, limits, strict=False)):
                raise BackendError(f"{launch.kernel}: groups {launch.groups} of {launch.size} are more than CUDA's {limits}")
        kernel = kernel_of(launch.kernel, launch.source, launch.defines, self.sanitized)

        def call(given: Sequence[Any]) -> None:
            values: list[Any] = []
            for arg, slot in zip(launch.args, slots, strict=True):
                if isinstance(arg, Ref):
                    assert slot is not None
                    x = given[slot]
                    values += [ctypes.c_void_p(x.storage.raw.ctypes.data), ctypes.c_int64(x.offset)]
                elif isinstance(arg, ErrorWord):
                    values += [ctypes.c_void_p(self._word.ctypes.data), ctypes.c_int32(arg.code)]
                elif isinstance(arg, Const):
                    values.append(_TYPES[arg.tag](scalar(arg.tag, arg.value, launch.kernel).item()))
                elif isinstance(arg, Value):
                    assert slot is not None
                    values.append(_TYPES[arg.tag](scalar(arg.tag, given[slot], launch.kernel).item()))
            if self.launched is not None:
                self.launched.append(launch.kernel)
            kernel(launch.groups, launch.size, values, self.reverse, self.flush)

        return call

    def from_numpy(self, x: npt.NDArray[Any]) -> DeviceArray:
        """Copy a NumPy array, in C order."""
        spec = Spec(x.shape, dtypes.canonical(x.dtype))
        return DeviceArray(Storage(np.array(x, order="C").reshape(-1).view(np.uint8)), spec, 0, self)

    def to_numpy(self, x: DeviceArray) -> npt.NDArray[Any]:
        """Return a copy of `x`, and raise what kernels reported."""
        self._check()
        spec, size = x.spec, x.spec.dtype.itemsize
        if not spec.size:
            return np.empty(spec.shape, spec.dtype)
        flat = x.storage.raw.view(spec.dtype)[x.offset :]
        return np.array(np.lib.stride_tricks.as_strided(flat, spec.shape, [s * size for s in spec.strides]), order="C")

    def synchronize(self) -> None:
        """Raise what kernels reported. In alternating order, turn round."""
        self._check()
        if self.order == "alternate":
            self.reverse = not self.reverse

    def _check(self) -> None:
        code, index, value = map(int, self._word)
        if code:
            self._word[:] = 0
            raise DeviceValueError(device_errors.message(code, index, value))

    def spec_of(self, x: DeviceArray) -> Spec:
        """Return the spec of an array."""
        return x.spec

    def version_of(self, x: DeviceArray) -> int:
        """Return the number of in-place writes."""
        return int(x.storage.version)

    def devices(self) -> list[DeviceInfo]:
        """Return the one device."""
        return [DeviceInfo(self.device, "gpu", "g++")]
