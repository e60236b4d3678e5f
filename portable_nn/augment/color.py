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


@dataclass(frozen=True)
class ColorJitter:
    """Scale brightness, contrast and saturation by factors around 1, in this order; colours stay in 0..1.

    Contrast scales about the mean grey of the image, saturation about the grey of each pixel; a grey image has no
    saturation to scale.

    Parameters
    ----------
    brightness, contrast, saturation : float
        Factors are drawn from 1 - value .. 1 + value.
    """

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2

    def __post_init__(self) -> None:
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
        return levels.values(x)
