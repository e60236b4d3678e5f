/* Unfold (im2col) and fold (its adjoint): one result per step of a work-item (each_pixel.h); any strides of the operand.
 *
 * Unfold: results are images of oh x ow with C KH KW channels, in C order. Fold gathers: a pixel looks at every tap of every
 * window that covers it, in row-major order of the taps. Traffic: the larger array once, the smaller from cache.
 * Defines: T, SIZE, ROWS, LAST, IX (of each_pixel.h), FOLD (which kernel), KH KW SH SW DH DW (CPUs:
 * constants, since fold divides by them; arguments otherwise). */
#include "each_pixel.h"

#define UNFOLD_ARGS                                                                                             \
    i64 n, i64 c, i64 h, i64 w, i64 oh, i64 ow, i64 kh, i64 kw, i64 sh, i64 sw, i64 top, i64 left, i64 dh, i64 dw

#ifndef KH
#define KH kh
#define KW kw
#define SH sh
#define SW sw
#define DH dh
#define DW dw
#endif

#if !FOLD
/* c counts the result's channels. */
KERNEL(pnn_unfold, SIZE, 1, 1)(IN(T, x), OUT(T, y), UNFOLD_ARGS, i64 xn, i64 xc, i64 xh, i64 xw) {
    AT_IN(T, x);
    AT_OUT(T, y);
    POOL_EACH(oh, ow)
        const i64 q = ic % KW, above = ic / KW, p = above % KH, ch = above / KH;
        const i64 at_h = ir * SH + p * DH - top, at_w = il * SW + q * DW - left;
        ACC(T) v = 0;
        if (at_h >= 0 && at_h < h && at_w >= 0 && at_w < w) v = LOAD(T, x, in * xn + ch * xc + at_h * xh + at_w * xw);
        STORE(T, y, ((in * c + ic) * oh + ir) * ow + il, v);
    POOL_END
}
#else
KERNEL(pnn_fold, SIZE, 1, 1)(IN(T, x), OUT(T, y), UNFOLD_ARGS, i64 xn, i64 xc, i64 xl) {
    AT_IN(T, x);
    AT_OUT(T, y);
    POOL_EACH(h, w)
        ACC(T) total = 0;
        for (i64 p = 0; p < KH; ++p) {
            const i64 far_h = ir + top - p * DH;
            if (far_h < 0 || far_h % SH != 0 || far_h / SH >= oh) continue;
            ACC(T) row = 0;
            for (i64 q = 0; q < KW; ++q) {
                const i64 far_w = il + left - q * DW;
                if (far_w >= 0 && far_w % SW == 0 && far_w / SW < ow)
                    row += LOAD(T, x, in * xn + ((ic * KH + p) * KW + q) * xc + (far_h / SH * ow + far_w / SW) * xl);
            }
            total += row;
        }
        STORE(T, y, ((in * c + ic) * h + ir) * w + il, total);
    POOL_END
}
#endif
