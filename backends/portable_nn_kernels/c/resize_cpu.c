/* Resizing for CPUs, C-order images: one work-item takes planes of the result, row by row. OpenCL only; replaces resize.c
 * there, whose divisions per pixel cost nine tenths of the time.
 *
 * Each work-item first writes where every column reads (left) and the share of the next column (along) to scratch of its
 * own, OW of each. Forward: a row of the result from one or two rows of x. Backward: a row of g is gathered along the
 * columns into `sum` (W numbers of scratch) and added to one or two rows of x: the sums of resize.c in the same order.
 * Traffic: every array once. Defines: T, LINEAR, GRAD (which kernel); for GRAD, T is its own compute type. */
#ifdef PNN_OPENCL
#define REAL ACC(T)
#define RESIZE_ARGS                                                                                             \
    i64 planes, i64 c, i64 h, i64 w, i64 oh, i64 ow, i64 xn, i64 xc, i64 xh, i64 xw, i64 yn, i64 yc, i64 yh,    \
        i64 yw, i64 step_h, i64 shift_h, i64 unit_h, i64 step_w, i64 shift_w, i64 unit_w
/* The input before output o, and the share of the next one. */
#define SOURCE(o, low, part, size, step, shift, unit)                                                           \
    const i64 low##_at = (step) * (o) + (shift) > 0 ? (step) * (o) + (shift) : 0, low##_down = low##_at / (unit); \
    const i64 low = low##_down < (size) - 1 ? low##_down : (size) - 1;                                          \
    const REAL part = LINEAR && low < (size) - 1 ? (REAL)(low##_at - low * (unit)) / (REAL)(unit) : 0;
#define COLUMNS                                                                                                 \
    left += GROUP_ID(0) * ow;                                                                                   \
    along += GROUP_ID(0) * ow;                                                                                  \
    for (i64 e = 0; e < ow; ++e) {                                                                              \
        SOURCE(e, low, part, w, step_w, shift_w, unit_w)                                                        \
        left[e] = (i32)low;                                                                                     \
        along[e] = part;                                                                                        \
    }
#define EACH_PLANE                                                                                              \
    for (i64 plane = planes * GROUP_ID(0) / NUM_GROUPS(0); plane < planes * (GROUP_ID(0) + 1) / NUM_GROUPS(0); ++plane)

#if !GRAD
KERNEL(pnn_resize_planes, 1, 1, 1)(IN(T, x), OUT(T, y), OUT(i32, left), OUT(ACC_TAG(T), along), RESIZE_ARGS) {
    AT_IN(T, x); AT_OUT(T, y); AT_OUT(i32, left); AT_OUT(ACC_TAG(T), along);
    COLUMNS
    EACH_PLANE {
        for (i64 r = 0; r < oh; ++r) {
            SOURCE(r, top, down, h, step_h, shift_h, unit_h)
            GLOBAL const TYPE(T)* in = x + plane / c * xn + plane % c * xc + top * xh;
            GLOBAL TYPE(T)* out = y + plane / c * yn + plane % c * yc + r * yh;
            const i64 below = top < h - 1 ? xh : 0;
            for (i64 e = 0; e < ow; ++e) {
                const i64 at = left[e] * xw;
#if LINEAR
                const i64 beside = left[e] < w - 1 ? xw : 0;
                const REAL upper = LOAD(T, in, at) * (1 - along[e]) + LOAD(T, in, at + beside) * along[e];
                const REAL lower = LOAD(T, in, at + below) * (1 - along[e]) + LOAD(T, in, at + below + beside) * along[e];
                STORE(T, out, e * yw, upper * (1 - down) + lower * down);
#else
                STORE(T, out, e * yw, LOAD(T, in, at));
#endif
            }
        }
    }
}
#else
KERNEL(pnn_resize_grad_planes, 1, 1, 1)(IN(T, g), OUT(T, x), OUT(i32, left), OUT(T, along), OUT(T, sum), RESIZE_ARGS) {
    AT_IN(T, g); AT_OUT(T, x); AT_OUT(i32, left); AT_OUT(T, along); AT_OUT(T, sum);
    COLUMNS
    sum += GROUP_ID(0) * w;
    EACH_PLANE {
        GLOBAL TYPE(T)* image = x + plane / c * xn + plane % c * xc;
        for (i64 i = 0; i < h; ++i)
            for (i64 j = 0; j < w; ++j) image[i * xh + j * xw] = 0;
        for (i64 r = 0; r < oh; ++r) {
            SOURCE(r, top, down, h, step_h, shift_h, unit_h)
            GLOBAL const TYPE(T)* in = g + plane / c * yn + plane % c * yc + r * yh;
            for (i64 j = 0; j < w; ++j) sum[j] = 0;
            for (i64 e = 0; e < ow; ++e) {
                const REAL v = in[e * yw];
                const i64 j = left[e];
                sum[j] = FMA(1 - along[e], v, sum[j]);
#if LINEAR
                if (j < w - 1) sum[j + 1] = FMA(along[e], v, sum[j + 1]);
#endif
            }
            GLOBAL TYPE(T)* out = image + top * xh;
            for (i64 j = 0; j < w; ++j) out[j * xw] = FMA(1 - down, sum[j], out[j * xw]);
#if LINEAR
            if (top < h - 1)
                for (i64 j = 0; j < w; ++j) out[xh + j * xw] = FMA(down, sum[j], out[xh + j * xw]);
#endif
        }
    }
}
#endif
#endif
