"""VGG-11 with batch normalisation (Simonyan and Zisserman 2014, arXiv:1409.1556), under torchvision's names."""

from __future__ import annotations

from .. import nn
from ..core.array import Array
from .resnet_imagenet import SMALL

LAYOUT = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool")


class VGG11(nn.Module):
    """Eight 3x3 convolutions with five poolings between them, then three linear layers.

    Images with a side below 64 pixels end in one pixel and take linear layers of 512 numbers in place of 4096; a pooling
    for which nothing is left is left out.

    Parameters
    ----------
    in_shape : (int, int, int)
        C, H, W of an image.
    classes : int
        Scores per image.
    dropout : float
        Between the linear layers.
    """

    def __init__(self, in_shape: tuple[int, int, int], classes: int, dropout: float = 0.5) -> None:
        channels, *size = in_shape
        side = min(size)
        grid, hidden = (1, 512) if side < SMALL else (7, 4096)
        layers: list[nn.Module] = []
        for item in LAYOUT:
            if isinstance(item, int):
                layers += [nn.Conv2d(channels, item, 3, padding=1), nn.BatchNorm2d(item), nn.ReLU()]
                channels = item
            else:
                layers.append(nn.MaxPool2d(2) if side > 1 else nn.Identity())
                side //= 2
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(grid)
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            nn.Linear(512 * grid * grid, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, classes),
        )  # fmt: skip

    def __call__(self, x: Array) -> Array:
        return self.classifier(self.flatten(self.avgpool(self.features(x))))
