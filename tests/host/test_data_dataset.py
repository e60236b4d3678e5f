"""Dataset, splits, normalisation and batches: what they give, and what they refuse."""

import numpy as np
import pytest

from portable_nn.core.errors import DataError, SettingError
from portable_nn.data import (
    Batches,
    Dataset,
    Normalisation,
    check_every_class,
    measure_normalisation,
    stratified_split,
)
from portable_nn.data.order import SHUFFLE, VALID, random_order, random_words


def made_up(count=10, channels=1, height=4, width=5, classes=2):
    pixels = np.arange(count * channels * height * width) % 251
    images = pixels.astype(np.uint8).reshape(count, channels, height, width)
    return Dataset(images, np.arange(count) % classes, tuple(f"class{k}" for k in range(classes)), "made-up")


def test_dataset_keeps_what_it_was_given():
    data = made_up(6)
    assert len(data) == 6
    assert data.image_shape == (1, 4, 5)
    assert data.labels.dtype == np.int64
    assert data.counts.tolist() == [3, 3]
    part = data.subset([5, 0])
    np.testing.assert_array_equal(part.images, data.images[[5, 0]])
    assert part.labels.tolist() == [1, 0]


IMAGES = np.zeros((3, 1, 2, 2), np.uint8)
NOT_FINITE = np.zeros((3, 1, 2, 2), np.float32)
NOT_FINITE[1, 0, 1, 0] = np.nan


@pytest.mark.parametrize(
    ("images", "labels", "classes", "words"),
    [
        (IMAGES[:, 0], [0, 1, 0], ("a", "b"), r"shape \(3, 2, 2\).*\(N, C, H, W\)"),
        (IMAGES[:0], [], ("a", "b"), r"shape \(0, 1, 2, 2\)"),
        (IMAGES.astype(np.int32), [0, 1, 0], ("a", "b"), "dtype int32.*uint8"),
        (NOT_FINITE, [0, 1, 0], ("a", "b"), "image 1 holds nan at channel 0, row 1, column 0"),
        (IMAGES, [0, 1], ("a", "b"), "3 images .* 2 labels"),
        (IMAGES, [0, 1, 2], ("a", "b"), r"label 2 of image 2 is out of range.*0\.\.1"),
        (IMAGES, [0, -1, 1], ("a", "b"), "label -1 of image 1"),
        (IMAGES, [0.0, 1.0, 0.0], ("a", "b"), "dtype float64.*one integer per image"),
        (IMAGES, [[1, 0], [0, 1], [1, 0]], ("a", "b"), "argmax"),
        (IMAGES, [0, 0, 0], ("a", "a"), "all must differ"),
    ],
)
def test_dataset_refuses(images, labels, classes, words):
    with pytest.raises(DataError, match=words):
        Dataset(images, np.asarray(labels, dtype=None if labels else np.int64), classes, "x")


@pytest.mark.parametrize(
    ("indices", "words"),
    [([], "non-empty"), ([0.5], "dtype float64"), ([0, 10], r"0 to 10.*0\.\.9"), ([-1], "-1 to -1")],
)
def test_subset_refuses(indices, words):
    with pytest.raises(DataError, match=words):
        made_up(10).subset(indices)


def test_an_empty_class_is_named():
    data = Dataset(IMAGES, np.array([0, 2, 0]), ("cat", "dog", "owl"), "pets")
    with pytest.raises(DataError, match=r"pets: .*'dog' \(label 1\)"):
        check_every_class(data)


PINNED_ORDER = [6, 7, 2, 1, 3, 5, 0, 4]
PINNED_WORDS = [1045329340473956717, 11836705561733894207]


def test_words_are_pinned():
    """The stream is a promise: a run resumed on another machine must see the same order."""
    assert random_words(3, 7, SHUFFLE, 2).tolist() == random_words(5, 7, SHUFFLE, 2)[:3].tolist()
    assert random_order(8, 0, SHUFFLE, 0).tolist() == PINNED_ORDER
    assert random_words(2, 1, VALID, 3).tolist() == PINNED_WORDS


def test_split_is_stratified_disjoint_and_fixed():
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    train, test = stratified_split(labels, 0.2, seed=3)
    assert np.bincount(labels[test]).tolist() == [10, 6, 4]
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(100))
    again = stratified_split(labels, 0.2, seed=3)
    np.testing.assert_array_equal(test, again[1])
    assert not np.array_equal(test, stratified_split(labels, 0.2, seed=4)[1])


def test_split_by_counts_gives_exact_totals():
    labels = np.repeat([0, 1, 2], [97, 2, 14])
    train, test = stratified_split(labels, counts=(70, 23), seed=0)
    assert (len(train), len(test)) == (70, 23)
    assert not set(train) & set(test)
    assert np.bincount(labels[test], minlength=3).min() >= 1
    assert np.bincount(labels[train], minlength=3).min() >= 1


