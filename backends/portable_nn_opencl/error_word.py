"""The device error word: how a kernel says that a label or an index it met is out of range."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyopencl as cl

from portable_nn.core import device_errors
from portable_nn.core.errors import DeviceValueError


class ErrorWord:
    """The device's three int64 [code, index, value], all zero while nothing is wrong."""

    def __init__(self, context: Any) -> None:
        zero = np.zeros(3, np.int64)
        self.buffer = cl.Buffer(context, cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR, hostbuf=zero)
        self.armed = False  # a kernel that may report was launched since the last look

    def check(self, queue: Any) -> None:
        """Read the word if a kernel could have set it; raise what it says and reset it. Waits for the queue."""
        if not self.armed:
            return
        word = np.zeros(3, np.int64)
        cl.enqueue_copy(queue, word, self.buffer)
        self.armed = False
        code, index, value = (int(n) for n in word)
        if code:
            cl.enqueue_copy(queue, self.buffer, np.zeros(3, np.int64))
            raise DeviceValueError(device_errors.message(code, index, value))
