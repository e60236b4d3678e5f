"""OpenCLBackend: memory, transfers and launches on one device through one in-order queue.

One thread at a time per backend object: a bound launch sets arguments and enqueues in two steps.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pyopencl as cl

from portable_nn.core import dtypes
from portable_nn.core.array import DeviceArray
from portable_nn.core.backend import DeviceInfo
from portable_nn.core.errors import ArgumentError, BackendError, DTypeError
from portable_nn.core.spec import Spec
from portable_nn_kernels.host import gathered, span
from portable_nn_kernels.launch import Launch, Profile
from portable_nn_kernels.replay import FixedLaunch
from portable_nn_kernels.sizes import with_sizes
from portable_nn_kernels.timing import KernelTime as KernelTime
from portable_nn_kernels.timing import KernelTimes, TimedBackend

from . import devices as found_devices
from . import helpers
from .binding import bind, launcher, prepared
from .error_word import ErrorWord
from .expected import classifier_head
from .huge_pages import LEAST, HugePages
from .memory import MemoryStats, OutOfMemory, Pool, Revoked, Storage, refuse_revoked
from .profile import profile_of
from .programs import Programs

# Uploads up to this size are copied on the host and sent without waiting for the queue; larger ones wait, because
# the second copy would cost more than the wait.
_ASYNC_BYTES = 1 << 20
_UPLOADS = 64  # host copies kept in flight


class OpenCLBackend(TimedBackend):
    """Ops on an OpenCL device.

    Parameters
    ----------
    found : Found
        The device; see `devices.choose`.
    profile : Profile, optional
        What plans are told of it; tests run GPU-shaped kernels on a CPU by giving another one.

    Attributes
    ----------
    context, queue
        PyOpenCL's; arrays made by other code in this context, on this queue, can be passed to ops.
    """

    name = "opencl"
    counts_writes = True

    def __init__(self, found: found_devices.Found, profile: Profile | None = None) -> None:
        self.found = found
        self.device = found.name
        self.profile = profile or with_sizes(profile_of(found), self.name)
        self.context = cl.Context([found.device])
        self._queue = cl.CommandQueue(self.context)
        self._own_thread = _own_thread_queue(self.context, found)
        self._in_flight = False  # the queue may hold commands that are not done
        self._handed_out = False  # others may enqueue on it
        self.waits = 0  # how often the host waited for results: replays tell by it whether they are waited for
        self.programs = Programs(self.context, found, self.profile.float64)
        self.pool = Pool(self._queue)
        self.error_word = ErrorWord(self.context)
        self.events: list[tuple[str, str, int, Any]] | None = None
        self.poison: int | None = None  # a byte that fills every new allocation: tests find unwritten outputs
        self._uploads: deque[Any] = deque(maxlen=_UPLOADS)
        self._take = self.pool.take
        self._huge = HugePages() if found.kind == "cpu" else None
        if found.kind == "cpu" and helpers.waits(found):
            self.programs.expect(classifier_head(self.profile))

    def __repr__(self) -> str:
        return f"<OpenCLBackend on {self.found}>"

    # -- queues ---------------------------------------------------------------------------------------------------

    @property
    def queue(self) -> Any:
        """The in-order queue. Whoever has it may enqueue at any time, so from then on everything goes there."""
        self._handed_out = True
        return self.main_queue()

    def main_queue(self) -> Any:
        """Return the queue, to enqueue something on it."""
        self._in_flight = True
        return self._queue

    def quick_queue(self) -> Any:
        """Return the queue for small work: one whose commands run in the calling thread, before the call that enqueues returns.

        That keeps the order only while nothing is in flight on the other queue; else, and where there is none, that one it is.
        """
        if self._in_flight or self._own_thread is None or self._handed_out:
            self._in_flight = True
            return self._queue
        return self._own_thread

    # -- memory ---------------------------------------------------------------------------------------------------

    def allocate(self, spec: Spec) -> DeviceArray:
        """Return an array with undefined contents."""
        nbytes = spec.nbytes
        try:
            buffer = self._take(nbytes or 1)
        except OutOfMemory as error:
            raise self.pool.refuse(nbytes, self.device, error) from error
        if nbytes >= LEAST and self._huge is not None:
            self._huge.advise(self.main_queue(), buffer, nbytes)
        if self.poison is not None:
            cl.enqueue_fill_buffer(self.quick_queue(), buffer, np.uint8(self.poison), 0, nbytes or 1)
        return DeviceArray(Storage(buffer, nbytes), spec, 0, self)

    def alias(self, x: DeviceArray, spec: Spec, offset: int) -> DeviceArray:
        """Return a view of `x`'s storage."""
        return DeviceArray(x.storage, spec, x.offset + offset, self)

    def wrap(self, x: Any) -> DeviceArray:
        """Return a `pyopencl.array.Array` as an array that shares its memory. Waits for its queue if that is not ours."""
        if x.context != self.context:
            raise ArgumentError(
                f"the pyopencl array of shape {x.shape} is of another OpenCL context; make it on the queue of "
                f"portable_nn's backend object (its attribute queue), or copy it with portable_nn.asarray(x.get())"
            )
        dtype = dtypes.canonical(x.dtype)
        if x.offset % dtype.itemsize:
            raise ArgumentError(
                f"the pyopencl array starts at byte {x.offset}, which is not a multiple of its element size"
            )
        if x.queue is not None and x.queue != self._queue:
            x.queue.finish()
        spec = Spec(tuple(x.shape), dtype, tuple(s // dtype.itemsize for s in x.strides))
        return DeviceArray(Storage(x.base_data, x.base_data.size), spec, x.offset // dtype.itemsize, self)

    def memory_stats(self) -> MemoryStats:
        """Return bytes and blocks in use, held for reuse, and at the peak."""
        return self.pool.stats()

    def release_memory(self) -> None:
        """Give memory that no array uses back to the device."""
        self.synchronize()
        self.pool.trim()

    # -- transfers ------------------------------------------------------------------------------------------------

    def from_numpy(self, x: npt.NDArray[Any]) -> DeviceArray:
        """Copy a NumPy array to the device, in C order."""
        dtype = dtypes.canonical(x.dtype)
        if not self.supports(dtype):
            raise DTypeError(
                f"{self.device} has no {dtype.name} arithmetic; convert the array first, for example to float32"
            )
        y = self.allocate(Spec(x.shape, dtype))
        if x.size == 0:
            return y
        queue = self.quick_queue()
        if x.nbytes > _ASYNC_BYTES or queue is not self._queue:
            cl.enqueue_copy(queue, y.storage.buffer, _bytes(np.ascontiguousarray(x)))
            self._in_flight = False
            return y
        # PyOpenCL's event keeps our copy of the host array and waits when dropped, so the oldest one throttles us.
        sent = cl.enqueue_copy(queue, y.storage.buffer, _bytes(np.array(x, order="C")), is_blocking=False)
        self._uploads.append(sent)
        return y

    def to_numpy(self, x: DeviceArray) -> npt.NDArray[Any]:
        """Wait for `x`, copy it to the host, and raise what kernels reported."""
        spec = x.spec
        if spec.size == 0:
            self.synchronize()  # what was launched may have something to report
            return np.empty(spec.shape, spec.dtype)
        low, high = span(spec)
        # The range of memory that covers the array, as it lies; strides are applied on the host.
        flat = np.empty(high - low + 1, spec.dtype)
        try:
            cl.enqueue_copy(self.quick_queue(), _bytes(flat), x.storage.buffer, src_offset=(x.offset + low) * spec.dtype.itemsize)
        except (TypeError, cl.Error):
            refuse_revoked((x,))
            raise
        self._in_flight = False  # that waited for everything before it
        self.waits += 1
        self._uploads.clear()
        self.error_word.check(self.quick_queue())
        return gathered(flat, spec, low)

    def synchronize(self) -> None:
        """Wait for all launches, and raise what they reported."""
        self._queue.finish()
        self._in_flight = False
        self.waits += 1
        self._uploads.clear()
        self.error_word.check(self.quick_queue())

    # -- launches -------------------------------------------------------------------------------------------------

    def build(self, launches: Collection[Launch]) -> None:
        """Compile the programs of `launches`, on every core."""
        self.programs.build(launches)

    def bind(self, launch: Launch, slots: Sequence[int | None]) -> Callable[[Sequence[Any]], None]:
        """Build the kernel, preset its constants, and return what launches it."""
        return bind(self, launch, slots)

    def bind_fixed(self, launch: Launch, slots: Sequence[int | None]) -> Any:
        """Build the kernel and preset its constants."""
        return prepared(self, launch, slots)

    def launcher(self, launches: Sequence[FixedLaunch]) -> Callable[[], None]:
        """Set every argument that stays, and return what sets the others and enqueues."""
        return launcher(self, launches)

    def shared(self, x: DeviceArray) -> DeviceArray:
        """Return an array of the same memory with a storage of its own."""
        return DeviceArray(Storage(x.storage.buffer, x.storage.nbytes), x.spec, x.offset, self)

    def revoke(self, x: DeviceArray) -> None:
        """Take the memory from an array and all its views."""
        x.storage.buffer = Revoked()

    @contextmanager
    def profiling(self) -> Iterator[KernelTimes]:
        """Time every kernel launched inside the block; the list is filled when the block ends.

        Launches go through a second queue that measures; each takes a few microseconds longer to enqueue.
        """
        if self.events is not None:
            raise BackendError("profiling is already on")
        plain, own_thread = self._queue, self._own_thread
        plain.finish()  # the pool's blocks pass from one queue to the other: nothing may be in flight
        self._queue, self._own_thread = cl.CommandQueue(self.context, properties=cl.command_queue_properties.PROFILING_ENABLE), None
        ahead = max(self._clock_ahead() for _ in range(3))
        self.events = []
        times = KernelTimes(self.events)
        try:
            yield times
        finally:
            self._queue.finish()
            self._in_flight = False
            self._queue, self._own_thread, recorded, self.events = plain, own_thread, self.events, None
            for kernel, op, nbytes, event in recorded:
                start = event.profile.start
                times.append(KernelTime(kernel, op, event.profile.end - start, nbytes, start + ahead))

    def _clock_ahead(self) -> int:
        """Return how far the host's clock is before the device's, less the time an enqueue takes. Not by a marker: Intel's have a clock of their own."""
        buffer = cl.Buffer(self.context, cl.mem_flags.READ_WRITE, 4)
        host = time.perf_counter_ns()
        mark = cl.enqueue_fill_buffer(self._queue, buffer, np.uint8(0), 0, 4)
        mark.wait()
        return int(host - mark.profile.queued)

    # -- what it is -----------------------------------------------------------------------------------------------

    def spec_of(self, x: DeviceArray) -> Spec:
        """Return the spec of an array."""
        return x.spec

    def version_of(self, x: DeviceArray) -> int:
        """Return the number of in-place writes to `x`'s storage."""
        return int(x.storage.version)

    def devices(self) -> list[DeviceInfo]:
        """Return all devices, the current one first."""
        ordered = sorted(found_devices.found(), key=lambda d: d.key != self.found.key)
        return [found_devices.info(d) for d in ordered]


def _own_thread_queue(context: Any, found: found_devices.Found) -> Any:
    """Return a queue whose commands run in the calling thread (Intel's CPU runtime has such); None where there is none."""
    if found.kind != "cpu" or "cl_intel_exec_by_local_thread" not in found.device.extensions.split():
        return None
    try:
        return cl.CommandQueue(context, properties=1 << 31)  # CL_QUEUE_THREAD_LOCAL_EXEC_ENABLE_INTEL
    except cl.Error:
        return None


def _bytes(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a contiguous array as what the buffer protocol knows: bfloat16, which it does not, as bytes."""
    return x if x.dtype.isbuiltin == 1 else x.reshape(-1).view(np.uint8)