@pytest.mark.parametrize(
    ("labels", "settings", "error", "words"),
    [
        ([0, 1, 0, 1], {}, SettingError, "exactly one"),
        ([0, 1, 0, 1], {"fraction": 0.5, "counts": (2, 2)}, SettingError, "exactly one"),
        ([0, 1, 0, 1], {"fraction": 1.0}, SettingError, r"fraction is 1\.0"),
        ([0, 1, 0, 1], {"counts": (3, 2)}, SettingError, "3 training and 2 test.*at most 4"),
        ([0, 0, 1], {"fraction": 0.5}, DataError, "label 1 has 1 image"),
        ([0, 0, 1, 1], {"counts": (3, 1)}, DataError, r"test side gets 1 images but 2\.\.2"),
        ([], {"fraction": 0.5}, DataError, "non-empty"),
    ],
)
def test_split_refuses(labels, settings, error, words):
    with pytest.raises(error, match=words):
        stratified_split(np.asarray(labels, dtype=np.int64), **settings)


def test_normalisation_agrees_with_the_definition():
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, (7, 3, 4, 5), dtype=np.uint8)
    for images in (levels, levels.astype(np.float32) / 255):
        found = measure_normalisation(images)
        y = found(images)
        assert y.dtype == np.float32
        np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), 0, atol=1e-5)
        np.testing.assert_allclose(y.std(axis=(0, 2, 3)), 1, atol=1e-5)
    np.testing.assert_allclose(found.mean, (levels / 255).mean(axis=(0, 2, 3)), rtol=1e-6)
    assert Normalisation.from_dict(found.to_dict()) == found


def test_a_constant_channel_is_not_divided_by_zero():
    for value in (np.uint8(7), np.float32(0.1)):
        found = measure_normalisation(np.full((2, 1, 3, 3), value))
        assert found.std == (1.0,)
        np.testing.assert_allclose(found(np.full((1, 1, 3, 3), value)), 0, atol=1e-6)


@pytest.mark.parametrize("values", [{}, {"mean": [0.0]}, {"mean": [0.0], "std": [0.0]}, {"mean": ["x"], "std": [1.0]}])
def test_normalisation_refuses_bad_statistics(values):
    with pytest.raises(DataError, match="normalisation"):
        Normalisation.from_dict(values)


def test_normalisation_refuses_other_channels():
    with pytest.raises(DataError, match=r"\(2, 3, 4, 4\).*\(B, 1, H, W\)"):
        Normalisation((0.0,), (1.0,))(np.zeros((2, 3, 4, 4), np.uint8))


def test_an_epoch_sees_every_image_once_in_an_order_of_seed_and_epoch():
    data = made_up(23)
    batches = Batches(data, 5, measure_normalisation(data.images), seed=1)
    seen = [batch.indices for batch in batches.epoch(0)]
    assert [len(s) for s in seen] == [5, 5, 5, 5, 3]
    assert len(batches) == 5
    assert sorted(np.concatenate(seen)) == list(range(23))
    np.testing.assert_array_equal(np.concatenate(seen), batches.order(0))
    assert not np.array_equal(batches.order(0), batches.order(1))
    other = Batches(data, 7, measure_normalisation(data.images), seed=1, drop_last=True)
    np.testing.assert_array_equal(batches.order(0), other.order(0))
    assert len(other) == 3
    assert sum(len(batch) for batch in other.epoch(0)) == 21


def test_a_resumed_epoch_gives_the_same_batches():
    data = made_up(23)
    batches = Batches(data, 4, measure_normalisation(data.images), seed=9)
    whole = list(batches.epoch(3))
    rest = list(batches.epoch(3, start=2))
    assert len(rest) == len(whole) - 2
    for one, two in zip(whole[2:], rest, strict=True):
        np.testing.assert_array_equal(one.images, two.images)
        np.testing.assert_array_equal(one.labels, two.labels)


def test_unshuffled_batches_keep_the_stored_order():
    data = made_up(5)
    batch = next(Batches(data, 5, Normalisation((0.0,), (1.0,)), shuffle=False, dtype=np.float64).epoch(4))
    assert batch.indices.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(batch.images, data.images / 255)
    assert batch.images.dtype == np.float64


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 11, "drop_last": True}, "batch_size is 11 .* 10 images"),
        ({"batch_size": 2, "seed": -1}, "seed is -1"),
    ],
)
def test_batches_refuse(settings, words):
    with pytest.raises(SettingError, match=words):
        Batches(made_up(10), normalisation=Normalisation((0.0,), (1.0,)), **settings)
