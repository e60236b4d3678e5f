/* Normalisation: statistics and gradient sums per channel, and layer norm row by row.
 *
 * A tensor of N x C x L (batch, channels, the rest) is read at strides s_n, s_c, s_l. Per-channel results are made in
 * parts: work-group (c, p) takes the batch entries [n p / parts, n (p + 1) / parts) of channel c, and pnn_norm_merge
 * joins the parts in order, so that the result does not depend on timing. Variance is taken around the mean of the part
 * (two passes, the second from cache) and parts are merged by Chan, Golub and LeVeque 1979: a sum of squares would cancel.
 * Defines: WG, TX TS (tags of x, of statistics); TG for gradients; UNIT where L is adjacent in memory (a stride that only
 * the run knows makes a CPU's loads gathers: a third of the speed); PARTS_OUTSIDE for merging (norm_last_cpu.c). Statistics are kept in R, float32 or wider. */
#include "math.h"
#include "tree.h"

#ifdef UNIT
#define ALONG(l, stride) (l)
#else
#define ALONG(l, stride) ((l) * (stride))
#endif

#define R ACC(TX)

#ifdef PARTS_OUTSIDE /* (part, channel) */
#define PART(c, p) ((p) * channels + (c))
#else
#define PART(c, p) ((c) * parts + (p))
#endif

#define ADD_UP(value, s) TREE(R, value, s, lid, WG, PNN_SUM) /* over the group; every work-item must come here */
#define PNN_SUM(a, b) ((a) + (b))

#ifdef STATS_ROWS
/* One work-group: mean and sum of squared deviations of one part of one channel; work-items run along L.
 * Traffic: x twice, the second time from cache if the part fits. */
KERNEL(pnn_norm_stats_rows, WG, 1, 1)(IN(TX, x), OUT(TS, mean), OUT(TS, m2), i64 n, i64 length, i64 s_n, i64 s_c,
                                      i64 s_l, i64 parts) {
    AT_IN(TX, x);
    AT_OUT(TS, mean);
    AT_OUT(TS, m2);
    LOCAL R s[WG];
    const i64 lid = LOCAL_ID(0), c = GROUP_ID(0) / parts, p = GROUP_ID(0) - c * parts;
    const i64 first = n * p / parts, last = n * (p + 1) / parts;
    R sum = 0;
    for (i64 i = first; i < last; ++i) {
        R row = 0;
        for (i64 l = lid; l < length; l += WG) row += LOAD(TX, x, i * s_n + c * s_c + ALONG(l, s_l));
        sum += row;
    }
    ADD_UP(sum, s)
    const R mu = sum / (R)((last - first) * length);
    sum = 0;
    for (i64 i = first; i < last; ++i) {
        R row = 0;
        for (i64 l = lid; l < length; l += WG) {
            const R d = LOAD(TX, x, i * s_n + c * s_c + ALONG(l, s_l)) - mu;
            row = FMA(d, d, row);
        }
        sum += row;
    }
    ADD_UP(sum, s)
    if (lid == 0) {
        STORE(TS, mean, GROUP_ID(0), mu);
        STORE(TS, m2, GROUP_ID(0), sum);
    }
}
#endif

#ifdef STATS_COLUMNS
/* The same where channels are adjacent in memory (L is 1, or channels-last): each work-item owns a channel and walks
 * down the rows [rows p / parts, ...) of its part; neighbours read neighbouring addresses. */
KERNEL(pnn_norm_stats_columns, WG, 1, 1)(IN(TX, x), OUT(TS, mean), OUT(TS, m2), i64 rows, i64 channels, i64 s_r,
                                         i64 s_c, i64 parts) {
    AT_IN(TX, x);
    AT_OUT(TS, mean);
    AT_OUT(TS, m2);
    const i64 block = GROUP_ID(0) / parts, p = GROUP_ID(0) - block * parts;
    const i64 c = block * WG + LOCAL_ID(0);
    const i64 first = rows * p / parts, last = rows * (p + 1) / parts;
    if (c < channels) {
        R sum = 0;
        for (i64 i = first; i < last; i += 64) { /* blocks of 64 rows: the error grows with their number, not with rows */
            const i64 stop = i + 64 < last ? i + 64 : last;
            R part = 0;
            for (i64 r = i; r < stop; ++r) part += LOAD(TX, x, r * s_r + c * s_c);
            sum += part;
        }
        const R mu = sum / (R)(last - first);
        sum = 0;
        for (i64 i = first; i < last; i += 64) {
            const i64 stop = i + 64 < last ? i + 64 : last;
            R part = 0;
            for (i64 r = i; r < stop; ++r) {
                const R d = LOAD(TX, x, r * s_r + c * s_c) - mu;
                part = FMA(d, d, part);
            }
            sum += part;
        }
        STORE(TS, mean, c * parts + p, mu);
        STORE(TS, m2, c * parts + p, sum);
    }
}
#endif

