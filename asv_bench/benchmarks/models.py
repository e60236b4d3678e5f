"""Whole models: a training step (forward, backward, update) and an inference, device-synchronised, in seconds per batch."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from portable_nn import models, nn, optim
from portable_nn.core.backend import Backend
from portable_nn.core.selection import use_backend
from portable_nn.train import TrainState, train_step

from .choice import BACKENDS, PROFILE, backend

# name -> (model, image shape, batch of a training step)
_CASES = {
    "LeNet MNIST b64": ("lenet", (1, 28, 28), 64),
    "MLP 784 b128": ("mlp", (1, 28, 28), 128),
    "LeNet digits b32": ("lenet", (1, 8, 8), 32),
    "ResNet-20 CIFAR b32": ("resnet20", (3, 32, 32), 32),
}
_NAMES = list(_CASES)[: PROFILE.models]
_CLASSES = 10


def _images(device: Backend, shape: tuple[int, ...], batch: int) -> Any:
    return device.from_numpy(np.random.default_rng(0).standard_normal((batch, *shape)).astype(np.float32))


@lru_cache(maxsize=1)
def _training(name: str, case: str) -> Any:
    device = backend(name)
    model, shape, batch = _CASES[case]
    images = _images(device, shape, batch)
    labels = device.from_numpy(np.arange(batch, dtype=np.int64) % _CLASSES)
    made = models.create(model, shape, _CLASSES).to(device)
    optimizer = optim.adamw(lr=1e-3)
    with use_backend(device):
        state = TrainState(made, optimizer.init(nn.params(made)))

    def step() -> None:
        nonlocal state
        with use_backend(device):
            state, _, _ = train_step(state, optimizer, images, labels, lr=1e-3)
        device.synchronize()

    step()  # compiles
    return step


@lru_cache(maxsize=1)
def _inference(name: str, case: str, batch: int) -> Any:
    device = backend(name)
    model, shape, _ = _CASES[case]
    images = _images(device, shape, batch)
    made = models.create(model, shape, _CLASSES).to(device)

    def run() -> None:
        with use_backend(device):
            made(images)
        device.synchronize()

    run()
    return run


class TrainingStep:
    """One AdamW step."""

    version = "1"
    params = (list(BACKENDS), _NAMES)
    param_names = ("backend", "model")
    rounds, repeat, warmup_time = 2, (5, 50, 2.0), 0.2

    def setup(self, name: str, case: str) -> None:
        self.step = _training(name, case)

    def time_step(self, *_: str) -> None:
        self.step()


class Inference:
    """A forward pass in evaluation mode."""

    version = "1"
    params = (list(BACKENDS), _NAMES, [1, 64])
    param_names = ("backend", "model", "batch")
    rounds, repeat, warmup_time = 2, (5, 50, 2.0), 0.2

    def setup(self, name: str, case: str, batch: int) -> None:
        self.run = _inference(name, case, batch)

    def time_forward(self, *_: Any) -> None:
        self.run()
