"""From stored pixels to what a model sees: normalisation by the training set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..core.errors import DataError
from .dataset import check_images


@dataclass(frozen=True)
class Normalisation:
    """y[n,c,h,w] = (x[n,c,h,w] * s - mean[c]) / std[c], with s = 1/255 for uint8 and 1 for floats.

    Measured once on the training images and kept with the run, so that evaluation and prediction see the same inputs.

    Parameters
    ----------
    mean, std : tuple of float
        One value per channel, C of each; every std is positive.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        finite = all(np.isfinite(value) for value in (*self.mean, *self.std))
        if len(self.mean) != len(self.std) or not self.mean or not finite or min(self.std) <= 0:
            raise DataError(
                f"normalisation: mean is {self.mean} and std is {self.std} but one finite mean and one positive std "
                "per channel are needed"
            )

    def __call__(self, images: NDArray[Any], dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """Normalise images (B, C, H, W), uint8 or float, to the float `dtype`; raises `DataError` on other C."""
        if images.ndim != 4 or images.shape[1] != len(self.mean):
            raise DataError(
                f"normalisation: images have shape {images.shape} but (B, {len(self.mean)}, H, W) is needed: "
                f"the statistics were measured on {len(self.mean)} channels"
            )
        std = np.array(self.std).reshape(1, -1, 1, 1)
        factor = (1.0 / 255.0 if images.dtype == np.uint8 else 1.0) / std
        offset = np.array(self.mean).reshape(1, -1, 1, 1) / std
        y = images.astype(dtype)
        y *= factor.astype(dtype)
        y -= offset.astype(dtype)
        return y

    def to_dict(self) -> dict[str, list[float]]:
        """Give the statistics as plain lists, for a JSON file."""
        return {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Normalisation:
        """Read what `to_dict` wrote; raises `DataError` when mean or std is missing or not a list of numbers."""
        try:
            return cls(tuple(float(v) for v in values["mean"]), tuple(float(v) for v in values["std"]))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"normalisation: {values!r} but lists named mean and std are needed") from error


def measure_normalisation(images: NDArray[Any]) -> Normalisation:
    """Measure mean and standard deviation per channel over training images.

    Parameters
    ----------
    images : ndarray, (N, C, H, W), uint8 or float
        uint8 is measured exactly, by counting levels, and scaled to 0..1.

    Returns
    -------
    Normalisation
        A channel that is constant gets std 1.

    Raises
    ------
    DataError
        Images of another shape or dtype, or that are not finite.
    """
    check_images(images, "normalisation")
    mean, std = [], []
    for c in range(images.shape[1]):
        channel = images[:, c]
        if images.dtype == np.uint8:
            counts = np.bincount(channel.reshape(-1), minlength=256)
            levels = np.arange(256) / 255.0
            m = float(counts @ levels / counts.sum())
            s = float(np.sqrt(counts @ (levels - m) ** 2 / counts.sum()))
        else:
            m = float(channel.mean(dtype=np.float64))
            s = float(channel.std(dtype=np.float64))
        mean.append(m)
        std.append(s if s > 1e-12 * max(1.0, abs(m)) else 1.0)
    return Normalisation(tuple(mean), tuple(std))
