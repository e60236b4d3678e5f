"""ConvNeXt (Liu et al. 2022, arXiv:2201.03545) in timm's size "atto", under timm's names."""

from __future__ import annotations

import numpy as np

from .. import nn, ops
from ..core.array import Array
from ..core.errors import SettingError
from .resnet_imagenet import SMALL

DEPTHS, WIDTHS = (2, 2, 6, 2), (40, 80, 160, 320)


class ConvMlp(nn.Module):
    """Two 1x1 convolutions with GELU between them."""

    def __init__(self, features: int, hidden: int) -> None:
        self.fc1 = nn.Conv2d(features, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, features, 1)

    def __call__(self, x: Array) -> Array:
        return self.fc2(ops.gelu(self.fc1(x)))


class Block(nn.Module):
    """A 7x7 convolution per channel, normalisation, an MLP per pixel, a learned scale, and a way around them."""

    def __init__(self, dim: int, layer_scale: float) -> None:
        self.gamma = nn.parameter(np.full(dim, layer_scale, np.float32))
        self.conv_dw = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm2d(dim)
        self.mlp = ConvMlp(dim, 4 * dim)

    def __call__(self, x: Array) -> Array:
        y = self.mlp(self.norm(self.conv_dw(x)))
        return ops.add(ops.multiply(y, ops.reshape(self.gamma, (1, -1, 1, 1))), x)


class Stage(nn.Module):
    """Blocks at one size, after a normalisation and a 2x2 convolution that halves the image (none before the first stage)."""

    def __init__(self, in_dim: int, dim: int, depth: int, layer_scale: float) -> None:
        halve = in_dim != dim
        self.downsample = nn.Sequential(nn.LayerNorm2d(in_dim), nn.Conv2d(in_dim, dim, 2, 2)) if halve else nn.Identity()
        self.blocks = nn.Sequential(*(Block(dim, layer_scale) for _ in range(depth)))

    def __call__(self, x: Array) -> Array:
        return self.blocks(self.downsample(x))


class Head(nn.Module):
    """Mean over the image, normalisation, scores."""

    def __init__(self, dim: int, classes: int) -> None:
        self.norm = nn.LayerNorm2d(dim)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(dim, classes)

    def __call__(self, x: Array) -> Array:
        return self.fc(self.flatten(self.norm(ops.mean(x, axis=(2, 3), keepdims=True))))


class ConvNeXt(nn.Module):
    """Four stages of 2, 2, 6 and 2 blocks with 40, 80, 160 and 320 channels.

    The first convolution has patches of 4x4; of 2x2 for images with a side below 64 pixels, of 1x1 below 16, where the
    stages would leave nothing otherwise.

    Parameters
    ----------
    in_shape : (int, int, int)
        C, H, W of an image; H and W at least 8.
    classes : int
        Scores per image.
    layer_scale : float
        First value of the learned scale of each block.
    """

    def __init__(self, in_shape: tuple[int, int, int], classes: int, layer_scale: float = 1e-6) -> None:
        channels, height, width = in_shape
        side = min(height, width)
        if side < 8:
            raise SettingError(f"convnext: images are {height}x{width} but three halvings need at least 8x8; use the model lenet")
        patch = 4 if side >= SMALL else 2 if side >= 16 else 1
        self.stem = nn.Sequential(nn.Conv2d(channels, WIDTHS[0], patch, patch), nn.LayerNorm2d(WIDTHS[0]))
        came = (WIDTHS[0], *WIDTHS[:-1])
        stages = (Stage(a, b, depth, layer_scale) for a, b, depth in zip(came, WIDTHS, DEPTHS, strict=True))
        self.stages = nn.Sequential(*stages)
        self.head = Head(WIDTHS[-1], classes)

    def __call__(self, x: Array) -> Array:
        return self.head(self.stages(self.stem(x)))
