/* Cross entropy and negative log-likelihood, forward and backward, one launch each, plus one that adds up the rows.
 *
 * Forward: the scores of a row are read twice (maximum; then the sum of exponentials together with the weighted sum of
 * the scores that label smoothing and soft targets need), by a work-group or by one work-item (line.h). It leaves the
 * log-sum-exp, from which the backward kernel needs one walk more and no second maximum. The losses of the rows a
 * work-group walks are added in blocks of 64 and stored as one partial; pnn_loss_finish adds the partials in a fixed
 * order. A label outside the classes is reported and clamped. Idea: the fused cross entropy of most libraries.
 *
 * With q[c] = kept w[t] [c = t] + each w[c]  (labels; kept = 1 - smoothing, each = smoothing / C), or
 *      q[c] = w[c] (kept p[c] + each)        (SOFT),
 * loss = sum q (lse - x), gradient = h (exp(x - lse) sum q - q).
 *
 * Defines: T storage tag, R its compute type, L tag of the target, SOFT, SMOOTH, NLL, HAS_W (class weights), EACH_ROW
 * (a loss per row, no reduction), KEEP_LSE, PARTIALS, KEEP_TOTAL, MEAN,
 * LSE and TOTAL (tags of the residuals), G, PART (which kernel), and those of line.h. */
#include "error.h"
#include "math.h"
#include "line.h"

#define EXP(v) CAT(pnn_exp_, R)(v)
#define LOG(v) CAT(pnn_log_, R)(v)
#ifdef HAS_W
#define W_PARAMETER IN(T, w), const i64 ws,
#define W_AT(c) LOAD(T, w, (c) * ws)
#else
#define W_PARAMETER
#define W_AT(c) ((R)1)
#endif
#ifdef SOFT
#define WALKED(c) (W_AT(c) * FMA(kept, LOAD(L, t, ITEM(t, c)), each))
#else
#define WALKED(c) (each * W_AT(c))
#endif
#if defined(SOFT) || defined(SMOOTH)
#define WALKS
#endif
#ifdef SMOOTH
#define SMOOTHED(c) WALKED(c)
#else
#define SMOOTHED(c) 0
#endif
/* The label of a row; `counts` is false where it is ignored. */
#define LABEL                                                                                                   \
    i64 label = (i64)LOAD(L, t, t_line);                                                                        \
    const i32 counts = label != ignore;                                                                         \
    if (counts && (label < 0 || label >= n)) {                                                                  \
        if (FIRST_LANE) REPORT(err, err_code, k, label);                                                        \
        label = label < 0 ? 0 : n - 1;                                                                          \
    }                                                                                                           \
    if (!counts) label = 0;

