/* The second launch of a split K: C = EPILOGUE(sum of the parts, first to last, + bias). One work-item per element,
 * in chunks of `chunk` per item. parts: (part, batch, m, n) in the compute type of TC. Deterministic: no atomics. */
#include "gemm.h"

KERNEL(pnn_gemm_split_sum, SIZE, 1, 1)(IN(ACC_TAG(TC), parts), IN(TBIAS, bias), OUT(TC, c), i64 count, i64 batches,
                                       i64 m, i64 n, i64 c_row, i64 c_col, i64 inner, i64 c_outer, i64 c_inner,
                                       i64 c_start, i32 has_bias, i64 bias_row, i64 bias_col, i64 chunk) {
    AT_IN(ACC_TAG(TC), parts);
    AT_IN(TBIAS, bias);
    const i64 total = batches * m * n, first = GLOBAL_ID(0) * chunk;
    const i64 last = first + chunk < total ? first + chunk : total;
    for (i64 e = first; e < last; ++e) {
        const i64 batch = e / (m * n), i = e / n % m, j = e % n;
        GLOBAL TYPE(TC)* c = c_base + c_offset + c_start + batch / inner * c_outer + batch % inner * c_inner;
        ACC(TC) sum = ZERO(TC);
        for (i64 part = 0; part < count; ++part) sum = ADD(TC, sum, parts[part * total + e]);
        GEMM_STORE(i, j, sum);
    }
}
