"""Moving pixels: each output pixel reads its source, per image; what lies outside reads a fill colour."""

from __future__ import annotations

from .. import ops
from ..core.array import Array


def within(rows: Array, columns: Array, height: int, width: int) -> Array:
    """Tell which positions (broadcast, int32) lie in an image of that size."""
    down = ops.bitwise_and(ops.greater_equal(rows, 0), ops.less(rows, height))
    across = ops.bitwise_and(ops.greater_equal(columns, 0), ops.less(columns, width))
    return ops.bitwise_and(down, across)


def read(images: Array, rows: Array, columns: Array, fill: Array) -> Array:
    """Read pixels at whole positions.

    Parameters
    ----------
    images : array, (B, C, H, W)
    rows, columns : array, int32
        Positions that broadcast to (B, OH, OW).
    fill : array, (1, C, 1, 1)
        What positions outside the image read.

    Returns
    -------
    array, (B, C, OH, OW)
    """
    batch, channels, height, width = images.shape
    inside = within(rows, columns, height, width)
    places = ops.add(
        ops.multiply(ops.minimum(ops.maximum(rows, 0), height - 1), width), ops.minimum(ops.maximum(columns, 0), width - 1)
    )
    out_height, out_width = places.shape[-2:]
    flat = ops.broadcast_to(ops.reshape(places, (batch, 1, out_height * out_width)), (batch, channels, out_height * out_width))
    taken = ops.take_along_dim(ops.reshape(images, (batch, channels, height * width)), flat, 2)
    pixels = ops.reshape(taken, (batch, channels, out_height, out_width))
    return ops.where(ops.reshape(inside, (batch, 1, out_height, out_width)), pixels, fill)


def sample(images: Array, rows: Array, columns: Array, fill: Array) -> Array:
    """Read pixels between positions, bilinearly, from the four around each; one outside the image reads `fill`.

    Continuous in the positions, so that their rounding, which differs between backends, stays rounding in the result.

    Parameters
    ----------
    images : array, (B, C, H, W)
    rows, columns : array, float32, (B, H, W)
    fill : array, (1, C, 1, 1)

    Returns
    -------
    array, (B, C, H, W)
    """
    batch, _, height, width = images.shape
    top, left = ops.floor(rows), ops.floor(columns)
    down, right = (ops.reshape(part, (batch, 1, height, width)) for part in (ops.subtract(rows, top), ops.subtract(columns, left)))
    up, back = ops.subtract(1.0, down), ops.subtract(1.0, right)
    y, x = ops.astype(top, "int32"), ops.astype(left, "int32")
    y1, x1 = ops.add(y, 1), ops.add(x, 1)

    def between(row: Array) -> Array:
        return ops.add(ops.multiply(read(images, row, x, fill), back), ops.multiply(read(images, row, x1, fill), right))

    return ops.add(ops.multiply(between(y), up), ops.multiply(between(y1), down))
