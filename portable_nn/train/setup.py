"""From settings to the parts of a run: data, batches, model, optimiser, schedule."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from .. import augment, models, nn, optim
from ..core import selection
from ..core.backend import Backend
from ..core.errors import SettingError
from ..data import Batches, Dataset, Normalisation, load_splits, measure_normalisation
from ..data.split import NAMES
from .checkpoint import ModelInfo
from .config import TrainConfig
from .step import Recipe, TrainState
from .task import Pairs, Task

Part = Literal["valid", "test"]
PARTS: dict[Part, str] = {"valid": "validation", "test": "test"}
"""What is held out from training, as the metrics call it and in words."""


@dataclass(frozen=True, eq=False)
class Parts:
    """What the loop works with: of `valid` and `test` one at least is there."""

    train: Batches
    valid: Batches | None
    test: Batches | None
    optimizer: optim.Optimizer
    schedule: optim.schedules.Schedule
    state: TrainState
    info: ModelInfo
    fingerprint: str
    augmented: augment.Pipeline
    task: Task
    recipe: Recipe

    @property
    def watched(self) -> Part:
        """The part that is measured after every epoch and chooses the best model."""
        return "test" if self.valid is None else "valid"

    def held_out(self, part: Part) -> Batches:
        """Return the batches of a part that is there."""
        found = self.valid if part == "valid" else self.test
        assert found is not None
        return found


@dataclass(frozen=True, eq=False)
class Sets:
    """What a run learns from, chooses by and is measured on; of the last two one at least is there."""

    train: Dataset | Pairs
    valid: Dataset | Pairs | None
    test: Dataset | Pairs | None


def choose_backend(config: TrainConfig) -> Backend:
    """Return the backend of `config`, or the one the environment chooses; raises `BackendError`."""
    if config.backend is None and config.device is None:
        return selection.default()
    wished = selection.wish() if config.backend is None else tuple(n.strip() for n in config.backend.split(",") if n.strip())
    return selection.resolve(wished, config.device)


def load_data(config: TrainConfig) -> Sets:
    """Return the training, validation and test set of `config`; raises `DataError`."""
    made = load_splits(
        config.data, valid_fraction=config.valid_fraction, test_fraction=config.test_fraction, split_seed=config.split_seed, image_size=config.image_size,
        channels=config.channels, on_error=cast(Any, config.on_error), folder=config.data_folder, offline=config.offline,
    )  # fmt: skip
    return Sets(made.train, made.valid, made.test)


def absolute_data(config: TrainConfig) -> str:
    """Return the data setting so that it holds from any folder."""
    return config.data if config.data in NAMES else str(Path(config.data).expanduser().resolve())


def batches_of(config: TrainConfig, dataset: Dataset | Pairs, normalisation: Normalisation) -> Batches:
    """Return a data set in stored order, for evaluation."""
    return Batches(cast(Any, dataset), config.eval_batch_size, normalisation, shuffle=False)


def prepare(config: TrainConfig, sets: Sets, model: nn.Module | None, task: Task) -> Parts:
    """Make the parts of a run on the chosen backend.

    Parameters
    ----------
    config : TrainConfig
    sets : Sets
    model : Module, optional
        In place of the one `config` names.
    task : Task

    Raises
    ------
    SettingError
        Settings that do not fit the data.
    """
    train = sets.train
    for what, other in (("validation", sets.valid), ("test", sets.test)):
        if other is not None and (train.image_shape != other.image_shape or train.classes != other.classes):
            raise SettingError(
                f"training images have shape {train.image_shape} and {len(train.classes)} classes but {what} images "
                f"{other.image_shape} and {len(other.classes)}; both must be alike"
            )
    if isinstance(train, Pairs) and (config.augment or config.mixup or config.cutmix):
        raise SettingError(
            f"settings: augment, mixup and cutmix change images and labels, but {train.name} has targets of its own that would "
            "have to change with them; leave these settings out"
        )
    if model is None and config.pretrained:  # weights are at home on images prepared as theirs were
        known = models.describe(config.model, config.pretrained)
        normalisation = Normalisation(known.mean, known.std)
    else:
        normalisation = measure_normalisation(train.images)
    if config.drop_last and config.batch_size > len(train):
        raise SettingError(
            f"settings: batch_size is {config.batch_size} but {train.name} has {len(train)} training images and drop_last "
            "leaves smaller batches out; lower --batch-size or give --no-drop-last"
        )
    batches = Batches(cast(Any, train), config.batch_size, normalisation, drop_last=config.drop_last, seed=config.seed)
    if model is None:
        model = models.create(config.model, train.image_shape, len(train.classes), config.seed, config.pretrained)
        if isinstance(model, models.SpeedRun):
            model = model.fitted_to(normalisation(train.images[:5000]))
    model = model.to()
    optimizer, recipe = make_optimizer(config), make_recipe(config)
    steps = config.epochs * math.ceil(len(batches) / config.accumulate)
    return Parts(
        train=batches,
        valid=None if sets.valid is None else batches_of(config, sets.valid, normalisation),
        test=None if sets.test is None else batches_of(config, sets.test, normalisation),
        optimizer=optimizer,
        schedule=make_schedule(config, steps),
        state=recipe.begin(model, optimizer),
        info=ModelInfo(config.model, train.image_shape, train.classes, normalisation, train.source or train.name),
        fingerprint=fingerprint(train),
        augmented=make_augmentation(config, normalisation, len(train.classes)),
        task=task,
        recipe=recipe,
    )


def make_augmentation(config: TrainConfig, normalisation: Normalisation, classes: int) -> augment.Pipeline:
    """Return what `config` does to training batches on the device."""
    return augment.pipeline(
        config.augment, seed=config.seed, mean=normalisation.mean, std=normalisation.std, classes=classes,
        mixup=config.mixup, cutmix=config.cutmix,
    )  # fmt: skip


def make_optimizer(config: TrainConfig) -> optim.Optimizer:
    """Return the optimiser `config` names."""
    common: dict[str, Any] = {"weight_decay": config.weight_decay, "decays": None if config.decay_biases else optim.weights_only}
    if config.optimizer == "sgd":
        return optim.sgd(config.lr, momentum=config.momentum, nesterov=config.nesterov, **common)
    if config.optimizer == "muon":
        return optim.muon(config.lr, momentum=config.momentum, **common)
    beta1 = 0.9 if config.beta1 is None else config.beta1
    if config.optimizer == "lion":
        return optim.lion(config.lr, betas=(beta1, 0.99 if config.beta2 is None else config.beta2), **common)
    return optim.adamw(config.lr, betas=(beta1, 0.999 if config.beta2 is None else config.beta2), **common)


def make_recipe(config: TrainConfig) -> Recipe:
    """Return what a step does beyond the plain one."""
    scaling = optim.LossScale(config.loss_scale) if config.precision == "float16" else None
    return Recipe(config.clip_norm, config.ema, config.precision, scaling)


def make_schedule(config: TrainConfig, steps: int) -> optim.schedules.Schedule:
    """Return the learning rate over the run as `config` says."""
    schedules, warmup = optim.schedules, round(config.warmup * steps)
    if config.schedule == "constant":
        return schedules.constant(config.lr, warmup)
    if config.schedule == "step":
        return schedules.step_decay(config.lr, _distinct([round(part * steps) for part in config.milestone_parts()]), config.gamma, warmup)
    if config.schedule == "one-cycle":
        return schedules.one_cycle(config.lr, steps, rise=config.warmup)
    made = schedules.cosine if config.schedule == "cosine" else schedules.linear
    return made(config.lr, steps, warmup, last=config.lr_end * config.lr)


def _distinct(steps: list[int]) -> list[int]:
    """Return increasing steps: in a run of few steps, two milestones may fall on one, and each must count."""
    for i in range(1, len(steps)):
        steps[i] = max(steps[i], steps[i - 1] + 1)
    return steps


def fingerprint(dataset: Dataset | Pairs) -> str:
    """Return a short mark of images and labels, to notice that a run would go on with other data."""
    images = zlib.crc32(dataset.images.tobytes())
    return f"{len(dataset)}-{zlib.crc32(dataset.labels.tobytes(), images):08x}"
