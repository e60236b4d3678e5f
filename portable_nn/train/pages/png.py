"""PNG files from arrays, by the standard library alone: 8-bit grey or RGB, whole file in memory."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray


def encode(image: NDArray[np.uint8]) -> bytes:
    """Return an image (H, W) or (H, W, 3) as a PNG file."""
    height, width = image.shape[:2]
    colour = 2 if image.ndim == 3 else 0
    rows = np.ascontiguousarray(image).reshape(height, -1)
    raw = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1).tobytes()  # filter 0 before each row

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")


def shown(image: NDArray[Any], spread: bool = False) -> NDArray[np.uint8]:
    """Return an image (C, H, W) as (H, W) or (H, W, 3) levels; floats outside 0..1, or all with `spread`, by their own range."""
    x: NDArray[Any] = image if image.dtype == np.uint8 and not spread else image.astype(np.float64)
    if x.dtype != np.uint8:
        if spread or x.min() < 0.0 or x.max() > (255.0 if image.dtype == np.uint8 else 1.0):
            x = (x - x.min()) / max(float(np.ptp(x)), 1e-12)
        x = np.round(x * 255.0).astype(np.uint8)
    made: NDArray[np.uint8] = x.transpose(1, 2, 0) if len(x) == 3 else x[0]
    return made


def tag(image: NDArray[np.uint8], alt: str, css: str = "pixels") -> str:
    """Return an ``<img>`` element that holds the image itself."""
    from .html import escape

    data = base64.b64encode(encode(image)).decode()
    height, width = image.shape[:2]
    return f'<img class="{css}" width="{width}" height="{height}" alt="{escape(alt)}" src="data:image/png;base64,{data}">'


def sheet(images: list[NDArray[np.uint8]], columns: int, gap: int = 1) -> NDArray[np.uint8]:
    """Lay images of one shape out in rows, on mid grey."""
    height, width = images[0].shape[:2]
    rows = -(-len(images) // columns)
    made = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, *images[0].shape[2:]), 128, np.uint8)
    for number, image in enumerate(images):
        top, left = (place * (size + gap) + gap for place, size in zip(divmod(number, columns), (height, width), strict=True))
        made[top : top + height, left : left + width] = image
    return made
