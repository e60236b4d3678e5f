"""The record that every reader returns: images, labels and class names, checked once when it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core.errors import DataError


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images.

    Parameters
    ----------
    images : ndarray, (N, C, H, W), uint8 or float
        uint8 means grey or colour levels 0..255; floats are taken as they are and must be finite.
    labels : ndarray, (N,), any integer dtype
        Class numbers in 0 .. K-1; kept as int64.
    classes : tuple of str
        The K class names.
    name : str
        A short name for titles, such as ``"digits"``.
    source : str
        Where the images come from and how they were split, in words.
    skipped : tuple of str
        Files that were left out, each as ``"path: reason"``.

    Raises
    ------
    DataError
        Wrong dimensions or dtypes, counts that differ, no image, a label out of range, an image that is not finite.
    """

    images: NDArray[Any]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    name: str
    source: str = ""
    skipped: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        check_images(self.images, self.name)
        if self.labels.ndim != 1 or self.labels.dtype.kind not in "iu":
            raise DataError(
                f"{self.name}: labels have shape {self.labels.shape} and dtype {self.labels.dtype} but one integer per "
                "image, shape (N,), is needed; for one-hot rows use labels.argmax(axis=1)"
            )
        if len(self.labels) != len(self.images):
            raise DataError(
                f"{self.name}: {len(self.images)} images (shape {self.images.shape}) but {len(self.labels)} labels; "
                "give one label per image"
            )
        check_labels(self.labels, self.classes, self.name)
        object.__setattr__(self, "labels", self.labels.astype(np.int64, copy=False))

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of one image."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    @property
    def counts(self) -> NDArray[np.int64]:
        """Images per class, (K,) int64."""
        return np.bincount(self.labels, minlength=len(self.classes)).astype(np.int64)

    def subset(self, indices: ArrayLike | Sequence[int]) -> Dataset:
        """Pick images by index, in the order given.

        Parameters
        ----------
        indices : array_like, (M,) int
            Indices in 0 .. N-1; negative ones are refused.

        Returns
        -------
        Dataset
            M images with the same classes, name and source.

        Raises
        ------
        DataError
            No index, indices that are not integers, or one out of range.
        """
        chosen = np.asarray(indices)
        if chosen.ndim != 1 or chosen.size == 0 or chosen.dtype.kind not in "iu":
            raise DataError(
                f"{self.name}: a subset was asked with indices of shape {chosen.shape} and dtype {chosen.dtype} "
                "but a non-empty list of integers is needed"
            )
        if chosen.min() < 0 or chosen.max() >= len(self):
            raise DataError(
                f"{self.name}: subset indices run from {chosen.min()} to {chosen.max()} "
                f"but the {len(self)} images have indices 0..{len(self) - 1}"
            )
        return Dataset(self.images[chosen], self.labels[chosen], self.classes, self.name, self.source, self.skipped)


def check_images(images: NDArray[Any], name: str) -> None:
    """Raise `DataError` unless `images` is a finite, non-empty (N, C, H, W) array of uint8 or floats."""
    if images.ndim != 4 or 0 in images.shape:
        raise DataError(
            f"{name}: images have shape {images.shape} but (N, C, H, W) with every size at least 1 is needed; "
            "add a channel axis to grey images: images[:, None]"
        )
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise DataError(f"{name}: images have dtype {images.dtype} but uint8 (0..255) or a float dtype is needed")
    if images.dtype.kind == "f":
        for n, image in enumerate(images):
            if not np.isfinite(image).all():
                c, h, w = (int(i) for i in np.argwhere(~np.isfinite(image))[0])
                raise DataError(
                    f"{name}: image {n} holds {image[c, h, w]} at channel {c}, row {h}, column {w} but every value "
                    "must be finite; drop or repair the image"
                )


def check_labels(labels: NDArray[Any], classes: tuple[str, ...], name: str) -> None:
    """Raise `DataError` unless every label lies in 0 .. K-1 and the K class names differ."""
    if len(set(classes)) != len(classes) or not classes:
        raise DataError(f"{name}: the class names are {list(classes)} but at least one is needed and all must differ")
    wrong = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if wrong.size:
        first = int(wrong[0])
        raise DataError(
            f"{name}: label {labels[first]} of image {first} is out of range ({wrong.size} such labels) but labels "
            f"must lie in 0..{len(classes) - 1} for the {len(classes)} classes {_shorten(classes)}"
        )


def check_every_class(dataset: Dataset) -> None:
    """Raise `DataError` if a class has no image: a model cannot learn it, and its metrics mean nothing."""
    empty = np.flatnonzero(dataset.counts == 0)
    if empty.size:
        names = _shorten(tuple(f"{dataset.classes[k]!r} (label {k})" for k in empty))
        raise DataError(
            f"{dataset.name}: no image among {len(dataset)} for {empty.size} of {len(dataset.classes)} classes: "
            f"{names}; add images of it, or renumber the labels without the gap"
        )


def _shorten(names: tuple[str, ...], most: int = 10) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
