/* Batch-norm sums on CPUs where channels are adjacent in memory: rows of x, one vector of VW channels at a time. OpenCL only;
 * replaces the columns kernels of norm.c there. Part p of the rows is one work-item's. It takes `block` rows at a time, which
 * stay in the nearest cache for the second pass around their mean, and joins the blocks as pnn_norm_merge joins the parts.
 * Results are (part, channel). Defines: LAST_STATS or LAST_GRAD, TX, R (compute type of TX), VW; the gradient's TG, RELU, and
 * with RELU whether there is a WEIGHT and a BIAS. */
#ifdef PNN_OPENCL
#include "math.h"
/* Code for each of 16 lanes wherever a row's end is read or written took the compiler two thirds of its time. */
#define PART_LOOP _Pragma("nounroll")
#include "vector_cpu.h"
/* A block of rows, channels [c, c + VW): BODY is compiled for whole vectors and for what is left at the end. */
#define WHOLE_GET(tag, p) VGET(tag, p, 0)
#define WHOLE_PUT(p, v) VPUT(R, p, v)
#define REST_GET(tag, p) CAT(pnn_part_get_, tag)(p, channels - c, 0)
#define REST_PUT(p, v) CAT(pnn_part_put_, R)(p, channels - c, v)
#define EACH_CHANNELS(BODY)                                                                     \
    for (i64 c = 0; c < channels; c += VW) {                                                    \
        if (c + VW <= channels) { BODY(WHOLE_GET, WHOLE_PUT) } else { BODY(REST_GET, REST_PUT) } \
    }
#define ADDED(s) ((s##0 + s##1) + (s##2 + s##3))

#ifdef LAST_STATS
/* Mean and sum of squared deviations. Traffic: x once, and once more from cache. */
#define STATS_BODY(GET, PUT)                                                                    \
    VEC s0 = (VEC)(0), s1 = s0, s2 = s0, s3 = s0, d0 = s0, d1 = s0, d2 = s0, d3 = s0;           \
    GLOBAL const TYPE(TX)* in = x + i * s_r + c;                                                \
    i64 r = i;                                                                                  \
    for (; r + 4 <= stop; r += 4, in += 4 * s_r) {                                              \
        s0 += GET(TX, in);                                                                      \
        s1 += GET(TX, in + s_r);                                                                \
        s2 += GET(TX, in + 2 * s_r);                                                            \
        s3 += GET(TX, in + 3 * s_r);                                                            \
    }                                                                                           \
    for (; r < stop; ++r, in += s_r) s0 += GET(TX, in);                                         \
    const VEC mu = ADDED(s) / more;                                                             \
    in = x + i * s_r + c;                                                                       \
    for (r = i; r + 4 <= stop; r += 4, in += 4 * s_r) {                                         \
        const VEC a0 = GET(TX, in) - mu, a1 = GET(TX, in + s_r) - mu;                           \
        const VEC a2 = GET(TX, in + 2 * s_r) - mu, a3 = GET(TX, in + 3 * s_r) - mu;             \
        d0 = fma(a0, a0, d0);                                                                   \
        d1 = fma(a1, a1, d1);                                                                   \
        d2 = fma(a2, a2, d2);                                                                   \
        d3 = fma(a3, a3, d3);                                                                   \
    }                                                                                           \
    for (; r < stop; ++r, in += s_r) {                                                          \
        const VEC a0 = GET(TX, in) - mu;                                                        \
        d0 = fma(a0, a0, d0);                                                                   \
    }                                                                                           \
    VEC all = ADDED(d), middle = mu;                                                            \
    if (i > first) {                                                                            \
        const VEC before = GET(R, mean + c), delta = mu - before;                               \
        all = GET(R, m2 + c) + all + delta * delta * (count * more / total);                    \
        middle = before + delta * (more / total);                                               \
    }                                                                                           \
    PUT(mean + c, middle);                                                                      \
    PUT(m2 + c, all);

