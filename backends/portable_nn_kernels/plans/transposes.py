"""Copies that the mapping kernel does badly: between layouts whose contiguous axes differ, and of short rows on CPUs.

`copies.copy_launch` asks here first.
"""

from __future__ import annotations

from math import prod

from portable_nn.core.dtypes import TAGS
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import Arg, Const, Launch, Profile, Ref

from .mapping import merged

_LEAST = 4096  # elements below which everything is in the nearest cache and a plain copy is as quick
_OUTER = 3  # axes besides the two of the tile
_ROW_AXES = 4  # axes besides that of the row
_LONG = 2048  # elements of a row from which the mapping kernel does as well
_GPU_TILE, _GPU_ROWS = 32, 8
_FEW = 4  # a contiguous axis this short (RGB) gets a flat tile


def _tile(ni: int, nj: int, itemsize: int, line: int) -> tuple[int, int]:
    """Return the CPU tile (along x's and along y's contiguous axis): a cache line or `line` elements on each side."""
    line = max(line, 64 // itemsize)
    if nj <= _FEW:
        return 4 * line, _FEW
    return (_FEW, 4 * line) if ni <= _FEW else (line, line)


def transpose_launch(
    source: Spec, source_ref: Ref, target: Spec, target_ref: Ref, profile: Profile, source_start: int, target_start: int
) -> Launch | None:
    """Return the launch of a tiled copy, or None where the plain one does as well."""
    if source.size < _LEAST:
        return None
    sizes, (xs, ys) = merged(target.shape, [source.strides, target.strides])
    j = len(sizes) - 1
    along_x = [axis for axis, step in enumerate(xs) if step == 1]
    if ys[j] != 1 or len(along_x) != 1 or along_x[0] == j or len(sizes) > 2 + _OUTER:
        return None
    i = along_x[0]
    ni, nj = sizes[i], sizes[j]
    gpu = profile.shape == "gpu"
    if (gpu and min(ni, nj) < 8) or (not gpu and ni <= _FEW < 16 <= nj):
        return None  # few numbers between two of a line: a plain copy reads the line while it is near
    outer = [axis for axis in range(len(sizes)) if axis not in (i, j)]
    sizes_outer = [1] * (_OUTER - len(outer)) + [sizes[a] for a in outer]
    x_outer = [0] * (_OUTER - len(outer)) + [xs[a] for a in outer]
    y_outer = [0] * (_OUTER - len(outer)) + [ys[a] for a in outer]
    args: list[Arg] = [source_ref, target_ref]
    numbers = [source_start, target_start, ni, nj, xs[j], ys[i], *sizes_outer[1:], *x_outer, *y_outer]
    tag = TAGS[source.dtype]
    ti, tj = (_GPU_TILE, _GPU_TILE) if gpu else _tile(ni, nj, source.dtype.itemsize, profile.size("cpu.transpose.line"))
    tiles = -(-ni // ti) * -(-nj // tj) * prod(sizes_outer)
    if gpu:
        args += [Const("i64", n) for n in numbers]
        return Launch("pnn_transpose", "transpose.c", (tiles, 1), (_GPU_TILE, _GPU_ROWS), tuple(args), (("T", tag),))
    chunk = max(1, -(-tiles // (4 * profile.units)))
    args += [Const("i64", n) for n in (*numbers, chunk, tiles)]
    defines = (("T", tag), ("TI", ti), ("TJ", tj))
    return Launch("pnn_transpose_cpu", "transpose_cpu.c", (-(-tiles // chunk),), (1,), tuple(args), defines)


def rows_launch(
    source: Spec, source_ref: Ref, target: Spec, target_ref: Ref, profile: Profile, source_start: int, target_start: int
) -> Launch | None:
    """Return the launch that copies short rows on a CPU, or None where the plain one does as well."""
    if source.size < _LEAST or profile.shape == "gpu":
        return None
    sizes, (xs, ys) = merged(target.shape, [source.strides, target.strides])
    outer = len(sizes) - 1
    if not 1 <= outer <= _ROW_AXES or ys[-1] != 1 or sizes[-1] >= _LONG:
        return None
    blank = _ROW_AXES - outer
    numbers = [source_start, target_start, sizes[-1], xs[-1], *[1] * blank, *sizes[:-1]]
    numbers += [*[0] * blank, *xs[:-1], *[0] * blank, *ys[:-1]]
    rows = prod(sizes[:-1])
    chunk = max(1, -(-rows // (4 * profile.units)))
    args: list[Arg] = [source_ref, target_ref, *(Const("i64", n) for n in (*numbers, chunk))]
    defines = (("T", TAGS[source.dtype]), ("XI", 1 if xs[-1] == 1 else "xi"))
    return Launch("pnn_copy_rows_cpu", "copy_rows_cpu.c", (-(-rows // chunk),), (1,), tuple(args), defines)