#ifdef STATS_MERGE
/* One work-item: joins the parts of one channel. units is what parts divide (batch entries or rows), each of length
 * elements. Writes mean, biased variance and 1 / sqrt(variance + eps). */
KERNEL(pnn_norm_merge, WG, 1, 1)(IN(TS, means), IN(TS, m2s), OUT(TS, mean), OUT(TS, var), OUT(TS, rstd), i64 channels,
                                 i64 units, i64 length, i64 parts, R eps) {
    AT_IN(TS, means);
    AT_IN(TS, m2s);
    AT_OUT(TS, mean);
    AT_OUT(TS, var);
    AT_OUT(TS, rstd);
    const i64 c = GLOBAL_ID(0);
    if (c < channels) {
        R mu = 0, count = 0, m2 = 0;
        for (i64 p = 0; p < parts; ++p) {
            const R more = (R)((units * (p + 1) / parts - units * p / parts) * length);
            const R delta = LOAD(TS, means, PART(c, p)) - mu;
            const R total = count + more;
            m2 += LOAD(TS, m2s, PART(c, p)) + delta * delta * (count * more / total);
            mu += delta * (more / total);
            count = total;
        }
        const R v = m2 / count;
        STORE(TS, mean, c, mu);
        STORE(TS, var, c, v);
        STORE(TS, rstd, c, (R)1 / CAT(pnn_sqrt_, ACC_TAG(TX))(v + eps));
    }
}
#endif

#ifdef GRAD_ROWS
/* One work-group: sum of g and of g xhat over one part of one channel. Traffic: g and x once. */
KERNEL(pnn_norm_grad_rows, WG, 1, 1)(IN(TG, g), IN(TX, x), IN(TS, mean), IN(TS, rstd), OUT(TS, gb), OUT(TS, gw), i64 n,
                                     i64 length, i64 g_n, i64 g_c, i64 g_l, i64 s_n, i64 s_c, i64 s_l, i64 parts) {
    AT_IN(TG, g);
    AT_IN(TX, x);
    AT_IN(TS, mean);
    AT_IN(TS, rstd);
    AT_OUT(TS, gb);
    AT_OUT(TS, gw);
    LOCAL R s[WG];
    const i64 lid = LOCAL_ID(0), c = GROUP_ID(0) / parts, p = GROUP_ID(0) - c * parts;
    const i64 first = n * p / parts, last = n * (p + 1) / parts;
    const R mu = LOAD(TS, mean, c), r = LOAD(TS, rstd, c);
    R sum = 0, dot = 0;
    for (i64 i = first; i < last; ++i) {
        R row = 0, row_dot = 0;
        for (i64 l = lid; l < length; l += WG) {
            const R v = LOAD(TG, g, i * g_n + c * g_c + ALONG(l, g_l));
            row += v;
            row_dot = FMA(v, LOAD(TX, x, i * s_n + c * s_c + ALONG(l, s_l)) - mu, row_dot);
        }
        sum += row;
        dot += row_dot;
    }
    ADD_UP(sum, s)
    ADD_UP(dot, s)
    if (lid == 0) {
        STORE(TS, gb, GROUP_ID(0), sum);
        STORE(TS, gw, GROUP_ID(0), dot * r);
    }
}
#endif

#ifdef GRAD_COLUMNS
/* The same where channels (or the elements of a layer-norm row: PER_ROW) are adjacent in memory. */
KERNEL(pnn_norm_grad_columns, WG, 1, 1)(IN(TG, g), IN(TX, x), IN(TS, mean), IN(TS, rstd), OUT(TS, gb), OUT(TS, gw),
                                        i64 rows, i64 channels, i64 g_r, i64 g_c, i64 s_r, i64 s_c, i64 parts) {
    AT_IN(TG, g);
    AT_IN(TX, x);
    AT_IN(TS, mean);
    AT_IN(TS, rstd);
    AT_OUT(TS, gb);
    AT_OUT(TS, gw);
    const i64 block = GROUP_ID(0) / parts, p = GROUP_ID(0) - block * parts;
    const i64 c = block * WG + LOCAL_ID(0);
    const i64 first = rows * p / parts, last = rows * (p + 1) / parts;
    if (c < channels) {
        R sum = 0, dot = 0;
        for (i64 i = first; i < last; i += 64) {
            const i64 stop = i + 64 < last ? i + 64 : last;
            R part = 0, part_dot = 0;
            for (i64 row = i; row < stop; ++row) {
                const i64 k = PER_ROW ? row : c;
                const R v = LOAD(TG, g, row * g_r + c * g_c);
                part += v;
                part_dot = FMA(v, (LOAD(TX, x, row * s_r + c * s_c) - LOAD(TS, mean, k)) * LOAD(TS, rstd, k), part_dot);
            }
            sum += part;
            dot += part_dot;
        }
        STORE(TS, gb, c * parts + p, sum);
        STORE(TS, gw, c * parts + p, dot);
    }
}
#endif

