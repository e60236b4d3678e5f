/* Resizing of images, and its gradient. One result per step of a work-item (each_pixel.h); any array strides.
 *
 * Output o of an axis lies at (step o + shift) / unit of the input, an exact fraction held inside [0, size - 1]. The gradient
 * gathers: an input looks at the outputs whose position is less than 1 away (LINEAR) or falls on it. Traffic: every array once,
 * plus cache hits. Defines: T, SIZE, ROWS, LAST, IX (of each_pixel.h; also holds positions), LINEAR, GRAD (which kernel). */
#include "each_pixel.h"

#define REAL ACC(T)
#define RESIZE_ARGS                                                                                             \
    i64 n, i64 c, i64 h, i64 w, i64 oh, i64 ow, i64 xn, i64 xc, i64 xh, i64 xw, i64 yn, i64 yc, i64 yh, i64 yw, \
        i64 step_h, i64 shift_h, i64 unit_h, i64 step_w, i64 shift_w, i64 unit_w

/* The input before output o, and the share of the next one. */
#define SOURCE(o, low, part, size, step, shift, unit)                                                           \
    const i64 low##_at = (step) * (o) + (shift) > 0 ? (step) * (o) + (shift) : 0;                               \
    const i64 low##_down = (i64)((IX)low##_at / (IX)(unit));                                                    \
    const i64 low = low##_down < (size) - 1 ? low##_down : (size) - 1;                                          \
    const REAL part = LINEAR && low < (size) - 1 ? (REAL)(low##_at - low * (unit)) / (REAL)(unit) : 0

#if !GRAD
KERNEL(pnn_resize, SIZE, 1, 1)(IN(T, x), OUT(T, y), RESIZE_ARGS) {
    AT_IN(T, x);
    AT_OUT(T, y);
    POOL_EACH(oh, ow)
        SOURCE(ir, top, down, h, step_h, shift_h, unit_h);
        SOURCE(il, left, along, w, step_w, shift_w, unit_w);
        const i64 base = in * xn + ic * xc + top * xh + left * xw;
#if LINEAR
        const i64 below = top < h - 1 ? xh : 0, beside = left < w - 1 ? xw : 0;
        const REAL upper = LOAD(T, x, base) * (1 - along) + LOAD(T, x, base + beside) * along;
        const REAL lower = LOAD(T, x, base + below) * (1 - along) + LOAD(T, x, base + below + beside) * along;
        const REAL value = upper * (1 - down) + lower * down;
#else
        const REAL value = LOAD(T, x, base);
#endif
        STORE(T, y, in * yn + ic * yc + ir * yh + il * yw, value);
    POOL_END
}
#else
/* First output at or after position p (in units): the smallest o >= 0 with step o + shift >= p. */
#define FROM(p, step, shift) ((p) - (shift) <= 0 ? 0 : ((p) - (shift) + (step) - 1) / (step))
/* Outputs that may read input i: from FIRST to before STOP; the ends of the input also take what is held inside. */
#define FIRST(i, step, shift, unit) ((i) == 0 ? 0 : FROM(((i) - LINEAR) * (unit), step, shift))
#define STOP(i, size, out, step, shift, unit) ((i) == (size) - 1 ? (out) : FROM(((i) + 1) * (unit), step, shift))
#define SHARE(low, part, i) (low == (i) ? 1 - part : low + 1 == (i) ? part : 0)

KERNEL(pnn_resize_grad, SIZE, 1, 1)(IN(T, g), OUT(T, x), RESIZE_ARGS) {
    AT_IN(T, g);
    AT_OUT(T, x);
    POOL_EACH(h, w)
        const i64 r0 = FIRST(ir, step_h, shift_h, unit_h), r1 = STOP(ir, h, oh, step_h, shift_h, unit_h);
        const i64 c0 = FIRST(il, step_w, shift_w, unit_w), c1 = STOP(il, w, ow, step_w, shift_w, unit_w);
        REAL total = 0;
        for (i64 r = r0; r < r1 && r < oh; ++r) {
            SOURCE(r, top, down, h, step_h, shift_h, unit_h);
            REAL row = 0;
            for (i64 e = c0; e < c1 && e < ow; ++e) {
                SOURCE(e, left, along, w, step_w, shift_w, unit_w);
                row = FMA(SHARE(left, along, il), LOAD(T, g, in * yn + ic * yc + r * yh + e * yw), row);
            }
            total = FMA(SHARE(top, down, ir), row, total);
        }
        STORE(T, x, in * xn + ic * xc + ir * xh + il * xw, total);
    POOL_END
}
#endif
