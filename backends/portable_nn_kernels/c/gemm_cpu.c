/* GEMM for CPUs: one work-item per block of register tiles, explicit vectors along n (panels) or k (dots), no local
 * memory, no barriers. OpenCL only: the vector types have no CUDA name. Idea: the BLIS micro-kernel (Van Zee, van de
 * Geijn), with the outer loops of a work-item instead of threads. Tiles: MR rows by NV vectors of VW lanes.
 * Defines: TA TB TC (tags), MR, NV, VW; the compute type of TC must be f32 or f64. One kernel per program, chosen by
 * GEMM_PANELS, GEMM_DOTS, GEMM_PACK or GEMM_ROWS: compiling all four for each cost a second at the first call. */
#ifdef PNN_OPENCL
#include "gemm_cpu.h"

#define DOTS ((DM * DN + VW - 1) / VW * VW) /* a dots tile, filled up to whole vectors of sums */

#ifdef GEMM_PANELS
/* The same where only `count` of them may be touched; the other lanes hold repeats. */
DEVICE VEC pnn_gemm_vload_tail(GLOBAL const TYPE(TB)* p, i64 count) {
    REAL lane[VW];
#pragma nounroll /* code of its own for each lane took the compiler a third of its time */
    for (i64 l = 0; l < VW; ++l) lane[l] = LOAD(TB, p, l < count ? l : count - 1);
    return CAT(vload, VW)(0, lane);
}

/* acc += A tile times B panel for `steps` values of k. Row pointers of A are advanced by the caller's k through a_col. */
DEVICE void pnn_gemm_micro(VEC* acc, GLOBAL const TYPE(TA)* a, const i64* row, i64 a_col, GLOBAL const TYPE(TB)* b,
                           i64 b_row, i64 steps) {
    for (i64 p = 0; p < steps; ++p) {
        VEC bv[NV];
#pragma unroll
        for (int j = 0; j < NV; ++j) bv[j] = VLOAD(TB, b + p * b_row, j * VW);
#pragma unroll
        for (int r = 0; r < MR; ++r) {
            const VEC av = (VEC)((REAL)LOAD(TA, a + row[r], p * a_col));
#pragma unroll
            for (int j = 0; j < NV; ++j) acc[r * NV + j] = fma(av, bv[j], acc[r * NV + j]);
        }
    }
}

/* One work-item: `tiles` register tiles below each other (row block bi) of column panel bj. K is walked in blocks of
 * k_block, so that the block of B stays in the second-level cache while A streams past it; between blocks the sums rest
 * in C, so k_block < k needs TC to be a compute type. b_row is the distance of two rows of the panel, b_panel that of two
 * panels: packed panels (K, NR) or B itself where its columns are adjacent (b_panel = NR). b_end is the number of
 * elements after b that may be read: rows whose vectors would pass it are loaded by lanes.
 * Traffic: B once per row block, A once per panel. */
KERNEL(pnn_gemm_panels, 1, 1, 1)(GEMM_ARGS, i64 b_panel, i64 b_end, i64 tiles, i64 k_block) {
    GEMM_BEGIN;
    const i64 j0 = bj * NR, cols = n - j0 < NR ? n - j0 : NR;
    b += bj * b_panel;
    b_end -= bj * b_panel;
    for (i64 k0 = k_first; k0 == k_first || k0 < k_last; k0 += k_block) {
        const i64 k1 = k0 + k_block < k_last ? k0 + k_block : k_last;
        i64 k_safe = k1; /* rows before it can be loaded whole */
        if (b_row > 0) {
            const i64 whole = b_end < NR ? 0 : (b_end - NR) / b_row + 1;
            k_safe = whole < k1 ? whole : k1;
        } else if (b_end - NR < 0) k_safe = k0;
        if (k_safe < k0) k_safe = k0;
        for (i64 t = 0; t < tiles; ++t) {
            const i64 i0 = (bi * tiles + t) * MR;
            if (i0 >= m) break;
            VEC acc[MR * NV];
            i64 row[MR];
#pragma unroll
            for (int r = 0; r < MR; ++r) {
                const i64 i = i0 + r < m ? i0 + r : m - 1;
                row[r] = i * a_row;
#pragma unroll
                for (int j = 0; j < NV; ++j) acc[r * NV + j] = (VEC)(0);
            }
            pnn_gemm_micro(acc, a + k0 * a_col, row, a_col, b + k0 * b_row, b_row, k_safe - k0);
            for (i64 p = k_safe; p < k1; ++p) {
#pragma unroll
                for (int j = 0; j < NV; ++j) {
                    if (j * VW < cols) {
                        const VEC bv = pnn_gemm_vload_tail(b + p * b_row + j * VW, cols - j * VW);
#pragma unroll
                        for (int r = 0; r < MR; ++r)
                            acc[r * NV + j] = fma((VEC)((REAL)LOAD(TA, a + row[r], p * a_col)), bv, acc[r * NV + j]);
                    }
                }
            }
            const int last = k1 >= k_last;
            pnn_gemm_store(acc, c + i0 * c_row + j0 * c_col, c_row, c_col, m - i0, cols, bias + i0 * bias_row + j0 * bias_col,
                           has_bias && last, bias_row, bias_col, k0 > k_first, last);
        }
    }
}
#endif

