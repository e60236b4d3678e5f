/* Pooling and its gradients. One result per step of a work-item (each_pixel.h); any array strides. Gradients gather: an input position looks at every window that covers it, in row-major order, so nothing is
 * atomic. Traffic: every array once, plus cache hits where windows overlap.
 * Defines: the kernel's name (MAX_POOL ...: one is compiled, builds take time), T, I (tag of the winners' numbers), SIZE, ROWS, LAST (channels-last order), ADAPTIVE, INSIDE (no window leaves the
 * input), KH KW SH SW DH DW (small fixed windows), WITH_INDEX (maximum), PAD_COUNTS (mean: padding counts). */
#define REAL ACC(T)
#define POOL_ARGS                                                                                               \
    i64 n, i64 c, i64 h, i64 w, i64 oh, i64 ow, i64 kh, i64 kw, i64 top, i64 bottom, i64 left, i64 right, i64 xn, \
        i64 xc, i64 xh, i64 xw, i64 yn, i64 yc, i64 yh, i64 yw, i64 sh, i64 sw, i64 dh, i64 dw
#ifndef KH /* large or adaptive windows: sizes are arguments, so that they share a program and nothing is unrolled */
#define KH kh
#define KW kw
#define SH sh
#define SW sw
#define DH dh
#define DW dw
#endif

/* Channels adjacent in memory (X_UNIT, Y_UNIT; J_UNIT for the winners' numbers): a stride that only the run knows makes a CPU's
 * loads gathers. */
#ifdef X_UNIT
#define XC 1
#else
#define XC xc
#endif
#ifdef Y_UNIT
#define YC 1
#else
#define YC yc
#endif
#ifdef J_UNIT
#define JC 1
#else
#define JC jc
#endif

#include "each_pixel.h"

/* Window o of an axis: first position and number of positions, before those outside are left out. */
#if ADAPTIVE
#define FIRST(o, size, out, stride, before) ((o) * (size) / (out))
#define TAPS(o, size, out, kernel) (((o) + 1) * (size) + (out) - 1) / (out) - (o) * (size) / (out)
#define STEP(dilation) 1
#else
#define FIRST(o, size, out, stride, before) ((o) * (stride) - (before))
#define TAPS(o, size, out, kernel) (kernel)
#define STEP(dilation) (dilation)
#endif
#define WITHIN(at, size) (INSIDE || ((at) >= 0 && (at) < (size)))

#ifdef MAX_POOL
KERNEL(pnn_max_pool, SIZE, 1, 1)(IN(T, x), OUT(T, y), OUT(I, index), POOL_ARGS) {
    AT_IN(T, x); AT_OUT(T, y); AT_OUT(I, index);
    POOL_EACH(oh, ow)
        const i64 h0 = FIRST(ir, h, oh, SH, top), w0 = FIRST(il, w, ow, SW, left);
        const i64 rows = TAPS(ir, h, oh, KH), cols = TAPS(il, w, ow, KW);
        const i64 base = in * xn + ic * XC;
        REAL best = -CAT(INF_, REAL_NAME);
        i32 winner = 0, seen = 0;
        for (i64 p = 0; p < rows; ++p) {
            const i64 at_h = h0 + p * STEP(DH);
            for (i64 q = 0; q < cols; ++q) {
                const i64 at_w = w0 + q * STEP(DW);
                if (WITHIN(at_h, h) && WITHIN(at_w, w)) {
                    const REAL v = LOAD(T, x, base + at_h * xh + at_w * xw);
                    /* NaN: v != v beats any number; once best is NaN nothing does. */
                    const i32 better = !seen || v > best || (v != v && best == best);
                    best = better ? v : best;
                    winner = better ? (i32)(p * KW + q) : winner;
                    seen = 1;
                }
            }
        }
        const i64 place = in * yn + ic * YC + ir * yh + il * yw;
        STORE(T, y, place, best);
#if WITH_INDEX
        STORE(I, index, place, winner);
#endif
    POOL_END
}
#endif

/* The count a window's sum is divided by. */
DEVICE i64 pnn_pool_count(i64 first, i64 taps, i64 size, i64 after) {
#if PAD_COUNTS
    return first + taps < size + after ? taps : size + after - first;
#else
    const i64 a = first < 0 ? 0 : first, b = first + taps < size ? first + taps : size;
    return b - a;
#endif
}

