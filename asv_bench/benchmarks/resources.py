"""What a training step takes besides time: memory, compilation; and a whole run of the trainer, with what it learns."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tracemalloc
from typing import Any

from portable_nn.core.errors import PortableNNError

from .choice import BACKENDS, PROFILE, Skip, backend
from .cold_start import environment_of
from .models import _NAMES, _training

_MIB = 2**20
_COMPILE = """
from time import perf_counter
import numpy as np
import portable_nn as pnn
from portable_nn.core import registry
x = pnn.asarray(np.ones((64, 64), np.float32), backend={backend!r})
pnn.to_numpy(x)
op = registry.find({op!r})
start = perf_counter()
op({operands})
x.backend.synchronize()
print(perf_counter() - start)
"""

_OPERANDS = {"relu": "x", "matmul": "x, x", "softmax": "x, -1"}


class PeakMemory:
    """Peak of the memory that arrays take during one training step, in MiB: of the device's pool, of NumPy's arrays on the host."""

    version = "1"
    unit = "MiB"
    params = (list(BACKENDS), _NAMES)
    param_names = ("backend", "model")

    def setup(self, name: str, case: str) -> None:
        self.step = _training(name, case)

    def track_training_step(self, name: str, case: str) -> float:
        device: Any = backend(name)
        if hasattr(device, "pool"):
            device.release_memory()  # the pool gives nothing back by itself: what it holds after a step is the step's peak
            self.step()
            return float(device.memory_stats().held_bytes / _MIB)
        if name != "numpy":
            raise Skip(f"{name} does not count its memory")
        tracemalloc.start()
        try:
            self.step()
            return tracemalloc.get_traced_memory()[1] / _MIB
        finally:
            tracemalloc.stop()


class Compile:
    """The first call of an op in a process with empty compile caches, after another array was moved to the device."""

    version = "1"
    unit = "s"
    timeout = 120
    params = ([name for name in BACKENDS if name != "numpy"], list(_OPERANDS))
    param_names = ("backend", "op")

    def setup(self, name: str, op: str) -> None:
        if not PROFILE.slow:
            raise Skip("starts fresh processes: in the full profile only")
        backend(name)

    def track_first_call(self, name: str, op: str) -> float:
        code = _COMPILE.format(backend=name, op=op, operands=_OPERANDS[op])
        with tempfile.TemporaryDirectory() as cache:
            ran = subprocess.run([sys.executable, "-c", code], env=environment_of(cache), check=True, capture_output=True, text=True)
        return float(ran.stdout)


class Trainer:
    """`portable_nn.train.fit`: LeNet, one epoch of scikit-learn's digits, from its call to the report being written."""

    version = "1"
    timeout = 300
    params = (list(BACKENDS),)
    param_names = ("backend",)

    def setup(self, name: str) -> None:
        if not PROFILE.slow:
            raise Skip("trains: in the full profile only")
        backend(name)

    def _fit(self, name: str) -> Any:
        from portable_nn.train import TrainConfig, fit

        with tempfile.TemporaryDirectory() as folder:
            try:
                return fit(config=TrainConfig(backend=name, epochs=1, out=f"{folder}/run"))
            except PortableNNError as error:
                raise Skip(str(error)) from error

    def track_epoch(self, name: str) -> float:
        """Seconds of training."""
        return float(self._fit(name).seconds)

    track_epoch.unit = "s"  # type: ignore[attr-defined]

    def track_missed_accuracy(self, name: str) -> float:
        """1 - test accuracy; the draw is seeded, so it moves only when the arithmetic does."""
        return float(1 - self._fit(name).test_accuracy)

    track_missed_accuracy.unit = "1 - accuracy"  # type: ignore[attr-defined]
