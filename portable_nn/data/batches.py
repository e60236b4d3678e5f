"""Batches of one epoch after another, in an order that depends on (seed, epoch) and on nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..core.errors import SettingError
from .dataset import Dataset
from .order import SHUFFLE, check_seed, random_order
from .transform import Normalisation, draw_shifts, shift_images


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch: images (B, C, H, W) float, labels (B,) int64, and the indices (B,) int64 they have in the data set."""

    images: NDArray[Any]
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Batches:
    """A data set cut into normalised batches.

    Parameters
    ----------
    dataset : Dataset
        N images.
    batch_size : int
        Images per batch, B.
    normalisation : Normalisation
        Measured on the training images.
    shuffle : bool
        A new order for each epoch, or the stored order.
    drop_last : bool
        Leave out the last batch of an epoch when it is smaller than B.
    shift : int
        Largest random move in pixels along each axis, 0 for none; drawn anew for each (seed, epoch, index).
    seed : int
        Seed of order and shifts.
    dtype : dtype
        Float dtype of the batches.

    Raises
    ------
    SettingError
        A batch size below 1 (or above N with `drop_last`), a negative shift or one as large as an image.
    """

    dataset: Dataset
    batch_size: int
    normalisation: Normalisation
    shuffle: bool = True
    drop_last: bool = False
    shift: int = 0
    seed: int = 0
    dtype: DTypeLike = np.float32

    def __post_init__(self) -> None:
        check_seed("seed", self.seed)
        if self.batch_size < 1:
            raise SettingError(f"batch_size is {self.batch_size} but at least 1 is needed")
        if self.drop_last and self.batch_size > len(self.dataset):
            raise SettingError(
                f"batch_size is {self.batch_size} with drop_last but {self.dataset.name} has {len(self.dataset)} "
                "images, so no batch would be left; use a smaller batch_size or drop_last=False"
            )
        height, width = self.dataset.image_shape[1:]
        if not 0 <= self.shift < min(height, width):
            raise SettingError(
                f"shift is {self.shift} but images are {height}x{width}; use 0 (none) to {min(height, width) - 1}"
            )

    def __len__(self) -> int:
        """Batches per epoch."""
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole if self.drop_last or not rest else whole + 1

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Give the order of one epoch: a permutation of 0 .. N-1, (N,) int64."""
        count = len(self.dataset)
        return random_order(count, self.seed, SHUFFLE, epoch) if self.shuffle else np.arange(count, dtype=np.int64)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Go through one epoch.

        Parameters
        ----------
        epoch : int
            Number of the epoch, from 0.
        start : int
            First batch to give; a resumed run skips those it has seen, and gets the same batches after them.

        Yields
        ------
        Batch
            Batches `start` .. len(self)-1.
        """
        order = self.order(epoch)
        shifts = draw_shifts(len(self.dataset), self.shift, self.seed, epoch) if self.shift else None
        for number in range(start, len(self)):
            indices = order[number * self.batch_size : (number + 1) * self.batch_size]
            images = self.dataset.images[indices]
            if shifts is not None:
                images = shift_images(images, shifts[indices])
            yield Batch(self.normalisation(images, self.dtype), self.dataset.labels[indices], indices)
