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
    MADD,
    OUT,
    STORE,
    ZERO,
)  # fmt: skip
from portable_nn_numba.registry import Defines, kernel
from portable_nn_numba.rendered import epilogue
from portable_nn_numba.shim import cuda, device

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
    TX, TY = TN // RN, TM // RM
    ITEMS = TX * TY
    AT_WIDE, BT_WIDE = TM + 1, TN + 1  # + 1: a tile stored along k must not hit one bank
    A_LOADS, B_LOADS = TM * TK // ITEMS, TN * TK // ITEMS
    real, zero, madd = ACC(TC), ZERO(TC), MADD(TC)
    load_a, load_b, store_sum = _loader(TA, TC), _loader(TB, TC), _store_sum(d)

    def pnn_gemm_tiled(
        a: IN(TA), a_offset, b: IN(TB), b_offset, bias: IN(TBIAS), bias_offset, c: OUT(TC), c_offset, m, n, k, a_row, a_col, b_row, b_col,
        c_row, c_col, inner, a_outer, a_inner, b_outer, b_inner, c_outer, c_inner, a_start, b_start, c_start, has_bias: "i32", bias_row,
        bias_col, blocks_m, blocks_n, k_part, c_part,
    ):  # fmt: skip
        at = cuda.shared.array((TK, AT_WIDE), real)
        bt = cuda.shared.array((TK, BT_WIDE), real)
        acc = cuda.local.array((RM, RN), real)
        av = cuda.local.array(RM, real)
        bv = cuda.local.array(RN, real)
        bj = GROUP_ID(0) % blocks_n
        bi = GROUP_ID(0) // blocks_n % blocks_m
        batch = GROUP_ID(0) // (blocks_n * blocks_m)
        outer_ = batch // inner
        inner_ = batch % inner
        k_first = GROUP_ID(1) * k_part
        k_last = min(k_first + k_part, k)
        item = LOCAL_ID(0)
        tx = item % TX
        ty = item // TX
        i0 = bi * TM
        j0 = bj * TN
        # Neighbouring work-items load neighbouring elements, along whichever axis those are.
        a_along_k = a_col == 1
        b_along_k = b_row == 1 and b_col != 1
        ai = item // TK if a_along_k else item % TM
        ap = item % TK if a_along_k else item // TM
        bj_ = item // TK if b_along_k else item % TN
        bp = item % TK if b_along_k else item // TN
        ai_step = ITEMS // TK if a_along_k else 0
        ap_step = 0 if a_along_k else ITEMS // TM
        bj_step = ITEMS // TK if b_along_k else 0
        bp_step = 0 if b_along_k else ITEMS // TN
        rows = min(m - i0, TM)
        cols = min(n - j0, TN)
        a_step = ai_step * a_row + ap_step * a_col
        b_step = bj_step * b_col + bp_step * b_row
        a_at = a_offset + a_start + outer_ * a_outer + inner_ * a_inner + (i0 + ai) * a_row + (k_first + ap) * a_col
        b_at = b_offset + b_start + outer_ * b_outer + inner_ * b_inner + (j0 + bj_) * b_col + (k_first + bp) * b_row
        c_at = c_offset + c_start + outer_ * c_outer + inner_ * c_inner + GROUP_ID(1) * c_part
        for i in range(RM):
            for j in range(RN):
                acc[i, j] = zero
        for k0 in range(k_first, k_last, TK):
            steps = min(k_last - k0, TK)
            for s in range(A_LOADS):
                i = ai + s * ai_step
                p = ap + s * ap_step
                v = zero
                if i < rows and p < steps:
                    v = load_a(a, a_at + s * a_step)
                at[p, i] = v
            for s in range(B_LOADS):
                j = bj_ + s * bj_step
                p = bp + s * bp_step
                v = zero
                if j < cols and p < steps:
                    v = load_b(b, b_at + s * b_step)
                bt[p, j] = v
            a_at += TK * a_col
            b_at += TK * b_row
            cuda.syncthreads()
            for p in range(TK):
                for i in range(RM):
                    av[i] = at[p, ty + i * TY]
                for j in range(RN):
                    bv[j] = bt[p, tx + j * TX]
                for i in range(RM):
                    for j in range(RN):
                        acc[i, j] = madd(av[i], bv[j], acc[i, j])
            cuda.syncthreads()
        for i in range(RM):
            for j in range(RN):
                row = ty + i * TY
                col = tx + j * TX
                if row < rows and col < cols:
                    place = c_at + (i0 + row) * c_row + (j0 + col) * c_col
                    store_sum(c, place, bias, bias_offset + (i0 + row) * bias_row + (j0 + col) * bias_col, has_bias, acc[i, j])

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
