"""Layer norm and RMS norm on CPUs: rows long enough for vectors, walked whole by one work-item each."""

from __future__ import annotations

from portable_nn.core.dtypes import TAGS, DType, float64
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import Arg, Const, Launch, Profile, Ref, Scratch

from .lines import SHORT, vector_lanes
from .lines import compute as compute

_PART = 65536  # elements of a part of sums down the rows: parts need another launch


def serves(profile: Profile, length: int, steps: tuple[int, ...], dtypes: tuple[DType, ...]) -> bool:
    """Tell whether vectors can be used: weights side by side, and no operand wider or narrower than they read."""
    wide = {compute(d) for d in dtypes}
    return profile.shape == "cpu" and length >= SHORT and all(s == 1 for s in steps) and (wide != {float64} or set(dtypes) == {float64}) and len(wide) == 1


def forward(
    rows: tuple[int, int], x: tuple[Ref, DType], weight: tuple[Ref, DType] | None, bias: tuple[Ref, DType] | None,
    out: tuple[Ref, Ref | None, Ref], eps: float, profile: Profile, added: tuple[Ref, ...] = (),
) -> Launch:  # fmt: skip
    """Return the launch for `rows` = (rows, length); `out` is y, the means (None: RMS norm), 1 / deviations.

    `added`: an operand that is added to x first, and where the sum goes; both of x's dtype.
    """
    y, mean, rstd = out
    defines = _defines(x[1], weight, profile, mean is not None, 0)
    defines += (("TB", TAGS[(bias or x)[1]]), ("BIAS", int(bias is not None)), ("ADDED", int(bool(added))))
    arguments: tuple[Arg, ...] = (x[0], (weight or x)[0], (bias or x)[0], y, mean or rstd, rstd, *added, *_sizes(rows), Const(TAGS[compute(x[1])], eps))
    return Launch("pnn_norm_row_cpu", "norm_rows_cpu.c", (_groups(rows, profile),), (1,), arguments, defines)


def gradient(
    rows: tuple[int, int], g: tuple[Ref, DType], x: tuple[Ref, DType], weight: tuple[Ref, DType] | None,
    stats: tuple[Ref | None, Ref], gx: Ref, profile: Profile, straight: Ref | None = None,
) -> Launch:  # fmt: skip
    """Return the launch that makes the gradient by x; `stats` are the means (None: RMS norm) and 1 / deviations.

    `straight`: a cotangent of x itself, of g's dtype, that is added.
    """
    mean, rstd = stats
    defines = (*_defines(x[1], weight, profile, mean is not None, 1), ("TG", TAGS[g[1]]), ("ADDED", int(straight is not None)))
    arguments: tuple[Arg, ...] = (g[0], x[0], (weight or x)[0], mean or rstd, rstd, gx, *((straight,) if straight else ()), *_sizes(rows))
    return Launch("pnn_norm_row_grad_cpu", "norm_rows_cpu.c", (_groups(rows, profile),), (1,), arguments, defines)


def columns(
    rows: tuple[int, int], g: tuple[Ref, DType], x: tuple[Ref, DType], stats: tuple[Ref, Ref], sums: tuple[Ref, Ref], scratch: int, profile: Profile
) -> tuple[tuple[Launch, ...], tuple[Spec, ...]]:
    """Return the launches that sum g and ``g (x - mean) rstd`` down the rows, and their scratch, whose first is number `scratch`."""
    count, length = rows
    tag = TAGS[compute(x[1])]
    parts = max(1, min(profile.units, count, count * length // _PART))
    defines = (("G", 1), ("VW", vector_lanes(x[1], profile)), ("R", tag), ("T", TAGS[x[1]]), ("TG", TAGS[g[1]]))
    made = [Spec((parts, 2, length), compute(x[1]))]
    inner = sums
    if parts > 1:
        made += [Spec((parts, length), compute(x[1]))] * 2
        inner = (Scratch(scratch + 1), Scratch(scratch + 2))
    arguments: tuple[Arg, ...] = (g[0], x[0], *stats, *inner, Scratch(scratch), *_sizes(rows), Const("i64", parts))
    launches = [Launch("pnn_norm_columns_cpu", "norm_columns_cpu.c", (parts,), (1,), arguments, defines)]
    if parts > 1:
        merged = (*inner, *sums, Const("i64", length), Const("i64", parts))
        launches.append(Launch("pnn_norm_columns_merge_cpu", "norm_columns_cpu.c", (1,), (1,), merged, defines))
    return tuple(launches), tuple(made)


def _defines(dtype: DType, weight: tuple[Ref, DType] | None, profile: Profile, centred: bool, grad: int) -> tuple[tuple[str, str | int], ...]:
    return (
        ("G", 1), ("VW", vector_lanes(dtype, profile)), ("T", TAGS[dtype]), ("R", TAGS[compute(dtype)]),
        ("TW", TAGS[weight[1] if weight else dtype]), ("WEIGHT", int(weight is not None)), ("CENTRED", int(centred)), ("GRAD", grad),
    )  # fmt: skip


def _sizes(rows: tuple[int, int]) -> tuple[Const, Const]:
    return Const("i64", rows[0]), Const("i64", rows[1])


def _groups(rows: tuple[int, int], profile: Profile) -> int:
    return min(rows[0], max(1, min(4 * profile.units, rows[0] * rows[1] // int(profile.size("cpu.norm.work")))))
