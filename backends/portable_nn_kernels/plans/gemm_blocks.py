"""Large products on CPUs: how they are cut into the blocks that c/gemm_blocks.c packs."""

from __future__ import annotations

from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import Arg, Define, Launch, Profile, Scratch

from .gemm_parts import Problem, common_args, compute_dtype, i64, up


def blocks_launch(
    profile: Profile, p: Problem, defines: tuple[tuple[str, Define], ...], *, mr: int, nr: int, lanes: int, packed: bool, scratch: int
) -> tuple[Launch, tuple[Spec, ...]]:
    """Return the launch, and the scratch that its work-items pack into: arrays `scratch` to `scratch` + 2.

    With `packed`, the problem's B is what `pnn_gemm_pack` made.
    """
    rows, columns = up(p.m, mr), up(p.n, nr)
    tiles, panels = _cut(profile, rows, columns, p.batch, mr, nr)
    blocks_m, blocks_n = up(rows, tiles), up(columns, panels)
    items = blocks_m * blocks_n * p.batch
    depths = up(p.k, profile.size("cpu.gemm.block_depth"))
    k_block = up(up(p.k, depths), lanes) * lanes
    compute = compute_dtype(p.c.dtype)
    specs = (
        Spec((items, tiles * mr * k_block), compute),
        Spec((items, 1 if packed else k_block * nr), compute),
        Spec((items, tiles * mr * panels * nr if p.k > k_block else 1), compute),
    )
    args = common_args(p, blocks_m=blocks_m, blocks_n=blocks_n, k_part=p.k, c_part=0)
    own: tuple[Arg, ...] = (*(Scratch(scratch + i) for i in range(3)), *i64(p.k * nr if packed else 0, tiles, panels, k_block))
    made = (*defines, ("AHEAD", int(profile.prefetch)))
    return Launch("pnn_gemm_blocks", "gemm_blocks.c", (items, 1), (1, 1), (*args, *own), made), specs


def _cut(profile: Profile, rows: int, columns: int, batch: int, mr: int, nr: int) -> tuple[int, int]:
    """Return how many tiles below each other and panels side by side a work-item does.

    Of the cuts with enough work-items to balance the cores, that which ends first: a work-item multiplies `tiles` x `panels` and
    packs `panels` blocks of B and `tiles` of A, from memory: as long as two tiles and a quarter.
    """
    most_tiles, most_panels = max(1, profile.size("cpu.gemm.block_rows") // mr), max(1, profile.size("cpu.gemm.block_columns") // nr)
    wanted = min(2 * profile.units, rows * columns * batch)
    best: tuple[float, int, int] | None = None
    for panels in range(1, min(columns, most_panels) + 1):
        across = up(columns, panels) * batch
        for tiles in {max(1, min(most_tiles, up(rows, down))) for down in range(up(wanted, across), 2 * up(wanted, across) + 1)}:
            items = across * up(rows, tiles)
            if items >= wanted or (panels, tiles) == (1, 1):
                time = up(items, profile.units) * (tiles * panels + 2 * panels + tiles / 4)
                best = min(best or (time, tiles, panels), (time, tiles, panels))
    assert best is not None
    return best[1:]
