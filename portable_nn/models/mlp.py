"""A multilayer perceptron: the smallest model that learns digits."""

from __future__ import annotations

from itertools import pairwise

from .. import nn, ops
from ..core.array import Array


class MLP(nn.Module):
    """Linear layers with ReLU between them.

    Parameters
    ----------
    in_shape : (int, int, int)
        C, H, W of an image; it is flattened.
    classes : int
        Scores per image.
    hidden : tuple of int
        Widths of the layers between.
    """

    def __init__(self, in_shape: tuple[int, int, int], classes: int, hidden: tuple[int, ...] = (128, 64)) -> None:
        channels, height, width = in_shape
        sizes = (channels * height * width, *hidden)
        self.flatten = nn.Flatten()
        self.hidden = tuple(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.head = nn.Linear(sizes[-1], classes)

    def __call__(self, x: Array) -> Array:
        x = self.flatten(x)
        for layer in self.hidden:
            x = ops.relu(layer(x))
        return self.head(x)
