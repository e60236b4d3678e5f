"""The run around the step: epochs, logging, measuring, checkpoints, and what a stopped run needs to go on.

A run can stop between any two steps. Everything random depends on (seed, epoch) or (seed, step), so a run that goes
on from a checkpoint takes the same steps as one that never stopped, to the last bit on the same backend. Over 250 lines,
because the order of what is written down is what makes that true, and is meant to be read in one piece.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ..api import asarray
from ..core import random
from ..core.array import Array
from ..core.backend import Backend
from ..core.errors import BackendError, RunError
from ..data import MissingExtraError
from ..nn import count_params
from .ahead import Ahead
from .best import epochs_without_improvement, keep_best, ranked, readings
from .callbacks import Callback
from .checkpoint import BEST, ModelInfo, Position, load_weights, write_checkpoint, write_model
from .config import TrainConfig
from .diagnosis import diagnose
from .evaluation import Evaluation
from .interrupt import Interrupted, Stop
from .pages.run import write_page
from .progress import Logged, Progress
from .records import MetricsWriter, Row, read_metrics
from .report import write_predictions, write_report
from .setup import PARTS, Part, Parts
from .step import TrainState, accumulated_step, read_loss, train_step
from .stepper import Stepper
from .summary import write_details, write_summary
from .task import Measurement

SECONDS_BETWEEN_CHECKPOINTS = 300.0  # in long epochs; every epoch ends with one anyway


@dataclass(frozen=True, eq=False)
class Result:
    """What a finished run gives.

    Parameters
    ----------
    model : Module
        The trained model, on the backend it was trained on; with `ema`, of averaged weights.
    info : ModelInfo
        How to make the model, and how to prepare images for it.
    valid, test : Evaluation or Measurement, optional
        Of the last model on the validation and on the test set; None where there is no such set.
    best_test : Evaluation or Measurement, optional
        Of the best model, which the validation set chose, on the test set.
    folder : Path
        The run folder: config.json, metrics.csv and .jsonl, checkpoint, model and best .safetensors, report.html, ...
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
    data_wait : float
        Part of that time in which the step waited for batches.
    augmentation : float, optional
        Part that augmentation took of a step whose ops were timed one by one; None without any, or without a report.
    history : list of dict
        The rows of metrics.jsonl.
    """

    model: Any
    info: ModelInfo
    valid: Evaluation | Measurement | None
    test: Evaluation | Measurement | None
    best_test: Evaluation | Measurement | None
    folder: Path
    pictures: tuple[Path, ...]
    backend: str
    device: str
    steps: int
    seconds: float
    images_per_second: float
    data_wait: float
    augmentation: float | None
    history: list[Row]

    @property
    def valid_accuracy(self) -> float:
        """Part of the validation images that were predicted right; NaN without such images, or without classes."""
        return math.nan if self.valid is None else self.valid.accuracy

    @property
    def test_accuracy(self) -> float:
        """Part of the test images that were predicted right; NaN without such images, or without classes."""
        return math.nan if self.test is None else self.test.accuracy

    @property
    def evaluation(self) -> Evaluation | Measurement:
        """Of the test set where there is one, else of the validation set."""
        found = self.test or self.valid
        assert found is not None
        return found


class Run:
    """One run from its position to its end."""

    def __init__(
        self, config: TrainConfig, parts: Parts, folder: Path, backend: Backend, metrics: MetricsWriter,
        progress: Progress, stop: Stop, position: Position, callbacks: Sequence[Callback] = (),
    ) -> None:  # fmt: skip
        self.config, self.parts, self.folder, self.backend = config, parts, folder, backend
        self.metrics, self.progress, self.stop, self.callbacks = metrics, progress, stop, tuple(callbacks)
        self.state, self.position = parts.state, position
        self.saved_step: int | None = position.step if position.step else None
        self.saved_at = self.started = time.perf_counter()
        self.before = position.seconds
        self.key = random.key(config.seed)
        self.first_step = position.step
        self.pause = 0.0  # seconds spent on measuring and checkpoints, which are no training
        self.waited = 0.0  # seconds in which the step waited for batches
        self.images = 0  # trained on in this process
        self.clock: tuple[float, int, float] | None = None  # seconds, images, waited after the first step here, which built programs
        self.good = (parts.state, position)  # where the last loss that was read was finite
        self.stepper = Stepper(self.take_step, config.capture, self.not_captured)
        self.stopping: str | None = None
        self.rows = read_metrics(folder)  # what the metrics hold; every row written is added

    @property
    def seconds(self) -> float:
        """Of training so far."""
        return self.before + time.perf_counter() - self.started - self.pause

    @property
    def monitor(self) -> str:
        """The column of the metrics that chooses the best model."""
        asked, known = self.config.monitor, self.parts.task.monitors
        return f"{self.parts.watched}_{asked if asked in known else known[0]}"

    def stop_after_epoch(self, why: str) -> None:
        """End the run in good order when the epoch that runs, or the callback of one that ended, is done."""
        self.stopping = self.stopping or why

    def tell(self, milestone: str, *what: Any) -> None:
        """Call every callback."""
        for callback in self.callbacks:
            getattr(callback, milestone)(self, *what)

    def to_the_end(self) -> Result:
        """Train the epochs that are left, and report."""
        epochs, per_epoch = self.config.epochs, len(self.parts.train)
        evaluation: Evaluation | Measurement | None = None
        parameters, train = count_params(self.state.model), self.parts.train.dataset
        held_out = ((PARTS["valid"], self.parts.valid), (PARTS["test"], self.parts.test))
        sizes = "".join(f", {len(batches.dataset)} {name}" for name, batches in held_out if batches is not None)
        title = (
            f"{self.config.model} ({parameters:,} parameters) on {train.name} ({len(train)} training{sizes} images), "
            f"{self.backend.name}: {self.backend.device}"
        )
        self.progress.begin(title, epochs, self.steps_per_epoch, self.position.step)
        try:
            self.tell("begin")
            if self.position.epoch < epochs:
                self.warm_up(steps=not self.stepper.captured)
            for epoch in range(self.position.epoch, epochs):
                self.train_epoch(epoch)
                self.save(Position(self.state.step, epoch, per_epoch, self.seconds))
                evaluation = self.measure(epoch)
                self.tell("epoch", evaluation)
                if self.is_enough(epoch):
                    break
            if evaluation is None:
                raise RunError(
                    f"{self.folder}: has {self.position.epoch} epochs behind it and {epochs} were asked for; "
                    "nothing is left to do (give a larger --epochs)"
                )
            result = self.finish(evaluation, epoch)
            self.tell("end", result)
            return result
        finally:
            self.progress.end()
            for callback in self.callbacks:
                callback.close()

    @property
    def steps_per_epoch(self) -> int:
        """Updates of the weights per epoch."""
        return math.ceil(len(self.parts.train) / self.config.accumulate)

    def augmented(self, batch: Any, number: int) -> tuple[Array, Any]:
        """Bring a batch to the device and augment it there; `number` counts the batches since the last step."""
        draw = self.state.step * self.config.accumulate + number
        images, targets = self.parts.augmented(asarray(batch.images), asarray(batch.labels), draw)
        return images, targets

    def take_step(
        self, state: TrainState, batches: list[tuple[Array, Any]], lr: float, key: Array
    ) -> tuple[TrainState, Array, Any]:
        """Return what one step by these batches makes of `state`; nothing else of the run changes, so it can be captured."""
        common = {"lr": lr, "key": key, "loss": self.parts.task.loss, "recipe": self.parts.recipe}
        if len(batches) == 1:
            return train_step(state, self.parts.optimizer, *batches[0], **common)
        return accumulated_step(state, self.parts.optimizer, batches, **common)

    def warm_up(self, steps: bool = True) -> None:
        """Let the backend compile what steps taken call by call launch, on every core; what augments batches alone, where they are captured."""

        def step(state: TrainState, images: Any, labels: Any, key: Any) -> None:
            batches = [self.parts.augmented(images, labels, 0)]
            if steps:
                self.take_step(state, batches, self.config.lr, key)

        batch = next(iter(self.parts.train.epoch(0, 0)))
        with suppress(BackendError):  # a step that looks at values has none to look at here: its programs are compiled as it goes
            self.backend.warm_up(step, self.state, asarray(batch.images), asarray(batch.labels), self.key)

    def not_captured(self, why: str) -> None:
        """Say that steps are taken call by call, and get ready for it."""
        self.progress.note(why)
        self.warm_up()

    def groups(self, epoch: int, start: int) -> Generator[tuple[int, list[Any]]]:
        """Give the batches of each step of an epoch, with the number of batches behind it."""
        size, group = self.config.accumulate, []
        with Ahead(self.parts.train.epoch(epoch, start), self.config.prefetch) as ahead:
            waited = 0.0
            for number, batch in enumerate(ahead, start=start + 1):
                group.append(batch)
                if len(group) == size or number == len(self.parts.train):
                    self.waited += ahead.waited - waited
                    waited = ahead.waited
                    yield number, group
                    group = []

    def train_epoch(self, epoch: int) -> None:
        """Take the steps of one epoch that are left."""
        start = self.position.batch if epoch == self.position.epoch else 0
        with closing(self.groups(epoch, start)) as groups:
            self.train_on(groups, epoch)

    def train_on(self, groups: Iterator[tuple[int, list[Any]]], epoch: int) -> None:
        """Take one step per group of batches."""
        config, total = self.config, len(self.parts.train)
        last = self.clock and (self.seconds, self.images, self.waited)
        for number, group in groups:
            lr = self.parts.schedule(self.state.step)
            batches = [self.augmented(batch, i) for i, batch in enumerate(group)]
            self.state, loss, outputs = self.stepper(self.state, batches, lr, self.key)
            self.progress.advance()
            self.images += sum(len(batch) for batch in group)
            self.tell("step", loss)
            step = self.state.step
            if self.clock is None or step % config.log_every == 0 or number == total:
                self.check(read_loss(loss), step, lr)
                self.good = (self.stepper.kept(self.state), Position(step, epoch, number))
                value, hits = self.parts.task.read(outputs, group[-1].labels, loss)
                now = (self.seconds, self.images, self.waited)
                rate, wait = _shares(last, now)
                last, self.clock = now, self.clock or now
                self.progress.trained(Logged(step, epoch + 1, now[0], value, hits, rate))
                self.write(
                    step=step, epoch=epoch + 1, seconds=now[0], lr=lr, train_loss=value, train_accuracy=hits,
                    images_per_second=rate, data_wait=wait,
                )  # fmt: skip
            due = time.perf_counter() - self.saved_at > SECONDS_BETWEEN_CHECKPOINTS
            if self.stop.signum is not None or due:
                self.check(read_loss(loss), step, lr)
                self.save(Position(step, epoch, number, self.seconds))
                self.leave_if_asked()

    def write(self, **values: Any) -> None:
        """Write a row of metrics, and tell of it."""
        row = self.metrics.write(**values)
        self.rows.append(row)
        self.tell("logged", row)

    def check(self, loss: float, step: int, lr: float) -> None:
        """Raise `RunError` with a diagnosis if a loss is not finite; the last checkpoint stays."""
        if math.isfinite(loss):
            return
        kept = (
            f"the checkpoint of step {self.saved_step} in {self.folder} is kept"
            if self.saved_step is not None else "no checkpoint was written yet"
        )  # fmt: skip
        raise RunError(f"step {step}: the loss is {loss} at learning rate {lr:.3g}; {kept}. {self.diagnosis(step)}")

    def diagnosis(self, step: int) -> str:
        """Take the steps since the last finite loss again, looking at what every op gives."""
        self.state, position = self.good
        epoch, start = position.epoch, position.batch
        if start == len(self.parts.train):
            epoch, start = epoch + 1, 0
        with closing(self.groups(epoch, start)) as groups:
            for _, group in groups:
                if self.state.step >= step:
                    break
                found, self.state = diagnose(self.state, self.next_of(group), self.parts.recipe.scaling is not None)
                if found:
                    return f"{found}. Lower --lr, raise --warmup, or look for damaged images"
        return (
            f"No op made such a number when steps {self.good[0].step + 1} to {step} were taken again. Lower --lr, raise --warmup, or "
            "look for damaged images"
        )

    def next_of(self, group: list[Any]) -> Any:
        """Return a function of a state that takes the step of these batches."""

        def step(state: TrainState) -> TrainState:
            self.state = state
            batches = [self.augmented(batch, i) for i, batch in enumerate(group)]
            return self.take_step(state, batches, self.parts.schedule(state.step), self.key)[0]

        return step

    def save(self, position: Position) -> None:
        """Write metrics, checkpoint and model, in this order: metrics never lag behind a checkpoint."""
        start = time.perf_counter()
        self.metrics.sync()
        write_checkpoint(self.folder, self.state, position, self.parts.fingerprint)
        write_model(self.folder, self.state.averaged(), self.parts.info)
        self.saved_step, self.saved_at = position.step, time.perf_counter()
        self.pause += self.saved_at - start

    def leave_if_asked(self) -> None:
        """Raise `Interrupted` if a signal came; a checkpoint must have been written."""
        if self.stop.signum is not None:
            raise Interrupted(self.folder, self.state.step, self.stop.signum)

    def measure(self, epoch: int) -> Evaluation | Measurement:
        """Compare the model with the watched set, write the result down and keep the best."""
        self.leave_if_asked()
        start, seconds = time.perf_counter(), self.seconds
        model, watched = self.state.averaged(), self.parts.watched
        evaluation = self.parts.task.test(model, self.parts.held_out(watched), self.leave_if_asked)
        self.record(watched, evaluation, epoch, seconds)
        keep_best(self.folder, model, self.parts.info, readings(self.rows, self.monitor), self.config.keep_best)
        self.pause += time.perf_counter() - start
        self.progress.tested(
            Logged(self.state.step, epoch + 1, self.seconds, evaluation.loss, evaluation.accuracy, self.rates()[0]), PARTS[watched]
        )
        return evaluation

    def record(self, part: Part, evaluation: Evaluation | Measurement, epoch: int, seconds: float) -> None:
        """Write a row of what was measured, unless it was before an interruption."""
        step = self.state.step
        if self.first_step == step and any(row["step"] == step and row.get(f"{part}_loss") is not None for row in self.rows):
            return
        own = {"loss": evaluation.loss, "accuracy": evaluation.accuracy, **getattr(evaluation, "metrics", {})}
        self.write(step=step, epoch=epoch + 1, seconds=seconds, **{f"{part}_{name}": value for name, value in own.items()})

    def test(self, epoch: int, seconds: float) -> tuple[Evaluation | Measurement, Evaluation | Measurement]:
        """Measure the last model and the best one on the test set, which nothing was chosen by."""
        batches, last = self.parts.held_out("test"), self.state.averaged()
        found = self.parts.task.test(last, batches, self.leave_if_asked)
        self.record("test", found, epoch, seconds)
        if ranked(readings(self.rows, self.monitor))[0].step == self.state.step:
            return found, found
        return found, self.parts.task.test(load_weights(last, self.folder / BEST), batches, self.leave_if_asked)

    def is_enough(self, epoch: int) -> bool:
        """Tell whether the run ends before its last epoch, because it no longer improves or a callback says so."""
        if self.config.patience is not None:
            found = readings(self.rows, self.monitor)
            if epochs_without_improvement(found, self.config.min_delta) >= self.config.patience:
                best = ranked(found)[0]
                part, _, name = self.monitor.partition("_")
                self.stop_after_epoch(
                    f"{PARTS[cast(Part, part)]} {name} has not improved for {self.config.patience} epochs; the best was that of epoch {best.epoch}"
                )
        if self.stopping is not None and epoch + 1 < self.config.epochs:
            self.progress.note(f"stopped early after epoch {epoch + 1}: {self.stopping}")
        return self.stopping is not None

    def rates(self) -> tuple[float, float]:
        """Images per second, and the part of time waited for batches, in this process without its first step; NaN before another."""
        return _shares(self.clock, (self.seconds, self.images, self.waited))

    def finish(self, evaluation: Evaluation | Measurement, epoch: int) -> Result:
        """Write what a finished run has beyond an interrupted one, and return its result."""
        seconds, (rate, wait) = self.seconds, self.rates()
        valid: Evaluation | Measurement | None = None
        test: Evaluation | Measurement | None = None
        best_test: Evaluation | Measurement | None = None
        if self.parts.watched == "test":
            test = evaluation
        else:
            valid = evaluation
            if self.parts.test is not None:
                test, best_test = self.test(epoch, seconds)
        pictures: tuple[Path, ...] = ()
        part: Part = "valid" if test is None else "test"
        shown = test or valid
        if isinstance(shown, Evaluation):
            write_predictions(self.folder, self.parts.held_out(part).dataset, shown.predictions, shown.confidence, PARTS[part])
            pictures = self.draw()
        augmentation = write_details(self) if self.config.report else None
        result = Result(
            self.state.averaged(), self.parts.info, valid, test, best_test, self.folder, pictures, self.backend.name,
            self.backend.device, self.state.step, seconds, rate, wait, augmentation, self.rows,
        )  # fmt: skip
        write_summary(self, result)
        if self.config.report:
            write_page(self.folder)
        return result

    def draw(self) -> tuple[Path, ...]:
        """Draw the pictures, if matplotlib is there: a run of hours must not end in an error for want of it."""
        title = f"{self.config.model} on {self.parts.train.dataset.name}, {self.backend.name}"
        try:
            return tuple(write_report(self.folder, title))
        except MissingExtraError:
            return ()


def _shares(before: tuple[float, int, float] | None, now: tuple[float, int, float]) -> tuple[float, float]:
    """Return images per second and the part of time waited between two readings of (seconds, images, waited)."""
    if before is None or now[1] == before[1]:
        return math.nan, math.nan
    seconds = max(now[0] - before[0], 1e-9)
    return (now[1] - before[1]) / seconds, min((now[2] - before[2]) / seconds, 1.0)
