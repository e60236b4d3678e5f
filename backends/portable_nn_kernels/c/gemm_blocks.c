/* GEMM for CPUs, products large enough that A and B pass through the caches several times: both are packed block by block,
 * by the work-item that multiplies them, into memory of its own that stays in the caches (Goto and van de Geijn, 2008).
 *
 * One work-item: `tiles` register tiles below each other by `panels` side by side, K in blocks of k_block (a multiple of VW).
 * For each block of K: its rows of A go to a_block, (tile, k / VW, MR, VW), so that rows are copied by whole vectors and a
 * tile has one address; then, panel by panel, those of B go to b_block, (k, NR), small enough for the first cache, against which
 * a_block streams from the second. Between blocks the sums rest in `sums`, (panel, tile, MR, NR), of the compute type
 * whatever C is, and untouched by C's strides: rows a power of two apart would meet in a few sets of the cache.
 * b_panel > 0: B was packed before by pnn_gemm_pack, whose panels are that far apart. Dimension 1 of the launch is 1.
 * Traffic: A once per `panels`, B once per `tiles`, C once. Defines: those of gemm_cpu.h, and AHEAD 1 where the compiler
 * knows __builtin_prefetch. */
#ifdef PNN_OPENCL
#define GEMM_PACK
#include "gemm_cpu.h"

/* Up to MR rows of A, `steps` values of k, to a tile of a_block; rows past the last repeat it, and are not stored. */
DEVICE void pnn_gemm_pack_rows(GLOBAL const TYPE(TA)* a, i64 a_row, i64 a_col, i64 rows, i64 steps, GLOBAL REAL* out) {
    i64 row[MR], p0 = 0;
#pragma unroll
    for (int r = 0; r < MR; ++r) row[r] = (r < rows ? r : rows - 1) * a_row;
    if (a_col == 1)
        for (; p0 + VW <= steps; p0 += VW)
#pragma unroll
            for (int r = 0; r < MR; ++r) CAT(vstore, VW)(VLOAD(TA, a + row[r], p0), r, out + p0 * MR);
    for (i64 p = p0; p < steps; ++p) { /* k outside: rows that are adjacent share cache lines */
        GLOBAL REAL* to = out + p / VW * (MR * VW) + p % VW;
#pragma unroll
        for (int r = 0; r < MR; ++r) to[r * VW] = LOAD(TA, a + row[r], p * a_col);
    }
}

#if AHEAD
#define GEMM_AHEAD(p, level) __builtin_prefetch((const void*)(size_t)(p), 0, level)
#else
#define GEMM_AHEAD(p, level)
#endif

/* Ask for the part of A that is packed next, row `r` of a tile, while this one is multiplied. */
DEVICE void pnn_gemm_ahead(GLOBAL const TYPE(TA)* a, i64 steps) {
    for (i64 p = 0; p < steps; p += 64 / sizeof(TYPE(TA))) GEMM_AHEAD(a + p, 2);
}

/* The same for the panel of B that is packed next: `steps` of its rows. */
DEVICE void pnn_gemm_ahead_panel(GLOBAL const TYPE(TB)* b, i64 b_row, i64 steps) {
    for (i64 p = 0; p < steps; ++p)
#pragma unroll
        for (int j = 0; j < NV; ++j) GEMM_AHEAD(b + p * b_row + j * VW, 2);
}

