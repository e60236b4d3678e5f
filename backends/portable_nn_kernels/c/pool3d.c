/* Pooling of volumes and its gradients: pool.c with one more axis and without its adaptive windows; any array strides.
 *
 * ROWS 1 (CPUs): a group of SIZE work-items walks over rows of results, its work-items along w; ROWS 0 (GPUs): flat, one
 * result per work-item. Gradients gather: an input position looks at every window that covers it, in row-major order.
 * Traffic: every array once, plus cache hits where windows overlap.
 * Defines: T, I (tag of the winners' numbers), SIZE, ROWS, IX, WITH_INDEX (maximum), PAD_COUNTS (mean), KIND (which kernel). */
#define REAL ACC(T)
#define VOLUME_ARGS                                                                                             \
    i64 n, i64 c, i64 d, i64 h, i64 w, i64 od, i64 oh, i64 ow, i64 kd, i64 kh, i64 kw, i64 sd, i64 sh, i64 sw, i64 front, \
        i64 top, i64 left, i64 back, i64 bottom, i64 right, i64 dd, i64 dh, i64 dw, i64 xn, i64 xc, i64 xd, i64 xh, i64 xw, \
        i64 yn, i64 yc, i64 yd, i64 yh, i64 yw

/* For every (in, ic, is, ir, il) of n x c x deep x rows x cols: image, channel, slice, row, column. */
#if ROWS
#define EACH_VOXEL(deep, rows, cols)                                                                            \
    for (i64 line = GROUP_ID(0); line < n * c * (deep) * (rows); line += NUM_GROUPS(0)) {                       \
        const i64 ir = line % (rows), a2 = line / (rows), is = a2 % (deep), a1 = a2 / (deep), ic = a1 % c, in = a1 / c; \
        for (i64 il = LOCAL_ID(0); il < (cols); il += SIZE) {
#define VOXEL_END }}
#else
#define EACH_VOXEL(deep, rows, cols)                                                                            \
    for (i64 e = GLOBAL_ID(0); e < n * c * (deep) * (rows) * (cols); e += NUM_GROUPS(0) * SIZE) {               \
        const IX a4 = (IX)e / (IX)(cols), a3 = a4 / (IX)(rows), a2 = a3 / (IX)(deep), a1 = a2 / (IX)c;          \
        const i64 il = (i64)((IX)e - a4 * (IX)(cols)), ir = (i64)(a4 - a3 * (IX)(rows)), is = (i64)(a3 - a2 * (IX)(deep)), \
                  ic = (i64)(a2 - a1 * (IX)c), in = (i64)a1;
#define VOXEL_END }
#endif

#define WITHIN(at, size) ((at) >= 0 && (at) < (size))
#define X_AT(s, r, l) (in * xn + ic * xc + (s) * xd + (r) * xh + (l) * xw)
#define Y_AT(s, r, l) (in * yn + ic * yc + (s) * yd + (r) * yh + (l) * yw)

#if KIND == 0
KERNEL(pnn_max_pool3d, SIZE, 1, 1)(IN(T, x), OUT(T, y), OUT(I, index), VOLUME_ARGS) {
    AT_IN(T, x); AT_OUT(T, y); AT_OUT(I, index);
    EACH_VOXEL(od, oh, ow)
        REAL best = -CAT(INF_, REAL_NAME);
        i32 winner = 0, seen = 0;
        for (i64 o = 0; o < kd; ++o)
            for (i64 p = 0; p < kh; ++p)
                for (i64 q = 0; q < kw; ++q) {
                    const i64 at_d = is * sd + o * dd - front, at_h = ir * sh + p * dh - top, at_w = il * sw + q * dw - left;
                    if (WITHIN(at_d, d) && WITHIN(at_h, h) && WITHIN(at_w, w)) {
                        const REAL v = LOAD(T, x, X_AT(at_d, at_h, at_w));
                        /* NaN: v != v beats any number; once best is NaN nothing does. */
                        const i32 better = !seen || v > best || (v != v && best == best);
                        best = better ? v : best;
                        winner = better ? (i32)((o * kh + p) * kw + q) : winner;
                        seen = 1;
                    }
                }
        STORE(T, y, Y_AT(is, ir, il), best);
#if WITH_INDEX
        STORE(I, index, Y_AT(is, ir, il), winner);
#endif
    VOXEL_END
}
#endif

/* The positions of one axis' window that count. */
DEVICE i64 pnn_pool3d_count(i64 first, i64 taps, i64 size, i64 after) {
#if PAD_COUNTS
    return first + taps < size + after ? taps : size + after - first;
#else
    const i64 a = first < 0 ? 0 : first, b = first + taps < size ? first + taps : size;
    return b - a;
#endif
}

#if KIND == 1
KERNEL(pnn_avg_pool3d, SIZE, 1, 1)(IN(T, x), OUT(T, y), VOLUME_ARGS) {
    AT_IN(T, x); AT_OUT(T, y);
    EACH_VOXEL(od, oh, ow)
        const i64 d0 = is * sd - front, h0 = ir * sh - top, w0 = il * sw - left;
        REAL total = 0;
        for (i64 o = 0; o < kd; ++o) {
            REAL plane = 0;
            for (i64 p = 0; p < kh; ++p) {
                REAL row = 0;
                for (i64 q = 0; q < kw; ++q)
                    if (WITHIN(d0 + o, d) && WITHIN(h0 + p, h) && WITHIN(w0 + q, w)) row += LOAD(T, x, X_AT(d0 + o, h0 + p, w0 + q));
                plane += row;
            }
            total += plane;
        }
        const i64 count = pnn_pool3d_count(d0, kd, d, back) * pnn_pool3d_count(h0, kh, h, bottom) * pnn_pool3d_count(w0, kw, w, right);
        STORE(T, y, Y_AT(is, ir, il), total / (REAL)count);
    VOXEL_END
}
#endif

/* Windows that cover position i of an axis: o from LOW to HIGH. */
#define LOW(i, stride, before, kernel, dilation)                                                                \
    ((i) + (before) <= ((kernel) - 1) * (dilation) ? 0 : ((i) + (before) - ((kernel) - 1) * (dilation) + (stride) - 1) / (stride))
#define HIGH(i, out, stride, before) (((i) + (before)) / (stride) < (out) ? ((i) + (before)) / (stride) : (out) - 1)
#define COVERING                                                                                                \
    const i64 o0 = LOW(is, sd, front, kd, dd), o1 = HIGH(is, od, sd, front), p0 = LOW(ir, sh, top, kh, dh),     \
              p1 = HIGH(ir, oh, sh, top), q0 = LOW(il, sw, left, kw, dw), q1 = HIGH(il, ow, sw, left)

#if KIND == 2
KERNEL(pnn_max_pool3d_grad, SIZE, 1, 1)(IN(T, g), IN(I, index), OUT(T, x), VOLUME_ARGS, i64 jn, i64 jc, i64 jd, i64 jh, i64 jw) {
    AT_IN(T, g); AT_IN(I, index); AT_OUT(T, x);
    EACH_VOXEL(d, h, w)
        COVERING;
        REAL total = 0;
        for (i64 o = o0; o <= o1; ++o)
            for (i64 p = p0; p <= p1; ++p)
                for (i64 q = q0; q <= q1; ++q) {
                    const i64 far_d = is - (o * sd - front), far_h = ir - (p * sh - top), far_w = il - (q * sw - left);
                    if (far_d % dd == 0 && far_h % dh == 0 && far_w % dw == 0) {
                        const i64 mine = (far_d / dd * kh + far_h / dh) * kw + far_w / dw;
                        const i64 won = (i64)LOAD(I, index, in * jn + ic * jc + o * jd + p * jh + q * jw);
                        const REAL v = LOAD(T, g, Y_AT(o, p, q));
                        total += won == mine ? v : 0;
                    }
                }
        STORE(T, x, X_AT(is, ir, il), total);
    VOXEL_END
}
#endif

#if KIND == 3
KERNEL(pnn_avg_pool3d_grad, SIZE, 1, 1)(IN(T, g), OUT(T, x), VOLUME_ARGS) {
    AT_IN(T, g); AT_OUT(T, x);
    EACH_VOXEL(d, h, w)
        COVERING;
        REAL total = 0;
        for (i64 o = o0; o <= o1; ++o) {
            const i64 deep = pnn_pool3d_count(o * sd - front, kd, d, back);
            for (i64 p = p0; p <= p1; ++p) {
                const i64 high = deep * pnn_pool3d_count(p * sh - top, kh, h, bottom);
                for (i64 q = q0; q <= q1; ++q)
                    total += LOAD(T, g, Y_AT(o, p, q)) / (REAL)(high * pnn_pool3d_count(q * sw - left, kw, w, right));
            }
        }
        STORE(T, x, X_AT(is, ir, il), total);
    VOXEL_END
}
#endif
