"""Twin of `c/conv_tile.h`: the tile product of convolutions as implicit GEMMs, by a work-group of 16 x 16 work-items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from portable_nn_numba.dialect import ACC, FMA, GROUP_ID, TYPE, ZERO, i64
from portable_nn_numba.registry import Defines
from portable_nn_numba.shim import cuda, device

FLUSH = 64  # steps a weight gradient adds up before it adds the sum to another


@dataclass(frozen=True)
class Tile:
    """What `tile` makes of a launch's defines.

    Parameters
    ----------
    TM, TN, TK, RM, RN, SUMS : int
        Results of a group, summed terms at a time, results of a work-item: RM RN = SUMS.
    A_WIDE, A_SIZE, B_WIDE, B_SIZE : int
        Row length and length of the shared arrays tile_a (k, i) and tile_b (k, j).
    real, zero
        The compute type and its 0.
    clear, multiply : device functions
        ``clear(acc)``; ``multiply(tile_a, tile_b, acc, ti, tj)``, between two barriers.
    where : device function
        ``where(count_j, groups)``: i0, j0 and the group of channels. Dimension 0 counts (row tile, group, column tile).
    split : device function
        ``split(value, by)``: quotient and remainder, in IX: 64-bit division is slow on GPUs.
    """

    TM: int
    TN: int
    TK: int
    RM: int
    RN: int
    SUMS: int
    A_WIDE: int
    A_SIZE: int
    B_WIDE: int
    B_SIZE: int
    real: Any
    zero: Any
    clear: Any
    multiply: Any
    where: Any
    split: Any


def tile(d: Defines) -> Tile:
    """Return the constants and device functions that `conv_tile.h` would define."""
    RM, RN, TK = d["RM"], d["RN"], d["TK"]
    TM, TN, SUMS = 16 * RM, 16 * RN, RM * RN
    A_WIDE, B_WIDE = TM + 1, TN + 1
    real, zero, IX = ACC(d["T"]), ZERO(d["T"]), TYPE[d["IX"]]

    @device
    def clear(acc: Any) -> None:
        for e in range(SUMS):
            acc[e] = zero

    @device
    def multiply(tile_a: Any, tile_b: Any, acc: Any, ti: Any, tj: Any) -> None:
        av = cuda.local.array(RM, real)
        bv = cuda.local.array(RN, real)
        cuda.syncthreads()
        for k in range(TK):
            for r in range(RM):
                av[r] = tile_a[k * A_WIDE + ti + 16 * r]
            for s in range(RN):
                bv[s] = tile_b[k * B_WIDE + tj + 16 * s]
            for r in range(RM):
                for s in range(RN):
                    acc[r * RN + s] = FMA(av[r], bv[s], acc[r * RN + s])
        cuda.syncthreads()

    @device
    def where(count_j: Any, groups: Any) -> Any:
        tiles_j = (count_j + TN - 1) // TN
        return GROUP_ID(0) // (tiles_j * groups) * TM, GROUP_ID(0) % tiles_j * TN, GROUP_ID(0) // tiles_j % groups

    @device
    def split(value: Any, by: Any) -> Any:
        quotient = IX(IX(value) // IX(by))
        return i64(quotient), i64(IX(IX(value) - IX(quotient * IX(by))))

    return Tile(TM, TN, TK, RM, RN, SUMS, A_WIDE, TK * A_WIDE, B_WIDE, TK * B_WIDE, real, zero, clear, multiply, where, split)
