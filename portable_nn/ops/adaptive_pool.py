"""Adaptive pooling of sequences and of volumes: `adaptive_pool2d`'s pooling of images, axis by axis.

The windows of several axes are products of windows, so a maximum or mean over a box is one over (H, W), then one over D. The
first of equal values is the first in row-major order then too: the first slice that holds it, and the first place there.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..core import dtypes
from ..core.array import Array
from ..core.errors import SettingError, ShapeError
from ..core.op import Op, setting_int
from .adaptive_pool2d import adaptive_avg_pool2d, adaptive_max_pool2d
from .axes import expand_dims, squeeze
from .creation import astype
from .layout import reshape


def _sizes(name: str, x: Array, output_size: int | Sequence[int | None], rank: int) -> tuple[int, ...]:
    """Return the output size per axis; None keeps an axis."""
    axes = "(N, C, L)" if rank == 1 else "(N, C, D, H, W)"
    if x.ndim != rank + 2:
        raise ShapeError(f"{name}: x has shape {x.shape} but {rank + 2} axes {axes} are needed; reshape it")
    given = tuple(output_size) if isinstance(output_size, list | tuple) else (output_size,) * rank
    if len(given) != rank:
        raise SettingError(f"{name}: output_size {output_size} has {len(given)} numbers but {rank} are needed")
    return tuple(n if size is None else setting_int(name, "output_size", size) for n, size in zip(x.shape[2:], given, strict=True))


def _sequence(pool: Op, x: Array, length: int) -> Array:
    made: Array = squeeze(pool(expand_dims(x, axis=2), (1, length)), axis=2)
    return made


def _volume(pool: Op, x: Array, size: tuple[int, ...]) -> Array:
    n, c, d, h, w = x.shape
    depth, *plane = size
    slices = pool(reshape(x, (n, c * d, h, w)), tuple(plane))
    columns = pool(reshape(slices, (n, c, d, plane[0] * plane[1])), (depth, plane[0] * plane[1]))
    made: Array = reshape(columns, (n, c, *size))
    return made


def adaptive_avg_pool1d(x: Array, output_size: int | Sequence[int | None]) -> Array:
    """Mean over windows that cover a sequence (N, C, L) in `output_size` parts, as `torch.nn.functional.adaptive_avg_pool1d`."""
    return _sequence(adaptive_avg_pool2d, x, *_sizes("adaptive_avg_pool1d", x, output_size, 1))


def adaptive_max_pool1d(x: Array, output_size: int | Sequence[int | None]) -> Array:
    """Maximum over windows that cover a sequence (N, C, L) in `output_size` parts; NaN and ties as in `max_pool2d`."""
    return _sequence(adaptive_max_pool2d, x, *_sizes("adaptive_max_pool1d", x, output_size, 1))


def adaptive_avg_pool3d(x: Array, output_size: int | Sequence[int | None]) -> Array:
    """Mean over boxes that cover a volume (N, C, D, H, W); None keeps an axis. Two launches, halves in float32 between them."""
    size = _sizes("adaptive_avg_pool3d", x, output_size, 3)
    made: Array = astype(_volume(adaptive_avg_pool2d, astype(x, dtypes.accumulator(x.dtype)), size), x.dtype)
    return made


def adaptive_max_pool3d(x: Array, output_size: int | Sequence[int | None]) -> Array:
    """Maximum over boxes that cover a volume (N, C, D, H, W); None keeps an axis. NaN and ties as in `max_pool2d`."""
    return _volume(adaptive_max_pool2d, x, _sizes("adaptive_max_pool3d", x, output_size, 3))