#ifdef GEMM_DOTS
/* Every second lane, by name: Oclgrind 21.10 ends at v.even of 16 lanes, and compilers make the same shuffle of both. */
#define EVEN(v) CAT(PNN_EVEN_, VW)(v)
#define ODD(v) CAT(PNN_ODD_, VW)(v)
#define PNN_EVEN_2(v) (v).s0
#define PNN_ODD_2(v) (v).s1
#define PNN_EVEN_4(v) (v).s0, (v).s2
#define PNN_ODD_4(v) (v).s1, (v).s3
#define PNN_EVEN_8(v) PNN_EVEN_4(v), (v).s4, (v).s6
#define PNN_ODD_8(v) PNN_ODD_4(v), (v).s5, (v).s7
#define PNN_EVEN_16(v) PNN_EVEN_8(v), (v).s8, (v).sa, (v).sc, (v).se
#define PNN_ODD_16(v) PNN_ODD_8(v), (v).s9, (v).sb, (v).sd, (v).sf

/* Lane l of the result is the sum of the lanes of v[l]: VW horizontal sums for 4 VW shuffles. Destroys v. */
DEVICE VEC pnn_gemm_lane_sums(VEC* v) {
#pragma unroll
    for (int h = VW / 2; h > 0; h /= 2)
#pragma unroll
        for (int i = 0; i < h; ++i)
            v[i] = (VEC)(EVEN(v[2 * i]), EVEN(v[2 * i + 1])) + (VEC)(ODD(v[2 * i]), ODD(v[2 * i + 1]));
    return v[0];
}

/* For operands whose rows both run along k (y = x W^T): nothing is packed, the vectors run along k. One work-item:
 * `tiles` blocks of DM x DN dot products below each other, one vector of partial sums each; a_col and b_row are 1.
 * Limit: DM + DN loads for DM x DN FMAs, and a horizontal sum each, so K should be a few vectors long. */
