/* Noisy gating of a mixture of experts (Shazeer et al. 2017, arXiv:1701.06538), in one launch:
 *
 *     gates[t] = softmax over e of silu(x[t] . weight[e] + bias[e]) + noise z[t, e]        entropy[t] = -sum of p log p
 *
 * A work-group takes TM tokens and all experts, at most TN. Its parts come from the library: the tile product, the activation
 * (an op's own expression), Philox draws, the softmax of a row, a row's sum. In the dialect: PyOpenCL and CuPy compile it. */
#include "gemm_tile.h"
#include "random.h"
#include "softmax_row.h"

KERNEL(router, TILE_ITEMS, 1, 1)(GLOBAL const f32* x, GLOBAL const f32* weight, GLOBAL const f32* bias, GLOBAL const u32* words,
                                 GLOBAL f32* gates, GLOBAL f32* entropy, i64 tokens, i64 experts, i64 features, f32 noise) {
    LOCAL f32 at[TILE_A];
    LOCAL f32 bt[TILE_B];
    LOCAL f32 scores[TM * TN];
    LOCAL f32 lanes[TILE_ITEMS];
    f32 acc[TILE_SUMS];
    const i32 item = (i32)LOCAL_ID(0);
    const i64 first = GROUP_ID(0) * TM;
    const i32 rows = (i32)(tokens - first < TM ? tokens - first : TM), cols = (i32)experts;
    const pnn_key key = pnn_load_key(words, 1, 0);

    pnn_tile_zero(acc); /* x weight': column e of B is row e of the weights */
    pnn_tile_product(x + first * features, features, 1, rows, weight, 1, features, cols, features, item, at, bt, acc);
    for (int i = 0; i < RM; ++i)
        for (int j = 0; j < RN; ++j) {
            const i32 row = TILE_ROW(item, i), col = TILE_COL(item, j);
            if (row < rows && col < cols) {
                const f32 z = pnn_normal_at_f32(key, (first + row) * experts + col);
                scores[row * TN + col] = pnn_op_silu_f32(acc[TILE_SUM(i, j)] + bias[col]) + noise * z;
            }
        }
    BARRIER();

    for (i32 row = 0; row < rows; ++row) {
        pnn_softmax_f32 s = pnn_softmax_empty_f32();
        for (i32 c = item; c < cols; c += TILE_ITEMS) s = pnn_softmax_with_f32(s, scores[row * TN + c]);
        s = pnn_row_softmax_f32(s, lanes, item, TILE_ITEMS);
        f32 mine = 0;
        for (i32 c = item; c < cols; c += TILE_ITEMS) {
            const f32 p = pnn_softmax_share_f32(s, scores[row * TN + c]);
            gates[(first + row) * experts + c] = p;
            mine -= p > 0 ? p * pnn_log_f32(p) : 0;
        }
        mine = pnn_row_sum_f32(mine, lanes, item, TILE_ITEMS);
        if (item == 0) entropy[first + row] = mine;
    }
}
