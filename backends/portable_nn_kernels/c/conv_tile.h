/* The tile product of convolutions as implicit GEMMs: C[i, j] = sum over k of A[i, k] B[k, j] by a work-group of 16 x 16
 * work-items, a tile of TM x TN = 16 RM x 16 RN results of one group of channels, TK of k at a time. The kernels gather
 * tile_a (k, i) and tile_b (k, j) themselves. Defines: T, RM, RN, TK. */
#define TM (16 * RM)
#define TN (16 * RN)
#define REAL ACC(T)
#define FLUSH 64

#define TILES                                                                                                   \
    LOCAL REAL tile_a[TK * (TM + 1)];                                                                           \
    LOCAL REAL tile_b[TK * (TN + 1)];                                                                           \
    const i64 lane = LOCAL_ID(0), ti = lane % 16, tj = lane / 16;                                               \
    REAL acc[RM * RN];                                                                                          \
    for (int e = 0; e < RM * RN; ++e) acc[e] = 0

/* acc += tile_a' tile_b. Results of a work-item lie 16 apart, so that neighbours store next to each other. */
#define MULTIPLY                                                                                                \
    BARRIER();                                                                                                  \
    for (int k = 0; k < TK; ++k) {                                                                              \
        REAL av[RM], bv[RN];                                                                                    \
        for (int r = 0; r < RM; ++r) av[r] = tile_a[k * (TM + 1) + ti + 16 * r];                                \
        for (int s = 0; s < RN; ++s) bv[s] = tile_b[k * (TN + 1) + tj + 16 * s];                                \
        for (int r = 0; r < RM; ++r)                                                                            \
            for (int s = 0; s < RN; ++s) acc[r * RN + s] = FMA(av[r], bv[s], acc[r * RN + s]);                  \
    }                                                                                                           \
    BARRIER()

/* Dimension 0 counts (row tile, column tile, group of channels), the largest first. */
#define WHERE(count_j)                                                                                          \
    const i64 tiles_j = ((count_j) + TN - 1) / TN;                                                              \
    const i64 j0 = GROUP_ID(0) % tiles_j * TN, g = GROUP_ID(0) / tiles_j % groups;                              \
    const i64 i0 = GROUP_ID(0) / (tiles_j * groups) * TM
