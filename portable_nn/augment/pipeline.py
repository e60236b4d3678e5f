"""The augmentations of a run, one after the other, and mixing at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .. import ops
from ..api import backend_of
from ..core import random
from ..core.array import Array
from ..core.errors import SettingError
from .color import Levels
from .draw import AUGMENT
from .mixing import CutMix, MixUp, host_uniforms
from .registry import Augmentation, parse

_MIX = 0x4D495820


@dataclass(frozen=True)
class Pipeline:
    """What happens to each training batch, on the device; made by `pipeline`.

    Draws depend on the seed, the step, the place of an augmentation in the list and the place of an image in its batch,
    and on nothing else: a resumed run draws the same, and so does every backend.

    Parameters
    ----------
    augmentations : tuple of Augmentation
    mixes : tuple of MixUp or CutMix
        One of them, drawn anew for each step, is applied at the end.
    seed : int
    levels : Levels
        The normalisation of the images.
    classes : int
    """

    augmentations: tuple[Augmentation, ...]
    mixes: tuple[MixUp | CutMix, ...]
    seed: int
    levels: Levels
    classes: int

    def __bool__(self) -> bool:
        return bool(self.augmentations or self.mixes)

    def __call__(self, images: Array, labels: Array, step: int) -> tuple[Array, Array]:
        """Augment one batch.

        Parameters
        ----------
        images : array, (B, C, H, W) float
            Normalised, on any backend.
        labels : array, (B,) integer
        step : int
            Number of the training step.

        Returns
        -------
        images : array, (B, C, H, W)
        targets : array
            `labels`; or, with mixing, probabilities (B, K) in the dtype of the images. `ops.cross_entropy` takes both.
        """
        if not self:
            return images, labels
        if self.augmentations:
            key = ops.fold_in(ops.fold_in(random.key(self.seed, backend=backend_of(images)), AUGMENT), step)
            for number, augmentation in enumerate(self.augmentations):
                images = augmentation(images, ops.fold_in(key, number), self.levels)
        if not self.mixes:
            return images, labels
        uniforms = host_uniforms(self.seed, step, _MIX)
        mix = self.mixes[int(next(uniforms) * len(self.mixes))]
        return mix(images, ops.one_hot(labels, self.classes, images.dtype), uniforms)


def pipeline(
    augmentations: str | Sequence[str | Augmentation] = "", *, seed: int, mean: Sequence[float], std: Sequence[float], classes: int,
    mixup: float = 0.0, cutmix: float = 0.0,
) -> Pipeline:  # fmt: skip
    """Make the augmentations of a run.

    Parameters
    ----------
    augmentations : str or sequence
        As `parse` reads it: ``"flip,crop:4"``; empty for none.
    seed : int
        Of the run.
    mean, std : sequence of float
        The normalisation of the images, one value per channel: black and colours are found by it.
    classes : int
        K.
    mixup, cutmix : float
        alpha of either, 0 for none; with both, a step takes one or the other.

    Returns
    -------
    Pipeline
        Called as ``images, targets = made(images, labels, step)``.

    Raises
    ------
    SettingError
        An unknown augmentation or setting, or a value out of range.

    Examples
    --------
    >>> augmented = pipeline("flip,crop:4", seed=0, mean=[0.5], std=[0.25], classes=10)
    >>> augmented.augmentations
    (Flip(p=0.5), Crop(pixels=4))
    """
    for name, alpha in (("mixup", mixup), ("cutmix", cutmix)):
        if alpha < 0:
            raise SettingError(f"augment: {name} is {alpha:g} but 0 (none) or a number above it is needed")
    mixes = (*((MixUp(mixup),) if mixup else ()), *((CutMix(cutmix),) if cutmix else ()))
    return Pipeline(parse(augmentations), mixes, seed, Levels(tuple(mean), tuple(std)), classes)
