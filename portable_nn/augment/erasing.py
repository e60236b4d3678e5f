"""Augmentations that cover a rectangle with the mean colour of the data set (0 after normalisation)."""

from __future__ import annotations

from dataclasses import dataclass

from .. import ops
from ..core.array import Array
from .color import Levels
from .draw import chance, integers, positions
from .geometry import check_part, check_pixels


def _between(places: Array, start: Array, size: Array | int) -> Array:
    return ops.bitwise_and(ops.greater_equal(places, start), ops.less(places, ops.add(start, size)))


def covered(images: Array, top: Array, left: Array, height: Array | int, width: Array | int) -> Array:
    """Tell which pixels, (B, 1, H, W), lie in a rectangle per image; corners and sizes are int32, (B, 1, 1, 1)."""
    _, _, h, w = images.shape
    rows, columns = ops.reshape(positions(h, images), (1, 1, h, 1)), ops.reshape(positions(w, images), (1, 1, 1, w))
    return ops.bitwise_and(_between(rows, top, height), _between(columns, left, width))


@dataclass(frozen=True)
class Cutout:
    """Cover a square of `size` pixels whose middle lies anywhere in the image (DeVries and Taylor 2017, arXiv:1708.04552)."""

    size: int = 8

    def __post_init__(self) -> None:
        check_pixels("cutout's size", self.size)

    def __call__(self, images: Array, key: Array, levels: Levels) -> Array:
        batch, _, height, width = images.shape
        side = int(self.size)
        top = integers(ops.fold_in(key, 0), (batch, 1, 1, 1), -(side // 2), height - 1 - side // 2)
        left = integers(ops.fold_in(key, 1), (batch, 1, 1, 1), -(side // 2), width - 1 - side // 2)
        return ops.where(covered(images, top, left, side, side), 0.0, images)


@dataclass(frozen=True)
class RandomErasing:
    """Cover a rectangle with probability `p`, after Zhong et al. 2017 (arXiv:1708.04896).

    They draw area and proportions; here both sides are drawn, in whole pixels from `smallest` to `largest` parts of the
    image's, so that every backend covers the same pixels.
    """

    p: float = 0.25
    smallest: float = 0.125
    largest: float = 0.5

    def __post_init__(self) -> None:
        check_part("erase's p", self.p)
        check_part("erase's largest", self.largest)
        check_part("erase's smallest", self.smallest, 0, self.largest)

    def __call__(self, images: Array, key: Array, levels: Levels) -> Array:
        batch = images.shape[0]
        corners, sizes = [], []
        for axis, length in enumerate(images.shape[2:]):
            low, high = (max(1, round(part * length)) for part in (self.smallest, self.largest))
            size = integers(ops.fold_in(key, 2 * axis), (batch, 1, 1, 1), low, high)
            # A corner anywhere such that the rectangle lies inside: a draw modulo the places left.
            word = ops.random_bits(ops.fold_in(key, 2 * axis + 1), (batch, 1, 1, 1))
            places = ops.astype(ops.subtract(length + 1, size), "uint32")
            corners.append(ops.astype(ops.remainder(word, places), "int32"))
            sizes.append(size)
        inside = covered(images, *corners, *sizes)
        return ops.where(ops.bitwise_and(inside, chance(ops.fold_in(key, 4), batch, self.p)), 0.0, images)
