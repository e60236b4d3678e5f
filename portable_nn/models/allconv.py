"""A small net of convolutions alone: strides in place of pooling, a 1x1 convolution in place of linear layers."""

from __future__ import annotations

from .. import nn, ops
from ..core.array import Array
from ..core.errors import SettingError


class AllConv(nn.Module):
    """Five 3x3 convolutions, two of them with stride 2, and a 1x1 convolution whose mean over the image is the score.

    After Springenberg et al. 2014 (arXiv:1412.6806), narrower, with batch normalisation. Works on any image size, also
    on another than it was trained on.

    Parameters
    ----------
    in_shape : (int, int, int)
        C, H, W of an image; H and W at least 4.
    classes : int
        Scores per image.
    width : int
        Channels of the first layers; the later ones have twice and four times as many.
    """

    def __init__(self, in_shape: tuple[int, int, int], classes: int, width: int = 32) -> None:
        channels, height, wide = in_shape
        if min(height, wide) < 4:
            raise SettingError(f"allconv: images are {height}x{wide} but two halvings need at least 4x4; use the model mlp")
        sizes = ((channels, width, 1), (width, width, 2), (width, 2 * width, 1), (2 * width, 2 * width, 2), (2 * width, 4 * width, 1))
        self.convs = tuple(nn.Conv2d(a, b, 3, stride, padding=1, bias=False) for a, b, stride in sizes)
        self.norms = tuple(nn.BatchNorm2d(b) for _, b, _ in sizes)
        self.head = nn.Conv2d(4 * width, classes, 1)

    def __call__(self, x: Array) -> Array:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = ops.relu(norm(conv(x)))
        return ops.mean(self.head(x), axis=(2, 3))
