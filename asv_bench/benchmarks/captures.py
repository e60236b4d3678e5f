"""Captured steps: what a replay takes, what the recording costs, and what the plan comes to. The models are those of `models.py`."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

import portable_nn as pnn
from portable_nn import models, nn, optim
from portable_nn.core.selection import use_backend
from portable_nn.train import TrainState, train_step

from .choice import BACKENDS, Skip, backend
from .models import _CASES, _CLASSES, _NAMES, _images

_MIB = 2**20


class _Training:
    """A captured training step of a model, recorded and checked, with the state it goes on from."""

    def __init__(self, name: str, case: str) -> None:
        self.device: Any = backend(name)
        model, shape, batch = _CASES[case]
        self.images = _images(self.device, shape, batch)
        self.labels = self.device.from_numpy(np.arange(batch, dtype=np.int64) % _CLASSES)
        optimizer = optim.adamw(lr=1e-3)
        with use_backend(self.device):
            made = models.create(model, shape, _CLASSES).to(self.device)
            self.fresh = TrainState(made, optimizer.init(nn.params(made)))

        def step(state: TrainState, images: Any, labels: Any) -> Any:
            state, loss, _ = train_step(state, optimizer, images, labels, lr=1e-3)
            return state, loss

        self.step = pnn.capture(step, donate="state")
        self.again()
        for _ in range(2):  # the second call records once more and compares
            self.run()

    def again(self) -> None:
        """Record, as if the step had not been met before; kernels stay compiled."""
        self.step.forget()
        with use_backend(self.device):
            self.state, _ = self.step(self.fresh, self.images, self.labels)
        self.device.synchronize()

    def run(self) -> None:
        """Replay, and wait."""
        with use_backend(self.device):
            self.state, _ = self.step(self.state, self.images, self.labels)
        self.device.synchronize()

    @property
    def plan(self) -> Any:
        """What a device backend made of the recording."""
        found = self.step.variants[0].replay
        if not hasattr(found, "arena_bytes"):
            raise Skip(f"{self.device.name} replays call by call: it plans no memory")
        return found


@lru_cache(maxsize=1)
def _training(name: str, case: str) -> _Training:
    return _Training(name, case)


@lru_cache(maxsize=1)
def _inference(name: str, case: str, batch: int) -> Any:
    device = backend(name)
    model, shape, _ = _CASES[case]
    images = _images(device, shape, batch)
    made = models.create(model, shape, _CLASSES).to(device)
    captured = pnn.capture(lambda model, x: model(x))

    def run() -> None:
        with use_backend(device):
            captured(made, images)
        device.synchronize()

    for _ in range(3):
        run()
    return run


class CapturedStep:
    """One AdamW step, captured."""

    version = "1"
    params = (list(BACKENDS), _NAMES)
    param_names = ("backend", "model")
    rounds, repeat, warmup_time = 2, (5, 50, 2.0), 0.2

    def setup(self, name: str, case: str) -> None:
        self.made = _training(name, case)

    def time_replay(self, *_: str) -> None:
        """One step: what the trainer does from the third on."""
        self.made.run()

    def time_record(self, *_: str) -> None:
        """Record, rewrite, plan and bind the step, and run it once; its kernels are compiled."""
        self.made.again()

    def track_launches(self, *_: str) -> float:
        """Kernels per step."""
        return float(len(self.made.plan.launches))

    track_launches.unit = "launches"  # type: ignore[attr-defined]

    def track_arena(self, *_: str) -> float:
        """Memory of everything that lives within the step."""
        return float(self.made.plan.arena_bytes / _MIB)

    track_arena.unit = "MiB"  # type: ignore[attr-defined]


class CapturedInference:
    """A forward pass in evaluation mode, captured."""

    version = "1"
    params = (list(BACKENDS), _NAMES, [1, 64])
    param_names = ("backend", "model", "batch")
    rounds, repeat, warmup_time = 2, (5, 50, 2.0), 0.2

    def setup(self, name: str, case: str, batch: int) -> None:
        self.run = _inference(name, case, batch)

    def time_replay(self, *_: Any) -> None:
        self.run()


class Replay:
    """What a replay costs on the host: an MLP's training step on the null backend, which launches nothing."""

    version = "1"
    number = 100
    repeat = (5, 20, 2.0)
    warmup_time = 0.1

    def setup(self) -> None:
        if not hasattr(self, "made"):
            self.made = _training("null", "MLP 784 b128")

    def time_training_step(self) -> None:
        """Everything that `CapturedStep` has beside the launches themselves."""
        self.made.run()

    def track_saved(self) -> float:
        """The host's time of a replay, as a part of that of the same step call by call."""
        from time import perf_counter

        made = self.made
        with use_backend(made.device):
            state = made.fresh
            times: dict[str, list[float]] = {"plain": [], "replayed": []}
            for _ in range(20):
                start = perf_counter()
                made.step.function(state, made.images, made.labels)
                times["plain"].append(perf_counter() - start)
                start = perf_counter()
                made.run()
                times["replayed"].append(perf_counter() - start)
        return min(times["replayed"]) / min(times["plain"])

    track_saved.unit = "of the time call by call"  # type: ignore[attr-defined]
