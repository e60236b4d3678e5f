/* Root-mean-square norm, rows of n elements in C order: forward and the gradient by x.
 *
 * One work-group (LANES), or one work-item for short rows, takes a row at a time. Traffic: each row twice, the second time
 * from cache. Sums run in blocks of 64 terms per lane. WEIGHT: 1 if there is one (TW its tag; x is passed in its place
 * otherwise). Defines: T (storage), TG, TW, R (compute type), G and LANES of line.h, WEIGHT, GRAD (which kernel). */
#include "math.h"
#include "line.h"

#if GRAD
KERNEL(pnn_rms_norm_grad, G, 1, 1)(IN(TG, g), IN(T, x), IN(TW, weight), IN(R, rstd), OUT(T, gx), i64 rows, i64 n, i64 w_step) {
    LINE_LOCALS
    AT_IN(TG, g);
    AT_IN(T, x);
    AT_IN(TW, weight);
    AT_IN(R, rstd);
    AT_OUT(T, gx);
    EACH_LINE(rows) {
        const i64 at = k * n;
        const R r = LOAD(R, rstd, k);
        R sum = 0;
        EACH_SUM(sum, c, n, const R h = (R)LOAD(TG, g, at + c) * (WEIGHT ? (R)LOAD(TW, weight, c * w_step) : (R)1);
                 part_ = FMA(h, LOAD(T, x, at + c) * r, part_);)
        JOIN(sum, R_SUM)
        const R share = sum / (R)n;
        EACH(c, n, const R h = (R)LOAD(TG, g, at + c) * (WEIGHT ? (R)LOAD(TW, weight, c * w_step) : (R)1);
             STORE(T, gx, at + c, r * (h - LOAD(T, x, at + c) * r * share));)
    }
}
#else
KERNEL(pnn_rms_norm, G, 1, 1)(IN(T, x), IN(TW, weight), OUT(T, y), OUT(R, rstd), i64 rows, i64 n, i64 w_step, R eps) {
    LINE_LOCALS
    AT_IN(T, x);
    AT_IN(TW, weight);
    AT_OUT(T, y);
    AT_OUT(R, rstd);
    EACH_LINE(rows) {
        const i64 at = k * n;
        R sum = 0;
        EACH_SUM(sum, c, n, const R v = LOAD(T, x, at + c); part_ = FMA(v, v, part_);)
        JOIN(sum, R_SUM)
        const R r = (R)1 / CAT(pnn_sqrt_, R)(sum / (R)n + eps);
        EACH(c, n, STORE(T, y, at + c, LOAD(T, x, at + c) * r * (WEIGHT ? (R)LOAD(TW, weight, c * w_step) : (R)1));)
        if (FIRST_LANE) STORE(R, rstd, k, r);
    }
}
#endif
