/* What GEMM's kernels for CPUs share: vectors, and the end of a register tile. Tiles: MR rows by NV vectors of VW lanes.
 * Defines: TA TB TC (tags), VW; of register tiles MR, NV and WHOLE_STORE too, and GEMM_PACK to pack B. The compute type of TC must be f32 or f64. */
#include "gemm.h"
#include "vector_types.h"

#define REAL ACC(TC)
#define VEC CAT(PNN_VEC_, CAT(ACC_TAG(TC), CAT(_, VW)))
#define NR (NV * VW)

#ifdef VEPILOGUE /* EPILOGUE of a whole vector */
#define WHOLE_EPILOGUE
#else
#define VEPILOGUE(v) (v)
#endif

#define VLOAD(tag, p, i) CAT(PNN_VLOAD_, tag)((p) + (i)) /* VW elements from p[i] on */

#ifdef MR
/* Store a tile at `c`, of which `rows` and `cols` are there; `bias` is that of its first element. `add` to what is in C already; the `last` store of
 * a sum has its bias and epilogue. */
DEVICE void pnn_gemm_store(const VEC* acc, GLOBAL TYPE(TC)* c, i64 c_row, i64 c_col, i64 rows, i64 cols,
                           GLOBAL const TYPE(TBIAS)* bias, int has_bias, i64 bias_row, i64 bias_col, int add, int last) {
    i64 quick = 0; /* columns stored by vectors */
#if WHOLE_STORE /* TC is its own compute type, and an epilogue takes whole vectors */
    if (c_col == 1 && (!has_bias || bias_col == 1 || bias_col == 0)) quick = cols / VW * VW;
#pragma unroll
    for (int r = 0; r < MR; ++r) {
        if (r < rows) {
            GLOBAL TYPE(TC)* out = c + r * c_row;
            GLOBAL const TYPE(TBIAS)* shift = bias + r * bias_row;
#pragma unroll
            for (int j = 0; j < NV; ++j) {
                if ((j + 1) * VW <= quick) {
                    VEC v = acc[r * NV + j];
                    if (add) v += CAT(vload, VW)(j, out);
                    if (has_bias && bias_col == 1) v += VLOAD(TBIAS, shift, j * VW);
                    if (has_bias && bias_col == 0) v += (VEC)((REAL)LOAD(TBIAS, shift, 0));
                    CAT(vstore, VW)(last ? VEPILOGUE(v) : v, j, out);
                }
            }
        }
    }
#endif
    if (quick < cols) { /* a loop, not unrolled: code of its own for each sum took the compiler half a second */
        REAL sums[MR * NR];
#pragma unroll
        for (int i = 0; i < MR * NV; ++i) CAT(vstore, VW)(acc[i], i, sums);
        for (i64 r = 0; r < MR && r < rows; ++r) {
            GLOBAL TYPE(TC)* out = c + r * c_row;
            GLOBAL const TYPE(TBIAS)* shift = bias + r * bias_row;
            for (i64 l = quick; l < cols; ++l) {
                REAL sum = sums[r * NR + l];
                if (add) sum += LOAD(TC, out, l * c_col);
                if (has_bias) sum += LOAD(TBIAS, shift, l * bias_col);
                STORE(TC, out, l * c_col, last ? EPILOGUE(sum) : sum);
            }
        }
    }
}
#endif

#ifdef GEMM_PACK
/* Transpose VW vectors in registers: log2(VW) perfect shuffles. */
DEVICE void pnn_gemm_transpose(VEC* v) {
    VEC w[VW];
#pragma unroll
    for (int step = 1; step < VW; step *= 2) {
#pragma unroll
        for (int i = 0; i < VW / 2; ++i) {
            w[2 * i].even = v[i].lo;
            w[2 * i].odd = v[i + VW / 2].lo;
            w[2 * i + 1].even = v[i].hi;
            w[2 * i + 1].odd = v[i + VW / 2].hi;
        }
#pragma unroll
        for (int i = 0; i < VW; ++i) v[i] = w[i];
    }
}

/* `steps` rows of a panel of B, of which `cols` columns are there, to rows of NR; zeros past them. Reads along whichever axis is
 * adjacent in memory. */
DEVICE void pnn_gemm_pack_panel(GLOBAL const TYPE(TB)* RESTRICT b, i64 b_row, i64 b_col, i64 cols, i64 steps, GLOBAL REAL* RESTRICT out) {
    if (b_col == 1 && cols == NR) {
        for (i64 p = 0; p < steps; ++p)
#pragma unroll
            for (int j = 0; j < NV; ++j) CAT(vstore, VW)(VLOAD(TB, b, p * b_row + j * VW), 0, out + p * NR + j * VW);
        return;
    }
    i64 j = 0;
    if (b_row == 1)
        for (; j + VW <= cols; j += VW) {
            i64 p = 0;
            for (; p + VW <= steps; p += VW) {
                VEC v[VW];
#pragma unroll
                for (int l = 0; l < VW; ++l) v[l] = VLOAD(TB, b + (j + l) * b_col, p);
                pnn_gemm_transpose(v);
#pragma unroll
                for (int l = 0; l < VW; ++l) CAT(vstore, VW)(v[l], 0, out + (p + l) * NR + j);
            }
            for (; p < steps; ++p)
                for (int l = 0; l < VW; ++l) out[p * NR + j + l] = LOAD(TB, b, p * b_row + (j + l) * b_col);
        }
    for (; j < cols; ++j)
        for (i64 p = 0; p < steps; ++p) out[p * NR + j] = LOAD(TB, b, p * b_row + j * b_col);
    for (i64 p = 0; p < steps; ++p)
        for (i64 j = cols; j < NR; ++j) out[p * NR + j] = 0;
}
#endif
