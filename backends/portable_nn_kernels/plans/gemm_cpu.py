"""The CPU shape of GEMM: register tiles, long vectors, operands packed where that pays."""

from __future__ import annotations

from dataclasses import dataclass, replace

from portable_nn.core.dtypes import DType, float16
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import Arg, Define, Launch, Profile, Scratch

from .gemm_blocks import blocks_launch
from .gemm_parts import (
    VECTOR_EPILOGUES,
    Gemm,
    Matrix,
    Problem,
    common_args,
    compute_dtype,
    i64,
    split,
    split_sum,
    tags,
    tuning,
    up,
)


@dataclass(frozen=True, slots=True)
class Tiles:
    """Which kernel, and its tile: mr rows by nv vectors of `lanes` (panels, blocks), dm x dn dot products (dots)."""

    dots: bool
    blocked: bool
    pack: bool
    lanes: int
    mr: int
    nv: int
    dm: int
    dn: int
    parts: int

    @property
    def nr(self) -> int:
        """Columns of a panel."""
        return self.nv * self.lanes

    def blocks(self, p: Problem) -> tuple[int, int]:
        """Return how many tiles there are along m and n."""
        return (up(p.m, self.dm), up(p.n, self.dn)) if self.dots else (up(p.m, self.mr), up(p.n, self.nr))


