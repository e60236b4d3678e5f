/* The softmax of a row that a work-group has in parts: each work-item takes in the elements it has, in any order, the group
 * joins what they hold, and each element's share follows. Free to include in other kernels:
 *
 *     pnn_softmax_f32 s = pnn_softmax_empty_f32();
 *     for (i64 c = LOCAL_ID(0); c < n; c += 64) s = pnn_softmax_with_f32(s, x[c]);
 *     s = pnn_row_softmax_f32(s, lanes, LOCAL_ID(0), 64);
 *     for (i64 c = LOCAL_ID(0); c < n; c += 64) y[c] = pnn_softmax_share_f32(s, x[c]);
 *
 * and the same with f64. `lanes` and the size of the group are those of row.h. One walk finds the maximum and the sum of
 * exponentials that it scales (Milakov and Gimelshein 2018), so a row that is computed need not be kept. -inf has share 0;
 * a row of nothing else, of NaN or with +inf is NaN, as in the op `softmax`. pnn_softmax_log_f32(s) is the logarithm of the
 * sum of exponentials. */
#include "row.h"

#define PNN_SOFTMAX_ROW(T, infinity)                                                                            \
    typedef struct { T max, sum; } pnn_softmax_##T;                                                             \
    DEVICE pnn_softmax_##T pnn_softmax_empty_##T(void) {                                                        \
        pnn_softmax_##T s;                                                                                      \
        s.max = -infinity;                                                                                      \
        s.sum = 0;                                                                                              \
        return s;                                                                                               \
    }                                                                                                           \
    DEVICE T pnn_softmax_part_##T(T sum, T max, T of) { return max == -infinity ? 0 : sum * pnn_exp_##T(max - of); } \
    DEVICE pnn_softmax_##T pnn_softmax_with_##T(pnn_softmax_##T s, T x) {                                       \
        const T top = pnn_max_##T(s.max, x);                                                                    \
        s.sum = pnn_softmax_part_##T(s.sum, s.max, top) + pnn_softmax_part_##T(1, x, top);                      \
        s.max = top;                                                                                            \
        return s;                                                                                               \
    }                                                                                                           \
    DEVICE pnn_softmax_##T pnn_row_softmax_##T(pnn_softmax_##T s, LOCALP T* lanes, i64 lane, i64 size) {        \
        const T top = pnn_row_max_##T(s.max, lanes, lane, size);                                                \
        s.sum = pnn_row_sum_##T(pnn_softmax_part_##T(s.sum, s.max, top), lanes, lane, size);                    \
        s.max = top;                                                                                            \
        return s;                                                                                               \
    }                                                                                                           \
    DEVICE T pnn_softmax_share_##T(pnn_softmax_##T s, T x) { return pnn_exp_##T(x - s.max) / s.sum; }           \
    DEVICE T pnn_softmax_log_##T(pnn_softmax_##T s) { return s.max + pnn_log_##T(s.sum); }
PNN_SOFTMAX_ROW(f32, INF_F32)
#ifdef PNN_F64
PNN_SOFTMAX_ROW(f64, INF_F64)
#endif
