"""A fresh process: how long until something useful has happened. Wall-clock seconds, Python's own start included."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from time import perf_counter

from .choice import BACKENDS, PROFILE, Skip, backend

_FIRST_LOSS = """
import numpy as np
import portable_nn as pnn
from portable_nn import models, nn, optim
from portable_nn.train import TrainState, train_step
with pnn.use_backend({backend!r}):
    model = models.create("lenet", (1, 8, 8), 10).to()
    optimizer = optim.adamw(lr=1e-3)
    state = TrainState(model, optimizer.init(nn.params(model)))
    images = pnn.asarray(np.random.default_rng(0).standard_normal((32, 1, 8, 8)).astype(np.float32))
    labels = pnn.asarray(np.arange(32) % 10)
    state, loss, _ = train_step(state, optimizer, images, labels, lr=1e-3)
    print(float(loss))
"""


def environment_of(cache: str | None = None) -> dict[str, str]:
    """Return the environment of a child that runs the copy measured here, with the compile caches in `cache` (by default the user's)."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    if cache is not None:
        # Ours, PyOpenCL's (below XDG_CACHE_HOME too), PoCL's and NVIDIA's.
        environment |= {"XDG_CACHE_HOME": cache, "POCL_CACHE_DIR": cache, "CUDA_CACHE_PATH": cache}
    return environment


def _seconds(code: str, cache: str | None = None) -> float:
    environment = environment_of(cache)
    start = perf_counter()
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, stdout=subprocess.DEVNULL)
    return perf_counter() - start


class _Fresh:
    """What starts processes is left to the full profile."""

    unit = "s"
    version = "1"
    timeout = 300

    def setup(self, *_: str) -> None:
        if not PROFILE.slow:
            raise Skip("starts fresh processes: in the full profile only")


class Import(_Fresh):
    """`import portable_nn`, and what it adds to `import numpy`."""

    def track_portable_nn(self) -> float:
        return min(_seconds("import portable_nn") for _ in range(5))

    def track_beyond_numpy(self) -> float:
        rounds = [(_seconds("import portable_nn"), _seconds("import numpy")) for _ in range(5)]
        return min(ours for ours, _ in rounds) - min(numpys for _, numpys in rounds)


class FirstLoss(_Fresh):
    """From process start to the loss of LeNet's first training step."""

    params = (list(BACKENDS),)
    param_names = ("backend",)

    def setup(self, name: str) -> None:
        super().setup()
        backend(name)

    def track_cold(self, name: str) -> float:
        """With empty compile caches."""
        with tempfile.TemporaryDirectory() as cache:
            return _seconds(_FIRST_LOSS.format(backend=name), cache)

    def track_warm(self, name: str) -> float:
        """With the caches that the run before filled."""
        with tempfile.TemporaryDirectory() as cache:
            _seconds(_FIRST_LOSS.format(backend=name), cache)
            return min(_seconds(_FIRST_LOSS.format(backend=name), cache) for _ in range(3))