KERNEL(pnn_gemm_blocks, 1, 1, 1)(GEMM_ARGS, OUT(ACC_TAG(TC), a_block), OUT(ACC_TAG(TC), b_block), OUT(ACC_TAG(TC), sums),
                                 i64 b_panel, i64 tiles, i64 panels, i64 k_block) {
    GEMM_BEGIN;
    const i64 t0 = bi * tiles, all_tiles = (m + MR - 1) / MR, t1 = t0 + tiles < all_tiles ? t0 + tiles : all_tiles;
    const i64 q0 = bj * panels, all_panels = (n + NR - 1) / NR, q1 = q0 + panels < all_panels ? q0 + panels : all_panels;
    GLOBAL REAL* RESTRICT a_mine = a_block_base + a_block_offset + GROUP_ID(0) * tiles * MR * k_block;
    GLOBAL REAL* RESTRICT b_mine = b_block_base + b_block_offset + GROUP_ID(0) * k_block * NR;
    GLOBAL REAL* RESTRICT rest = sums_base + sums_offset + GROUP_ID(0) * panels * tiles * MR * NR;
    for (i64 k0 = k_first; k0 < k_last; k0 += k_block) {
        const i64 k1 = k0 + k_block < k_last ? k0 + k_block : k_last, steps = k1 - k0;
        for (i64 t = t0; t < t1; ++t)
            pnn_gemm_pack_rows(a + t * MR * a_row + k0 * a_col, a_row, a_col, m - t * MR, steps, a_mine + (t - t0) * MR * k_block);
        for (i64 q = q0; q < q1; ++q) {
            const i64 j0 = q * NR, cols = n - j0 < NR ? n - j0 : NR;
            GLOBAL const REAL* RESTRICT panel = b_mine;
            if (b_panel > 0) panel = (GLOBAL const REAL*)b + q * b_panel + k0 * NR;
            else pnn_gemm_pack_panel(b + k0 * b_row + j0 * b_col, b_row, b_col, cols, steps, b_mine);
            for (i64 t = t0; t < t1; ++t) {
                const i64 i0 = t * MR, row = i0 + q - q0;
                if (q - q0 < MR && row < m && a_col == 1 && k1 < k_last) pnn_gemm_ahead(a + row * a_row + k1, k_block);
                if (b_panel == 0 && b_col == 1 && q + 1 < q1) { /* each tile asks for its share */
                    const i64 p0 = (t - t0) * steps / (t1 - t0), p1 = (t + 1 - t0) * steps / (t1 - t0);
                    pnn_gemm_ahead_panel(b + (k0 + p0) * b_row + (j0 + NR) * b_col, b_row, p1 - p0);
                }
                GLOBAL REAL* resting = rest + ((q - q0) * tiles + t - t0) * (MR * NR);
                if (k0 > k_first) /* added after the loop: into the first cache until then */
#pragma unroll
                    for (int i = 0; i < MR * NV; ++i) GEMM_AHEAD(resting + i * VW, 3);
                VEC acc[MR * NV];
#pragma unroll
                for (int i = 0; i < MR * NV; ++i) acc[i] = (VEC)(0);
                GLOBAL const REAL* tile = a_mine + (t - t0) * MR * k_block;
                for (i64 p0 = 0; p0 < steps; p0 += VW, tile += MR * VW) {
                    const i64 count = steps - p0 < VW ? steps - p0 : VW;
                    for (i64 p = 0; p < count; ++p) {
                        VEC bv[NV];
#pragma unroll
                        for (int j = 0; j < NV; ++j) bv[j] = CAT(vload, VW)(j, panel + (p0 + p) * NR);
#pragma unroll
                        for (int r = 0; r < MR; ++r) {
                            const VEC av = (VEC)(tile[r * VW + p]);
#pragma unroll
                            for (int j = 0; j < NV; ++j) acc[r * NV + j] = fma(av, bv[j], acc[r * NV + j]);
                        }
                    }
                }
                if (k0 > k_first)
#pragma unroll
                    for (int i = 0; i < MR * NV; ++i) acc[i] += CAT(vload, VW)(i, resting);
                if (k1 < k_last)
#pragma unroll
                    for (int i = 0; i < MR * NV; ++i) CAT(vstore, VW)(acc[i], i, resting);
                else
                    pnn_gemm_store(acc, c + i0 * c_row + j0 * c_col, c_row, c_col, m - i0, cols, bias + i0 * bias_row + j0 * bias_col,
                                   has_bias, bias_row, bias_col, 0, 1);
            }
        }
    }
}
#endif
