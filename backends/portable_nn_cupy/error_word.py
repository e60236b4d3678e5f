"""The device error word: how a kernel says that a label or an index it met is out of range."""

from __future__ import annotations

import cupy
import numpy as np

from portable_nn.core import device_errors
from portable_nn.core.errors import DeviceValueError


class ErrorWord:
    """The device's three int64 [code, index, value], all zero while nothing is wrong."""

    def __init__(self) -> None:
        self.array = cupy.ndarray((3,), np.int64)
        self.array.data.memset(0, self.array.nbytes)  # not the stream's: kernels of any stream may report
        self.armed = False  # a kernel that may report was launched since the last look

    def check(self) -> None:
        """Read the word if a kernel could have set it; raise what it says and reset it. Waits for the current stream."""
        if not self.armed:
            return
        code, index, value = (int(n) for n in self.array.get())
        self.armed = False
        if code:
            self.array.data.memset_async(0, self.array.nbytes)
            raise DeviceValueError(device_errors.message(code, index, value))
