"""Bound launches: a kernel object of one's own whose constants are preset, so that a call sets buffers and enqueues.

This is the hottest Python of the backend. Measured on the Intel CPU runtime (pyopencl 2026.1): `set_arg` of a buffer
0.09 us, of a NumPy scalar 5.5 us (it tries a memory object first), of packed bytes through `_set_arg_buf` 0.12 us;
`enqueue_nd_range_kernel` 1.7 us; `kernel(queue, ...)` with everything 8 to 23 us.

Small work on CPUs: handing a launch to the runtime's threads and waiting for it costs 10 us on two virtual cores of an Intel
Xeon (4 us for each further launch), running it in the calling thread 2.5 us (1.6 us). So what takes one core less than is saved
goes to the calling thread's queue, if nothing is in flight on the other (`OpenCLBackend.quick_queue`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from struct import Struct
from struct import error as struct_error
from typing import TYPE_CHECKING, Any

import numpy as np
import pyopencl as cl

from portable_nn.core.errors import ArgumentError, BackendError
from portable_nn_kernels.launch import Const, ErrorWord, Launch, Ref, Value
from portable_nn_kernels.scalars import SCALAR

from .memory import refuse_revoked

if TYPE_CHECKING:
    from portable_nn_kernels.replay import FixedLaunch

    from .opencl import OpenCLBackend

_PACK = {tag: Struct(f"={char}").pack for tag, char in
         {"i32": "i", "i64": "q", "u32": "I", "u64": "Q", "f32": "f", "f64": "d"}.items()}  # fmt: skip
_pack_offset = _PACK["i64"]
_PER_MICROSECOND = 50_000  # bytes or operations that one core does
_SAVED = 3.0  # microseconds saved by a launch in the calling thread
_HANDED_OVER = 6.0  # and more by a replay whose results are waited for, as the last one's were


def packed(tag: str, value: Any, kernel: str) -> bytes:
    """Return a Python scalar as the bytes of a kernel argument; floats round and overflow as in NumPy."""
    try:
        return _PACK[tag](value)
    except OverflowError:  # 1e300 as float32 is inf
        with np.errstate(over="ignore"):
            return bytes(np.float32(value).tobytes())
    except struct_error as error:
        raise ArgumentError(f"{kernel}: the scalar {value!r} does not fit {tag} ({error})") from None


@dataclass(slots=True)
class Bound:
    """A kernel object whose constants are preset, and what is set and told at each launch.

    Parameters
    ----------
    arrays : list of (argument, slot)
        Base pointers; the offset is the argument after.
    values : list of (argument, slot, tag)
        Numbers passed by value.
    reports : bool
        The kernel may set the device error word.
    cost : float
        Microseconds that one core needs, roughly: what it moves and computes.
    """

    name: str
    op: str
    nbytes: int
    kernel: Any
    whole: tuple[int, ...]
    local: tuple[int, ...]
    arrays: list[tuple[int, int]]
    values: list[tuple[int, int, str]]
    reports: bool
    cost: float

    @property
    def set_bytes(self) -> Callable[[int, bytes], None]:
        """What sets an argument from packed bytes."""
        return _set_bytes(self.kernel)


def _set_bytes(kernel: Any) -> Callable[[int, bytes], None]:
    found: Callable[[int, bytes], None] = getattr(kernel, "_set_arg_buf", kernel.set_arg)
    return found


def prepared(backend: OpenCLBackend, launch: Launch, slots: Sequence[int | None]) -> Bound | None:
    """Build the kernel and preset its constants; None for a launch of no groups."""
    if 0 in launch.groups:
        return None
    kernel = backend.programs.kernel(launch)
    set_bytes = _set_bytes(kernel)
    arrays: list[tuple[int, int]] = []
    values: list[tuple[int, int, str]] = []
    reports = False
    at = 0
    for arg, slot in zip(launch.args, slots, strict=True):
        if isinstance(arg, Ref):
            assert slot is not None
            arrays.append((at, slot))
            set_bytes(at + 1, _pack_offset(0))
            at += 2
        elif isinstance(arg, Const):
            set_bytes(at, SCALAR[arg.tag](arg.value).tobytes())
            at += 1
        elif isinstance(arg, Value):
            assert slot is not None
            values.append((at, slot, arg.tag))
            at += 1
        elif isinstance(arg, ErrorWord):
            kernel.set_arg(at, backend.error_word.argument)
            set_bytes(at + 1, packed("i32", arg.code, launch.kernel))
            reports = True
            at += 2
    if at != kernel.num_args:
        raise BackendError(f"{launch.kernel}: the plan gives {at} arguments but the kernel has {kernel.num_args}")
    op, nbytes, operations = backend.described(slots)
    cost = max(nbytes, operations) / _PER_MICROSECOND
    whole = tuple(g * n for g, n in zip(launch.groups, launch.size, strict=True))
    return Bound(launch.kernel, op, nbytes, kernel, whole, launch.size, arrays, values, reports, cost)


def bind(backend: OpenCLBackend, launch: Launch, slots: Sequence[int | None]) -> Callable[[Sequence[Any]], None]:
    """Return what sets the arguments that change from call to call, and enqueues the launch."""
    bound = prepared(backend, launch, slots)
    if bound is None:
        return lambda _: None
    kernel, whole, local, name, op, nbytes, reports = (
        bound.kernel, bound.whole, bound.local, bound.name, bound.op, bound.nbytes, bound.reports,
    )  # fmt: skip
    set_arg, set_bytes, enqueue = kernel.set_arg, bound.set_bytes, cl.enqueue_nd_range_kernel
    offsets = [0] * len(slots)  # by argument of the launch, as the kernel object has them now
    last: list[Any] = [None] * len(bound.values)
    word, alone = backend.error_word, bound.cost * (1 - 1 / backend.profile.units) < _SAVED
    numbered = [(i, at, slot) for i, (at, slot) in enumerate(bound.arrays)]
    scalars = [(i, at, slot, tag) for i, (at, slot, tag) in enumerate(bound.values)]

    def call(given: Sequence[Any]) -> None:
        try:
            for i, at, slot in numbered:
                x = given[slot]
                set_arg(at, x.storage.buffer)
                if x.offset != offsets[i]:
                    set_bytes(at + 1, _pack_offset(x.offset))
                    offsets[i] = x.offset
        except (TypeError, cl.Error):
            refuse_revoked(given)
            raise
        for i, at, slot, tag in scalars:
            value = given[slot]
            if value is not last[i]:  # identity: 0.0 == -0.0, and nan != nan
                set_bytes(at, packed(tag, value, name))
                last[i] = value
        if reports:
            word.armed = True
        event = enqueue(backend.quick_queue() if alone else backend.main_queue(), kernel, whole, local)
        if backend.events is not None:
            backend.events.append((name, op, nbytes, event))

    return call


def launcher(backend: OpenCLBackend, launches: Sequence[FixedLaunch]) -> Callable[[], None]:
    """Return what enqueues a replay: what never changes is set here, once."""
    kept = [launch for launch in launches if launch.bound is not None]
    arrays: list[tuple[int, Any, Any, int, list[Any], int]] = []  # what changes: (number, setters, argument, list, position in it)
    values: list[tuple[Any, int, list[Any], int, str, str]] = []
    for launch in kept:
        bound: Bound = launch.bound
        given, set_arg, set_bytes = launch.given, bound.kernel.set_arg, bound.set_bytes
        for at, slot in bound.arrays:
            if slot in launch.changing:
                arrays.append((len(arrays), set_arg, set_bytes, at, given, slot))
            else:
                set_arg(at, given[slot].storage.buffer)
                set_bytes(at + 1, _pack_offset(given[slot].offset))
        for at, slot, tag in bound.values:
            if slot in launch.changing:
                values.append((set_bytes, at, given, slot, tag, bound.name))
            else:
                set_bytes(at, packed(tag, given[slot], bound.name))
    enqueued = [(launch.bound.kernel, launch.bound.whole, launch.bound.local) for launch in kept]
    told = [(launch.bound.name, launch.bound.op, launch.bound.nbytes) for launch in kept]
    reports = any(launch.bound.reports for launch in kept)
    enqueue, word, pack = cl.enqueue_nd_range_kernel, backend.error_word, _pack_offset
    cost = sum(launch.bound.cost for launch in kept)
    lost = cost * (1 - 1 / backend.profile.units) - _SAVED * len(kept)
    waits = -1
    offsets = [0] * len(arrays)  # as the kernel objects have them now

    def run() -> None:
        nonlocal waits
        alone, waits = lost < (_HANDED_OVER if waits != backend.waits else 0), backend.waits
        for number, set_arg, set_bytes, at, given, slot in arrays:
            x = given[slot]
            try:
                set_arg(at, x.storage.buffer)
            except (TypeError, cl.Error):
                refuse_revoked((x,))
                raise
            if x.offset != offsets[number]:
                set_bytes(at + 1, pack(x.offset))
                offsets[number] = x.offset
        for set_bytes, at, given, slot, tag, name in values:
            set_bytes(at, packed(tag, given[slot], name))
        if reports:
            word.armed = True
        queue, events = backend.quick_queue() if alone else backend.main_queue(), backend.events
        if events is None:
            for kernel, whole, local in enqueued:
                enqueue(queue, kernel, whole, local)
        else:
            for (kernel, whole, local), what in zip(enqueued, told, strict=True):
                events.append((*what, enqueue(queue, kernel, whole, local)))

    return run
