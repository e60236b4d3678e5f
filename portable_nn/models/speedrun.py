"""The network of CIFAR-10 speed runs: 94 % in seconds on a large GPU (Jordan 2024, arXiv:2404.00498, "airbench94").

Its first convolution is not trained: it whitens 2x2 patches by statistics of the training images (`whitened`).
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .. import nn, ops
from ..core.array import Array
from ..core.errors import SettingError
from ..nn import init


class ShiftNorm(nn.BatchNorm2d):
    """Batch normalisation whose weight stays 1; only the bias is trained."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-12, momentum=0.4)
        self.weight = nn.buffer(np.ones(channels, np.float32))


class IdentityConv(nn.Conv2d):
    """A 3x3 convolution that starts by passing its input on in its first channels."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1, bias=False)
        weight = np.array(self.weight)
        same = np.arange(min(in_channels, out_channels))
        weight[same] = 0.0
        weight[same, same, 1, 1] = 1.0
        self.weight = nn.parameter(weight)


class ConvGroup(nn.Module):
    """A convolution, pooling to half the size, and another convolution, each normalised."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        self.conv1 = IdentityConv(in_channels, out_channels)
        self.pool = nn.MaxPool2d(2)
        self.norm1 = ShiftNorm(out_channels)
        self.conv2 = IdentityConv(out_channels, out_channels)
        self.norm2 = ShiftNorm(out_channels)

    def __call__(self, x: Array) -> Array:
        x = ops.gelu(self.norm1(self.pool(self.conv1(x))))
        return ops.gelu(self.norm2(self.conv2(x)))


class SpeedRun(nn.Module):
    """Whitening, three groups of two convolutions, the largest value of each channel, and scaled scores.

    Parameters
    ----------
    in_shape : (int, int, int)
        C, H, W of an image; H and W at least 9.
    classes : int
        Scores per image.
    widths : (int, int, int)
        Channels of the groups.
    """

    def __init__(self, in_shape: tuple[int, int, int], classes: int, widths: tuple[int, int, int] = (64, 256, 256)) -> None:
        channels, height, width = in_shape
        if min(height, width) < 9:
            raise SettingError(f"speedrun: images are {height}x{width} but three halvings need at least 9x9; use the model resnet8")
        filters = 2 * channels * 4
        self.whiten = Whitening(channels, filters)
        sizes = (filters, *widths)
        self.groups = nn.Sequential(*(ConvGroup(a, b) for a, b in zip(sizes, widths, strict=False)))
        self.flatten = nn.Flatten()
        self.head = nn.Linear(widths[-1], classes, bias=False)

    def __call__(self, x: Array) -> Array:
        x = self.groups(ops.gelu(self.whiten(x)))
        return ops.multiply(self.head(self.flatten(ops.global_max_pool2d(x))), 1 / 9)

    def fitted_to(self, images: NDArray[Any]) -> Self:
        """Return the model with its first convolution set to whiten patches of these images; the trainer calls it once.

        Parameters
        ----------
        images : ndarray, (N, C, H, W) float
            Normalised training images; a few thousand are enough.
        """
        made: Self = nn.with_state(self, {"whiten.weight": whitening(images)})
        return made


class Whitening(nn.Module):
    """A 2x2 convolution whose weight is no parameter: random until `SpeedRun.fitted_to`; its bias is trained."""

    def __init__(self, channels: int, filters: int) -> None:
        self.weight = nn.buffer(init.kaiming_uniform((filters, channels, 2, 2), 4 * channels))
        self.bias = nn.parameter(np.zeros(filters, np.float32))

    def __call__(self, x: Array) -> Array:
        return ops.conv2d(x, self.weight, self.bias)


def whitening(images: NDArray[Any], eps: float = 5e-4) -> NDArray[np.float32]:
    """Return 2x2 filters that decorrelate patches of the images, each with its negative: (8 C, C, 2, 2).

    The filters are eigenvectors of the patches' covariance, divided by the root of their eigenvalue (plus `eps`).
    """
    n, c, h, w = images.shape
    windows = np.lib.stride_tricks.sliding_window_view(images, (2, 2), axis=(2, 3))
    patches = windows.transpose(0, 2, 3, 1, 4, 5).reshape(n * (h - 1) * (w - 1), 4 * c).astype(np.float64)
    values, vectors = np.linalg.eigh(patches.T @ patches / len(patches))
    # The sign of an eigenvector is the solver's whim: make the largest entry positive, so that every machine agrees.
    vectors *= np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(4 * c)])
    filters = (vectors / np.sqrt(values + eps)).T[::-1].reshape(4 * c, c, 2, 2)
    return np.concatenate([filters, -filters]).astype(np.float32)
