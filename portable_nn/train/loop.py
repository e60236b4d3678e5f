"""The run around the step: epochs, logging, evaluation, checkpoints, and what a stopped run needs to go on.

A run can stop between any two steps. Everything random depends on (seed, epoch) or (seed, step), so a run that goes
on from a checkpoint takes the same steps as one that never stopped, to the last bit on the same backend.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..api import asarray, to_numpy
from ..core import random
from ..core.backend import Backend
from ..core.errors import RunError, SettingError
from ..core.selection import use_backend
from ..data import Dataset, MissingExtraError
from ..models import check_name
from ..nn import Module, count_params
from .checkpoint import CHECKPOINT, ModelInfo, Position, read_checkpoint, write_checkpoint, write_model
from .config import FIELDS, TrainConfig, load_config
from .evaluation import Evaluation, evaluate, plain_loss
from .interrupt import Interrupted, Stop, delayed_interrupts
from .progress import Logged, Progress, Silent
from .records import JSONL, MetricsWriter, read_metrics
from .report import write_predictions, write_report
from .setup import Parts, absolute_data, choose_backend, load_data, prepare
from .step import read_loss, train_step

CONFIG = "config.json"
MAY_CHANGE = ("epochs", "backend", "device", "log_every", "eval_batch_size", "data")
"""Settings that a resumed run may be given anew; others would make it another run."""
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


def fit(
    config: TrainConfig | None = None, *, resume: str | Path | None = None, train: Dataset | None = None,
    test: Dataset | None = None, model: str | Module | None = None, progress: Progress | None = None, **settings: Any,
) -> Result:  # fmt: skip
    """Train a model and write a run folder.

    Parameters
    ----------
    config : TrainConfig, optional
        Settings; the defaults train LeNet on scikit-learn's digits.
    resume : str or Path, optional
        A run folder to continue. Its own settings hold; only those in `MAY_CHANGE` may be given anew.
    train, test : Dataset, optional
        In place of the data that `config` names; give both.
    model : str or Module, optional
        Name of a model, or a model of your own, in place of the one that `config` names.
    progress : Progress, optional
        What hears of losses and epochs; nothing by default.
    **settings
        Settings by name, over those of `config`.

    Returns
    -------
    Result

    Raises
    ------
    SettingError, DataError, BackendError
        Settings, data or a backend that cannot be used.
    RunError
        A folder that holds a run already, a checkpoint that does not fit, a loss that is not finite.
    Interrupted
        Ctrl-C: the step was finished and a checkpoint written.

    Examples
    --------
    >>> result = pnn.train.fit(epochs=5, backend="numpy")
    >>> result.test_accuracy
    """
    if (train is None) != (test is None):
        raise SettingError("fit: one of train and test was given but both are needed, or neither")
    if isinstance(model, str):
        settings, model = {**settings, "model": model}, None
    if resume is None:
        config = _changed(config or TrainConfig(), settings)
        if model is None:
            check_name(config.model)
        else:
            config = replace(config, model=type(model).__name__)
        folder = config.run_folder()
        _refuse_used(folder)
    else:
        folder = Path(resume).expanduser()
        config = resumed_config(folder, config, settings)
    backend = choose_backend(config)
    with use_backend(backend), delayed_interrupts() as stop:
        if train is None or test is None:
            train, test = load_data(config)
        parts = prepare(config, train, test, model)
        position = Position()
        folder.mkdir(parents=True, exist_ok=True)
        if resume is not None and (folder / CHECKPOINT).exists():  # else it stopped before the first: from the beginning
            state, position = read_checkpoint(folder, parts.state, parts.fingerprint)
            parts = replace(parts, state=state)
        replace(config, data=absolute_data(config), out=str(folder)).save(folder / CONFIG)
        with MetricsWriter(folder, None if resume is None else position.step) as metrics:
            run = _Run(config, parts, folder, backend, metrics, progress or Silent(), stop, position)
            return run.to_the_end()


def _changed(config: TrainConfig, settings: dict[str, Any]) -> TrainConfig:
    unknown = [name for name in settings if name not in FIELDS]
    if unknown:
        raise SettingError(f"fit: unknown setting(s) {', '.join(unknown)}; the settings are {', '.join(FIELDS)}")
    return replace(config, **settings)


def _refuse_used(folder: Path) -> None:
    for name in (CHECKPOINT, JSONL, CONFIG):
        if (folder / name).exists():
            raise RunError(
                f"{folder}: holds a run already ({name}); continue it with --resume {folder}, or choose another --out"
            )


def resumed_config(folder: Path, config: TrainConfig | None, settings: dict[str, Any]) -> TrainConfig:
    """Return the settings of a run folder with those given anew; raises `RunError` for one that must not change."""
    if not (folder / CONFIG).is_file():
        raise RunError(f"{folder}: is no run folder (it has no {CONFIG}); give one that `portable-nn train` made")
    own = load_config(folder / CONFIG)
    if config is not None:
        default = TrainConfig()
        given = config.to_dict()
        settings = {n: v for n, v in given.items() if v != getattr(default, n)} | settings
    changed = {n: v for n, v in settings.items() if n not in FIELDS or v != getattr(own, n)}
    fixed = [n for n in changed if n not in MAY_CHANGE]
    if fixed:
        name = fixed[0]
        raise RunError(
            f"resume: {name} is {changed[name]!r} but the run in {folder} has {getattr(own, name, 'no such setting')!r}; only "
            f"{', '.join(MAY_CHANGE)} may change; train a new run for other settings"
        )
    return replace(own, **changed)


class _Run:
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

    def train_epoch(self, epoch: int) -> None:
        """Take the steps of one epoch that are left."""
        config, total = self.config, len(self.parts.train)
        start = self.position.batch if epoch == self.position.epoch else 0
        last = self.clock and (self.state.step, self.seconds)
        for number, batch in enumerate(self.parts.train.epoch(epoch, start), start=start + 1):
            lr = self.parts.schedule(self.state.step)
            self.state, loss, scores = train_step(
                self.state, self.parts.optimizer, asarray(batch.images), asarray(batch.labels), lr=lr, key=self.key,
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
