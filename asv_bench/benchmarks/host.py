"""What one op call costs on the host, where no time goes into arithmetic: dispatch, shape rule, launch, tape."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np

from portable_nn import ops
from portable_nn.core import selection
from portable_nn.core.tape import Tape

from .choice import backend

_SHAPE = (64, 64)


def _operands(name: str) -> tuple[Any, Any]:
    x = np.zeros(_SHAPE, np.float32)
    there = backend(name)
    return there.from_numpy(x), there.from_numpy(x)


class Call:
    """One call against the null backend, which plans like a device and launches nothing."""

    version = "1"
    number = 1000
    repeat = (5, 20, 2.0)
    warmup_time = 0.1

    def setup(self) -> None:
        if not hasattr(self, "x1"):
            self.x1, self.x2 = _operands("null")

    def time_add(self) -> None:
        """An elementwise op."""
        ops.add(self.x1, self.x2)

    def time_matmul(self) -> None:
        """An op with a plan of its own."""
        ops.matmul(self.x1, self.x2)

    def time_setting(self) -> None:
        """An op with a setting by name."""
        ops.sum(self.x1, axis=1)


class Taped:
    """One call that a tape records. Microseconds per call: a tape is opened for every thousand."""

    version = "1"
    unit = "us"

    def setup(self) -> None:
        self.x1, self.x2 = _operands("null")

    def _median(self, op: Any) -> float:
        found = []
        for _ in range(21):
            with Tape() as tape:
                w = tape.watch(self.x1)
                start = perf_counter()
                for _ in range(1000):
                    op(w, self.x2)
                found.append(perf_counter() - start)
        return float(np.median(found)) * 1e3

    def track_add(self) -> float:
        return self._median(ops.add)

    def track_matmul(self) -> float:
        return self._median(ops.matmul)


class Enqueue:
    """One call on a device to the end of the enqueue. Microseconds per call; the wait is outside the clock."""

    version = "1"
    unit = "us"
    params = (["opencl"],)
    param_names = ("backend",)

    def setup(self, name: str) -> None:
        self.x1, self.x2 = _operands(name)

    def _median(self, name: str, op: Any) -> float:
        device = selection.get(name)
        found = []
        for _ in range(101):
            device.synchronize()
            start = perf_counter()
            for _ in range(64):  # fewer than any queue holds
                op(self.x1, self.x2)
            found.append((perf_counter() - start) / 64)
        device.synchronize()
        return float(np.median(found)) * 1e6

    def track_add(self, name: str) -> float:
        return self._median(name, ops.add)

    def track_matmul(self, name: str) -> float:
        return self._median(name, ops.matmul)
