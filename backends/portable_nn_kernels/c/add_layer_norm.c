/* Layer norm of a sum, and its gradient, row by row: total = x + residual, y = (total - mean) rstd w + b.
 *
 * One work-group: a row at a time (rows GROUP_ID, GROUP_ID + NUM_GROUPS, ...). What is normalised is the sum before it is
 * rounded to its storage type, so each of the three walks adds again. Traffic: x and residual once from memory, then from
 * cache; total and y once: what a sum and a layer norm move, less one walk over the sum.
 * Defines: WG, T (x, residual, total, y), TS (statistics), TW, TB (weight, bias), TG (cotangents), WEIGHT and BIAS (1 if
 * there is one; x is passed in its place otherwise), GRAD (which kernel). */
#include "row.h"

#define R ACC(T)
#define ROW_SUM(value) CAT(pnn_row_sum_, ACC_TAG(T))(value, s, lid, WG)

#if GRAD
/* gx = straight + rstd (h - mean(h) - xhat mean(h xhat)) with h = g w. Traffic: g and total twice, straight and gx once. */
KERNEL(pnn_add_layer_norm_grad, WG, 1, 1)(IN(TG, straight), IN(TG, g), IN(T, total), IN(TW, weight), IN(TS, mean), IN(TS, rstd),
                                          OUT(T, gx), i64 rows, i64 length, i64 w_step) {
    AT_IN(TG, straight);
    AT_IN(TG, g);
    AT_IN(T, total);
    AT_IN(TW, weight);
    AT_IN(TS, mean);
    AT_IN(TS, rstd);
    AT_OUT(T, gx);
    LOCAL R s[WG];
    const i64 lid = LOCAL_ID(0);
    for (i64 row = GROUP_ID(0); row < rows; row += NUM_GROUPS(0)) {
        const i64 at = row * length;
        const R mu = LOAD(TS, mean, row), r = LOAD(TS, rstd, row);
        R sum = 0, dot = 0;
        for (i64 l = lid; l < length; l += WG) {
            const R h = (R)LOAD(TG, g, at + l) * (WEIGHT ? (R)LOAD(TW, weight, l * w_step) : (R)1);
            sum += h;
            dot = FMA(h, (LOAD(T, total, at + l) - mu) * r, dot);
        }
        const R mean_h = ROW_SUM(sum) / (R)length;
        const R mean_dot = ROW_SUM(dot) / (R)length;
        for (i64 l = lid; l < length; l += WG) {
            const R h = (R)LOAD(TG, g, at + l) * (WEIGHT ? (R)LOAD(TW, weight, l * w_step) : (R)1);
            const R xhat = (LOAD(T, total, at + l) - mu) * r;
            STORE(T, gx, at + l, (R)LOAD(TG, straight, at + l) + r * (h - mean_h - xhat * mean_dot));
        }
    }
}
#else
#define SUM_AT(l) (LOAD(T, x, at + (l)) + LOAD(T, residual, at + (l)))
KERNEL(pnn_add_layer_norm, WG, 1, 1)(IN(T, x), IN(T, residual), IN(TW, weight), IN(TB, bias), OUT(T, total), OUT(T, y), OUT(TS, mean),
                                     OUT(TS, rstd), i64 rows, i64 length, i64 w_step, i64 b_step, R eps) {
    AT_IN(T, x);
    AT_IN(T, residual);
    AT_IN(TW, weight);
    AT_IN(TB, bias);
    AT_OUT(T, total);
    AT_OUT(T, y);
    AT_OUT(TS, mean);
    AT_OUT(TS, rstd);
    LOCAL R s[WG];
    const i64 lid = LOCAL_ID(0);
    for (i64 row = GROUP_ID(0); row < rows; row += NUM_GROUPS(0)) {
        const i64 at = row * length;
        R sum = 0;
        for (i64 l = lid; l < length; l += WG) {
            const R v = SUM_AT(l);
            STORE(T, total, at + l, v);
            sum += v;
        }
        const R mu = ROW_SUM(sum) / (R)length;
        sum = 0;
        for (i64 l = lid; l < length; l += WG) {
            const R d = SUM_AT(l) - mu;
            sum = FMA(d, d, sum);
        }
        const R r = (R)1 / CAT(pnn_sqrt_, ACC_TAG(T))(ROW_SUM(sum) / (R)length + eps);
        for (i64 l = lid; l < length; l += WG) {
            R v = (SUM_AT(l) - mu) * r;
            if (WEIGHT) v *= (R)LOAD(TW, weight, l * w_step);
            if (BIAS) v += (R)LOAD(TB, bias, l * b_step);
            STORE(T, y, at + l, v);
        }
        if (lid == 0) {
            STORE(TS, mean, row, mu);
            STORE(TS, rstd, row, r);
        }
    }
}
#endif
