"""CupyBackend: memory from CuPy's pool, launches on the current stream, arrays that are the user's own `cupy.ndarray`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import cupy
import numpy as np
import numpy.typing as npt

from portable_nn.core import dtypes
from portable_nn.core.backend import DeviceInfo, Prepared
from portable_nn.core.call import Call
from portable_nn.core.errors import ArgumentError, BackendError, DTypeError
from portable_nn.core.op import Op
from portable_nn.core.program import Program, Replay
from portable_nn.core.spec import Spec
from portable_nn_kernels.host import gathered, span
from portable_nn_kernels.launch import Launch, Profile
from portable_nn_kernels.replay import FixedLaunch
from portable_nn_kernels.sizes import with_sizes
from portable_nn_kernels.timing import KernelTime, KernelTimes, TimedBackend

from . import devices as found_devices
from .binding import bind
from .error_word import ErrorWord
from .graph import GraphReplay
from .programs import Programs


class CupyBackend(TimedBackend):
    """Ops on a device of CuPy.

    Launches go to CuPy's current stream, so `with stream:` works as for CuPy's own functions, and so do its rules:
    whoever uses an array on two streams makes one wait for the other.

    Parameters
    ----------
    index : int
        The device.
    profile : Profile, optional
        What plans are told of it.
    """

    name = "cupy"

    def __init__(self, index: int, profile: Profile | None = None) -> None:
        found_devices.probe(index)
        self.index = index
        self.device = found_devices.name_of(index)
        self.profile = profile or with_sizes(found_devices.profile_of(index), self.name)
        self.programs = Programs()
        self.poison: int | None = None  # a byte that fills every new allocation: tests find unwritten outputs
        self.times: list[tuple[tuple[str, str, int], Any, Any]] | None = None
        self._cupy_device = cupy.cuda.Device(index)
        self._sole = found_devices.sole()
        self._specs: dict[tuple[Any, ...], Spec] = {}
        with self._cupy_device:
            self.error_word = ErrorWord()

    def __repr__(self) -> str:
        return f"<CupyBackend on {self.device} ({self.index})>"

    # -- memory ---------------------------------------------------------------------------------------------------

    def allocate(self, spec: Spec) -> Any:
        """Return an array with undefined contents, from CuPy's current allocator."""
        try:
            if spec.contiguous:
                y = cupy.ndarray(spec.shape, spec.dtype)
            else:
                y = self._array(spec, cupy.cuda.alloc(spec.nbytes))
        except cupy.cuda.memory.OutOfMemoryError as error:
            raise BackendError(f"{self.device} has no memory for {spec.nbytes} bytes ({error})") from error
        if self.poison is not None and spec.nbytes:
            y.data.memset_async(self.poison, spec.nbytes)
        return y

    def alias(self, x: Any, spec: Spec, offset: int) -> Any:
        """Return a view of `x`'s memory."""
        return self._array(spec, x.data + offset * spec.dtype.itemsize)

    @staticmethod
    def _array(spec: Spec, memory: Any) -> Any:
        if spec.contiguous:
            return cupy.ndarray(spec.shape, spec.dtype, memory)
        size = spec.dtype.itemsize
        return cupy.ndarray(spec.shape, spec.dtype, memory, tuple(s * size for s in spec.strides))

    def release_memory(self) -> None:
        """Give memory that no array uses back to the device."""
        self.synchronize()
        cupy.get_default_memory_pool().free_all_blocks()

    # -- transfers ------------------------------------------------------------------------------------------------

    def from_numpy(self, x: npt.NDArray[Any]) -> Any:
        """Copy a NumPy array to the device, in C order. The host array may change right after."""
        dtype = dtypes.canonical(x.dtype)
        if not self.supports(dtype):
            raise DTypeError(f"CuPy {cupy.__version__} has no arrays of {dtype.name}; install CuPy 14, or convert the array first")
        with self._cupy_device:
            y = self.allocate(Spec(x.shape, dtype))
            if x.size:
                y.set(np.ascontiguousarray(x).reshape(x.shape))
        return y

    def to_numpy(self, x: Any) -> npt.NDArray[Any]:
        """Wait for the current stream, copy `x` to the host, and raise what kernels reported."""
        spec = self.spec_of(x)
        with self._cupy_device:
            if not spec.size:
                self.error_word.check()
                return np.empty(spec.shape, spec.dtype)
            low, high = span(spec)
            # The memory that covers the array, as it lies: x.get() would make strided arrays dense by CuPy's kernels.
            covering = cupy.ndarray((high - low + 1,), spec.dtype, x.data + low * spec.dtype.itemsize)
            flat: npt.NDArray[Any] = covering.get()
            self.error_word.check()
        return gathered(flat, spec, low)

    def synchronize(self) -> None:
        """Wait for all streams of the device, and raise what kernels reported."""
        with self._cupy_device:
            self._cupy_device.synchronize()
            self.error_word.check()

    # -- launches -------------------------------------------------------------------------------------------------

    def prepare(self, op: Op, call: Call) -> Prepared:
        """Plan, compile, and return what allocates and launches, on this device even if another is the current one."""
        with self._cupy_device:
            run = super().prepare(op, call)
        if self._sole:
            return run
        get, index, device = cupy.cuda.runtime.getDevice, self.index, self._cupy_device

        def run_here(operands: Sequence[Any]) -> tuple[Any, ...]:
            if get() == index:
                return run(operands)
            with device:
                return run(operands)

        return run_here

    def bind(self, launch: Launch, slots: Sequence[int | None]) -> Callable[[Sequence[Any]], None]:
        """Compile the kernel, preset its constants, and return what launches it."""
        return bind(self, launch, slots)

    def replay(self, program: Program) -> Replay:
        """Plan and bind a captured step on this device, even if another is the current one."""
        with self._cupy_device:
            made = super().replay(program)
        if self._sole:
            return made
        device = self._cupy_device

        def run_here(arrays: Sequence[Any], numbers: Sequence[Any]) -> list[Any]:
            with device:
                return made(arrays, numbers)

        return run_here

    def launcher(self, launches: Sequence[FixedLaunch]) -> Callable[[], None]:
        """Return what launches a replay: graphs of what stays, and the launches between them."""
        return GraphReplay(self, launches)

    def timed(self, kernel: Any, grid: tuple[int, ...], block: tuple[int, ...], args: list[Any], what: tuple[str, str, int]) -> None:
        """Launch between two events of the current stream."""
        assert self.times is not None
        start, stop = cupy.cuda.Event(), cupy.cuda.Event()
        start.record()
        kernel(grid, block, args)
        stop.record()
        self.times.append((what, start, stop))

    @contextmanager
    def profiling(self) -> Iterator[KernelTimes]:
        """Time every kernel launched inside the block; the list is filled when the block ends.

        Two events around each launch: the time holds a microsecond or two of the launch itself.
        """
        if self.times is not None:
            raise BackendError("profiling is already on")
        first = cupy.cuda.Event()
        first.record()
        self._cupy_device.synchronize()
        began = time.perf_counter_ns()
        self.times = []
        made = KernelTimes(self.times)
        try:
            yield made
        finally:
            recorded, self.times = self.times, None
            self._cupy_device.synchronize()
            for (kernel, op, nbytes), start, stop in recorded:
                ns = round(cupy.cuda.get_elapsed_time(start, stop) * 1e6)
                after = round(cupy.cuda.get_elapsed_time(first, start) * 1e6)
                made.append(KernelTime(kernel, op, ns, nbytes, began + after))

    # -- what it is -----------------------------------------------------------------------------------------------

    def spec_of(self, x: Any) -> Spec:
        """Return the spec of a `cupy.ndarray`."""
        key = (x.shape, x.dtype, x.strides)
        found = self._specs.get(key)
        if found is None:
            dtype = dtypes.canonical(x.dtype)
            size = dtype.itemsize
            if any(s % size for s in x.strides):
                raise ArgumentError(f"the cupy array has strides of {x.strides} bytes, which are no multiples of its element size, {size}")
            if x.data.device_id != self.index:
                raise ArgumentError(f"the cupy array is on device {x.data.device_id}, but the backend is on {self.index}")
            found = Spec(x.shape, dtype, tuple(s // size for s in x.strides))
            if len(self._specs) >= 65536:  # a process that walks through ever new shapes must not keep them all
                self._specs.clear()
            self._specs[key] = found
        return found

    def supports(self, dtype: Any) -> bool:
        """Tell whether CuPy has arrays of `dtype`."""
        return super().supports(dtype) and (dtype != dtypes.bfloat16 or found_devices.stores_bfloat16())

    def devices(self) -> list[DeviceInfo]:
        """Return all devices, the current one first."""
        order = sorted(range(found_devices.count()), key=lambda i: i != self.index)
        return [found_devices.info(i) for i in order]
