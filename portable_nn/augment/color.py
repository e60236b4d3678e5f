"""What normalised values mean as colours, and the augmentation that changes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import ops
from ..core.array import Array
from ..core.errors import SettingError
from .draw import constant, span

LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in a grey of equal brightness (ITU-R BT.601)


@dataclass(frozen=True)
class Levels:
    """The normalisation of a data set: a colour in 0..1 per channel is ``value * std + mean``; black is ``-mean / std``."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def _row(self, values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], images: Array) -> Array:
        if images.shape[1] != len(self.mean):
            raise SettingError(
                f"augment: images have {images.shape[1]} channels but the normalisation has {len(self.mean)}; give that of these images"
            )
        return constant(values.reshape(1, -1, 1, 1), images, images.dtype)

    def black(self, images: Array) -> Array:
        """Return the normalised value of black, (1, C, 1, 1)."""
        return self._row(-np.array(self.mean) / np.array(self.std), images)

    def colors(self, images: Array) -> Array:
        """Return colours in 0..1 from normalised values."""
        return ops.add(ops.multiply(images, self._row(np.array(self.std), images)), self._row(np.array(self.mean), images))

    def values(self, colors: Array) -> Array:
        """Return normalised values from colours in 0..1."""
        return ops.divide(ops.subtract(colors, self._row(np.array(self.mean), colors)), self._row(np.array(self.std), colors))


def turned(colors: Array, turn: Array) -> Array:
    """Return colours (B, 3, H, W) in 0..1 with their hue turned by `turn` circles (1 or B, 1, 1, 1), in -1..1.

    By hue, saturation and value of each pixel, without branches: channel n of the result is ``v - c clamp(min(k, 4 - k), 0, 1)``
    with ``k = (n + 6 h) mod 6`` and n = 5, 3, 1 for red, green and blue; v is the largest of the three, c the largest less the least.
    """
    red, green, blue = ops.split(colors, 1, 1)
    value = ops.maximum(ops.maximum(red, green), blue)
    chroma = ops.subtract(value, ops.minimum(ops.minimum(red, green), blue))
    divisor = ops.where(ops.equal(chroma, 0.0), 1.0, chroma)

    def part(after: float, a: Array, b: Array) -> Array:
        return ops.add(ops.divide(ops.subtract(a, b), divisor), after)

    sector = ops.where(
        ops.equal(value, red), part(6.0, green, blue), ops.where(ops.equal(value, green), part(2.0, blue, red), part(4.0, red, green))
    )
    sector = ops.add(sector, ops.multiply(turn, 6.0))

    def channel(number: float) -> Array:
        k = ops.remainder(ops.add(sector, number), 6.0)
        return ops.subtract(value, ops.multiply(chroma, ops.clamp(ops.minimum(k, ops.subtract(4.0, k)), 0.0, 1.0)))

    return ops.concat([channel(5.0), channel(3.0), channel(1.0)], axis=1)


@dataclass(frozen=True)
class ColorJitter:
    """Scale brightness, contrast and saturation by factors around 1 and turn the hue, in this order; colours stay in 0..1.

    Contrast scales about the mean grey of the image, saturation about the grey of each pixel; a grey image has no
    saturation to scale and no hue. The same colours as `torchvision.transforms.ColorJitter`, which draws the order too.

    Parameters
    ----------
    brightness, contrast, saturation : float
        Factors are drawn from 1 - value .. 1 + value.
    hue : float
        The turn is drawn from -value .. value of a whole circle of colours; at most 0.5.
    """

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.hue <= 0.5:
            raise SettingError(f"augment: jitter's hue is {self.hue:g} but a number in 0..0.5 is needed")
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingError(f"augment: jitter's {name} is {getattr(self, name):g} but a number in 0..1 is needed")

    def __call__(self, images: Array, key: Array, levels: Levels) -> Array:
        batch, channels = images.shape[:2]
        weights = constant(np.reshape(LUMA if channels == 3 else [1 / channels] * channels, (1, -1, 1, 1)), images, images.dtype)

        def factor(number: int, width: float) -> Array:
            return ops.astype(ops.reshape(span(ops.fold_in(key, number), batch, width, 1.0), (batch, 1, 1, 1)), images.dtype)

        def grey(x: Array) -> Array:
            return ops.sum(ops.multiply(x, weights), axis=1, keepdims=True)

        def scaled(x: Array, around: Array, by: Array) -> Array:
            return ops.clamp(ops.add(around, ops.multiply(ops.subtract(x, around), by)), 0.0, 1.0)

        x = levels.colors(images)
        if self.brightness:
            x = ops.clamp(ops.multiply(x, factor(0, self.brightness)), 0.0, 1.0)
        if self.contrast:
            x = scaled(x, ops.mean(grey(x), axis=(2, 3), keepdims=True), factor(1, self.contrast))
        if self.saturation and channels == 3:
            x = scaled(x, grey(x), factor(2, self.saturation))
        if self.hue and channels == 3:
            turn = ops.reshape(span(ops.fold_in(key, 3), batch, self.hue), (batch, 1, 1, 1))
            x = turned(x, ops.astype(turn, images.dtype))
        return levels.values(x)