#ifdef AVG_POOL
KERNEL(pnn_avg_pool, SIZE, 1, 1)(IN(T, x), OUT(T, y), POOL_ARGS) {
    AT_IN(T, x); AT_OUT(T, y);
    POOL_EACH(oh, ow)
        const i64 h0 = FIRST(ir, h, oh, SH, top), w0 = FIRST(il, w, ow, SW, left);
        const i64 rows = TAPS(ir, h, oh, KH), cols = TAPS(il, w, ow, KW);
        const i64 base = in * xn + ic * XC;
        REAL total = 0;
        for (i64 p = 0; p < rows; ++p) {
            const i64 at_h = h0 + p;
            REAL line_sum = 0;
            for (i64 q = 0; q < cols; ++q) {
                const i64 at_w = w0 + q;
                if (WITHIN(at_h, h) && WITHIN(at_w, w)) line_sum += LOAD(T, x, base + at_h * xh + at_w * xw);
            }
            total += line_sum;
        }
#if INSIDE && !ADAPTIVE
        const i64 divisor = KH * KW;
#else
        const i64 divisor = pnn_pool_count(h0, rows, h, bottom) * pnn_pool_count(w0, cols, w, right);
#endif
        STORE(T, y, in * yn + ic * YC + ir * yh + il * yw, total / (REAL)divisor);
    POOL_END
}
#endif

/* Windows that cover position i of an axis: o from LOW to HIGH; TAP is the position's number inside window o. */
#if ADAPTIVE
#define LOW(i, size, out, stride, before, kernel, dilation) ((i) * (out) / (size))
#define HIGH(i, size, out, stride, before) ((((i) + 1) * (out) - 1) / (size))
#else
#define LOW(i, size, out, stride, before, kernel, dilation)                                                     \
    ((i) + (before) <= ((kernel) - 1) * (dilation) ? 0 : ((i) + (before) - ((kernel) - 1) * (dilation) + (stride) - 1) / (stride))
#define HIGH(i, size, out, stride, before) (((i) + (before)) / (stride) < (out) ? ((i) + (before)) / (stride) : (out) - 1)
#endif
#define COVERING                                                                                                \
    const i64 p0 = LOW(ir, h, oh, SH, top, KH, DH), p1 = HIGH(ir, h, oh, SH, top);                              \
    const i64 q0 = LOW(il, w, ow, SW, left, KW, DW), q1 = HIGH(il, w, ow, SW, left)

#ifdef MAX_POOL_GRAD
KERNEL(pnn_max_pool_grad, SIZE, 1, 1)(IN(T, g), IN(I, index), OUT(T, x), POOL_ARGS, i64 jn, i64 jc, i64 jh, i64 jw) {
    AT_IN(T, g); AT_IN(I, index); AT_OUT(T, x);
    POOL_EACH(h, w)
        COVERING;
        REAL total = 0;
        for (i64 p = p0; p <= p1; ++p) {
            const i64 far_h = ir - FIRST(p, h, oh, SH, top);
            for (i64 q = q0; q <= q1; ++q) {
                const i64 far_w = il - FIRST(q, w, ow, SW, left);
                if (far_h % STEP(DH) == 0 && far_w % STEP(DW) == 0) {
                    const i64 mine = far_h / STEP(DH) * KW + far_w / STEP(DW);
                    const i64 won = (i64)LOAD(I, index, in * jn + ic * JC + p * jh + q * jw);
                    const REAL v = LOAD(T, g, in * yn + ic * YC + p * yh + q * yw);
                    total += won == mine ? v : 0;
                }
            }
        }
        STORE(T, x, in * xn + ic * XC + ir * xh + il * xw, total);
    POOL_END
}
#endif

#ifdef AVG_POOL_GRAD
KERNEL(pnn_avg_pool_grad, SIZE, 1, 1)(IN(T, g), OUT(T, x), POOL_ARGS) {
    AT_IN(T, g); AT_OUT(T, x);
    POOL_EACH(h, w)
        COVERING;
        REAL total = 0;
        for (i64 p = p0; p <= p1; ++p) {
            const i64 h0 = FIRST(p, h, oh, SH, top), high = pnn_pool_count(h0, TAPS(p, h, oh, KH), h, bottom);
            for (i64 q = q0; q <= q1; ++q) {
                const i64 w0 = FIRST(q, w, ow, SW, left), wide = pnn_pool_count(w0, TAPS(q, w, ow, KW), w, right);
                total += LOAD(T, g, in * yn + ic * YC + p * yh + q * yw) / (REAL)(high * wide);
            }
        }
        STORE(T, x, in * xn + ic * XC + ir * xh + il * xw, total);
    POOL_END
}
#endif
