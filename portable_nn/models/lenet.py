"""LeNet-5 for 28x28 images, and its small sister for images such as scikit-learn's 8x8 digits."""

from __future__ import annotations

from .. import nn, ops
from ..core.array import Array
from ..core.errors import SettingError


class LeNet(nn.Module):
    """Two convolutions with pooling, then three linear layers (LeCun et al. 1998), with ReLU and max pooling.

    From 20x20 pixels on the kernels are 5x5 and the widths those of the paper (6, 16, 120, 84); smaller images take
    3x3 kernels and 16, 32, 128, 64, because little remains to be seen after two poolings.

    Parameters
    ----------
    in_shape : (int, int, int)
        C, H, W of an image; H and W at least 4.
    classes : int
        Scores per image.
    """

    def __init__(self, in_shape: tuple[int, int, int], classes: int) -> None:
        channels, height, width = in_shape
        if min(height, width) < 4:
            raise SettingError(f"lenet: images are {height}x{width} but two poolings need at least 4x4; use the model mlp")
        large = min(height, width) >= 20
        kernel, (c1, c2, f1, f2) = (5, (6, 16, 120, 84)) if large else (3, (16, 32, 128, 64))
        rest = 0 if large else 1  # LeNet-5's second convolution has no padding
        h, w = (((n // 2) - (kernel - 1) + 2 * rest) // 2 for n in (height, width))
        self.conv1 = nn.Conv2d(channels, c1, kernel, padding=kernel // 2)
        self.conv2 = nn.Conv2d(c1, c2, kernel, padding=rest)
        self.pool = nn.MaxPool2d(2)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(c2 * h * w, f1)
        self.fc2 = nn.Linear(f1, f2)
        self.fc3 = nn.Linear(f2, classes)

    def __call__(self, x: Array) -> Array:
        x = self.pool(ops.relu(self.conv1(x)))
        x = self.pool(ops.relu(self.conv2(x)))
        x = self.flatten(x)
        x = ops.relu(self.fc1(x))
        x = ops.relu(self.fc2(x))
        return self.fc3(x)