#ifdef GRAD_MERGE
/* One work-item: adds up the parts of one channel, in order. */
KERNEL(pnn_norm_grad_merge, WG, 1, 1)(IN(TS, gbs), IN(TS, gws), OUT(TS, gb), OUT(TS, gw), i64 channels, i64 parts) {
    AT_IN(TS, gbs);
    AT_IN(TS, gws);
    AT_OUT(TS, gb);
    AT_OUT(TS, gw);
    const i64 c = GLOBAL_ID(0);
    if (c < channels) {
        R sum = 0, dot = 0;
        for (i64 p = 0; p < parts; ++p) {
            sum += LOAD(TS, gbs, PART(c, p));
            dot += LOAD(TS, gws, PART(c, p));
        }
        STORE(TS, gb, c, sum);
        STORE(TS, gw, c, dot);
    }
}
#endif

#ifdef LAYER
/* One work-group: a row at a time (rows GROUP_ID, GROUP_ID + NUM_GROUPS, ...). Traffic: the row three times, twice from
 * cache. WEIGHT, BIAS: 1 if there is one (TW, TB its tag; x is passed in its place otherwise). */
KERNEL(pnn_norm_layer, WG, 1, 1)(IN(TX, x), IN(TW, weight), IN(TB, bias), OUT(TX, y), OUT(TS, mean), OUT(TS, rstd),
                                 i64 rows, i64 length, i64 w_step, i64 b_step, R eps) {
    AT_IN(TX, x);
    AT_IN(TW, weight);
    AT_IN(TB, bias);
    AT_OUT(TX, y);
    AT_OUT(TS, mean);
    AT_OUT(TS, rstd);
    LOCAL R s[WG];
    const i64 lid = LOCAL_ID(0);
    for (i64 row = GROUP_ID(0); row < rows; row += NUM_GROUPS(0)) {
        const i64 at = row * length;
        R sum = 0;
        for (i64 l = lid; l < length; l += WG) sum += LOAD(TX, x, at + l);
        ADD_UP(sum, s)
        const R mu = sum / (R)length;
        sum = 0;
        for (i64 l = lid; l < length; l += WG) {
            const R d = LOAD(TX, x, at + l) - mu;
            sum = FMA(d, d, sum);
        }
        ADD_UP(sum, s)
        const R r = (R)1 / CAT(pnn_sqrt_, ACC_TAG(TX))(sum / (R)length + eps);
        for (i64 l = lid; l < length; l += WG) {
            R v = (LOAD(TX, x, at + l) - mu) * r;
            if (WEIGHT) v *= (R)LOAD(TW, weight, l * w_step);
            if (BIAS) v += (R)LOAD(TB, bias, l * b_step);
            STORE(TX, y, at + l, v);
        }
        if (lid == 0) {
            STORE(TS, mean, row, mu);
            STORE(TS, rstd, row, r);
        }
    }
}
#endif

#ifdef LAYER_GRAD
/* One work-group: a row at a time; gx = rstd (h - mean(h) - xhat mean(h xhat)) with h = g w. Traffic: g and x twice. */
KERNEL(pnn_norm_layer_grad, WG, 1, 1)(IN(TG, g), IN(TX, x), IN(TW, weight), IN(TS, mean), IN(TS, rstd), OUT(TX, gx),
                                      i64 rows, i64 length, i64 w_step) {
    AT_IN(TG, g);
    AT_IN(TX, x);
    AT_IN(TW, weight);
    AT_IN(TS, mean);
    AT_IN(TS, rstd);
    AT_OUT(TX, gx);
    LOCAL R s[WG];
    const i64 lid = LOCAL_ID(0);
    for (i64 row = GROUP_ID(0); row < rows; row += NUM_GROUPS(0)) {
        const i64 at = row * length;
        const R mu = LOAD(TS, mean, row), r = LOAD(TS, rstd, row);
        R sum = 0, dot = 0;
        for (i64 l = lid; l < length; l += WG) {
            const R h = (R)LOAD(TG, g, at + l) * (WEIGHT ? (R)LOAD(TW, weight, l * w_step) : (R)1);
            sum += h;
            dot = FMA(h, (LOAD(TX, x, at + l) - mu) * r, dot);
        }
        ADD_UP(sum, s)
        ADD_UP(dot, s)
        const R mean_h = sum / (R)length, mean_dot = dot / (R)length;
        for (i64 l = lid; l < length; l += WG) {
            const R h = (R)LOAD(TG, g, at + l) * (WEIGHT ? (R)LOAD(TW, weight, l * w_step) : (R)1);
            const R xhat = (LOAD(TX, x, at + l) - mu) * r;
            STORE(TX, gx, at + l, r * (h - mean_h - xhat * mean_dot));
        }
    }
}
#endif
