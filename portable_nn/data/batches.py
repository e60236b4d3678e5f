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
from .transform import Normalisation


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
    seed : int
        Seed of the order.
    dtype : dtype
        Float dtype of the batches.

    Raises
    ------
    SettingError
        A batch size below 1, or above N with `drop_last`.
    """

    dataset: Dataset
    batch_size: int
    normalisation: Normalisation
    shuffle: bool = True
    drop_last: bool = False
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
        for number in range(start, len(self)):
            indices = order[number * self.batch_size : (number + 1) * self.batch_size]
            images = self.normalisation(self.dataset.images[indices], self.dtype)
            yield Batch(images, self.dataset.labels[indices], indices)
