/* GEMM for GPUs, and for types without a CPU kernel: a work-group computes a TM x TN tile of C from tiles of A and B in
 * local memory, each work-item RM x RN sums in registers. The work-items of a group are spread over the tile (row
 * ty + i * TM/RM, column tx + j * TN/RN), so that neighbours read neighbouring words of local memory and write
 * neighbouring elements of C.
 * Defines: TA TB TC (storage tags), TM TN TK (tile), RM RN (per work-item); TM/RM x TN/RN work-items.
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
    const int a_along_k = a_col == 1, b_along_k = b_row == 1 && b_col != 1;
    ACC(TC) acc[RM][RN];
#pragma unroll
    for (int i = 0; i < RM; ++i)
#pragma unroll
        for (int j = 0; j < RN; ++j) acc[i][j] = ZERO(TC);

    for (i64 k0 = k_first; k0 < k_last; k0 += TK) {
        /* Neighbouring work-items load neighbouring elements, along whichever axis those are. */
#pragma unroll
        for (int s = 0; s < (TM * TK + PNN_ITEMS - 1) / PNN_ITEMS; ++s) {
            const i32 e = s * PNN_ITEMS + item;
            const i32 i = a_along_k ? e / TK : e % TM, p = a_along_k ? e % TK : e / TM;
            if (e < TM * TK) {
                ACC(TC) v = ZERO(TC);
                if (i0 + i < m && k0 + p < k_last) v = LOAD(TA, a, (i0 + i) * a_row + (k0 + p) * a_col);
                at[p][i] = v;
            }
        }
#pragma unroll
        for (int s = 0; s < (TN * TK + PNN_ITEMS - 1) / PNN_ITEMS; ++s) {
            const i32 e = s * PNN_ITEMS + item;
            const i32 j = b_along_k ? e / TK : e % TN, p = b_along_k ? e % TK : e / TN;
            if (e < TN * TK) {
                ACC(TC) v = ZERO(TC);
                if (j0 + j < n && k0 + p < k_last) v = LOAD(TB, b, (k0 + p) * b_row + (j0 + j) * b_col);
                bt[p][j] = v;
            }
        }
        BARRIER();
#pragma unroll
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
            const i64 row = i0 + ty + i * PNN_TY, col = j0 + tx + j * PNN_TX;
            if (row < m && col < n) GEMM_STORE(row, col, acc[i][j]);
        }
}
