/* GEMM for GPUs, and for types without a CPU kernel: a work-group computes a TM x TN tile of C by the tile product of
 * gemm_tile.h, each work-item RM x RN sums in registers.
 * Defines: those of gemm.h and gemm_tile.h.
 * Traffic: A once per column of tiles, B once per row of tiles. */
#include "gemm.h"
#define TILE_LOAD_A(p, i) LOAD_A(p, i)
#define TILE_LOAD_B(p, i) LOAD_B(p, i)
#include "gemm_tile.h"

KERNEL(pnn_gemm_tiled, TILE_ITEMS, 1, 1)(GEMM_ARGS) {
    GEMM_BEGIN;
    LOCAL ACC(TC) at[TILE_A];
    LOCAL ACC(TC) bt[TILE_B];
    ACC(TC) acc[TILE_SUMS];
    const i32 item = (i32)LOCAL_ID(0);
    const i64 i0 = bi * TM, j0 = bj * TN;
    const i32 rows = (i32)(m - i0 < TM ? m - i0 : TM), cols = (i32)(n - j0 < TN ? n - j0 : TN);
    pnn_tile_zero(acc);
    pnn_tile_product(a + i0 * a_row + k_first * a_col, a_row, a_col, rows, b + j0 * b_col + k_first * b_row, b_row, b_col, cols,
                     k_last - k_first, item, at, bt, acc);
#pragma unroll
    for (int i = 0; i < RM; ++i)
#pragma unroll
        for (int j = 0; j < RN; ++j) {
            const i32 row = TILE_ROW(item, i), col = TILE_COL(item, j);
            if (row < rows && col < cols) GEMM_STORE(i0 + row, j0 + col, acc[TILE_SUM(i, j)]);
        }
}
