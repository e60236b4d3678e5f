"""Stratified splits, and `load` and `load_splits`: one word or path in, sets for training, validation and testing out.

Over 250 lines: which sets come of which source is decided in one place.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core.errors import DataError, SettingError
from .cifar import find_cifar, read_cifar
from .dataset import Dataset, check_every_class
from .digits import read_digits
from .fetch import data_folder
from .folder import EXPECTED as FOLDER_EXPECTED
from .folder import OnError, read_image_folder
from .idx import EXPECTED as IDX_EXPECTED
from .idx import find_idx_files, read_idx_folder
from .named import read_named
from .npz import read_npz
from .order import SPLIT, VALID, random_order
from .published import PUBLISHED
from .svhn import find_svhn, read_svhn

NAMES = ("digits", *PUBLISHED)
SPECS = (
    f"one of {', '.join(NAMES)}; a folder with IDX files (MNIST's layout), CIFAR's binary version or SVHN's .mat files; "
    "a folder of images by class; or an .npz file"
)


@dataclass(frozen=True, eq=False)
class Splits:
    """Sets for training, validation (which chooses) and testing (which measures, once); None where there is none."""

    train: Dataset
    valid: Dataset | None
    test: Dataset | None


def stratified_split(
    labels: ArrayLike,
    fraction: float | None = None,
    counts: tuple[int, int] | None = None,
    seed: int = 0,
    purpose: int = SPLIT,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split indices so that each class has its share, to the nearest image, on both sides.

    Parameters
    ----------
    labels : array_like, (N,) int
        Class numbers from 0.
    fraction : float, optional
        The test side's part of N, between 0 and 1. Give this or `counts`.
    counts : (int, int), optional
        Exact sizes (training, test); their sum may be less than N.
    seed : int
        Which images go where; equal arguments give equal splits on every machine and NumPy version.
    purpose : int
        Of the stream of random words: splits of one set for several purposes do not share draws.

    Returns
    -------
    train, test : ndarray, int64
        Disjoint indices, each in increasing order. A class of two or more images is on both sides.

    Raises
    ------
    SettingError
        Neither or both of `fraction` and `counts`, or values outside their range.
    DataError
        A class with a single image, or sizes too small to hold every class.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or labels.size == 0 or labels.min() < 0:
        raise DataError(
            f"split: labels have shape {labels.shape} and dtype {labels.dtype} but a non-empty (N,) array of integers "
            "from 0 is needed"
        )
    total = len(labels)
    train_total, test_total = _sizes(total, fraction, counts)
    per_class = np.bincount(labels)
    if (per_class == 1).any():
        lone = int(np.flatnonzero(per_class == 1)[0])
        raise DataError(
            f"split: label {lone} has 1 image but a class needs at least 2 to be on both sides; "
            "add images of it, or give separate training and test sets"
        )
    lowest = np.minimum(per_class, 1)
    test_counts = _apportion(per_class, test_total, lowest, per_class - lowest, "test")
    train_counts = _apportion(per_class, train_total, lowest, per_class - test_counts, "training")
    order = random_order(total, seed, purpose)
    shuffled = labels[order]
    train, test = [], []
    for label in np.flatnonzero(per_class):
        members = order[shuffled == label]
        test.append(members[: test_counts[label]])
        train.append(members[test_counts[label] : test_counts[label] + train_counts[label]])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(test))


def _sizes(total: int, fraction: float | None, counts: tuple[int, int] | None) -> tuple[int, int]:
    if fraction is not None and counts is None:
        if not 0.0 < fraction < 1.0:
            raise SettingError(f"split: fraction is {fraction} but a number between 0 and 1 is needed, such as 0.2")
        test = round(total * fraction)
        return total - test, test
    if counts is not None and fraction is None:
        train, test = counts
        if train < 1 or test < 1 or train + test > total:
            raise SettingError(
                f"split: counts are {train} training and {test} test images but both must be at least 1 and their sum "
                f"at most {total}, the number of images"
            )
        return train, test
    raise SettingError(f"split: fraction is {fraction} and counts are {counts} but exactly one of them is needed")


def _apportion(
    per_class: NDArray[np.int64], total: int, lowest: NDArray[np.int64], highest: NDArray[np.int64], side: str
) -> NDArray[np.int64]:
    """Share `total` over the classes by largest remainder, each share within lowest .. highest."""
    if not lowest.sum() <= total <= highest.sum():
        raise DataError(
            f"split: the {side} side gets {total} images but {int(lowest.sum())}..{int(highest.sum())} are needed to "
            f"keep each of the {int((per_class > 0).sum())} classes on both sides; choose another fraction or counts"
        )
    exact = per_class * (total / int(per_class.sum()))
    shares: NDArray[np.int64] = np.clip(np.floor(exact).astype(np.int64), lowest, highest)
    while shares.sum() < total:
        shares[np.argmax(np.where(shares < highest, exact - shares, -np.inf))] += 1
    while shares.sum() > total:
        shares[np.argmax(np.where(shares > lowest, shares - exact, -np.inf))] -= 1
    return shares


def load(spec: str | Path, **options: Any) -> tuple[Dataset, Dataset]:
    """Load a training set, and the set that is held out: for testing, or, of a folder with no ``test/``, for validation.

    Parameters
    ----------
    spec : str or Path
    **options
        As for `load_splits`, without `valid_fraction`.

    Returns
    -------
    train, held_out : Dataset
        With equal classes and image shapes.
    """
    made = load_splits(spec, valid_fraction=0.0, **options)
    held_out = made.test or made.valid
    assert held_out is not None
    return made.train, held_out


def load_splits(
    spec: str | Path,
    *,
    valid_fraction: float = 0.1,
    test_fraction: float = 0.2,
    counts: tuple[int, int] | None = None,
    split_seed: int = 0,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    on_error: OnError = "raise",
    folder: str | Path | None = None,
    offline: bool = False,
) -> Splits:
    """Load sets for training, validation and testing.

    Parameters
    ----------
    spec : str or Path
        A name (``"digits"``, or one of `PUBLISHED`, which is fetched when it is not there), a folder with IDX files,
        CIFAR's binary version or SVHN's files, a folder of images by class, or an .npz file. A path that is called like a
        data set is reached as ``"./digits"``.
    valid_fraction : float
        Part of the training set that is kept back for validation when the source has no validation set of its own;
        0 for none. Every class has its share, and at least one image.
    test_fraction : float
        Part that is split off for testing when the source holds one set and no more.
    counts : (int, int), optional
        Exact (training, test) sizes of that split, instead of the fraction.
    split_seed : int
        Seed of these splits; apart from the seed of a run, so that runs with different seeds share their sets.
    image_size, channels, on_error
        For image folders, see `read_image_folder`.
    folder : str or Path, optional
        Where published data sets lie and are put, in torchvision's layout; see `data_folder`.
    offline : bool
        Fetch nothing: a data set that is not there is an error that says which file goes where.

    Returns
    -------
    Splits
        With equal classes and image shapes. Testing is None for a folder of images that has ``val/`` and no ``test/``.

    Raises
    ------
    DataError
        Nothing there (with a close match), nothing readable there, or contents of the wrong form.
    MissingExtraError
        scikit-learn or Pillow is needed and not installed.
    """
    train, valid, test = _read(spec, image_size, channels, on_error, folder, offline)
    check_every_class(train)
    if test is None and valid is None:
        whole = train
        chosen = None if counts is not None else test_fraction
        train, test = (whole.subset(part) for part in stratified_split(whole.labels, chosen, counts, split_seed))
        how = f"{whole.source}, stratified split {len(train)}/{len(test)} with seed {split_seed}"
        train, test = replace(train, source=how), replace(test, source=how)
    if valid is None and valid_fraction:
        train, valid = _keep_back(train, valid_fraction, split_seed)
    return Splits(train, valid, test)


def _keep_back(whole: Dataset, fraction: float, seed: int) -> tuple[Dataset, Dataset]:
    """Split a validation set off a training set."""
    if not 0.0 < fraction < 1.0:
        raise SettingError(f"split: valid_fraction is {fraction} but a number in [0, 1) is needed, such as 0.1")
    lone = np.flatnonzero(whole.counts == 1)
    if lone.size:
        raise DataError(
            f"{whole.name}: class {whole.classes[lone[0]]!r} has a single training image, so none can be kept back for validation; "
            "add images, or train without a validation set (--valid-fraction 0)"
        )
    count = max(round(len(whole) * fraction), int((whole.counts > 0).sum()))
    parts = stratified_split(whole.labels, counts=(len(whole) - count, count), seed=seed, purpose=VALID)
    train, valid = (whole.subset(part) for part in parts)
    how = f"{whole.source}, {len(valid)} of {len(whole)} training images kept back for validation (stratified, seed {seed})"
    return replace(train, source=how), replace(valid, source=how)


def _read(
    spec: str | Path, image_size: int | tuple[int, int] | None, channels: int | None, on_error: OnError,
    folder: str | Path | None, offline: bool,
) -> tuple[Dataset, Dataset | None, Dataset | None]:  # fmt: skip
    """Return what the source holds for training, validation and testing."""
    valid: Dataset | None = None
    test: Dataset | None
    if str(spec) == "digits":
        return read_digits(), None, None
    if str(spec) in PUBLISHED:
        train, test = read_named(str(spec), folder, offline)
        return train, None, test
    path = Path(spec).expanduser()
    if not path.exists():
        raise DataError(_not_found(str(spec), path))
    if path.is_file():
        if path.suffix.lower() != ".npz":
            raise DataError(f"{path}: found a file of {path.stat().st_size} bytes; expected {SPECS}")
        train, test = read_npz(path)
    elif find_idx_files(path):
        train, test = read_idx_folder(path)
    elif (kind := find_cifar(path)) is not None:
        train, test = read_cifar(path, kind)
    elif find_svhn(path):
        train, test = read_svhn(path)
    elif any(entry.is_dir() for entry in path.iterdir()):
        _refuse_caches(path)
        cache = data_folder(folder) / "decoded"
        train, valid, test = read_image_folder(path, size=image_size, channels=channels, on_error=on_error, cache=cache)
    else:
        names = ", ".join(sorted(entry.name for entry in path.iterdir())[:8]) or "an empty folder"
        raise DataError(f"{path}: found {names}; expected {IDX_EXPECTED}, or {FOLDER_EXPECTED}")
    return train, valid, test


def _refuse_caches(path: Path) -> None:
    """Raise `DataError` if a folder is one of torchvision's roots, whose folders are no classes."""
    for published in PUBLISHED.values():
        place = published.unpacked or published.folder
        if any(name and (path / name).is_dir() for name in (place, published.pickled)):
            raise DataError(
                f"{path}: holds {place or published.pickled}, as torchvision lays data sets out; "
                f"give --data {published.name} --data-folder {path}"
            )


def _not_found(spec: str, path: Path) -> str:
    beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, beside, n=1, cutoff=0.6)
    close = difflib.get_close_matches(spec, NAMES, n=1, cutoff=0.6) or [str(path.parent / name) for name in near]
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"data {spec!r}: found nothing of that name; {hint}Expected {SPECS}"
