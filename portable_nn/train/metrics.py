"""Classification metrics from a confusion matrix, in NumPy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core.errors import DataError


@dataclass(frozen=True, eq=False)
class ClassMetrics:
    """Metrics per class, each (K,) float64; NaN where the denominator is 0.

    Parameters
    ----------
    precision : ndarray
        Right among those predicted as the class.
    recall : ndarray
        Right among those of the class: its accuracy.
    f1 : ndarray
        Harmonic mean of the two: 2 right / (predicted + support).
    support : ndarray, int64
        Images of the class.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]


def confusion_matrix(labels: ArrayLike, predictions: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Count how often each class was predicted as each.

    Parameters
    ----------
    labels, predictions : array_like, (N,) int
        True and predicted class numbers in 0 .. K-1.
    classes : int
        K.

    Returns
    -------
    ndarray, (K, K) int64
        Entry [i, j]: images of class i predicted as class j.

    Raises
    ------
    DataError
        Shapes that differ, dtypes that are not integers, or a class number out of range.
    """
    y, p = np.asarray(labels), np.asarray(predictions)
    if y.ndim != 1 or y.shape != p.shape:
        raise DataError(
            f"confusion_matrix: labels have shape {y.shape} and predictions {p.shape} but both must be (N,); "
            "for scores (N, K) give scores.argmax(axis=1)"
        )
    for what, values in (("label", y), ("prediction", p)):
        if values.size and values.dtype.kind not in "iu":
            raise DataError(f"confusion_matrix: {what}s have dtype {values.dtype} but integers are needed")
        wrong = np.flatnonzero((values < 0) | (values >= classes))
        if wrong.size:
            raise DataError(
                f"confusion_matrix: {what} {values[wrong[0]]} at index {wrong[0]} but classes are 0..{classes - 1}"
            )
    pairs = y.astype(np.int64) * classes + p.astype(np.int64)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def accuracy(confusion: NDArray[np.int64]) -> float:
    """Part of all images that were predicted right, from a (K, K) confusion matrix; NaN when it is empty."""
    total = int(confusion.sum())
    return int(np.trace(confusion)) / total if total else float("nan")


def class_metrics(confusion: NDArray[np.int64]) -> ClassMetrics:
    """Precision, recall, F1 and support of each class.

    Parameters
    ----------
    confusion : ndarray, (K, K) int64
        As `confusion_matrix` returns it.

    Returns
    -------
    ClassMetrics
    """
    right = np.diagonal(confusion).astype(np.float64)
    support, predicted = confusion.sum(axis=1), confusion.sum(axis=0)

    def ratio(above: NDArray[np.float64], below: NDArray[np.int64]) -> NDArray[np.float64]:
        quotient = np.full(len(above), np.nan)
        np.divide(above, below, out=quotient, where=below > 0)
        return quotient

    return ClassMetrics(ratio(right, predicted), ratio(right, support), ratio(2 * right, predicted + support), support)
