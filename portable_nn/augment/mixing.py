"""Mixing each image with another of its batch: the targets become probabilities, mixed alike."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .. import ops
from ..core.array import Array
from ..core.errors import SettingError
from ..core.random import blocks
from .draw import constant
from .erasing import covered


def host_uniforms(seed: int, step: int, purpose: int) -> Iterator[float]:
    """Draw numbers in (0, 1) on the host, for a choice that holds for a whole batch; from the same generator as the rest.

    The upper half of the counter holds step and purpose; draws of a run's own key have zeros there.
    """
    key = np.array([seed & 0xFFFFFFFF, seed >> 32, step & 0xFFFFFFFF, purpose], np.uint32)
    drawn = 0
    while True:
        drawn += 8
        for word in blocks(key, drawn // 4).reshape(-1)[drawn - 8 :]:
            yield (int(word) + 0.5) * 2.0**-32


def _log_gamma_draw(shape: float, uniforms: Iterator[float]) -> float:
    """Return the logarithm of a gamma variate (Marsaglia and Tsang 2000), which does not underflow for a small shape."""
    if shape < 1:
        return _log_gamma_draw(shape + 1, uniforms) + math.log(next(uniforms)) / shape
    d = shape - 1 / 3
    while True:
        z = math.sqrt(-2 * math.log(next(uniforms))) * math.cos(2 * math.pi * next(uniforms))
        v = (1 + z / math.sqrt(9 * d)) ** 3
        if v > 0 and math.log(next(uniforms)) < 0.5 * z * z + d - d * v + d * math.log(v):
            return math.log(d * v)


def beta(alpha: float, uniforms: Iterator[float]) -> float:
    """Draw from Beta(alpha, alpha): the share of the first of two gamma variates in their sum."""
    a, b = _log_gamma_draw(alpha, uniforms), _log_gamma_draw(alpha, uniforms)
    return 1 / (1 + math.exp(min(b - a, 700.0)))


def _check(name: str, alpha: float) -> None:
    if not 0 < alpha < math.inf:
        raise SettingError(f"augment: {name}'s alpha is {alpha:g} but a number above 0 is needed")


def mixed(probabilities: Array, part: float) -> Array:
    """Return `part` of each target and the rest of its partner's; the partner of image i is image B - 1 - i."""
    return ops.add(ops.multiply(probabilities, part), ops.multiply(ops.flip(probabilities, axis=0), 1.0 - part))


@dataclass(frozen=True)
class MixUp:
    """Average each image with its partner, with a weight from Beta(alpha, alpha) (Zhang et al. 2017, arXiv:1710.09412)."""

    alpha: float = 0.2

    def __post_init__(self) -> None:
        _check("mixup", self.alpha)

    def __call__(self, images: Array, probabilities: Array, uniforms: Iterator[float]) -> tuple[Array, Array]:
        part = beta(self.alpha, uniforms)
        return mixed(images, part), mixed(probabilities, part)


@dataclass(frozen=True)
class CutMix:
    """Paste a rectangle of the partner, of area 1 - Beta(alpha, alpha), into each image (Yun et al. 2019, arXiv:1905.04899).

    The rectangle has the image's proportions and its middle anywhere; targets are mixed by the area that is really covered.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        _check("cutmix", self.alpha)

    def __call__(self, images: Array, probabilities: Array, uniforms: Iterator[float]) -> tuple[Array, Array]:
        _, _, height, width = images.shape
        side = math.sqrt(1 - beta(self.alpha, uniforms))
        (top, bottom), (left, right) = (_cut(length, side, next(uniforms)) for length in (height, width))
        part = 1 - (bottom - top) * (right - left) / (height * width)
        row, column = (constant([[[[place]]]], images, np.int32) for place in (top, left))
        inside = covered(images, row, column, bottom - top, right - left)
        return ops.where(inside, ops.flip(images, axis=0), images), mixed(probabilities, part)


def _cut(length: int, side: float, middle: float) -> tuple[int, int]:
    """Return start and end of a cut of `side` parts around `middle` (a part of the length), held inside."""
    half, at = side * length / 2, middle * length
    return max(0, round(at - half)), min(length, round(at + half))
