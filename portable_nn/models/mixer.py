"""MLP-Mixer (Tolstikhin et al. 2021, arXiv:2105.01601), under timm's names, of a size for small images."""

from __future__ import annotations

from .. import nn, ops
from ..core.array import Array
from .patches import patch_side
from .transformer import Mlp, PatchEmbed


class MixerBlock(nn.Module):
    """An MLP across the patches and one across the channels, each on normalised input and added to what came in."""

    def __init__(self, dim: int, tokens: int) -> None:
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp_tokens = Mlp(tokens, dim // 2)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp_channels = Mlp(dim, 4 * dim)

    def __call__(self, x: Array) -> Array:
        across = self.mlp_tokens(ops.permute(self.norm1(x), (0, 2, 1)))
        x = ops.add(x, ops.permute(across, (0, 2, 1)))
        return ops.add(x, self.mlp_channels(self.norm2(x)))


class MLPMixer(nn.Module):
    """Patches as tokens, mixed by linear layers alone; their mean is classified.

    Parameters
    ----------
    in_shape : (int, int, int)
        C, H, W of an image.
    classes : int
        Scores per image.
    patch : int, optional
        Side of a patch; at most 16 for images of 64 pixels or more, else so that there are 8 or more along a side.
    dim, depth : int
        Numbers per token, blocks.
    """

    def __init__(self, in_shape: tuple[int, int, int], classes: int, patch: int | None = None, dim: int = 128, depth: int = 8) -> None:
        channels, height, width = in_shape
        side = patch_side("mixer", in_shape, patch)
        self.stem = PatchEmbed(channels, dim, side)
        self.blocks = nn.Sequential(*(MixerBlock(dim, (height // side) * (width // side)) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, classes)

    def __call__(self, x: Array) -> Array:
        x = self.norm(self.blocks(self.stem(x)))
        return self.head(ops.mean(x, axis=1))