#if PART == 0
KERNEL(pnn_loss, G, 1, 1)
(IN(T, x), IN(L, t), W_PARAMETER
#ifdef EACH_ROW
 OUT(T, loss),
#endif
#ifdef KEEP_LSE
 OUT(R, lse),
#endif
#ifdef PARTIALS
 OUT(R, partial),
#endif
 const i64 lines, const i64 k0s, const i64 n, LINES(x), LINES(t), const R kept, const R each, const i64 ignore, ERROR_WORD(err)) {
#ifdef LANES
    LINE_LOCALS
#else
    LOCAL R lanes[G];
    const i64 lane = LOCAL_ID(0);
#endif
    AT_IN(T, x);
    AT_IN(L, t);
#ifdef HAS_W
    AT_IN(T, w);
#endif
#ifdef EACH_ROW
    AT_OUT(T, loss);
#endif
#ifdef KEEP_LSE
    AT_OUT(R, lse);
#endif
    R losses = 0, shares = 0, some_losses = 0, some_shares = 0;
    i64 rows = 0;
    EACH_LINE(lines) {
        LINE_PLACE
        const i64 x_line = LINE(x), t_line = LINE(t);
        R value = 0, share = 1;
#ifdef NLL
        LABEL
        share = counts ? W_AT(label) : 0;
        value = share == 0 ? 0 : -share * LOAD(T, x, ITEM(x, label));
#else
        R m = -CAT(R_INF_, R), sum = 0;
        EACH(c, n, m = R_MAX(m, LOAD(T, x, ITEM(x, c)));)
        JOIN(m, R_MAX)
#ifdef WALKS
        R q = 0, qx = 0;
        EACH(c, n, {
            const R d = LOAD(T, x, ITEM(x, c)) - m;
            const R one = WALKED(c);
            sum += EXP(d);
            q += one;
            qx += one == 0 ? 0 : one * d;
        })
        JOIN(sum, R_SUM)
        JOIN(q, R_SUM)
        JOIN(qx, R_SUM)
        const R shift = LOG(sum);
        value = FMA(q, shift, -qx);
#else
        EACH_SUM(sum, c, n, part_ += EXP(LOAD(T, x, ITEM(x, c)) - m);)
        JOIN(sum, R_SUM)
        const R shift = LOG(sum);
#endif
#ifndef SOFT
        LABEL
        share = counts ? W_AT(label) : 0;
        const R own = kept * share == 0 ? 0 : kept * share * (m - LOAD(T, x, ITEM(x, label)) + shift);
        value = counts ? value + own : 0;
#endif
#ifdef KEEP_LSE
        if (FIRST_LANE) STORE(R, lse, k, m + shift);
#endif
#endif
#ifdef EACH_ROW
        if (FIRST_LANE) STORE(T, loss, k, value);
#endif
        some_losses += value;
        some_shares += share;
        if (++rows % 64 == 0) {
            losses += some_losses;
            shares += some_shares;
            some_losses = some_shares = 0;
        }
    }
#ifdef PARTIALS
    AT_OUT(R, partial);
    losses += some_losses;
    shares += some_shares;
#ifndef LANES /* every work-item has rows of its own */
    TREE(R, losses, lanes, lane, G, R_SUM)
    TREE(R, shares, lanes, lane, G, R_SUM)
#endif
    if (lane == 0) {
        STORE(R, partial, GROUP_ID(0), losses);
        STORE(R, partial, NUM_GROUPS(0) + GROUP_ID(0), shares);
    }
#endif
}
#elif PART == 1
/* One work-group: loss = sum of the first n partials, divided for MEAN by that of the second n, which is the total. */
KERNEL(pnn_loss_finish, G, 1, 1)
(IN(R, partial),
#ifndef EACH_ROW
 OUT(T, loss),
#endif
#ifdef KEEP_TOTAL
 OUT(R, total),
#endif
 const i64 n) {
    LOCAL R lanes[G];
    const i64 lane = LOCAL_ID(0);
    AT_IN(R, partial);
    R losses = 0, shares = 0;
    EACH_SUM(losses, c, n, part_ += partial[c];)
    EACH_SUM(shares, c, n, part_ += partial[n + c];)
    JOIN(losses, R_SUM)
    JOIN(shares, R_SUM)
    if (lane == 0) {
#ifndef EACH_ROW
        AT_OUT(T, loss);
#ifdef MEAN
        losses /= shares;
#endif
        STORE(T, loss, 0, losses);
#endif
#ifdef KEEP_TOTAL
        AT_OUT(R, total);
        STORE(R, total, 0, shares);
#endif
    }
}
#else
KERNEL(pnn_loss_grad, G, 1, 1)
(IN(T, g), IN(TOTAL, total), IN(L, t), W_PARAMETER
#ifndef NLL
 IN(T, x), IN(LSE, lse),
#endif
 OUT(T, z), const i64 lines, const i64 k0s, const i64 n, LINES(g), LINES(t),
#ifndef NLL
 LINES(x), LINES(lse),
#endif
 LINES(z), const R kept, const R each, const i64 ignore, ERROR_WORD(err)) {
    LINE_LOCALS
    AT_IN(T, g);
    AT_IN(TOTAL, total);
    AT_IN(L, t);
#ifdef HAS_W
    AT_IN(T, w);
#endif
#ifndef NLL
    AT_IN(T, x);
    AT_IN(LSE, lse);
#endif
    AT_OUT(T, z);
    EACH_LINE(lines) {
        LINE_PLACE
        const i64 g_line = LINE(g), t_line = LINE(t), z_line = LINE(z);
#ifdef MEAN
        const R h = LOAD(T, g, g_line) / LOAD(TOTAL, total, 0);
#else
        const R h = LOAD(T, g, g_line);
#endif
        R q = 0;
#ifndef SOFT
        LABEL
#endif
#ifdef NLL
        const R own = counts ? W_AT(label) : 0;
        EACH(c, n, STORE(T, z, ITEM(z, c), c == label && counts ? -h * own : 0);)
#else
        const i64 x_line = LINE(x), lse_line = LINE(lse);
        const R norm = LOAD(LSE, lse, lse_line);
#ifdef WALKS
        EACH_SUM(q, c, n, part_ += WALKED(c);)
        JOIN(q, R_SUM)
#endif
#ifdef SOFT
        EACH(c, n, STORE(T, z, ITEM(z, c), h * FMA(EXP(LOAD(T, x, ITEM(x, c)) - norm), q, -WALKED(c)));)
#else
        const R own = kept * W_AT(label);
        q += own;
        EACH(c, n, {
            const R one = (c == label ? own : 0) + SMOOTHED(c);
            STORE(T, z, ITEM(z, c), counts ? h * FMA(EXP(LOAD(T, x, ITEM(x, c)) - norm), q, -one) : 0);
        })
#endif
#endif
    }
}
#endif
