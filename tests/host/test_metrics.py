"""Confusion matrix and what follows from it, against hand-computed and brute-force values."""

import numpy as np
import pytest

from portable_nn.core.errors import DataError
from portable_nn.train.metrics import accuracy, class_metrics, confusion_matrix


def test_confusion_by_hand():
    found = confusion_matrix([0, 0, 0, 1, 1, 3], [0, 0, 1, 1, 0, 3], 4)
    assert found.tolist() == [[2, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    assert accuracy(found) == 4 / 6
    per_class = class_metrics(found)
    np.testing.assert_allclose(per_class.recall, [2 / 3, 1 / 2, np.nan, 1])
    np.testing.assert_allclose(per_class.precision, [2 / 3, 1 / 2, np.nan, 1])
    np.testing.assert_allclose(per_class.f1, [2 / 3, 1 / 2, np.nan, 1])
    assert per_class.support.tolist() == [3, 2, 0, 1]


def test_rows_are_true_and_columns_predicted():
    found = confusion_matrix([0, 0, 0], [2, 2, 1], 3)
    assert found.tolist() == [[0, 1, 2], [0, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(class_metrics(found).precision, [np.nan, 0, 0])
    np.testing.assert_allclose(class_metrics(found).f1, [0, 0, 0])


def test_confusion_against_counting():
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 5, 300).astype(np.uint8), rng.integers(0, 5, 300)
    found = confusion_matrix(labels, predictions, 5)
    for i in range(5):
        for j in range(5):
            assert found[i, j] == sum(a == i and b == j for a, b in zip(labels, predictions, strict=True))
    assert accuracy(found) == pytest.approx(np.mean(labels == predictions))


def test_no_images():
    found = confusion_matrix(np.zeros(0, np.int64), np.zeros(0, np.int64), 2)
    assert found.tolist() == [[0, 0], [0, 0]]
    assert np.isnan(accuracy(found))


@pytest.mark.parametrize(
    ("labels", "predictions", "words"),
    [
        ([0, 1], [0], r"\(2,\) and predictions \(1,\)"),
        ([0, 1], [[0.1, 0.9], [0.3, 0.7]], "argmax"),
        ([0, 2], [0, 1], r"label 2 at index 1 but classes are 0\.\.1"),
        ([0, 1], [-1, 1], "prediction -1 at index 0"),
        ([0, 1], [0.0, 1.0], "predictions have dtype float64"),
    ],
)
def test_confusion_refuses(labels, predictions, words):
    with pytest.raises(DataError, match=words):
        confusion_matrix(labels, predictions, 2)
