"""U-Net for segmentation (Ronneberger, Fischer, Brox 2015, arXiv:1505.04597), with padding, so that sizes stay.

Names are those of the usual PyTorch U-Net (``down1.maxpool_conv.1.double_conv.0.weight``).
"""

from __future__ import annotations

from .. import nn, ops
from ..core.array import Array
from ..core.errors import SettingError


class DoubleConv(nn.Module):
    """Two 3x3 convolutions, each with batch normalisation and ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        self.double_conv = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU(),
        )  # fmt: skip

    def __call__(self, x: Array) -> Array:
        return self.double_conv(x)


class Down(nn.Module):
    """Pooling to half the size, then a double convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), DoubleConv(in_channels, out_channels))

    def __call__(self, x: Array) -> Array:
        return self.maxpool_conv(x)


class Up(nn.Module):
    """A transposed convolution to twice the size, joined with what came down at that size, then a double convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        self.up = nn.ConvTranspose2d(in_channels, in_channels // 2, 2, 2)
        self.conv = DoubleConv(in_channels, out_channels)

    def __call__(self, x: Array, around: Array) -> Array:
        x = self.up(x)
        down, right = around.shape[2] - x.shape[2], around.shape[3] - x.shape[3]
        if down or right:  # an odd size was halved on the way down
            x = ops.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
        return self.conv(ops.concat([around, x], axis=1))


class OutConv(nn.Module):
    """A 1x1 convolution to one score per class."""

    def __init__(self, in_channels: int, classes: int) -> None:
        self.conv = nn.Conv2d(in_channels, classes, 1)

    def __call__(self, x: Array) -> Array:
        return self.conv(x)


class UNet(nn.Module):
    """Scores for each pixel: (N, C, H, W) to (N, K, H, W). Train it by `nn.segmentation_loss`.

    Parameters
    ----------
    in_shape : (int, int, int)
        C, H, W of an image; H and W at least ``2**levels``.
    classes : int
        K.
    width : int
        Channels at full size; they double with each level (the paper has 64).
    levels : int
        How often the image is halved (the paper: 4).
    """

    def __init__(self, in_shape: tuple[int, int, int], classes: int, width: int = 32, levels: int = 3) -> None:
        channels, height, wide = in_shape
        if levels < 1 or min(height, wide) < 2**levels:
            raise SettingError(f"unet: images are {height}x{wide} but {levels} halvings need at least {2**levels}x{2**levels}; set levels")
        self.levels = levels
        self.inc = DoubleConv(channels, width)
        for i in range(levels):
            setattr(self, f"down{i + 1}", Down(width << i, width << (i + 1)))
        for i in range(levels):
            setattr(self, f"up{i + 1}", Up(width << (levels - i), width << (levels - i - 1)))
        self.outc = OutConv(width, classes)

    def __call__(self, x: Array) -> Array:
        seen = [self.inc(x)]
        for i in range(self.levels):
            seen.append(getattr(self, f"down{i + 1}")(seen[-1]))
        x = seen.pop()
        for i in range(self.levels):
            x = getattr(self, f"up{i + 1}")(x, seen.pop())
        return self.outc(x)
