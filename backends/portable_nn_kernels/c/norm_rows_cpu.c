/* Layer norm and RMS norm for CPUs, rows of n elements in C order: one work-item walks whole rows with explicit vectors;
 * no local memory, no barriers. Traffic: each row once from memory, then from the nearest cache.
 * Variance is the mean of squared deviations (a second walk): a sum of squares would cancel.
 * Defines: R (compute type), VW, T, TW, TB, TG (tags of x, weight, bias, g), WEIGHT and BIAS (1 if there is one; x is passed
 * in its place otherwise), CENTRED (1: layer norm, 0: RMS norm), GRAD (which kernel), G 1 for line.h; ADDED (1: what is
 * normalised is x + residual, and that sum is stored too; its gradient adds the sum's own cotangent `straight`). */
#include "math.h"
#include "line.h"
#include "vector_cpu.h"

#ifdef PNN_OPENCL
#if ADDED && !GRAD
#define READ_X(GET) (GET(T, x + at + c, mu) + GET(T, residual + at + c, 0)) /* so that a lane past the end deviates by 0 */
#else
#define READ_X(GET) GET(T, x + at + c, mu)
#endif
#if WEIGHT
#define READ_W(GET) GET(TW, weight + c, 0)
#else
#define READ_W(GET) 1
#endif
#if CENTRED
#define MU_OUT(k, value) STORE(R, mean, k, value)
#else
#define MU_OUT(k, value)
#endif

#if GRAD
/* gx = rstd (h - mean(h) - xhat mean(h xhat)) with h = g w; without mean(h) for RMS norm. */
#define READ_H(GET) (GET(TG, g + at + c, 0) * READ_W(GET))
#define ADD_H(GET, PUT) part_ += READ_H(GET);
#define ADD_DOT(GET, PUT) part_ = fma(READ_H(GET), (READ_X(GET) - mu) * r, part_);
#if ADDED
#define STRAIGHT(GET) GET(TG, straight + at + c, 0) +
#else
#define STRAIGHT(GET)
#endif
#define GRADIENT(GET, PUT) PUT(T, gx + at + c, STRAIGHT(GET) r * (READ_H(GET) - mean_h - (READ_X(GET) - mu) * r * mean_dot));
KERNEL(pnn_norm_row_grad_cpu, 1, 1, 1)(IN(TG, g), IN(T, x), IN(TW, weight), IN(R, mean), IN(R, rstd), OUT(T, gx),
#if ADDED
                                       IN(TG, straight),
#endif
                                       i64 lines, i64 n) {
#if ADDED
    AT_IN(TG, straight);
#endif
    AT_IN(TG, g);
    AT_IN(T, x);
    AT_IN(TW, weight);
    AT_IN(R, mean);
    AT_IN(R, rstd);
    AT_OUT(T, gx);
    EACH_OWN_LINE(lines) {
        const i64 at = k * n;
        const R mu = CENTRED ? LOAD(R, mean, k) : 0, r = LOAD(R, rstd, k);
        R sum = 0, dot = 0;
#if CENTRED
        EACH_VEC_SUM(sum, c, n, ADD_H)
#endif
        EACH_VEC_SUM(dot, c, n, ADD_DOT)
        const R mean_h = sum / (R)n, mean_dot = dot / (R)n;
        EACH_VEC(c, n, GRADIENT)
    }
}
#else
#if ADDED
#define ADD_X(GET, PUT) const VEC v = READ_X(GET); PUT(T, total + at + c, v); part_ += v;
#else
#define ADD_X(GET, PUT) part_ += READ_X(GET);
#endif
#define ADD_SQUARE(GET, PUT) const VEC d = READ_X(GET) - mu; part_ = fma(d, d, part_);
#if BIAS
#define NORMAL(GET, PUT) PUT(T, y + at + c, (READ_X(GET) - mu) * r * READ_W(GET) + GET(TB, bias + c, 0));
#else
#define NORMAL(GET, PUT) PUT(T, y + at + c, (READ_X(GET) - mu) * r * READ_W(GET));
#endif
KERNEL(pnn_norm_row_cpu, 1, 1, 1)(IN(T, x), IN(TW, weight), IN(TB, bias), OUT(T, y), OUT(R, mean), OUT(R, rstd),
#if ADDED
                                  IN(T, residual), OUT(T, total),
#endif
                                  i64 lines, i64 n, R eps) {
#if ADDED
    AT_IN(T, residual);
    AT_OUT(T, total);
#endif
    AT_IN(T, x);
    AT_IN(TW, weight);
    AT_IN(TB, bias);
    AT_OUT(T, y);
    AT_OUT(R, mean);
    AT_OUT(R, rstd);
    EACH_OWN_LINE(lines) {
        const i64 at = k * n;
        R mu = 0, square = 0;
#if CENTRED
        R sum = 0;
        EACH_VEC_SUM(sum, c, n, ADD_X)
        mu = sum / (R)n;
#endif
        EACH_VEC_SUM(square, c, n, ADD_SQUARE)
        const R r = 1 / CAT(pnn_sqrt_, R)(square / (R)n + eps);
        EACH_VEC(c, n, NORMAL)
        MU_OUT(k, mu);
        STORE(R, rstd, k, r);
    }
}
#endif
#endif
