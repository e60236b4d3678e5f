"""Launches of c/norm_last_cpu.c: batch-norm sums where channels are adjacent, by explicit vectors on CPUs."""

from __future__ import annotations

from portable_nn.core import dtypes
from portable_nn.core.dtypes import TAGS
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import Arg, Const, Define, Launch, Profile, Ref

_SOURCE = "norm_last_cpu.c"
_BLOCK = 16 * 1024  # bytes of rows that stay in the nearest cache between two passes
_PART = 16384  # elements a part should have at least


def serves(profile: Profile, columns: bool, *steps: int) -> bool:
    """Tell whether these kernels take tensors whose channels lie `steps` apart."""
    return profile.shape == "cpu" and columns and all(step == 1 for step in steps)


def outside(by_last: bool) -> tuple[tuple[str, Define], ...]:
    """Return the define with which norm.c merges what these kernels made."""
    return (("PARTS_OUTSIDE", 1),) if by_last else ()


def _tags(x: Spec, channels: int) -> tuple[tuple[str, Define], ...]:
    real = dtypes.accumulator(x.dtype)
    widest = 64 // real.itemsize
    lanes = min(widest, max(4, 1 << max(channels - 1, 0).bit_length()))
    return ("TX", TAGS[x.dtype]), ("R", TAGS[real]), ("VW", lanes)


def parts(profile: Profile, rows: int, channels: int) -> int:
    """Return into how many parts the rows are divided: one per work-item, none too small to pay."""
    return max(1, min(rows, 4 * profile.units, rows * channels // _PART))


def _block(x: Spec, channels: int) -> int:
    return max(16, _BLOCK // (channels * x.dtype.itemsize))


def stats(x: Spec, ref: Ref, sizes: tuple[int, int, int], parts: int, means: Ref, m2s: Ref) -> Launch:
    """Return the launch of means and sums of squared deviations, (parts, channels); `sizes`: rows, channels, row stride."""
    numbers = (*sizes, parts, _block(x, sizes[1]))
    return Launch(
        "pnn_norm_last_stats", _SOURCE, (parts,), (1,), (ref, means, m2s, *(Const("i64", v) for v in numbers)),
        (("LAST_STATS", 1), *_tags(x, sizes[1])),
    )  # fmt: skip


def grad(
    g: Spec, x: Spec, refs: tuple[Ref, ...], sizes: tuple[int, int, int, int], parts: int, gbs: Ref, gws: Ref,
    relu: tuple[Ref | None, Ref | None] | None = None,
) -> Launch:  # fmt: skip
    """Return the launch of the sums of g and g xhat, (parts, channels).

    `refs`: g, x, mean, rstd; `sizes`: rows, channels, g's and x's row stride; `relu`: weight and bias of what a ReLU followed.
    """
    numbers = (*sizes, parts, _block(x, sizes[1]))
    weight, bias = relu or (None, None)
    masks = (("RELU", 1), ("WEIGHT", int(weight is not None)), ("BIAS", int(bias is not None))) if relu else (("RELU", 0),)
    args: tuple[Arg, ...] = (*refs, weight or refs[2], bias or refs[2], gbs, gws, *(Const("i64", v) for v in numbers))
    return Launch("pnn_norm_last_grad", _SOURCE, (parts,), (1,), args, (("LAST_GRAD", 1), *_tags(x, sizes[1]), ("TG", TAGS[g.dtype]), *masks))
