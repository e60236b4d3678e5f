"""A vision transformer, ViT-tiny (Dosovitskiy et al. 2020, arXiv:2010.11929; Touvron et al. 2020, arXiv:2012.12877).

Names are those of timm's VisionTransformer.
"""

from __future__ import annotations

from .. import nn, ops
from ..core.array import Array
from ..core.errors import SettingError
from ..nn import init
from .patches import patch_side


class Mlp(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, features: int, hidden: int) -> None:
        self.fc1 = nn.Linear(features, hidden)
        self.fc2 = nn.Linear(hidden, features)

    def __call__(self, x: Array) -> Array:
        return self.fc2(ops.gelu(self.fc1(x)))


class PatchEmbed(nn.Module):
    """Cuts images into patches and makes each a vector: (N, C, H, W) to (N, tokens, dim)."""

    def __init__(self, channels: int, dim: int, patch: int) -> None:
        self.proj = nn.Conv2d(channels, dim, patch, patch)

    def __call__(self, x: Array) -> Array:
        x = self.proj(x)
        n, dim, height, width = x.shape
        return ops.permute(ops.reshape(x, (n, dim, height * width)), (0, 2, 1))


class Attention(nn.Module):
    """Self-attention of several heads; one linear layer makes queries, keys and values."""

    def __init__(self, dim: int, heads: int) -> None:
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def __call__(self, x: Array) -> Array:
        n, tokens, dim = x.shape
        parts = ops.permute(ops.reshape(self.qkv(x), (n, tokens, 3, self.heads, dim // self.heads)), (2, 0, 3, 1, 4))
        y = ops.scaled_dot_product_attention(*ops.unstack(parts))
        return self.proj(ops.reshape(ops.permute(y, (0, 2, 1, 3)), (n, tokens, dim)))


class Block(nn.Module):
    """Attention and an MLP, each on normalised input and added to what came in."""

    def __init__(self, dim: int, heads: int) -> None:
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, 4 * dim)

    def __call__(self, x: Array) -> Array:
        x = ops.add(x, self.attn(self.norm1(x)))
        return ops.add(x, self.mlp(self.norm2(x)))


class VisionTransformer(nn.Module):
    """Patches as tokens, a class token before them, and blocks of attention; the class token's last state is classified.

    Parameters
    ----------
    in_shape : (int, int, int)
        C, H, W of an image.
    classes : int
        Scores per image.
    patch : int, optional
        Side of a patch; at most 16 for images of 64 pixels or more, else so that there are 8 or more along a side.
    dim, depth, heads : int
        Numbers per token, blocks, heads of attention; the defaults are ViT-tiny's.
    """

    def __init__(
        self, in_shape: tuple[int, int, int], classes: int, patch: int | None = None, dim: int = 192, depth: int = 12, heads: int = 3
    ) -> None:
        if dim % heads:
            raise SettingError(f"vit: dim is {dim} but must be a multiple of heads, {heads}")
        channels, height, width = in_shape
        side = patch_side("vit", in_shape, patch)
        tokens = (height // side) * (width // side)
        self.cls_token = nn.parameter(init.normal((1, 1, dim), 1e-6))
        self.pos_embed = nn.parameter(init.normal((1, tokens + 1, dim), 0.02))
        self.patch_embed = PatchEmbed(channels, dim, side)
        self.blocks = nn.Sequential(*(Block(dim, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, classes)

    def __call__(self, x: Array) -> Array:
        x = self.patch_embed(x)
        first = ops.broadcast_to(self.cls_token, (x.shape[0], 1, x.shape[2]))
        x = ops.add(ops.concat([first, x], axis=1), self.pos_embed)
        x = self.norm(self.blocks(x))
        return self.head(ops.getitem(x, ((None, None, None), 0)))
