"""Device memory: storages that views share, cut from a pool of the queue.

The pool hands a freed block to the next allocation at once, while kernels that use it may still be waiting. That is
right because there is one in-order queue per pool: whatever uses the block next runs later. A second queue needs a
second pool, or `finish` in between (which is what profiling does).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyopencl as cl
from pyopencl.tools import ImmediateAllocator, MemoryPool

from portable_nn.core.errors import BackendError, StaleArray


class Storage:
    """A block of device memory. Every view holds it; when the last one goes, the block returns to its pool.

    Parameters
    ----------
    buffer : pyopencl.PooledBuffer or pyopencl.Buffer
    nbytes : int
    """

    __slots__ = ("buffer", "nbytes", "version")

    def __init__(self, buffer: Any, nbytes: int) -> None:
        self.buffer = buffer
        self.nbytes = nbytes
        self.version = 0  # grows at every in-place write


class Revoked:
    """Stands where the buffer of a storage was whose memory a captured step has taken."""


def refuse_revoked(arrays: Iterable[Any]) -> None:
    """Raise `StaleArray` if the memory of one of these arrays was taken."""
    for x in arrays:
        if isinstance(getattr(getattr(x, "storage", None), "buffer", None), Revoked):
            raise StaleArray(
                f"an array of shape {x.shape} was used after it was given to a captured step that donates it: its memory holds "
                "what the step returned; use that, or copy the array before (ops.astype)"
            )


@dataclass(frozen=True, slots=True)
class MemoryStats:
    """Bytes and blocks of a pool.

    Parameters
    ----------
    active_bytes, active_blocks : int
        In use by arrays.
    held_bytes : int
        Taken from the device: active, and free for reuse.
    peak_bytes : int
        The most ever taken from the device.
    held_blocks : int
        Blocks free for reuse.
    """

    active_bytes: int
    active_blocks: int
    held_bytes: int
    held_blocks: int
    peak_bytes: int


class Pool:
    """The memory of one queue, in size bins (16 per power of two)."""

    def __init__(self, queue: Any) -> None:
        self._pool = MemoryPool(ImmediateAllocator(queue))
        self._peak = 0
        self.take = self._pool.allocate  # bytes (at least 1) -> buffer; bound here because every output passes it

    def refuse(self, nbytes: int, device: str, error: Exception) -> BackendError:
        """Return the error for an allocation that failed."""
        stats = self.stats()
        return BackendError(
            f"{device} has no memory for {nbytes} bytes ({error}); {stats.active_bytes} are in use by "
            f"{stats.active_blocks} arrays, {stats.held_bytes} taken from the device"
        )

    def stats(self) -> MemoryStats:
        """Return what the pool holds."""
        pool = self._pool
        self._peak = max(self._peak, pool.managed_bytes)
        return MemoryStats(pool.active_bytes, pool.active_blocks, pool.managed_bytes, pool.held_blocks, self._peak)

    def trim(self) -> None:
        """Give the free blocks back to the device."""
        self.stats()  # remember the peak
        self._pool.free_held()


OutOfMemory = cl.MemoryError