def choose(profile: Profile, p: Problem) -> Tiles:
    """Choose the kernel and its tile for a problem, by the measured rules in tuning/gemm.toml and sizes.toml."""
    width = max(4, min(16, profile.vector))
    tiles = tuning()["cpu"][str(width)]
    lanes = width * 4 // compute_dtype(p.c.dtype).itemsize
    along_k = (p.a.col == 1 or p.k == 1) and (p.b.row == 1 or p.k == 1)
    few = p.m < profile.size("cpu.gemm.pack_dots_rows")
    thin = p.m <= 4
    # What is large pays for packing both operands as they are used, whatever their strides.
    large = not few and p.n > lanes and p.m * p.n * p.k >= profile.size("cpu.gemm.block_work")
    # Packing B costs more than panels save, until A is large; a B that is packed once and for all costs nothing.
    kept = p.b.ref.role == "in" and p.b.ref.index in profile.kept
    rows = profile.size("cpu.gemm.block_dots_rows" if large else "cpu.gemm.dots_rows")
    costly = not kept and p.m <= rows and p.k >= profile.size("cpu.gemm.dots_vectors") * lanes
    fits = p.m * p.k * p.a.dtype.itemsize <= profile.size("cpu.gemm.dots_bytes")
    dots = along_k and p.k >= lanes and (few or p.n <= lanes or (costly and fits))
    b_bytes, row_bytes = p.n * p.k * p.b.dtype.itemsize, p.b.row * p.b.dtype.itemsize
    spread = b_bytes >= profile.size("cpu.gemm.pack_direct_bytes") or (row_bytes % 4096 == 0 and p.k >= 256)
    pack = not dots and p.k > 0 and (p.b.col != 1 or (spread and p.m >= profile.size("cpu.gemm.pack_direct_rows")))
    if thin:  # a vector as long as it helps: B is read once, so what counts is long runs of memory
        mr = (1, 2, 4, 4)[p.m - 1]
        nv = min(tiles["thin"]["sums"] // mr, 1 << (up(p.n, lanes) - 1).bit_length())
        dm, dn = min(mr, tiles["dots"][-1]["dm"]), tiles["thin"]["dn"]
    else:
        work = p.m * p.n * p.k * p.batch
        shapes = [tiles["narrow"]] if p.n <= lanes else [t for t in tiles["wide"] if work >= t["least"]]
        shape = min(shapes, key=lambda t: up(p.m, t["mr"]) * t["mr"] * up(p.n, t["nv"] * lanes) * t["nv"] / t["rate"])
        mr, nv = shape["mr"], shape["nv"]
        square = min(tiles["dots"], key=lambda t: up(p.m, t["dm"]) * t["dm"] * up(p.n, t["dn"]) * t["dn"] / t["rate"])
        dm, dn = square["dm"], square["dn"]
    made = Tiles(dots, False, pack, lanes, mr, nv, dm, dn, 1)
    # Split K to occupy every core, or to keep a part of B in the second-level cache for all of a few tiles.
    rows, columns = made.blocks(p)
    parts = 4 * profile.units // (rows * columns * p.batch)
    if p.m * p.n <= profile.size("cpu.gemm.split_sums") and not dots:
        parts = max(parts, b_bytes // profile.size("cpu.gemm.split_bytes"))
    parts = max(1, min(16, parts, p.k // 1024))
    if large and not dots and parts == 1:
        return replace(made, blocked=True, pack=kept)
    return replace(made, parts=parts)


def cpu_gemm(profile: Profile, p: Problem, scratch: int) -> Gemm:
    """Return the launches of a problem whose three matrices compute in one floating type."""
    if p.a.row == 1 and p.b.col != 1 and not (p.a.col == 1 and p.b.row == 1):
        p = p.swapped()  # then the columns of A' are adjacent: no packing
    if p.n == 1:
        p = replace(p, b=replace(p.b, col=1))
    tiles, compute = choose(profile, p), compute_dtype(p.c.dtype)
    inside, specs, launches = p, list[Spec](), list[Launch]()
    if tiles.parts > 1:
        inside, partial = split(p, tiles.parts, scratch)
        specs.append(partial)
    vector = VECTOR_EPILOGUES.get(inside.epilogue, "")
    whole = int(inside.c.dtype == compute and (not inside.epilogue or bool(vector)))
    ending: tuple[tuple[str, Define], ...] = (("VEPILOGUE(v)", vector),) if vector else ()
    lanes: tuple[tuple[str, Define], ...] = (("VW", tiles.lanes),)
    panels: tuple[tuple[str, Define], ...] = (("NV", tiles.nv), *lanes)
    b_panel, b_end = tiles.nr, max(0, (p.k - 1) * p.b.row) + p.n
    if tiles.pack:
        packed = replace(inside, bias=None, epilogue="")  # else a program for each
        made, spec, b = _pack(profile, packed, tiles.nr, scratch + len(specs), compute)
        launches.append(replace(made, defines=(("GEMM_PACK", 1), *tags(packed), *panels)))
        specs.append(spec)
        inside = replace(inside, b=b)
        b_panel, b_end = p.k * tiles.nr, up(p.n, tiles.nr) * p.k * tiles.nr
    if tiles.blocked:
        shape = (*tags(inside), ("MR", tiles.mr), *panels, ("WHOLE_STORE", whole), *ending)
        made, blocks = blocks_launch(
            profile, inside, shape, mr=tiles.mr, nr=tiles.nr, lanes=tiles.lanes, packed=tiles.pack, scratch=scratch + len(specs)
        )
        return Gemm((*launches, made), (*specs, *blocks))
    if p.a.dtype == float16 and not tiles.dots and p.k and p.n > tiles.nr:
        copied = replace(inside, bias=None, epilogue="")
        made, spec, a = _rows(profile, copied, scratch + len(specs), compute)
        launches.append(replace(made, defines=(("GEMM_ROWS", 1), *tags(copied), *lanes)))
        specs.append(spec)
        inside = replace(inside, a=a)

    # Enough work-items to balance the cores, few enough that each reuses its panel of B for many rows.
    rows, blocks_n = tiles.blocks(p)
    work = 2 * p.m * p.n * p.k * p.batch
    wanted = 4 * profile.units if work > 4_000_000 else profile.units if work > 100_000 else 1
    per_item = _rows_per_item(rows, blocks_n * p.batch * tiles.parts, wanted, profile.units)
    blocks_m = up(rows, per_item)
    k_part = up(p.k, tiles.parts)
    k_block = profile.size("cpu.gemm.k_block")
    if not tiles.pack and p.b.row * p.b.dtype.itemsize % 4096 == 0:
        k_block //= 2  # rows of B that meet in a few sets of the cache: half of them stay (64 x 4096 x 1024: 7.4 to 5.3 ms)
    k_block = k_block if inside.c.dtype == compute and k_part > k_block else max(k_part, 1)
    args = common_args(inside, blocks_m=blocks_m, blocks_n=blocks_n, k_part=k_part, c_part=p.batch * p.m * p.n)
    groups = (blocks_m * blocks_n * p.batch, tiles.parts)
    if tiles.dots:
        kernel, extra, shape = "pnn_gemm_dots", i64(per_item), (("GEMM_DOTS", 1), *tags(inside), ("DM", tiles.dm), ("DN", tiles.dn), *lanes, *ending)
    else:
        kernel, extra = "pnn_gemm_panels", i64(b_panel, b_end, per_item, k_block)
        shape = (("GEMM_PANELS", 1), *tags(inside), ("MR", tiles.mr), *panels, ("WHOLE_STORE", whole), *ending)
    launches.append(Launch(kernel, "gemm_cpu.c", groups, (1, 1), (*args, *extra), shape))
    if tiles.parts > 1:
        launches.append(split_sum(profile, p, tiles.parts, Scratch(scratch)))
    return Gemm(tuple(launches), tuple(specs))


def _rows_per_item(rows: int, columns: int, wanted: int, units: int) -> int:
    """Return how many tiles below each other a work-item does: `columns` of them stand side by side, `wanted` work-items are enough.

    Of up to twice as many, the number whose last round leaves the fewest cores idle: 13 items on two cores are 14.
    """
    least = max(1, min(rows, up(wanted, columns)))
    choices = [up(rows, blocks) for blocks in range(least, min(rows, 2 * least + 1) + 1)]
    return min(choices, key=lambda tiles: (up(up(rows, tiles) * columns, units) * tiles, -tiles))


def _pack(profile: Profile, p: Problem, nr: int, number: int, compute: DType) -> tuple[Launch, Spec, Matrix]:
    """Return the launch that packs B into panels in scratch, and the panels. A shared B is packed once."""
    b = p.b
    panels, shared = up(p.n, nr), b.outer == 0 and b.inner == 0
    batch = 1 if shared else p.batch
    k_step = min(p.k, max(64, up(p.k * panels * batch, 8 * profile.units)))
    args: tuple[Arg, ...] = (
        b.ref, Scratch(number), *i64(p.n, p.k, b.row, b.col, 1 if shared else p.inner),
        *i64(b.outer, b.inner, b.start, panels, up(p.k, k_step), k_step),
    )  # fmt: skip
    launch = Launch("pnn_gemm_pack", "gemm_cpu.c", (batch * panels * up(p.k, k_step),), (1,), args, packs=True)
    size = 0 if shared else panels * p.k * nr
    packed = Matrix(Scratch(number), compute, nr, 1, p.inner * size, size)
    return launch, Spec((batch, panels, p.k, nr), compute), packed


def _rows(profile: Profile, p: Problem, number: int, compute: DType) -> tuple[Launch, Spec, Matrix]:
    """Return the launch that converts A into scratch, along its adjacent axis, and the copy."""
    a = p.a
    by_row = a.row != 1
    rows, cols, row, col = (p.m, p.k, a.row, a.col) if by_row else (p.k, p.m, a.col, a.row)
    shared = a.outer == 0 and a.inner == 0
    batch = 1 if shared else p.batch
    length = up(cols, 16) * 16 + 16  # an odd number of cache lines: neighbouring rows meet different sets
    r_step = max(1, min(rows, up(rows * batch, 8 * profile.units)))
    args: tuple[Arg, ...] = (
        a.ref, Scratch(number), *i64(rows, cols, row, col, 1 if shared else p.inner, a.outer, a.inner, a.start),
        *i64(length, up(rows, r_step), r_step),
    )  # fmt: skip
    launch = Launch("pnn_gemm_rows", "gemm_cpu.c", (batch * up(rows, r_step),), (1,), args)
    size = 0 if shared else rows * length
    strides = (length, 1) if by_row else (1, length)
    return (
        launch,
        Spec((batch, rows, length), compute),
        Matrix(Scratch(number), compute, *strides, p.inner * size, size),
    )
