"""What a run is after: classes, or any targets with a loss of one's own.

A task says which loss is differentiated, what is read from a batch when it is logged, and how a model is tested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..api import asarray, to_numpy
from ..core.errors import DataError, RunError, SettingError
from ..data import Batches, Dataset
from .evaluation import Evaluation, evaluate, home_of, plain_loss
from .step import Loss, cross_entropy
from .views import VIEWS, scores_of

Metric = Callable[[NDArray[Any], NDArray[Any]], float]
"""``metric(outputs, targets) -> float`` of one batch on the host."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Images with targets of any shape, for `fit`: masks, other images, numbers.

    Parameters
    ----------
    images : ndarray, (N, C, H, W), uint8 or float
        Normalised by their own mean and deviation before the model sees them.
    targets : ndarray, (N, ...)
        Given to the loss as they are.
    name : str
        For titles.
    source : str
        Where they come from, in words.

    Raises
    ------
    DataError
        Images of another shape or dtype, counts that differ, targets that are not finite.
    """

    images: NDArray[Any]
    targets: NDArray[Any]
    name: str = "pairs"
    source: str = ""

    classes: tuple[str, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        from ..data.dataset import check_images

        check_images(self.images, self.name)
        if len(self.targets) != len(self.images):
            raise DataError(f"{self.name}: {len(self.images)} images but {len(self.targets)} targets; give one target per image")
        if self.targets.dtype.kind == "f" and not np.isfinite(self.targets).all():
            first = int(np.argwhere(~np.isfinite(self.targets))[0, 0])
            raise DataError(f"{self.name}: target {first} is not finite; drop or repair it")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def labels(self) -> NDArray[Any]:
        """The targets, under the name that batches read."""
        return self.targets

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of one image."""
        _, channels, height, width = self.images.shape
        return channels, height, width


@dataclass(frozen=True, eq=False)
class Measurement:
    """What measuring a model without classes gives: the mean loss, and the mean of each metric over the images."""

    loss: float
    metrics: Mapping[str, float]

    @property
    def accuracy(self) -> float:
        """NaN: there are no classes."""
        return float("nan")


@dataclass(frozen=True, eq=False)
class Classify:
    """Class scores against labels."""

    loss: Loss
    view: str = "none"
    metrics: Mapping[str, Metric] = field(default_factory=dict)

    monitors = ("accuracy", "loss")

    def read(self, scores: Any, targets: NDArray[Any], loss: Any) -> tuple[float, float]:
        """Return (loss, accuracy) of a batch, the loss without smoothing and mixing."""
        del loss
        answers = to_numpy(scores)
        return plain_loss(answers, targets), float((answers.argmax(axis=1) == targets).mean())

    def test(self, model: Any, batches: Batches, between: Callable[[], None] | None = None) -> Evaluation:
        """Return the answers on a test set."""
        return evaluate(model, batches, between, view=self.view)


@dataclass(frozen=True, eq=False)
class Approach:
    """Outputs against targets of any shape, by a loss and metrics of one's own."""

    loss: Loss
    view: str = "none"
    metrics: Mapping[str, Metric] = field(default_factory=dict)

    monitors = ("loss",)

    def read(self, outputs: Any, targets: NDArray[Any], loss: Any) -> tuple[float, float]:
        """Return (loss, NaN) of a batch."""
        del outputs, targets
        return float(loss), float("nan")

    def test(self, model: Any, batches: Batches | Iterable[Any], between: Callable[[], None] | None = None) -> Measurement:
        """Return mean loss and metrics on a test set."""
        home = home_of(model)
        sums: dict[str, float] = dict.fromkeys(("loss", *self.metrics), 0.0)
        count = 0
        for batch in batches.epoch(0) if isinstance(batches, Batches) else batches:
            outputs = scores_of(model, asarray(batch.images, backend=home), self.view)
            n = len(batch.labels)
            sums["loss"] += n * float(self.loss(outputs, asarray(batch.labels, backend=home)))
            host = to_numpy(outputs) if self.metrics else None
            for name, metric in self.metrics.items():
                assert host is not None
                sums[name] += n * float(metric(host, batch.labels))
            count += n
            if between is not None:
                between()
        means = {name: value / count for name, value in sums.items()}
        if not all(np.isfinite(value) for value in means.values()):
            raise RunError(f"test: the model gives {means}, which is not finite; its weights are damaged, or a metric is")
        return Measurement(means.pop("loss"), means)


Task = Classify | Approach


def choose_task(
    train: Dataset | Pairs, loss: Loss | None, metrics: Mapping[str, Metric] | None, label_smoothing: float, view: str
) -> Task:
    """Return the task of a training set; raises `SettingError` for one that cannot be."""
    if view not in VIEWS:
        raise SettingError(f"tta is {view!r} but one of {', '.join(VIEWS)} is needed")
    if isinstance(train, Dataset):
        if metrics:
            raise SettingError(f"fit: metrics {list(metrics)} were given for labelled images, which are measured by accuracy; leave them out")
        return Classify(loss or cross_entropy(label_smoothing), view)
    if loss is None:
        raise SettingError("fit: Pairs were given without a loss; give loss=f with f(outputs, targets) -> 0-d array, such as pnn.ops.mse_loss")
    if view != "none":
        raise SettingError(f"fit: tta is {view!r}, but targets of any shape cannot be averaged over views; use 'none'")
    for name in metrics or {}:
        if not name.isidentifier() or name in ("loss", "accuracy"):
            raise SettingError(f"fit: a metric is named {name!r} but a Python name other than loss and accuracy is needed")
    return Approach(loss, view, dict(metrics or {}))
