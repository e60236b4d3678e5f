"""Residual networks of four stages: ResNet-18, -34 and -50 (He et al. 2015, arXiv:1512.03385), under torchvision's names.

Images with a side below 64 pixels take a first convolution of 3x3 without stride, and no first pooling, as is usual for
CIFAR; the names stay.
"""

from __future__ import annotations

from .. import nn, ops
from ..core.array import Array
from ..core.errors import SettingError
from .resnet import BasicBlock, conv3x3

LAYERS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
SMALL = 64  # images with a side below this are small


class Bottleneck(nn.Module):
    """A 1x1, a 3x3 (which has the stride) and a 1x1 convolution to four times the channels, and a way around them."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        out_channels = 4 * channels
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def __call__(self, x: Array) -> Array:
        around = x if self.downsample is None else self.downsample(x)
        x = ops.relu(self.bn1(self.conv1(x)))
        x = ops.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        return ops.relu(ops.add(x, around))


class ImageNetResNet(nn.Module):
    """Four stages of 64, 128, 256 and 512 channels (ResNet-50: four times as many), and a mean over what is left.

    Parameters
    ----------
    in_shape : (int, int, int)
        C, H, W of an image.
    classes : int
        Scores per image.
    depth : int
        18, 34 or 50.
    """

    def __init__(self, in_shape: tuple[int, int, int], classes: int, depth: int = 18) -> None:
        if depth not in LAYERS:
            raise SettingError(f"resnet: depth is {depth} but one of {', '.join(map(str, LAYERS))} is needed; resnet20 and the like are ResNet")
        channels, height, width = in_shape
        self.small = min(height, width) < SMALL
        block, widen = (Bottleneck, 4) if depth == 50 else (BasicBlock, 1)
        self.conv1 = conv3x3(channels, 64) if self.small else nn.Conv2d(channels, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        came = 64
        for number, (count, made) in enumerate(zip(LAYERS[depth], (64, 128, 256, 512), strict=True), start=1):
            blocks = []
            for i in range(count):
                blocks.append(block(came, made, 2 if number > 1 and i == 0 else 1))
                came = made * widen
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(came, classes)

    def __call__(self, x: Array) -> Array:
        x = ops.relu(self.bn1(self.conv1(x)))
        x = x if self.small else self.maxpool(x)
        for number in (1, 2, 3, 4):
            x = getattr(self, f"layer{number}")(x)
        return self.fc(self.flatten(self.avgpool(x)))