KERNEL(pnn_gemm_dots, 1, 1, 1)(GEMM_ARGS, i64 tiles) {
    GEMM_BEGIN;
    const i64 j0 = bj * DN, whole = k_first + (k_last > k_first ? (k_last - k_first) / VW * VW : 0);
    i64 col[DN];
#pragma unroll
    for (int j = 0; j < DN; ++j) col[j] = (j0 + j < n ? j0 + j : n - 1) * b_col;
    for (i64 t = 0; t < tiles; ++t) {
        const i64 i0 = (bi * tiles + t) * DM;
        if (i0 >= m) break;
        VEC acc[DOTS];
        i64 row[DM];
#pragma unroll
        for (int i = 0; i < DM; ++i) row[i] = (i0 + i < m ? i0 + i : m - 1) * a_row;
#pragma unroll
        for (int i = 0; i < DOTS; ++i) acc[i] = (VEC)(0);
        for (i64 p = k_first; p < whole; p += VW) {
            VEC bv[DN];
#pragma unroll
            for (int j = 0; j < DN; ++j) bv[j] = VLOAD(TB, b + col[j], p);
#pragma unroll
            for (int i = 0; i < DM; ++i) {
                const VEC av = VLOAD(TA, a + row[i], p);
#pragma unroll
                for (int j = 0; j < DN; ++j) acc[i * DN + j] = fma(av, bv[j], acc[i * DN + j]);
            }
        }
        REAL sum[DOTS];
#pragma unroll
        for (int i = 0; i < DOTS; i += VW) CAT(vstore, VW)(pnn_gemm_lane_sums(acc + i), 0, sum + i);
        for (i64 p = whole; p < k_last; ++p)
#pragma unroll
            for (int i = 0; i < DM * DN; ++i)
                sum[i] = fma((REAL)LOAD(TA, a + row[i / DN], p), (REAL)LOAD(TB, b + col[i % DN], p), sum[i]);
#ifdef WHOLE_EPILOGUE
#pragma unroll
        for (int i = 0; i < DM * DN; ++i)
            if (has_bias && i0 + i / DN < m && j0 + i % DN < n) sum[i] += LOAD_BIAS(bias, (i0 + i / DN) * bias_row + (j0 + i % DN) * bias_col);
#pragma unroll
        for (int i = 0; i < DOTS; i += VW) CAT(vstore, VW)(VEPILOGUE(CAT(vload, VW)(0, sum + i)), 0, sum + i);
#pragma unroll
        for (int i = 0; i < DM * DN; ++i)
            if (i0 + i / DN < m && j0 + i % DN < n) STORE(TC, c, (i0 + i / DN) * c_row + (j0 + i % DN) * c_col, sum[i]);
#else
#pragma unroll
        for (int i = 0; i < DM * DN; ++i)
            if (i0 + i / DN < m && j0 + i % DN < n) GEMM_STORE(i0 + i / DN, j0 + i % DN, sum[i]);
#endif
    }
}
#endif

#ifdef GEMM_PACK
/* B into panels of NR columns, (batch, panel, k, NR) in the compute type, zeros past n. One work-item: k_step rows of
 * one panel. Reads B once. */
KERNEL(pnn_gemm_pack, 1, 1, 1)(IN(TB, b), OUT(ACC_TAG(TC), packed), i64 n, i64 k, i64 b_row, i64 b_col, i64 inner,
                               i64 b_outer, i64 b_inner, i64 b_start, i64 panels, i64 k_blocks, i64 k_step) {
    const i64 k0 = GROUP_ID(0) % k_blocks * k_step, k1 = k0 + k_step < k ? k0 + k_step : k;
    const i64 panel = GROUP_ID(0) / k_blocks % panels, batch = GROUP_ID(0) / (k_blocks * panels);
    const i64 j0 = panel * NR, cols = n - j0 < NR ? n - j0 : NR;
    GLOBAL const TYPE(TB)* RESTRICT b =
        b_base + b_offset + b_start + batch / inner * b_outer + batch % inner * b_inner + j0 * b_col + k0 * b_row;
    pnn_gemm_pack_panel(b, b_row, b_col, cols, k1 - k0, packed_base + packed_offset + ((batch * panels + panel) * k + k0) * NR);
}
#endif

#ifdef GEMM_ROWS
/* A into rows of the compute type, `length` apart: (batch, rows, length). For float16, whose scalar conversion is slow
 * and would be paid once per panel. One work-item: r_step rows of one matrix. Reads and writes A once. */
KERNEL(pnn_gemm_rows, 1, 1, 1)(IN(TA, a), OUT(ACC_TAG(TC), copied), i64 rows, i64 cols, i64 a_row, i64 a_col, i64 inner,
                               i64 a_outer, i64 a_inner, i64 a_start, i64 length, i64 r_blocks, i64 r_step) {
    const i64 r0 = GROUP_ID(0) % r_blocks * r_step, r1 = r0 + r_step < rows ? r0 + r_step : rows;
    const i64 batch = GROUP_ID(0) / r_blocks;
    GLOBAL const TYPE(TA)* RESTRICT a = a_base + a_offset + a_start + batch / inner * a_outer + batch % inner * a_inner;
    GLOBAL REAL* RESTRICT out = copied_base + copied_offset + batch * rows * length;
    for (i64 r = r0; r < r1; ++r) {
        i64 j = 0;
        if (a_col == 1)
            for (; j + VW <= cols; j += VW) CAT(vstore, VW)(VLOAD(TA, a + r * a_row, j), 0, out + r * length + j);
        for (; j < cols; ++j) out[r * length + j] = LOAD(TA, a, r * a_row + j * a_col);
    }
}
#endif

#endif
