"""Augmentations that move pixels: flip, pad and crop, shift, rotation, affine maps. What comes in from outside is black."""

from __future__ import annotations

from dataclasses import dataclass
from math import radians

from .. import ops
from ..core.array import Array
from ..core.errors import SettingError
from .color import Levels
from .draw import chance, integers, positions, span
from .warp import read, sample


def check_part(name: str, value: float, low: float = 0.0, high: float = 1.0) -> None:
    """Raise `SettingError` unless a setting lies in low .. high."""
    if not low <= value <= high:
        raise SettingError(f"augment: {name} is {value:g} but a number in {low:g}..{high:g} is needed")


def check_pixels(name: str, value: float) -> None:
    """Raise `SettingError` unless a setting is a whole number of pixels, at least 1."""
    if value != int(value) or value < 1:
        raise SettingError(f"augment: {name} is {value:g} but a whole number of pixels, at least 1, is needed")


@dataclass(frozen=True)
class Flip:
    """Mirror left and right with probability `p`."""

    p: float = 0.5

    def __post_init__(self) -> None:
        check_part("flip's p", self.p)

    def __call__(self, images: Array, key: Array, levels: Levels) -> Array:
        return ops.where(chance(key, images.shape[0], self.p), ops.flip(images, axis=3), images)


def _moved(images: Array, key: Array, levels: Levels, reach: int, what: str) -> Array:
    batch, _, height, width = images.shape
    if reach >= min(height, width):
        raise SettingError(f"augment: {what} by up to {reach} pixels but images are {height}x{width}; use fewer")
    down, right = (integers(ops.fold_in(key, axis), (batch, 1, 1), -reach, reach) for axis in (0, 1))
    rows = ops.add(ops.reshape(positions(height, images), (1, height, 1)), down)
    columns = ops.add(ops.reshape(positions(width, images), (1, 1, width)), right)
    return read(images, rows, columns, levels.black(images))


@dataclass(frozen=True)
class Crop:
    """Pad with `pixels` black pixels on every side, and crop a place of the old size.

    The augmentation of He et al. 2015 (arXiv:1512.03385, section 4.2), with 4 pixels.
    """

    pixels: int = 4

    def __post_init__(self) -> None:
        check_pixels("crop's pixels", self.pixels)

    def __call__(self, images: Array, key: Array, levels: Levels) -> Array:
        return _moved(images, key, levels, int(self.pixels), "crop after padding")


@dataclass(frozen=True)
class Shift:
    """Move by whole pixels, up to `pixels` along each axis: the same as `Crop`, under the name it has for digits."""

    pixels: int = 1

    def __post_init__(self) -> None:
        check_pixels("shift's pixels", self.pixels)

    def __call__(self, images: Array, key: Array, levels: Levels) -> Array:
        return _moved(images, key, levels, int(self.pixels), "shift")


@dataclass(frozen=True)
class Affine:
    """Turn, move and scale about the middle of the image, with bilinear interpolation.

    Parameters
    ----------
    degrees : float
        Largest turn either way.
    translate : float
        Largest move along each axis, as a part of the image's size.
    scale : float
        Sizes are drawn from 1 - scale .. 1 + scale.
    """

    degrees: float = 10.0
    translate: float = 0.1
    scale: float = 0.1

    def __post_init__(self) -> None:
        check_part("the degrees of a turn", self.degrees, 0, 180)
        check_part("affine's translate", self.translate)
        check_part("affine's scale", self.scale, 0, 0.9)

    def __call__(self, images: Array, key: Array, levels: Levels) -> Array:
        batch, _, height, width = images.shape
        angle = span(ops.fold_in(key, 0), batch, radians(self.degrees))
        zoom = span(ops.fold_in(key, 1), batch, self.scale, 1.0)
        down = span(ops.fold_in(key, 2), batch, self.translate * height, (height - 1) / 2)
        right = span(ops.fold_in(key, 3), batch, self.translate * width, (width - 1) / 2)
        # From an output pixel back to its source: subtract middle and move, turn back, divide by the size.
        y = ops.subtract(ops.astype(ops.reshape(positions(height, images), (1, height, 1)), "float32"), down)
        x = ops.subtract(ops.astype(ops.reshape(positions(width, images), (1, 1, width)), "float32"), right)
        c, s = ops.divide(ops.cos(angle), zoom), ops.divide(ops.sin(angle), zoom)
        rows = ops.add(ops.add(ops.multiply(c, y), ops.multiply(s, x)), (height - 1) / 2)
        columns = ops.add(ops.subtract(ops.multiply(c, x), ops.multiply(s, y)), (width - 1) / 2)
        return sample(images, rows, columns, levels.black(images))


@dataclass(frozen=True)
class Rotate:
    """Turn about the middle of the image by up to `degrees` either way, with bilinear interpolation."""

    degrees: float = 15.0

    def __post_init__(self) -> None:
        check_part("the degrees of a turn", self.degrees, 0, 180)

    def __call__(self, images: Array, key: Array, levels: Levels) -> Array:
        return Affine(self.degrees, 0.0, 0.0)(images, key, levels)
