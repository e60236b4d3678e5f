/* The tile product of GEMM: a work-group adds A B to TM x TN sums in its registers, through tiles of A and B in local memory.
 * pnn_gemm_tiled is made of it; free to include in other kernels:
 *
 *     LOCAL ACC(TC) at[TILE_A];
 *     LOCAL ACC(TC) bt[TILE_B];
 *     ACC(TC) acc[TILE_SUMS];
 *     pnn_tile_zero(acc);
 *     pnn_tile_product(a, a_row, a_col, rows, b, b_row, b_col, cols, k, item, at, bt, acc);
 *
 * a points at the tile's first row and b at its first column, in elements k = 0; any strides, also 0 and negative. rows and
 * cols say how many of the TM and TN are there; k may be anything. Every one of the TILE_ITEMS work-items must come here.
 * Then acc[TILE_SUM(i, j)] is the sum in row TILE_ROW(item, i) and column TILE_COL(item, j), for i < RM and j < RN: valid
 * where that row is below `rows` and that column below `cols`.
 *
 * The work-items are spread over the tile, so that neighbours read neighbouring words of local memory and store
 * neighbouring elements. Defines: TA TB (storage tags), TC (sums are kept in its compute type), TM TN TK (tile), RM RN (per
 * work-item); TILE_ITEMS a multiple of TM, TN and TK. TILE_LOAD_A(p, i) and TILE_LOAD_B may replace the plain loads, as to
 * unpack or to scale. Idea: the classic two-level blocking of Volkov and Demmel (2008). */
#define PNN_TX (TN / RN)
#define PNN_TY (TM / RM)
#define TILE_ITEMS (PNN_TX * PNN_TY)
#define TILE_A (TK * (TM + 1)) /* + 1: a tile stored along k must not hit one bank */
#define TILE_B (TK * (TN + 1))
#define TILE_SUMS (RM * RN)
#define TILE_SUM(i, j) ((i) * RN + (j))
#define TILE_ROW(item, i) ((i32)(item) / PNN_TX + (i) * PNN_TY)
#define TILE_COL(item, j) ((i32)(item) % PNN_TX + (j) * PNN_TX)
#ifndef TILE_LOAD_A
#define TILE_LOAD_A(p, i) LOAD(TA, p, i)
#endif
#ifndef TILE_LOAD_B
#define TILE_LOAD_B(p, i) LOAD(TB, p, i)
#endif

DEVICE void pnn_tile_zero(ACC(TC)* acc) {
#pragma unroll
    for (int e = 0; e < TILE_SUMS; ++e) acc[e] = ZERO(TC);
}

DEVICE void pnn_tile_product(GLOBAL const TYPE(TA)* a, i64 a_row, i64 a_col, i32 rows, GLOBAL const TYPE(TB)* b, i64 b_row, i64 b_col,
                             i32 cols, i64 k, i32 item, LOCALP ACC(TC)* at, LOCALP ACC(TC)* bt, ACC(TC)* acc) {
    const i32 tx = item % PNN_TX, ty = item / PNN_TX;
    /* Neighbouring work-items load neighbouring elements, along whichever axis those are. Load s of an item is a fixed
     * step after load s - 1, in the tile and in memory: few registers, no division in the loop. */
    const int a_along_k = a_col == 1, b_along_k = b_row == 1 && b_col != 1;
    const i32 ai = a_along_k ? item / TK : item % TM, ap = a_along_k ? item % TK : item / TM;
    const i32 bj = b_along_k ? item / TK : item % TN, bp = b_along_k ? item % TK : item / TN;
    const i32 ai_step = a_along_k ? TILE_ITEMS / TK : 0, ap_step = a_along_k ? 0 : TILE_ITEMS / TM;
    const i32 bj_step = b_along_k ? TILE_ITEMS / TK : 0, bp_step = b_along_k ? 0 : TILE_ITEMS / TN;
    const i64 a_step = ai_step * a_row + ap_step * a_col, b_step = bj_step * b_col + bp_step * b_row;
    a += ai * a_row + ap * a_col;
    b += bj * b_col + bp * b_row;
    for (i64 k0 = 0; k0 < k; k0 += TK) {
        const i32 steps = (i32)(k - k0 < TK ? k - k0 : TK);
#pragma unroll
        for (int s = 0; s < TM * TK / TILE_ITEMS; ++s) {
            const i32 i = ai + s * ai_step, p = ap + s * ap_step;
            ACC(TC) v = ZERO(TC);
            if (i < rows && p < steps) v = TILE_LOAD_A(a, s * a_step);
            at[p * (TM + 1) + i] = v;
        }
#pragma unroll
        for (int s = 0; s < TN * TK / TILE_ITEMS; ++s) {
            const i32 j = bj + s * bj_step, p = bp + s * bp_step;
            ACC(TC) v = ZERO(TC);
            if (j < cols && p < steps) v = TILE_LOAD_B(b, s * b_step);
            bt[p * (TN + 1) + j] = v;
        }
        a += TK * a_col;
        b += TK * b_row;
        BARRIER();
#pragma unroll 4
        for (int p = 0; p < TK; ++p) {
            ACC(TC) av[RM], bv[RN];
#pragma unroll
            for (int i = 0; i < RM; ++i) av[i] = at[p * (TM + 1) + ty + i * PNN_TY];
#pragma unroll
            for (int j = 0; j < RN; ++j) bv[j] = bt[p * (TN + 1) + tx + j * PNN_TX];
#pragma unroll
            for (int i = 0; i < RM; ++i)
#pragma unroll
                for (int j = 0; j < RN; ++j) acc[i * RN + j] = MADD(TC, av[i], bv[j], acc[i * RN + j]);
        }
        BARRIER();
    }
}
