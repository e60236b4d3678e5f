/* Group norm: row (n, g) of `channels` channels of `span` elements each, all in C order, with weight and bias per channel.
 *
 * One work-group (LANES), or one work-item where rows are short, takes a row at a time. SPLIT: a channel's span is shorter
 * than a work-group, so that an element's channel is found by a division; otherwise channels are walked one after another.
 * Variance is taken around the mean (two passes, the second from cache); sums run in blocks of 64 terms per lane.
 * Gradient: pnn_group_norm_sums makes each channel's sum of g and of g xhat per example, laid out (C, N) so that
 * pnn_norm_grad_merge (norm.c) adds them to gb and gw; pnn_group_norm_grad weighs a row's channels and writes gx.
 * Defines: T (x, y, gx), TG, TW, TB, R (compute type), G and LANES of line.h, WEIGHT, BIAS, SPLIT, KIND (which kernel). */
#include "math.h"
#include "line.h"

#define FORWARD 0
#define SUMS 1
#define GRADIENT 2

/* Runs `body` for every element of a row: `at` its place in the row, `ch` its channel in the group. */
#if SPLIT
#define EACH_ELEMENT(body)                                                                                      \
    EACH(at, channels * span, const i64 ch = (i64)((u32)at / (u32)span); body)
#else
#define EACH_ELEMENT(body)                                                                                      \
    for (i64 ch = 0; ch < channels; ++ch) EACH(l, span, const i64 at = ch * span + l; body)
#endif

#if KIND == FORWARD
KERNEL(pnn_group_norm, G, 1, 1)(IN(T, x), IN(TW, weight), IN(TB, bias), OUT(T, y), OUT(R, mean), OUT(R, rstd), i64 rows,
                                i64 groups, i64 channels, i64 span, i64 w_step, i64 b_step, R eps) {
    LINE_LOCALS
    AT_IN(T, x);
    AT_IN(TW, weight);
    AT_IN(TB, bias);
    AT_OUT(T, y);
    AT_OUT(R, mean);
    AT_OUT(R, rstd);
    const i64 n = channels * span;
    EACH_LINE(rows) {
        const i64 row = k * n, first = k % groups * channels;
        R sum = 0;
        EACH_SUM(sum, c, n, part_ += LOAD(T, x, row + c);)
        JOIN(sum, R_SUM)
        const R mu = sum / (R)n;
        R square = 0;
        EACH_SUM(square, c, n, const R d = LOAD(T, x, row + c) - mu; part_ = FMA(d, d, part_);)
        JOIN(square, R_SUM)
        const R r = (R)1 / CAT(pnn_sqrt_, R)(square / (R)n + eps);
        EACH_ELEMENT(R v = (LOAD(T, x, row + at) - mu) * r;
                     if (WEIGHT) v *= (R)LOAD(TW, weight, (first + ch) * w_step);
                     if (BIAS) v += (R)LOAD(TB, bias, (first + ch) * b_step);
                     STORE(T, y, row + at, v);)
        if (FIRST_LANE) {
            STORE(R, mean, k, mu);
            STORE(R, rstd, k, r);
        }
    }
}
#endif

#if KIND == SUMS
/* Line k = (example, channel) of n x c; there are c / channels rows per example. */
KERNEL(pnn_group_norm_sums, G, 1, 1)(IN(TG, g), IN(T, x), IN(R, mean), IN(R, rstd), OUT(R, gb), OUT(R, gw), i64 n, i64 c,
                                     i64 channels, i64 span) {
    LINE_LOCALS
    AT_IN(TG, g);
    AT_IN(T, x);
    AT_IN(R, mean);
    AT_IN(R, rstd);
    AT_OUT(R, gb);
    AT_OUT(R, gw);
    EACH_LINE(n * c) {
        const R mu = LOAD(R, mean, k / channels), r = LOAD(R, rstd, k / channels);
        R sum = 0, dot = 0;
        EACH_SUM(sum, l, span, part_ += LOAD(TG, g, k * span + l);)
        JOIN(sum, R_SUM)
        EACH_SUM(dot, l, span, part_ = FMA((R)LOAD(TG, g, k * span + l), LOAD(T, x, k * span + l) - mu, part_);)
        JOIN(dot, R_SUM)
        if (FIRST_LANE) {
            STORE(R, gb, k % c * n + k / c, sum);
            STORE(R, gw, k % c * n + k / c, dot * r);
        }
    }
}
#endif

#if KIND == GRADIENT
KERNEL(pnn_group_norm_grad, G, 1, 1)(IN(TG, g), IN(T, x), IN(TW, weight), IN(R, mean), IN(R, rstd), IN(R, gb), IN(R, gw),
                                     OUT(T, gx), i64 n, i64 groups, i64 channels, i64 span, i64 w_step) {
    LINE_LOCALS
    AT_IN(TG, g);
    AT_IN(T, x);
    AT_IN(TW, weight);
    AT_IN(R, mean);
    AT_IN(R, rstd);
    AT_IN(R, gb);
    AT_IN(R, gw);
    AT_OUT(T, gx);
    EACH_LINE(n * groups) {
        const i64 row = k * channels * span, first = k % groups * channels, example = k / groups;
        const R mu = LOAD(R, mean, k), r = LOAD(R, rstd, k), share = (R)1 / (R)(channels * span);
        R sum = 0, dot = 0;
        EACH_SUM(sum, ch, channels, const R w = WEIGHT ? (R)LOAD(TW, weight, (first + ch) * w_step) : (R)1;
                 part_ = FMA(w, LOAD(R, gb, (first + ch) * n + example), part_);)
        JOIN(sum, R_SUM)
        EACH_SUM(dot, ch, channels, const R w = WEIGHT ? (R)LOAD(TW, weight, (first + ch) * w_step) : (R)1;
                 part_ = FMA(w, LOAD(R, gw, (first + ch) * n + example), part_);)
        JOIN(dot, R_SUM)
        sum *= share;
        dot *= share;
        EACH_ELEMENT(const R h = (R)LOAD(TG, g, row + at) * (WEIGHT ? (R)LOAD(TW, weight, (first + ch) * w_step) : (R)1);
                     STORE(T, gx, row + at, r * (h - sum - (LOAD(T, x, row + at) - mu) * r * dot));)
    }
}
#endif
