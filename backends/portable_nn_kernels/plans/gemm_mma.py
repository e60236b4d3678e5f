"""The plan of GEMM on NVIDIA's tensor cores: where the user asked for it, and for what shapes it serves."""

from __future__ import annotations

from typing import Any

from portable_nn.core.dtypes import bfloat16, float16, float32
from portable_nn_kernels.launch import Launch, Profile, Scratch

from .gemm_parts import Gemm, Problem, common_args, split, split_sum, tags, tuning, up

# What mma.h calls the numbers of a dtype, and how many a word holds.
KINDS = {float32: ("tf32", 1), float16: ("f16", 2), bfloat16: ("bf16", 2)}
LEAST_CAPABILITY = 80
_WORDS = 16  # of k in a tile: WORDS of gemm_mma.c


def serves(profile: Profile, p: Problem) -> bool:
    """Tell whether tensor cores may compute a product, and fit it: both operands of one dtype, no side thinner than a fragment."""
    allowed = profile.float32_matmul == "high" and profile.capability >= LEAST_CAPABILITY
    return allowed and p.a.dtype == p.b.dtype == p.c.dtype and p.a.dtype in KINDS and min(p.m, p.n) >= 16 and p.k >= 8


def mma_gemm(profile: Profile, p: Problem, scratch: int) -> Gemm:
    """Return the launches of a product that `serves`."""
    tile = next(tile for tile in tuning()["mma"] if _taken(tile, profile, p))
    tm, tn, wm, wn = (tile[key] for key in ("tm", "tn", "wm", "wn"))
    kind, halves = KINDS[p.a.dtype]
    blocks_m, blocks_n, tk = up(p.m, tm), up(p.n, tn), _WORDS * halves
    groups = blocks_m * blocks_n * p.batch
    parts = max(1, min(64, profile.size("gpu.gemm.fill") * profile.units // groups, p.k // profile.size("gpu.gemm.part")))
    k_part = up(up(p.k, parts), tk) * tk
    parts = up(p.k, k_part)
    inside, specs = split(p, parts, scratch) if parts > 1 else (p, None)
    sizes = (("MMA", kind), ("HALVES", halves), ("TM", tm), ("TN", tn), ("WM", wm), ("WN", wn))
    args = common_args(inside, blocks_m=blocks_m, blocks_n=blocks_n, k_part=k_part, c_part=p.batch * p.m * p.n)
    items = (tm // wm) * (tn // wn) * 32
    launch = Launch("pnn_gemm_mma", "gemm_mma.c", (groups, parts), (items, 1), args, (*tags(inside), *sizes))
    if specs is None:
        return Gemm((launch,))
    return Gemm((launch, split_sum(profile, p, parts, Scratch(scratch))), (specs,))


def _taken(tile: dict[str, Any], profile: Profile, p: Problem) -> bool:
    enough = up(p.m, tile["tm"]) * up(p.n, tile["tn"]) * p.batch >= profile.units
    return tile["least"] == 0 or (min(p.m, p.n) >= tile["least"] and enough)
