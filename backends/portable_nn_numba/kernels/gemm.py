"""Twin of `c/gemm.c`, `c/gemm_split.c` and `c/gemm.h`: C = A B + bias by tiles in shared memory.

Indices are i64 throughout, and loops are left to the compiler to unroll.
"""

from collections.abc import Callable
from typing import Any

from portable_nn_numba.dialect import (
    ACC,
    ACC_TAG,
    ADD,
    GLOBAL_ID,
    GROUP_ID,
    IN,
    LOAD,
    LOCAL_ID,
    OUT,
    STORE,
    ZERO,
)  # fmt: skip
from portable_nn_numba.registry import Defines, kernel
from portable_nn_numba.rendered import epilogue
from portable_nn_numba.shim import cuda, device

from .gemm_tile import gemm_tile

_CONVERSIONS = ("LOAD_A(p, i)", "LOAD_B(p, i)", "LOAD_BIAS(p, i)")  # what C needs to make a number complex: `_loader` does


def _loader(tag: str, to: str) -> Callable[..., Any]:
    """Return what loads `tag` as the compute type of `to`: LOAD_A, LOAD_B, LOAD_BIAS."""
    load, real = LOAD[tag], ACC(to)
    return device(lambda p, i: real(load(p, i)))


def _store_sum(d: Defines) -> Callable[..., Any]:
    """Return GEMM_STORE: one element; the parts of a split K carry no bias."""
    TC = d["TC"]
    load_bias, add, store = _loader(d.get("TBIAS", TC), TC), ADD(TC), STORE[TC]
    finished = epilogue(d, TC)

    @device
    def store_sum(c: Any, c_at: Any, bias: Any, bias_at: Any, has_bias: Any, value: Any) -> None:
        if has_bias:
            value = add(value, load_bias(bias, bias_at))
        store(c, c_at, finished(value))

    return store_sum


@kernel("pnn_gemm_tiled", "gemm.c", ignores=_CONVERSIONS)
def gemm_tiled(d: Defines) -> Callable[..., Any]:
    TA, TB, TC, TM, TN, TK, RM, RN = (d[name] for name in ("TA", "TB", "TC", "TM", "TN", "TK", "RM", "RN"))
    TBIAS = d.get("TBIAS", TC)
    tile, store_sum = gemm_tile(TC, TM, TN, TK, RM, RN, _loader(TA, TC), _loader(TB, TC)), _store_sum(d)
    A_SIZE, B_SIZE, SUMS, real = tile.a_size, tile.b_size, tile.sums, tile.real
    zero, product, row_of, col_of = tile.zero, tile.product, tile.row, tile.col

    def pnn_gemm_tiled(
        a: IN(TA), a_offset, b: IN(TB), b_offset, bias: IN(TBIAS), bias_offset, c: OUT(TC), c_offset, m, n, k, a_row, a_col, b_row, b_col,
        c_row, c_col, inner, a_outer, a_inner, b_outer, b_inner, c_outer, c_inner, a_start, b_start, c_start, has_bias: "i32", bias_row,
        bias_col, blocks_m, blocks_n, k_part, c_part,
    ):  # fmt: skip
        at = cuda.shared.array(A_SIZE, real)
        bt = cuda.shared.array(B_SIZE, real)
        acc = cuda.local.array(SUMS, real)
        bj = GROUP_ID(0) % blocks_n
        bi = GROUP_ID(0) // blocks_n % blocks_m
        batch = GROUP_ID(0) // (blocks_n * blocks_m)
        outer_ = batch // inner
        inner_ = batch % inner
        k_first = GROUP_ID(1) * k_part
        k_last = min(k_first + k_part, k)
        item = LOCAL_ID(0)
        i0 = bi * TM
        j0 = bj * TN
        rows = min(m - i0, TM)
        cols = min(n - j0, TN)
        a_at = a_offset + a_start + outer_ * a_outer + inner_ * a_inner + i0 * a_row + k_first * a_col
        b_at = b_offset + b_start + outer_ * b_outer + inner_ * b_inner + j0 * b_col + k_first * b_row
        c_at = c_offset + c_start + outer_ * c_outer + inner_ * c_inner + GROUP_ID(1) * c_part
        zero(acc)
        product(a, a_at, a_row, a_col, rows, b, b_at, b_row, b_col, cols, k_last - k_first, item, at, bt, acc)
        for i in range(RM):
            for j in range(RN):
                row = row_of(item, i)
                col = col_of(item, j)
                if row < rows and col < cols:
                    place = c_at + (i0 + row) * c_row + (j0 + col) * c_col
                    store_sum(c, place, bias, bias_offset + (i0 + row) * bias_row + (j0 + col) * bias_col, has_bias, acc[i * RN + j])

    return pnn_gemm_tiled


@kernel("pnn_gemm_split_sum", "gemm_split.c", ignores=(*_CONVERSIONS, "SIZE"))
def gemm_split_sum(d: Defines) -> Callable[..., Any]:
    TC = d["TC"]
    TBIAS = d.get("TBIAS", TC)
    zero, add, load, store_sum = ZERO(TC), ADD(TC), LOAD[ACC_TAG(TC)], _store_sum(d)

    def pnn_gemm_split_sum(
        parts: IN(ACC_TAG(TC)), parts_offset, bias: IN(TBIAS), bias_offset, c: OUT(TC), c_offset, count, batches, m, n, c_row, c_col, inner,
        c_outer, c_inner, c_start, has_bias: "i32", bias_row, bias_col, chunk,
    ):  # fmt: skip
        total = batches * m * n
        first = GLOBAL_ID(0) * chunk
        for e in range(first, min(first + chunk, total)):
            batch = e // (m * n)
            i = e // n % m
            j = e % n
            value = zero
            for part in range(count):
                value = add(value, load(parts, parts_offset + part * total + e))
            c_at = c_offset + c_start + batch // inner * c_outer + batch % inner * c_inner
            store_sum(c, c_at + i * c_row + j * c_col, bias, bias_offset + i * bias_row + j * bias_col, has_bias, value)

    return pnn_gemm_split_sum
