"""Draws for a batch: one row per image, from a key on the device.

Choices are made in integers or single bits of a draw, so that no backend's rounding decides them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import ops
from ..api import asarray, backend_of
from ..core.array import Array

AUGMENT = 0x4155474D454E54
"""Folded into the key of a run before the step: no step number is as large, so dropout's keys are never met."""


def constant(values: Any, images: Array, dtype: Any) -> Array:
    """Return host values as an array beside `images`."""
    return asarray(np.asarray(values, dtype), backend=backend_of(images))


def positions(size: int, images: Array) -> Array:
    """Return 0 .. size-1 as int32 beside `images`."""
    return constant(np.arange(size), images, np.int32)


def integers(key: Array, shape: tuple[int, ...], low: int, high: int) -> Array:
    """Draw int32 numbers, uniform in low .. high (both included; the bias is below 2**-16 for 65536 numbers or fewer)."""
    words = ops.remainder(ops.random_bits(key, shape), high - low + 1)
    return ops.add(ops.astype(words, "int32"), low)


def span(key: Array, count: int, half: float, middle: float = 0.0) -> Array:
    """Draw float32 numbers, shape (count, 1, 1), uniform in middle - half .. middle + half."""
    return ops.uniform(key, (count, 1, 1), middle - half, middle + half)


def chance(key: Array, count: int, p: float) -> Array:
    """Draw bools, shape (count, 1, 1, 1), true with probability `p`."""
    return ops.bernoulli(key, (count, 1, 1, 1), p)
