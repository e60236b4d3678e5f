"""First values of parameters: drawn on the host from a seed, so that every backend starts from the same weights.

Only the raw words of NumPy's Philox are used, whose stream NumPy promises to keep.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import prod, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import SettingError

_WEIGHTS = 17  # the purpose, second word of Philox's key; data order and shifts use others with the same seed


class _Stream:
    __slots__ = ("drawn", "seed")

    def __init__(self, seed: int) -> None:
        if not 0 <= seed < 2**63:
            raise SettingError(f"nn.seed: seed is {seed} but an integer in 0..2**63-1 is needed")
        self.seed, self.drawn = seed, 0


_stream: ContextVar[_Stream | None] = ContextVar("portable_nn_init", default=None)
_fallback = _Stream(0)


@contextmanager
def seed(value: int) -> Iterator[None]:
    """Draw the weights of layers made inside the block from `value`; equal seeds and code give equal weights.

    Outside any block, layers draw from one stream that starts at seed 0 with the process.

    Examples
    --------
    >>> with nn.seed(0):
    ...     model = nn.Linear(8, 10)
    """
    token = _stream.set(_Stream(value))
    try:
        yield
    finally:
        _stream.reset(token)


def _unit(shape: tuple[int, ...], copies: int = 1) -> NDArray[np.float64]:
    """Draw numbers in [0, 1) with 53 bits; each array drawn has a stream of its own."""
    stream = _stream.get() or _fallback
    stream.drawn += 1
    generator = np.random.Philox(key=np.array([stream.seed, _WEIGHTS], np.uint64), counter=np.array([0, stream.drawn, 0, 0], np.uint64))
    words: NDArray[np.uint64] = np.asarray(generator.random_raw(copies * prod(shape)))
    return ((words >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(copies, *shape)


def uniform(shape: tuple[int, ...], bound: float) -> NDArray[Any]:
    """Return float32 numbers spread evenly over -bound .. bound."""
    return np.asarray((2.0 * _unit(shape)[0] - 1.0) * bound, np.float32)


def normal(shape: tuple[int, ...], std: float = 1.0) -> NDArray[Any]:
    """Return float32 numbers of a normal distribution around 0 (Box and Muller)."""
    u, v = _unit(shape, 2)
    return np.asarray(np.sqrt(-2.0 * np.log1p(-u)) * np.cos(2.0 * np.pi * v) * std, np.float32)


def kaiming_uniform(shape: tuple[int, ...], fan_in: int) -> NDArray[Any]:
    """Return PyTorch's default weights of linear and convolution layers: uniform in +-1/sqrt(fan_in).

    That is ``kaiming_uniform_(a=sqrt(5))``, whose bound is ``sqrt(6 / ((1 + 5) fan_in))``. The same bound serves the
    bias. He, Zhang, Ren, Sun 2015, arXiv:1502.01852.
    """
    return uniform(shape, 1.0 / sqrt(fan_in) if fan_in > 0 else 0.0)


def kaiming_normal(shape: tuple[int, ...], fan: int) -> NDArray[Any]:
    """Return normal weights of standard deviation ``sqrt(2 / fan)``, for nets of ReLUs."""
    return normal(shape, sqrt(2.0 / fan))
