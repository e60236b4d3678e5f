/* Sums down the rows of a matrix for CPUs, gb = sum of g and gw = sum of g (x - mean) rstd, per column: the weight gradients
 * of layer and RMS norm. g and x are rows of n elements in C order. OpenCL only.
 * One work-item: the rows [rows p / parts, ...) of its part, walked as they lie, four at a time, so that the prefetcher sees
 * streams and the sums, in the first-level cache, are read and written once per four (a work-item per column, down rows 4 KiB
 * apart, took 19 ms for 8192 x 1024 where this takes 2). Sums of 64 rows rest in `block` before they join the whole: the error
 * grows with the depth. Traffic: g and x once.
 * Defines: R (compute type), VW, T, TG (tags of x and g). */
#include "math.h"
#include "line.h"
#include "vector_cpu.h"

#ifdef PNN_OPENCL
#define BLOCK 64
#define FOUR(GET, PUT)                                                                                                 \
    VEC s = fresh ? (VEC)(0) : GET(R, block + c, 0), d = fresh ? (VEC)(0) : GET(R, block + n + c, 0);                  \
    for (int q = 0; q < 4; ++q) {                                                                                      \
        const VEC v = GET(TG, g + (r + q) * n + c, 0);                                                                 \
        s += v;                                                                                                        \
        d = fma(v, (GET(T, x + (r + q) * n + c, 0) - LOAD(R, mean, r + q)) * LOAD(R, rstd, r + q), d);                 \
    }                                                                                                                  \
    PUT(R, block + c, s);                                                                                              \
    PUT(R, block + n + c, d);
#define ONE(GET, PUT)                                                                                                  \
    const VEC v = GET(TG, g + r * n + c, 0);                                                                           \
    VEC s = fresh ? (VEC)(0) : GET(R, block + c, 0), d = fresh ? (VEC)(0) : GET(R, block + n + c, 0);                  \
    PUT(R, block + c, s + v);                                                                                          \
    PUT(R, block + n + c, fma(v, (GET(T, x + r * n + c, 0) - LOAD(R, mean, r)) * LOAD(R, rstd, r), d));
#define JOIN(GET, PUT)                                                                                                 \
    PUT(R, gb + c, (i == first ? (VEC)(0) : GET(R, gb + c, 0)) + GET(R, block + c, 0));                                \
    PUT(R, gw + c, (i == first ? (VEC)(0) : GET(R, gw + c, 0)) + GET(R, block + n + c, 0));
#define NOTHING(GET, PUT) PUT(R, gb + c, (VEC)(0)); PUT(R, gw + c, (VEC)(0));

KERNEL(pnn_norm_columns_cpu, 1, 1, 1)(IN(TG, g), IN(T, x), IN(R, mean), IN(R, rstd), OUT(R, gb), OUT(R, gw), OUT(R, block),
                                      const i64 rows, const i64 n, const i64 parts) {
    AT_IN(TG, g);
    AT_IN(T, x);
    AT_IN(R, mean);
    AT_IN(R, rstd);
    AT_OUT(R, gb);
    AT_OUT(R, gw);
    AT_OUT(R, block);
    const i64 p = GROUP_ID(0), first = rows * p / parts, last = rows * (p + 1) / parts;
    gb += p * n;
    gw += p * n;
    block += p * 2 * n;
    for (i64 i = first; i < last; i += BLOCK) {
        const i64 stop = i + BLOCK < last ? i + BLOCK : last;
        i64 r = i;
        for (; r + 4 <= stop; r += 4) {
            const int fresh = r == i;
            EACH_VEC(c, n, FOUR)
        }
        for (; r < stop; ++r) {
            const int fresh = r == i;
            EACH_VEC(c, n, ONE)
        }
        EACH_VEC(c, n, JOIN)
    }
    if (first == last) { EACH_VEC(c, n, NOTHING) }
}

/* The parts added up in order. One work-item: some of the columns. */
#define ADD_PARTS(GET, PUT)                                                                                            \
    VEC s = (VEC)(0), d = (VEC)(0);                                                                                    \
    for (i64 p = 0; p < parts; ++p) {                                                                                  \
        s += GET(R, gbs + p * width + c, 0);                                                                           \
        d += GET(R, gws + p * width + c, 0);                                                                           \
    }                                                                                                                  \
    PUT(R, gb + c, s);                                                                                                 \
    PUT(R, gw + c, d);
KERNEL(pnn_norm_columns_merge_cpu, 1, 1, 1)(IN(R, gbs), IN(R, gws), OUT(R, gb), OUT(R, gw), const i64 width, const i64 parts) {
    AT_IN(R, gbs);
    AT_IN(R, gws);
    AT_OUT(R, gb);
    AT_OUT(R, gw);
    const i64 n = width;
    EACH_VEC(c, n, ADD_PARTS)
}
#endif
