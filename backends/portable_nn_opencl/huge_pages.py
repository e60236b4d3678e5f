"""Large pages under large buffers of CPU runtimes, which allocate them like any other memory.

Where Linux gives large pages only to who asks (`transparent_hugepage/enabled` is "madvise", the default of most), a training
step spends its time on page tables: every 4 KiB of an array of some MiB is one entry, and under a virtual machine each miss
walks two tables.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import numpy as np
import pyopencl as cl

LEAST = 4 << 20  # bytes from which on a buffer is advised: two large pages


class HugePages:
    """Asks for large pages under the buffers of one CPU queue, once per buffer."""

    def __init__(self) -> None:
        self._advised: set[int] = set()
        try:
            self._madvise: Any = ctypes.CDLL(None, use_errno=True).madvise
            self._advice = mmap.MADV_HUGEPAGE
        except (OSError, AttributeError):  # not Linux
            self._madvise = None

    def advise(self, queue: Any, buffer: Any, nbytes: int) -> None:
        """Ask for large pages under `buffer`, before anything is written to it. Nothing happens if the system refuses."""
        if self._madvise is None or buffer.int_ptr in self._advised:
            return
        self._advised.add(buffer.int_ptr)
        flags = cl.map_flags.READ  # a buffer that was never written: nothing waits, and nothing is copied on a CPU
        mapped, _ = cl.enqueue_map_buffer(queue, buffer, flags, 0, (nbytes,), np.uint8, is_blocking=True)
        start = mapped.ctypes.data
        mapped.base.release(queue)
        first, stop = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, (start + nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        self._madvise(ctypes.c_void_p(first), ctypes.c_size_t(stop - first), ctypes.c_int(self._advice))
