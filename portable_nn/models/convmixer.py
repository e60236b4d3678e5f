"""ConvMixer (Trockman and Kolter 2022, arXiv:2201.09792), under timm's names, of a size for small images."""

from __future__ import annotations

from .. import nn, ops
from ..core.array import Array
from .patches import patch_side


class Residual(nn.Module):
    """Adds what a layer makes to what it was given."""

    def __init__(self, fn: nn.Module) -> None:
        self.fn = fn

    def __call__(self, x: Array) -> Array:
        return ops.add(self.fn(x), x)


class ConvMixer(nn.Module):
    """Patches, then blocks of a wide convolution per channel (with a way around it) and a 1x1 convolution across channels.

    Parameters
    ----------
    in_shape : (int, int, int)
        C, H, W of an image.
    classes : int
        Scores per image.
    patch : int, optional
        Side of a patch; at most 7 for images of 64 pixels or more, else so that there are 16 or more along a side.
    dim, depth : int
        Channels, blocks.
    kernel : int
        Side of the wide convolution, odd.
    """

    def __init__(
        self, in_shape: tuple[int, int, int], classes: int, patch: int | None = None, dim: int = 128, depth: int = 8, kernel: int = 5
    ) -> None:
        side = patch_side("convmixer", in_shape, patch, tokens=16, large=7)
        self.stem = nn.Sequential(nn.Conv2d(in_shape[0], dim, side, side), nn.GELU(), nn.BatchNorm2d(dim))

        def block() -> nn.Module:
            wide = nn.Sequential(nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim), nn.GELU(), nn.BatchNorm2d(dim))
            return nn.Sequential(Residual(wide), nn.Conv2d(dim, dim, 1), nn.GELU(), nn.BatchNorm2d(dim))

        self.blocks = nn.Sequential(*(block() for _ in range(depth)))
        self.head = nn.Linear(dim, classes)

    def __call__(self, x: Array) -> Array:
        return self.head(ops.mean(self.blocks(self.stem(x)), axis=(2, 3)))
