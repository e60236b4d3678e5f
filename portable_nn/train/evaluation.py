"""What a model says about images: scores, predictions, and metrics against labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..api import asarray, backend_of, to_numpy
from ..core.errors import RunError
from ..data import Batches
from ..nn import Module, state_dict
from .metrics import accuracy, confusion_matrix
from .views import scores_of


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A model's answers on N labelled images.

    Parameters
    ----------
    loss : float
        Mean cross-entropy, without label smoothing.
    confusion : ndarray, (K, K) int64
        Entry [i, j]: images of class i predicted as class j.
    predictions : ndarray, (N,) int64
        In the order of the data set.
    confidence : ndarray, (N,) float32
        Probability of the predicted class.
    """

    loss: float
    confusion: NDArray[np.int64]
    predictions: NDArray[np.int64]
    confidence: NDArray[np.float32]

    @property
    def accuracy(self) -> float:
        """Part of the images that were predicted right."""
        return accuracy(self.confusion)


def home_of(model: Module) -> Any:
    """Return the backend that holds the model's arrays; None (the chosen one) for a model without arrays."""
    first = next(iter(state_dict(model).values()), None)
    return None if first is None else backend_of(first)


def predict(model: Module, images: NDArray[Any], batch_size: int = 256, view: str = "none") -> NDArray[np.float64]:
    """Return the probability of each class for images as the model sees them.

    Parameters
    ----------
    model : Module
        On any backend; called in evaluation mode.
    images : ndarray, (N, C, H, W) float
        Normalised images on the host.
    batch_size : int
        Images per call; changes speed and memory, not results.
    view : str
        Views of each image that are averaged: "none", "flip", "shift" or "flip+shift".

    Returns
    -------
    ndarray, (N, K) float64
        Rows sum to 1.
    """
    home = home_of(model)
    scores = [
        to_numpy(scores_of(model, asarray(images[i : i + batch_size], backend=home), view)) for i in range(0, len(images), batch_size)
    ]
    return np.exp(_log_softmax(np.concatenate(scores)))


def evaluate(
    model: Module, batches: Batches | Iterable[Any], between: Callable[[], None] | None = None, view: str = "none"
) -> Evaluation:
    """Compare a model with labels.

    Parameters
    ----------
    model : Module
        On any backend; called in evaluation mode.
    batches : Batches
        In stored order, without shifts: ``Batches(dataset, size, normalisation, shuffle=False)``.
    between : callable, optional
        Called after each batch; what it raises ends the evaluation.
    view : str
        Views of each image that are averaged: "none", "flip", "shift" or "flip+shift".

    Returns
    -------
    Evaluation

    Raises
    ------
    RunError
        Scores that are not finite: the model or its weights are damaged.
    """
    home = home_of(model)
    scores, labels, indices = [], [], []
    for batch in batches.epoch(0) if isinstance(batches, Batches) else batches:
        scores.append(to_numpy(scores_of(model, asarray(batch.images, backend=home), view)))
        labels.append(batch.labels)
        indices.append(batch.indices)
        if between is not None:
            between()
    order = np.argsort(np.concatenate(indices), kind="stable")
    true = np.concatenate(labels)[order]
    logs = _log_softmax(np.concatenate(scores)[order])
    if not np.isfinite(logs).all():
        first = int(np.argwhere(~np.isfinite(logs))[0, 0])
        raise RunError(f"evaluate: the model gives scores that are not finite (image {first}); its weights are damaged")
    predicted = logs.argmax(axis=1)
    return Evaluation(
        loss=_mean_loss(logs, true),
        confusion=confusion_matrix(true, predicted, logs.shape[1]),
        predictions=predicted.astype(np.int64),
        confidence=np.exp(logs.max(axis=1)).astype(np.float32),
    )


def plain_loss(scores: NDArray[Any], labels: NDArray[np.int64]) -> float:
    """Return the mean cross-entropy without label smoothing, which compares with that of the test set."""
    return _mean_loss(_log_softmax(scores), labels)


def _mean_loss(logs: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    return float(-logs[np.arange(len(labels)), labels].mean())


def _log_softmax(scores: NDArray[Any]) -> NDArray[np.float64]:
    x = scores.astype(np.float64)
    with np.errstate(all="ignore"):
        x = x - x.max(axis=1, keepdims=True)
        return np.asarray(x - np.log(np.exp(x).sum(axis=1, keepdims=True)))
