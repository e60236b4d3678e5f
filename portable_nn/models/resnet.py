"""Residual networks for CIFAR-sized images: ResNet-20, -32, -44 and -56 (He et al. 2015, arXiv:1512.03385, section 4.2).

Names are those of torchvision's ResNet (``layer1.0.conv1.weight``), so state dicts of the usual PyTorch CIFAR models
load as they are.
"""

from __future__ import annotations

from .. import nn, ops
from ..core.array import Array
from ..core.errors import SettingError


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """Return a 3x3 convolution that keeps the size (or divides it by `stride`), without bias: batch norm follows."""
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a way around them, by a 1x1 convolution where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def __call__(self, x: Array) -> Array:
        around = x if self.downsample is None else self.downsample(x)
        x = ops.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        return ops.relu(ops.add(x, around))


class ResNet(nn.Module):
    """Three stages of 16, 32 and 64 channels, the image halved between them, and a mean over what is left.

    Parameters
    ----------
    in_shape : (int, int, int)
        C, H, W of an image; H and W at least 4.
    classes : int
        Scores per image.
    depth : int
        6 n + 2: 20, 32, 44, 56 ...
    """

    def __init__(self, in_shape: tuple[int, int, int], classes: int, depth: int = 20) -> None:
        channels, height, width = in_shape
        if (depth - 2) % 6 or depth < 8:
            raise SettingError(f"resnet: depth is {depth} but 6 n + 2 is needed, such as 20 or 32")
        if min(height, width) < 4:
            raise SettingError(f"resnet: images are {height}x{width} but two halvings need at least 4x4; use the model mlp")
        blocks = (depth - 2) // 6
        self.conv1 = conv3x3(channels, 16)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks, 1)
        self.layer2 = self._stage(16, 32, blocks, 2)
        self.layer3 = self._stage(32, 64, blocks, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(64, classes)

    @staticmethod
    def _stage(in_channels: int, out_channels: int, blocks: int, stride: int) -> nn.Sequential:
        rest = [BasicBlock(out_channels, out_channels, 1) for _ in range(blocks - 1)]
        return nn.Sequential(BasicBlock(in_channels, out_channels, stride), *rest)

    def __call__(self, x: Array) -> Array:
        x = ops.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.flatten(self.avgpool(x)))
