/* What every GEMM kernel shares: C[i, j] = EPILOGUE(sum_k A[i, k] B[k, j] + bias[i, j]), for every batch.
 *
 * Any strides, also 0 and negative; sizes are arguments, so one program serves every shape. Two batch dimensions
 * (outer, inner). Dimension 0 of the launch counts (batch, row block, column block), dimension 1 the parts of K: part p
 * sums k in [p k_part, (p + 1) k_part) and writes to c + p c_part; pnn_gemm_split_sum adds the parts.
 * TA, TB, TC: storage tags; sums are kept in ACC(TC). The bias has TC's tag, or is absent (has_bias 0). */
#define GEMM_ARGS                                                                                              \
    IN(TA, a), IN(TB, b), IN(TBIAS, bias), OUT(TC, c), i64 m, i64 n, i64 k, i64 a_row, i64 a_col, i64 b_row,   \
        i64 b_col, i64 c_row, i64 c_col, i64 inner, i64 a_outer, i64 a_inner, i64 b_outer, i64 b_inner,        \
        i64 c_outer, i64 c_inner, i64 a_start, i64 b_start, i64 c_start, i32 has_bias, i64 bias_row,           \
        i64 bias_col, i64 blocks_m, i64 blocks_n, i64 k_part, i64 c_part

/* First lines of a kernel: pointers of this batch and part, block numbers bi and bj, and the range of K. */
#define GEMM_BEGIN                                                                                             \
    const i64 bj = GROUP_ID(0) % blocks_n, bi = GROUP_ID(0) / blocks_n % blocks_m;                             \
    const i64 batch = GROUP_ID(0) / (blocks_n * blocks_m), outer_ = batch / inner, inner_ = batch % inner;     \
    const i64 k_first = GROUP_ID(1) * k_part, k_last = k_first + k_part < k ? k_first + k_part : k;            \
    GLOBAL const TYPE(TA)* RESTRICT a = a_base + a_offset + a_start + outer_ * a_outer + inner_ * a_inner;     \
    GLOBAL const TYPE(TB)* RESTRICT b = b_base + b_offset + b_start + outer_ * b_outer + inner_ * b_inner;     \
    GLOBAL TYPE(TC)* RESTRICT c =                                                                              \
        c_base + c_offset + c_start + outer_ * c_outer + inner_ * c_inner + GROUP_ID(1) * c_part;              \
    GLOBAL const TYPE(TBIAS)* RESTRICT bias = bias_base + bias_offset

#include "epilogue.h"
#ifndef LOAD_A /* the plan converts where C has no implicit conversion, as from f32 to c64 */
#define LOAD_A(p, i) LOAD(TA, p, i)
#endif
#ifndef LOAD_B
#define LOAD_B(p, i) LOAD(TB, p, i)
#endif
#ifndef LOAD_BIAS
#define LOAD_BIAS(p, i) LOAD(TBIAS, p, i)
#endif
#ifndef TBIAS
#define TBIAS TC
#endif

/* Store one element; the parts of a split K carry no bias. */
#define GEMM_STORE(i, j, sum)                                                                                  \
    do {                                                                                                       \
        ACC(TC) v_ = (sum);                                                                                    \
        if (has_bias) v_ = ADD(TC, v_, LOAD_BIAS(bias, (i) * bias_row + (j) * bias_col));                    \
        STORE(TC, c, (i) * c_row + (j) * c_col, EPILOGUE(v_));                                                 \
    } while (0)
