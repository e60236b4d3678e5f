"""Twin of `c/gemm_tile.h`: a work-group adds A B to TM x TN sums in its registers, through tiles in shared memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from portable_nn_numba.dialect import ACC, LOAD, MADD, ZERO
from portable_nn_numba.shim import cuda, device


@dataclass(frozen=True)
class GemmTile:
    """What `gemm_tile` makes.

    Parameters
    ----------
    items : int
        Work-items of the group.
    a_size, b_size, sums : int
        Elements of the shared arrays `at` and `bt` and of the local array `acc`, which hold type `real`.
    real
        The compute type.
    zero : device function
        ``zero(acc)``.
    product : device function
        ``product(a, a_at, a_row, a_col, rows, b, b_at, b_row, b_col, cols, k, item, at, bt, acc)``: adds A B to acc. a[a_at] is
        the tile's first element of A, in flat memory, with these strides; rows and cols say how many of the TM and TN are there.
    row, col : device functions
        ``row(item, i)``, ``col(item, j)``: where ``acc[i * RN + j]`` stands, valid below rows and cols.
    """

    items: int
    a_size: int
    b_size: int
    sums: int
    real: Any
    zero: Callable[..., Any]
    product: Callable[..., Any]
    row: Callable[..., Any]
    col: Callable[..., Any]


def gemm_tile(
    TC: str, TM: int, TN: int, TK: int, RM: int, RN: int, load_a: Callable[..., Any] | None = None, load_b: Callable[..., Any] | None = None
) -> GemmTile:
    """Return the tile product for sums in the compute type of tag `TC`; `load_a(p, i)`, `load_b(p, i)` read an element in that type.

    TM/RM x TN/RN work-items, a multiple of TM, TN and TK.
    """
    TX, TY = TN // RN, TM // RM
    ITEMS, SUMS = TX * TY, RM * RN
    A_WIDE, B_WIDE = TM + 1, TN + 1  # + 1: a tile stored along k must not hit one bank
    A_LOADS, B_LOADS = TM * TK // ITEMS, TN * TK // ITEMS
    real, none, madd = ACC(TC), ZERO(TC), MADD(TC)
    read_a, read_b = load_a or LOAD[TC], load_b or LOAD[TC]

    @device
    def zero(acc: Any) -> None:
        for e in range(SUMS):
            acc[e] = none

    @device
    def product(
        a: Any, a_at: Any, a_row: Any, a_col: Any, rows: Any, b: Any, b_at: Any, b_row: Any, b_col: Any, cols: Any, k: Any, item: Any,
        at: Any, bt: Any, acc: Any,
    ) -> None:  # fmt: skip
        av = cuda.local.array(RM, real)
        bv = cuda.local.array(RN, real)
        tx = item % TX
        ty = item // TX
        # Neighbouring work-items load neighbouring elements, along whichever axis those are.
        a_along_k = a_col == 1
        b_along_k = b_row == 1 and b_col != 1
        ai = item // TK if a_along_k else item % TM
        ap = item % TK if a_along_k else item // TM
        bj = item // TK if b_along_k else item % TN
        bp = item % TK if b_along_k else item // TN
        ai_step = ITEMS // TK if a_along_k else 0
        ap_step = 0 if a_along_k else ITEMS // TM
        bj_step = ITEMS // TK if b_along_k else 0
        bp_step = 0 if b_along_k else ITEMS // TN
        a_step = ai_step * a_row + ap_step * a_col
        b_step = bj_step * b_col + bp_step * b_row
        a_from = a_at + ai * a_row + ap * a_col
        b_from = b_at + bj * b_col + bp * b_row
        for k0 in range(0, k, TK):
            steps = min(k - k0, TK)
            for s in range(A_LOADS):
                i = ai + s * ai_step
                p = ap + s * ap_step
                v = none
                if i < rows and p < steps:
                    v = read_a(a, a_from + s * a_step)
                at[p * A_WIDE + i] = v
            for s in range(B_LOADS):
                j = bj + s * bj_step
                p = bp + s * bp_step
                v = none
                if j < cols and p < steps:
                    v = read_b(b, b_from + s * b_step)
                bt[p * B_WIDE + j] = v
            a_from += TK * a_col
            b_from += TK * b_row
            cuda.syncthreads()
            for p in range(TK):
                for i in range(RM):
                    av[i] = at[p * A_WIDE + ty + i * TY]
                for j in range(RN):
                    bv[j] = bt[p * B_WIDE + tx + j * TX]
                for i in range(RM):
                    for j in range(RN):
                        acc[i * RN + j] = madd(av[i], bv[j], acc[i * RN + j])
            cuda.syncthreads()

    row = device(lambda item, i: item // TX + i * TY)
    col = device(lambda item, j: item % TX + j * TX)
    return GemmTile(ITEMS, TK * A_WIDE, TK * B_WIDE, SUMS, real, zero, product, row, col)
