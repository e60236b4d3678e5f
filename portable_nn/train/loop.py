"""The run around the step: epochs, logging, evaluation, checkpoints, and what a stopped run needs to go on.

A run can stop between any two steps. Everything random depends on (seed, epoch) or (seed, step), so a run that goes
on from a checkpoint takes the same steps as one that never stopped, to the last bit on the same backend.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..api import asarray, to_numpy
from ..core import random
from ..core.backend import Backend
from ..core.errors import RunError
from ..data import MissingExtraError
from ..nn import count_params, state_dict, with_state
from .checkpoint import ModelInfo, Position, write_checkpoint, write_model
from .config import TrainConfig
from .evaluation import Evaluation, evaluate, plain_loss
from .interrupt import Interrupted, Stop
from .progress import Logged, Progress
from .records import MetricsWriter, read_metrics
from .report import write_predictions, write_report
from .setup import Parts
from .step import TrainState, read_loss, train_step

SECONDS_BETWEEN_CHECKPOINTS = 300.0  # in long epochs; every epoch ends with one anyway


@dataclass(frozen=True, eq=False)
class Result:
    """What a finished run gives.

    Parameters
    ----------
    model : Module
        The trained model, on the backend it was trained on.
    info : ModelInfo
        How to make the model, and how to prepare images for it.
    evaluation : Evaluation
        Of the test set.
    folder : Path
        The run folder: config.json, metrics.csv and .jsonl, checkpoint and model.safetensors, predictions.npz, pictures.
    pictures : tuple of Path
        Pictures drawn; empty when matplotlib is not installed.
    backend, device : str
        Where it ran.
    steps : int
        Steps taken, those before a resume included.
    seconds : float
        Of training, those before a resume included, without evaluation.
    images_per_second : float
        Of training in this process, without its first step, which builds programs; NaN when there was no other.
    """

    model: Any
    info: ModelInfo
    evaluation: Evaluation
    folder: Path
    pictures: tuple[Path, ...]
    backend: str
    device: str
    steps: int
    seconds: float
    images_per_second: float

    @property
    def test_accuracy(self) -> float:
        """Part of the test images that were predicted right."""
        return self.evaluation.accuracy


class Run:
    """One run from its position to its end."""

    def __init__(
        self, config: TrainConfig, parts: Parts, folder: Path, backend: Backend, metrics: MetricsWriter,
        progress: Progress, stop: Stop, position: Position,
    ) -> None:  # fmt: skip
        self.config, self.parts, self.folder, self.backend = config, parts, folder, backend
        self.metrics, self.progress, self.stop = metrics, progress, stop
        self.state, self.position = parts.state, position
        self.saved_step: int | None = position.step if position.step else None
        self.saved_at = self.started = time.perf_counter()
        self.before = position.seconds
        self.key = random.key(config.seed)
        self.first_step = position.step
        self.pause = 0.0  # seconds spent on tests and checkpoints, which are no training
        self.clock: tuple[int, float] | None = None  # step and seconds after the first step here, which built programs

    @property
    def seconds(self) -> float:
        """Of training so far."""
        return self.before + time.perf_counter() - self.started - self.pause

    def to_the_end(self) -> Result:
        """Train the epochs that are left, and report."""
        epochs, per_epoch = self.config.epochs, len(self.parts.train)
        evaluation: Evaluation | None = None
        parameters = count_params(self.state.model)
        train, test = self.parts.train.dataset, self.parts.test.dataset
        title = (
            f"{self.config.model} ({parameters:,} parameters) on {train.name} ({len(train)} training, {len(test)} test images), "
            f"{self.backend.name}: {self.backend.device}"
        )
        self.progress.begin(title, epochs, per_epoch, self.position.step)
        if self.position.epoch < epochs:
            self.warm_up()
        try:
            for epoch in range(self.position.epoch, epochs):
                self.train_epoch(epoch)
                self.save(Position(self.state.step, epoch, per_epoch, self.seconds))
                evaluation = self.test(epoch)
        finally:
            self.progress.end()
        if evaluation is None:
            raise RunError(
                f"{self.folder}: has {self.position.epoch} epochs behind it and {epochs} were asked for; "
                "nothing is left to do (give a larger --epochs)"
            )
        seconds, rate = self.seconds, self.rate()
        write_predictions(self.folder, self.parts.test.dataset, evaluation.predictions, evaluation.confidence)
        pictures = self.draw()
        return Result(
            self.state.model, self.parts.info, evaluation, self.folder, pictures, self.backend.name, self.backend.device,
            self.state.step, seconds, rate,
        )  # fmt: skip

    def warm_up(self) -> None:
        """Let the backend compile what a step launches, on every core: the first loss comes sooner."""

        def step(state: dict[str, Any], images: Any, labels: Any, key: Any) -> None:
            model = with_state(self.state.model, state["model"])
            images, labels = self.parts.augmented(images, labels, 0)
            train_step(
                TrainState(model, state["optimizer"]), self.parts.optimizer, images, labels, lr=self.config.lr, key=key,
                label_smoothing=self.config.label_smoothing,
            )  # fmt: skip

        batch = next(iter(self.parts.train.epoch(0, 0)))
        state = {"model": state_dict(self.state.model), "optimizer": self.state.optimizer}
        self.backend.warm_up(step, state, asarray(batch.images), asarray(batch.labels), self.key)

    def train_epoch(self, epoch: int) -> None:
        """Take the steps of one epoch that are left."""
        config, total = self.config, len(self.parts.train)
        start = self.position.batch if epoch == self.position.epoch else 0
        last = self.clock and (self.state.step, self.seconds)
        for number, batch in enumerate(self.parts.train.epoch(epoch, start), start=start + 1):
            lr = self.parts.schedule(self.state.step)
            images, targets = self.parts.augmented(asarray(batch.images), asarray(batch.labels), self.state.step)
            self.state, loss, scores = train_step(
                self.state, self.parts.optimizer, images, targets, lr=lr, key=self.key,
                label_smoothing=config.label_smoothing,
            )  # fmt: skip
            self.progress.advance()
            step = self.state.step
            if self.clock is None or step % config.log_every == 0 or number == total:
                self.check(read_loss(loss), step, lr)
                answers = to_numpy(scores)
                value, hits = plain_loss(answers, batch.labels), float((answers.argmax(axis=1) == batch.labels).mean())
                now = self.seconds
                rate = math.nan if last is None else (step - last[0]) * config.batch_size / max(now - last[1], 1e-9)
                last = (step, now)
                self.clock = self.clock or last
                logged = Logged(step, epoch + 1, now, value, hits, rate)
                self.metrics.write(
                    step=step, epoch=epoch + 1, seconds=now, lr=lr, train_loss=value, train_accuracy=hits, images_per_second=rate
                )
                self.progress.trained(logged)
            due = time.perf_counter() - self.saved_at > SECONDS_BETWEEN_CHECKPOINTS
            if self.stop.signum is not None or due:
                self.check(read_loss(loss), step, lr)
                self.save(Position(step, epoch, number, self.seconds))
                self.leave_if_asked()

    def check(self, loss: float, step: int, lr: float) -> None:
        """Raise `RunError` if a loss is not finite; the last checkpoint stays."""
        if math.isfinite(loss):
            return
        kept = (
            f"the checkpoint of step {self.saved_step} in {self.folder} is kept"
            if self.saved_step is not None else "no checkpoint was written yet"
        )  # fmt: skip
        raise RunError(
            f"step {step}: the loss is {loss} at learning rate {lr:.3g}; {kept}. "
            "Lower --lr, raise --warmup, or look for damaged images"
        )

    def save(self, position: Position) -> None:
        """Write metrics, checkpoint and model, in this order: metrics never lag behind a checkpoint."""
        start = time.perf_counter()
        self.metrics.sync()
        write_checkpoint(self.folder, self.state, position, self.parts.fingerprint)
        write_model(self.folder, self.state.model, self.parts.info)
        self.saved_step, self.saved_at = position.step, time.perf_counter()
        self.pause += self.saved_at - start

    def leave_if_asked(self) -> None:
        """Raise `Interrupted` if a signal came; a checkpoint must have been written."""
        if self.stop.signum is not None:
            raise Interrupted(self.folder, self.state.step, self.stop.signum)

    def test(self, epoch: int) -> Evaluation:
        """Compare the model with the test set, and write the result down unless it was before an interruption."""
        self.leave_if_asked()
        start = time.perf_counter()
        evaluation = evaluate(self.state.model, self.parts.test, self.leave_if_asked)
        self.pause += time.perf_counter() - start
        logged = Logged(self.state.step, epoch + 1, self.seconds, evaluation.loss, evaluation.accuracy, self.rate())
        known = self.first_step == self.state.step and any(
            row["step"] == self.state.step and row.get("test_loss") is not None for row in read_metrics(self.folder)
        )
        if not known:
            self.metrics.write(
                step=logged.step, epoch=epoch + 1, seconds=logged.seconds, test_loss=logged.loss, test_accuracy=logged.accuracy
            )
        self.progress.tested(logged)
        return evaluation

    def rate(self) -> float:
        """Images per second of training in this process, without its first step; NaN before there is another."""
        if self.clock is None or self.state.step == self.clock[0]:
            return math.nan
        return (self.state.step - self.clock[0]) * self.config.batch_size / max(self.seconds - self.clock[1], 1e-9)

    def draw(self) -> tuple[Path, ...]:
        """Draw the pictures, if matplotlib is there: a run of hours must not end in an error for want of it."""
        title = f"{self.config.model} on {self.parts.test.dataset.name}, {self.backend.name}"
        try:
            return tuple(write_report(self.folder, title))
        except MissingExtraError:
            return ()
