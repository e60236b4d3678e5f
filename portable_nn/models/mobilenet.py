"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381), under torchvision's names."""

from __future__ import annotations

from .. import nn, ops
from ..core.array import Array
from .resnet_imagenet import SMALL

# Expansion, channels, blocks, stride of the first block: the paper's table 2.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def _conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU6())


class InvertedResidual(nn.Module):
    """Widen by a 1x1 convolution, filter each channel by itself, narrow without activation; around it where nothing changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expand: int) -> None:
        hidden = in_channels * expand
        self.around = stride == 1 and in_channels == out_channels
        layers: list[nn.Module] = [] if expand == 1 else [_conv(in_channels, hidden, 1)]
        layers += [_conv(hidden, hidden, 3, stride, groups=hidden), nn.Conv2d(hidden, out_channels, 1, bias=False)]
        self.conv = nn.Sequential(*layers, nn.BatchNorm2d(out_channels))

    def __call__(self, x: Array) -> Array:
        y = self.conv(x)
        return ops.add(x, y) if self.around else y


class MobileNetV2(nn.Module):
    """Seventeen inverted residual blocks between two convolutions.

    Images with a side below 64 pixels keep their size in the first convolution and the first stage that would halve it,
    so that they shrink by 8 and not by 32, as is usual for CIFAR; the names stay.

    Parameters
    ----------
    in_shape : (int, int, int)
        C, H, W of an image.
    classes : int
        Scores per image.
    dropout : float
        Before the linear layer.
    """

    def __init__(self, in_shape: tuple[int, int, int], classes: int, dropout: float = 0.2) -> None:
        channels, *size = in_shape
        small = min(size) < SMALL
        layers: list[nn.Module] = [_conv(channels, 32, 3, 1 if small else 2)]
        came = 32
        for expand, made, count, stride in STAGES:
            first = 1 if small and made == 24 else stride
            for i in range(count):
                layers.append(InvertedResidual(came, made, first if i == 0 else 1, expand))
                came = made
        self.features = nn.Sequential(*layers, _conv(came, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(1280, classes))

    def __call__(self, x: Array) -> Array:
        return self.classifier(ops.mean(self.features(x), axis=(2, 3)))
