/* GEMM for GPUs, and for types without a CPU kernel: a work-group computes a TM x TN tile of C from tiles of A and B in
 * local memory, each work-item RM x RN sums in registers. The work-items of a group are spread over the tile (row
 * ty + i * TM/RM, column tx + j * TN/RN), so that neighbours read neighbouring words of local memory and write
 * neighbouring elements of C.
 * Defines: TA TB TC (storage tags), TM TN TK (tile), RM RN (per work-item); TM/RM x TN/RN
 * work-items, a multiple of TM, TN and TK.
 * Traffic: A once per column of tiles, B once per row of tiles. Idea: the classic two-level blocking of Volkov and
 * Demmel (2008). */
#include "gemm.h"

#define PNN_TX (TN / RN)
#define PNN_TY (TM / RM)
#define PNN_ITEMS (PNN_TX * PNN_TY)

KERNEL(pnn_gemm_tiled, PNN_ITEMS, 1, 1)(GEMM_ARGS) {
    GEMM_BEGIN;
    LOCAL ACC(TC) at[TK][TM + 1]; /* + 1: a tile stored along k must not hit one bank */
    LOCAL ACC(TC) bt[TK][TN + 1];
    const i32 item = (i32)LOCAL_ID(0), tx = item % PNN_TX, ty = item / PNN_TX;
    const i64 i0 = bi * TM, j0 = bj * TN;
    /* Neighbouring work-items load neighbouring elements, along whichever axis those are. Load s of an item is a fixed
     * step after load s - 1, in the tile and in memory: few registers, no division in the loop. */
    const int a_along_k = a_col == 1, b_along_k = b_row == 1 && b_col != 1;
    const i32 ai = a_along_k ? item / TK : item % TM, ap = a_along_k ? item % TK : item / TM;
    const i32 bj_ = b_along_k ? item / TK : item % TN, bp = b_along_k ? item % TK : item / TN;
    const i32 ai_step = a_along_k ? PNN_ITEMS / TK : 0, ap_step = a_along_k ? 0 : PNN_ITEMS / TM;
    const i32 bj_step = b_along_k ? PNN_ITEMS / TK : 0, bp_step = b_along_k ? 0 : PNN_ITEMS / TN;
    const i32 rows = (i32)(m - i0 < TM ? m - i0 : TM), cols = (i32)(n - j0 < TN ? n - j0 : TN);
    const i64 a_step = ai_step * a_row + ap_step * a_col, b_step = bj_step * b_col + bp_step * b_row;
    a += (i0 + ai) * a_row + (k_first + ap) * a_col;
    b += (j0 + bj_) * b_col + (k_first + bp) * b_row;
    ACC(TC) acc[RM][RN];
#pragma unroll
    for (int i = 0; i < RM; ++i)
#pragma unroll
        for (int j = 0; j < RN; ++j) acc[i][j] = ZERO(TC);

    for (i64 k0 = k_first; k0 < k_last; k0 += TK) {
        const i32 steps = (i32)(k_last - k0 < TK ? k_last - k0 : TK);
#pragma unroll
        for (int s = 0; s < TM * TK / PNN_ITEMS; ++s) {
            const i32 i = ai + s * ai_step, p = ap + s * ap_step;
            ACC(TC) v = ZERO(TC);
            if (i < rows && p < steps) v = LOAD_A(a, s * a_step);
            at[p][i] = v;
        }
#pragma unroll
        for (int s = 0; s < TN * TK / PNN_ITEMS; ++s) {
            const i32 j = bj_ + s * bj_step, p = bp + s * bp_step;
            ACC(TC) v = ZERO(TC);
            if (j < cols && p < steps) v = LOAD_B(b, s * b_step);
            bt[p][j] = v;
        }
        a += TK * a_col;
        b += TK * b_row;
        BARRIER();
#pragma unroll 4
        for (int p = 0; p < TK; ++p) {
            ACC(TC) av[RM], bv[RN];
#pragma unroll
            for (int i = 0; i < RM; ++i) av[i] = at[p][ty + i * PNN_TY];
#pragma unroll
            for (int j = 0; j < RN; ++j) bv[j] = bt[p][tx + j * PNN_TX];
#pragma unroll
            for (int i = 0; i < RM; ++i)
#pragma unroll
                for (int j = 0; j < RN; ++j) acc[i][j] = MADD(TC, av[i], bv[j], acc[i][j]);
        }
        BARRIER();
    }
#pragma unroll
    for (int i = 0; i < RM; ++i)
#pragma unroll
        for (int j = 0; j < RN; ++j) {
            const i32 row = ty + i * PNN_TY, col = tx + j * PNN_TX;
            if (row < rows && col < cols) GEMM_STORE(i0 + row, j0 + col, acc[i][j]);
        }
}