KERNEL(pnn_norm_last_stats, 1, 1, 1)(IN(TX, x), OUT(R, mean), OUT(R, m2), i64 rows, i64 channels, i64 s_r, i64 parts, i64 block) {
    AT_IN(TX, x);
    AT_OUT(R, mean);
    AT_OUT(R, m2);
    const i64 p = GROUP_ID(0), first = rows * p / parts, last = rows * (p + 1) / parts;
    mean += p * channels;
    m2 += p * channels;
    for (i64 i = first; i < last; i += block) {
        const i64 stop = i + block < last ? i + block : last;
        const R count = (R)(i - first), more = (R)(stop - i), total = count + more;
        EACH_CHANNELS(STATS_BODY)
    }
}
#endif

#ifdef LAST_GRAD
/* Sum of g and of g xhat. RELU: g where x, normalised as the forward pass did it, is over 0, else 0. Traffic: g and x once. */
#if RELU
#define GRAD_SHIFTS(GET) const VEC rs = GET(R, rstd + c), w = WEIGHT ? GET(R, weight + c) : (VEC)(1), b = BIAS ? GET(R, bias + c) : (VEC)(0);
#define GRAD_MASKED(v, away) select((VEC)(0), v, away * rs * w + b > 0)
#else
#define GRAD_SHIFTS(GET)
#define GRAD_MASKED(v, away) v
#endif
#define GRAD_STEP(GET, k)                                                                       \
    {                                                                                           \
        const VEC away = GET(TX, in + k * s_r) - mu, given = GET(TG, gi + k * g_r);             \
        const VEC v = GRAD_MASKED(given, away);                                                 \
        s##k += v;                                                                              \
        d##k = fma(v, away, d##k);                                                              \
    }
#define GRAD_BODY(GET, PUT)                                                                     \
    VEC s0 = (VEC)(0), s1 = s0, s2 = s0, s3 = s0, d0 = s0, d1 = s0, d2 = s0, d3 = s0;           \
    const VEC mu = GET(R, mean + c);                                                            \
    GRAD_SHIFTS(GET)                                                                            \
    GLOBAL const TYPE(TX)* in = x + i * s_r + c;                                                \
    GLOBAL const TYPE(TG)* gi = g + i * g_r + c;                                                \
    i64 r = i;                                                                                  \
    for (; r + 4 <= stop; r += 4, in += 4 * s_r, gi += 4 * g_r) {                               \
        GRAD_STEP(GET, 0) GRAD_STEP(GET, 1) GRAD_STEP(GET, 2) GRAD_STEP(GET, 3)                 \
    }                                                                                           \
    for (; r < stop; ++r, in += s_r, gi += g_r) GRAD_STEP(GET, 0)                               \
    VEC sum = ADDED(s), dot = ADDED(d) * GET(R, rstd + c);                                      \
    if (i > first) {                                                                            \
        sum += GET(R, gb + c);                                                                  \
        dot += GET(R, gw + c);                                                                  \
    }                                                                                           \
    PUT(gb + c, sum);                                                                           \
    PUT(gw + c, dot);

KERNEL(pnn_norm_last_grad, 1, 1, 1)(IN(TG, g), IN(TX, x), IN(R, mean), IN(R, rstd), IN(R, weight), IN(R, bias), OUT(R, gb), OUT(R, gw),
                                    i64 rows, i64 channels, i64 g_r, i64 s_r, i64 parts, i64 block) {
    AT_IN(TG, g);
    AT_IN(TX, x);
    AT_IN(R, mean);
    AT_IN(R, rstd);
    AT_IN(R, weight);
    AT_IN(R, bias);
    AT_OUT(R, gb);
    AT_OUT(R, gw);
    const i64 p = GROUP_ID(0), first = rows * p / parts, last = rows * (p + 1) / parts;
    gb += p * channels;
    gw += p * channels;
    for (i64 i = first; i < last; i += block) {
        const i64 stop = i + block < last ? i + block : last;
        EACH_CHANNELS(GRAD_BODY)
    }
}
#endif
#endif
