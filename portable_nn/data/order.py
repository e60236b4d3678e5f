"""Random words and orders that depend on (seed, purpose, epoch) and on nothing else.

Only the raw words of NumPy's Philox bit generator are used: their stream is fixed by NumPy's compatibility promise,
while the methods of `Generator` (permutation, shuffle, integers) may change from one NumPy version to the next.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..core.errors import SettingError

SPLIT, SHUFFLE, VALID = 1, 2, 3
"""Purposes: each has its own stream, so that splits and shuffling never share a word."""

LARGEST_SEED = 2**63 - 1


def check_seed(name: str, value: int) -> None:
    """Raise `SettingError` unless `value` lies in 0 .. 2**63 - 1."""
    if not 0 <= value <= LARGEST_SEED:
        raise SettingError(f"{name} is {value} but an integer in 0..2**63-1 is needed; choose another {name}")


def random_words(count: int, seed: int, purpose: int, epoch: int = 0) -> NDArray[np.uint64]:
    """Draw the first `count` words of one stream.

    Parameters
    ----------
    count : int
        Number of words, N. Word i is the same for every N > i.
    seed, epoch : int
        Integers in 0 .. 2**63 - 1.
    purpose : int
        `SPLIT`, `SHUFFLE` or `VALID`.

    Returns
    -------
    ndarray, (N,) uint64

    Raises
    ------
    SettingError
        A negative or too large seed or epoch.
    """
    check_seed("seed", seed)
    check_seed("epoch", epoch)
    key = np.array([seed, purpose], dtype=np.uint64)
    counter = np.array([0, epoch, 0, 0], dtype=np.uint64)  # word 0 is the running one
    words: NDArray[np.uint64] = np.random.Philox(key=key, counter=counter).random_raw(count)
    return words


def random_order(count: int, seed: int, purpose: int, epoch: int = 0) -> NDArray[np.int64]:
    """Order 0 .. N-1 by their random words: a permutation, (N,) int64."""
    return np.argsort(random_words(count, seed, purpose, epoch), kind="stable").astype(np.int64)
