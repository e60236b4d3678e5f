"""Random numbers: Philox4x32-10, a counter-based generator in 32-bit integers, so that every backend draws the same bits.

J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011; checked against its known answers.

A *key* is a uint32 array of four words. Words 0 and 1 are Philox's key; words 2 and 3 are the upper half of its counter,
whose lower half counts blocks of four words inside one draw. A key is used once: get a new one for every draw with the ops
`fold_in` and `split_key`, which run on the device, so that a replayed step does not repeat its numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from . import selection
from .errors import ArgumentError, SettingError, ShapeError
from .spec import Spec

if TYPE_CHECKING:
    from .backend import Backend

Words = npt.NDArray[np.uint32]
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
# Mixed into word 1 of the key, so that derived keys and drawn numbers come from different streams.
FOLD, SPLIT = 0x464F4C44, 0x53504C54


def philox(counter: npt.ArrayLike, key: npt.ArrayLike) -> Words:
    """Return Philox4x32-10 of counters, shape (..., 4), under one key of two words."""
    c0, c1, c2, c3 = np.moveaxis(np.asarray(counter, dtype=np.uint64), -1, 0)
    k0, k1 = (int(k) for k in np.asarray(key))
    low = np.uint64(0xFFFFFFFF)
    for step in range(10):
        a, b = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        first, second = (np.uint64((k + step * w) & 0xFFFFFFFF) for k, w in zip((k0, k1), _WEYL, strict=True))
        c0, c1, c2, c3 = (b >> np.uint64(32)) ^ c1 ^ first, b & low, (a >> np.uint64(32)) ^ c3 ^ second, a & low
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def blocks(key: Words, count: int, mark: int = 0) -> Words:
    """Return the first `count` blocks of four words drawn with `key`, shape (count, 4)."""
    words = np.asarray(key).astype(np.uint64)
    number = np.arange(count, dtype=np.uint64)
    counter = np.empty((len(number), 4), np.uint64)
    counter[:, 0], counter[:, 1] = number & np.uint64(0xFFFFFFFF), number >> np.uint64(32)
    counter[:, 2:] = words[2:]
    return philox(counter, (int(words[0]), int(words[1]) ^ mark))


def key(seed: int, *, backend: str | Backend | None = None) -> Any:
    """Return the key of a seed, on a backend (the chosen one by default).

    Parameters
    ----------
    seed : int
        From 0 to 2**64 - 1.
    backend : str or Backend, optional

    Examples
    --------
    >>> key = pnn.random_key(0)
    >>> step_key = pnn.ops.fold_in(key, step)
    """
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise ArgumentError(f"key: seed is {seed!r} but must be an integer")
    number = int(seed.__index__())
    if not 0 <= number < 2**64:
        raise SettingError(f"key: seed is {number} but must be from 0 to 2**64 - 1")
    words = np.array([number & 0xFFFFFFFF, number >> 32, 0, 0], dtype=np.uint32)
    target = selection.default() if backend is None else selection.get(backend) if isinstance(backend, str) else backend
    return target.from_numpy(words)


def check_key(op_name: str, spec: Spec) -> None:
    """Raise unless `spec` is that of a key."""
    if spec.shape != (4,) or spec.dtype != np.uint32:
        raise ShapeError(
            f"{op_name}: key has shape {spec.shape} and dtype {spec.dtype.name} but must be four uint32 words; "
            f"make one with portable_nn.random_key(seed)"
        )
