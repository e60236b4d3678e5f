/* GEMM on tensor cores, for CUDA: replaces pnn_gemm_tiled where float32_matmul_precision is "high" (plans/gemm_mma.py).
 *
 * A work-group computes a TM x TN tile of C from tiles of A and B in local memory, 16 words of k at a time; each warp has
 * WM x WN of it in registers, as fragments of 16 x 8. Words lie along k in both tiles, 20 to a row: the 32 lanes of a fragment's load
 * then meet 32 banks. Rows, columns and k past the end are zeros.
 * Defines: those of gemm.h with TA = TB; MMA (kind of mma.h: tf32 for f32, f16, bf16), HALVES (numbers in a word), TM TN
 * WM WN. Any strides. Traffic: as gemm.c. Not run on a GPU yet. */
#include "gemm.h"
#include "mma.h"

#define WORDS 16
#define ROW_WORDS (WORDS + 4)
#define TK (WORDS * HALVES)
#define WARPS_N (TN / WN)
#define ITEMS (TM / WM * WARPS_N * 32)
#define WM_TILES (WM / 16)
#define WN_TILES (WN / 8)
#if HALVES == 1
#define NUMBER u32
#define BITS_A(i) pnn_tf32(LOAD_A(a, i))
#define BITS_B(i) pnn_tf32(LOAD_B(b, i))
#else
#define NUMBER u16 /* as it is stored: no rounding */
#define BITS_A(i) a[i]
#define BITS_B(i) b[i]
#endif

KERNEL(pnn_gemm_mma, ITEMS, 1, 1)(GEMM_ARGS) {
    GEMM_BEGIN;
    LOCAL u32 at[TM * ROW_WORDS];
    LOCAL u32 bt[TN * ROW_WORDS];
    const i32 item = (i32)LOCAL_ID(0), warp = item / 32, g = item % 32 / 4, t = item % 4;
    const i32 wi = warp / WARPS_N * WM, wj = warp % WARPS_N * WN;
    const i64 i0 = bi * TM, j0 = bj * TN;
    const i32 rows = (i32)(m - i0 < TM ? m - i0 : TM), cols = (i32)(n - j0 < TN ? n - j0 : TN);
    /* Neighbouring work-items load neighbouring elements, along whichever axis those are. */
    const int a_along_k = a_col == 1, b_along_k = b_row == 1 && b_col != 1;
    f32 acc[WM_TILES][WN_TILES][4];
    UNROLL for (int i = 0; i < WM_TILES; ++i)
        UNROLL for (int j = 0; j < WN_TILES; ++j)
            UNROLL for (int e = 0; e < 4; ++e) acc[i][j][e] = 0;

    for (i64 k0 = k_first; k0 < k_last; k0 += TK) {
        const i32 steps = (i32)(k_last - k0 < TK ? k_last - k0 : TK);
        for (i32 s = item; s < TM * TK; s += ITEMS) {
            const i32 i = a_along_k ? s / TK : s % TM, p = a_along_k ? s % TK : s / TM;
            NUMBER v = 0;
            if (i < rows && p < steps) v = BITS_A((i0 + i) * a_row + (k0 + p) * a_col);
            ((NUMBER*)at)[i * ROW_WORDS * HALVES + p] = v;
        }
        for (i32 s = item; s < TN * TK; s += ITEMS) {
            const i32 j = b_along_k ? s / TK : s % TN, p = b_along_k ? s % TK : s / TN;
            NUMBER v = 0;
            if (j < cols && p < steps) v = BITS_B((k0 + p) * b_row + (j0 + j) * b_col);
            ((NUMBER*)bt)[j * ROW_WORDS * HALVES + p] = v;
        }
        BARRIER();
        UNROLL for (int w = 0; w < WORDS; w += 8) {
            u32 af[WM_TILES][4], bf[WN_TILES][2];
            UNROLL for (int i = 0; i < WM_TILES; ++i) {
                const u32* row = at + (wi + 16 * i + g) * ROW_WORDS + w + t;
                af[i][0] = row[0];
                af[i][1] = row[8 * ROW_WORDS];
                af[i][2] = row[4];
                af[i][3] = row[8 * ROW_WORDS + 4];
            }
            UNROLL for (int j = 0; j < WN_TILES; ++j) {
                const u32* row = bt + (wj + 8 * j + g) * ROW_WORDS + w + t;
                bf[j][0] = row[0];
                bf[j][1] = row[4];
            }
            UNROLL for (int i = 0; i < WM_TILES; ++i)
                UNROLL for (int j = 0; j < WN_TILES; ++j) PNN_MMA(MMA, acc[i][j], af[i], bf[j]);
        }
        BARRIER();
    }
    UNROLL for (int i = 0; i < WM_TILES; ++i)
        UNROLL for (int j = 0; j < WN_TILES; ++j)
            UNROLL for (int e = 0; e < 4; ++e) {
                const i32 row = wi + 16 * i + g + e / 2 * 8, col = wj + 8 * j + 2 * t + e % 2;
                if (row < rows && col < cols) GEMM_STORE(i0 + row, j0 + col, acc[i][j][e]);
            }
}
