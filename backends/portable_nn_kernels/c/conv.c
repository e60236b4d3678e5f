/* Convolution for GPUs as an implicit GEMM: C[i, j] = sum over k of A[i, k] B[k, j], where the tiles of A and B are gathered
 * from image and filter straight into local memory, so no im2col matrix is ever written (idea: cuDNN, Chetlur et al. 2014).
 *
 *   forward          i = output pixel (n, oh, ow), j = output channel, k = (c, p, q)
 *   input gradient   i = input pixel (n, h, w),    j = input channel,  k = (o, p, q)
 *   weight gradient  i = output channel,           j = (c, p, q),      k = output pixel, in parts summed by a second launch
 *
 * One work-group: 16 x 16 work-items, a tile of TM x TN = 16 RM x 16 RN results of one group of channels, TK of k at a time.
 * Traffic: A once per column of tiles, B once per row of tiles. Any stride, dilation, groups and array strides.
 * Sums of the weight gradient are flushed every FLUSH steps, so that the error grows like that of a blocked sum.
 * Defines: T (storage), IX (u32 or i64), RM, RN, TK, and for the forward kernel an EPILOGUE. */
#include "conv.h"
#include "conv_tile.h"
#include "epilogue.h"

KERNEL(pnn_conv_forward, 256, 1, 1)(IN(T, x), IN(T, weight), IN(T, bias), OUT(T, y), CONV_ARGS, i32 has_bias, i64 bias_step) {
    AT_IN(T, x); AT_IN(T, weight); AT_IN(T, bias); AT_OUT(T, y);
    TILES;
    WHERE(o);
    const i64 count_k = c * kh * kw, pixels = n * oh * ow;
    for (i64 k0 = 0; k0 < count_k; k0 += TK) {
        for (i64 e = lane; e < TM * TK; e += 256) {
            const i64 i = i0 + e % TM, k = k0 + e / TM;
            REAL v = 0;
            if (i < pixels && k < count_k) {
                CONV_SPLIT(i, ow, row, col); CONV_SPLIT(row, oh, image, line);
                CONV_SPLIT(k, kw, above, q); CONV_SPLIT(above, kh, ch, p);
                const i64 at_h = (i64)line * sh + (i64)p * dh - top, at_w = (i64)col * sw + (i64)q * dw - left;
                if (at_h >= 0 && at_h < h && at_w >= 0 && at_w < w)
                    v = LOAD(T, x, (i64)image * xn + (g * c + (i64)ch) * xc + at_h * xh + at_w * xw);
            }
            tile_a[e / TM * (TM + 1) + e % TM] = v;
        }
        for (i64 e = lane; e < TN * TK; e += 256) {
            const i64 j = j0 + e / TK, k = k0 + e % TK;
            REAL v = 0;
            if (j < o && k < count_k) {
                CONV_SPLIT(k, kw, above, q); CONV_SPLIT(above, kh, ch, p);
                v = LOAD(T, weight, (g * o + j) * wo + (i64)ch * wc + (i64)p * wp + (i64)q * wq);
            }
            tile_b[e % TK * (TN + 1) + e / TK] = v;
        }
        MULTIPLY;
    }
    for (int r = 0; r < RM; ++r) {
        const i64 i = i0 + ti + 16 * r;
        if (i >= pixels) continue;
        CONV_SPLIT(i, ow, row, col); CONV_SPLIT(row, oh, image, line);
        const i64 place = (i64)image * yn + (i64)line * yh + (i64)col * yw;
        for (int s = 0; s < RN; ++s) {
            const i64 j = j0 + tj + 16 * s;
            if (j < o) {
                const REAL shift = has_bias ? LOAD(T, bias, (g * o + j) * bias_step) : 0;
                const REAL sum = acc[r * RN + s] + shift;
                STORE(T, y, place + (g * o + j) * yo, EPILOGUE(sum));
            }
        }
    }
}

/* has_bias: one number per channel of x is added (transposed convolutions; none for gradients). */
KERNEL(pnn_conv_input_grad, 256, 1, 1)(IN(T, y), IN(T, weight), IN(T, bias), OUT(T, x), CONV_ARGS, i32 has_bias, i64 bias_step) {
    AT_IN(T, y); AT_IN(T, weight); AT_IN(T, bias); AT_OUT(T, x);
    TILES;
    WHERE(c);
    const i64 count_k = o * kh * kw, pixels = n * h * w;
    for (i64 k0 = 0; k0 < count_k; k0 += TK) {
        for (i64 e = lane; e < TM * TK; e += 256) {
            const i64 i = i0 + e % TM, k = k0 + e / TM;
            REAL v = 0;
            if (i < pixels && k < count_k) {
                CONV_SPLIT(i, w, row, col); CONV_SPLIT(row, h, image, line);
                CONV_SPLIT(k, kw, above, q); CONV_SPLIT(above, kh, ch, p);
                const i64 far_h = (i64)line + top - (i64)p * dh, far_w = (i64)col + left - (i64)q * dw;
                if (far_h >= 0 && far_w >= 0) {
                    CONV_SPLIT(far_h, sh, at_h, rest_h); CONV_SPLIT(far_w, sw, at_w, rest_w);
                    if (rest_h == 0 && rest_w == 0 && (i64)at_h < oh && (i64)at_w < ow)
                        v = LOAD(T, y, (i64)image * yn + (g * o + (i64)ch) * yo + (i64)at_h * yh + (i64)at_w * yw);
                }
            }
            tile_a[e / TM * (TM + 1) + e % TM] = v;
        }
        for (i64 e = lane; e < TN * TK; e += 256) {
            const i64 j = j0 + e / TK, k = k0 + e % TK;
            REAL v = 0;
            if (j < c && k < count_k) {
                CONV_SPLIT(k, kw, above, q); CONV_SPLIT(above, kh, ch, p);
                v = LOAD(T, weight, (g * o + (i64)ch) * wo + j * wc + (i64)p * wp + (i64)q * wq);
            }
            tile_b[e % TK * (TN + 1) + e / TK] = v;
        }
        MULTIPLY;
    }
    for (int r = 0; r < RM; ++r) {
        const i64 i = i0 + ti + 16 * r;
        if (i >= pixels) continue;
        CONV_SPLIT(i, w, row, col); CONV_SPLIT(row, h, image, line);
        for (int s = 0; s < RN; ++s) {
            const i64 j = j0 + tj + 16 * s;
            if (j < c) {
                const REAL shift = has_bias ? LOAD(T, bias, (g * c + j) * bias_step) : 0;
                STORE(T, x, (i64)image * xn + (g * c + j) * xc + (i64)line * xh + (i64)col * xw, acc[r * RN + s] + shift);
            }
        }
    }
}

/* Part GROUP_ID(1) sums output pixels [part * step, (part + 1) * step) into partial (part, group, o, c kh kw). */
KERNEL(pnn_conv_weight_grad, 256, 1, 1)(IN(T, x), IN(T, y), OUT(ACC_TAG(T), partial), CONV_ARGS, i64 step) {
    AT_IN(T, x); AT_IN(T, y); AT_OUT(ACC_TAG(T), partial);
    const i64 count_j = c * kh * kw;
    TILES;
    WHERE(count_j);
    const i64 first = GROUP_ID(1) * step, pixels = n * oh * ow, stop = first + step < pixels ? first + step : pixels;
    REAL total[RM * RN];
    for (int e = 0; e < RM * RN; ++e) total[e] = 0;
    i64 since = 0;
    for (i64 k0 = first; k0 < stop; k0 += TK) {
        for (i64 e = lane; e < TM * TK; e += 256) {
            const i64 i = i0 + e / TK, k = k0 + e % TK;
            REAL v = 0;
            if (i < o && k < stop) {
                CONV_SPLIT(k, ow, row, col); CONV_SPLIT(row, oh, image, line);
                v = LOAD(T, y, (i64)image * yn + (g * o + i) * yo + (i64)line * yh + (i64)col * yw);
            }
            tile_a[e % TK * (TM + 1) + e / TK] = v;
        }
        for (i64 e = lane; e < TN * TK; e += 256) {
            const i64 j = j0 + e / TK, k = k0 + e % TK;
            REAL v = 0;
            if (j < count_j && k < stop) {
                CONV_SPLIT(k, ow, row, col); CONV_SPLIT(row, oh, image, line);
                CONV_SPLIT(j, kw, above, q); CONV_SPLIT(above, kh, ch, p);
                const i64 at_h = (i64)line * sh + (i64)p * dh - top, at_w = (i64)col * sw + (i64)q * dw - left;
                if (at_h >= 0 && at_h < h && at_w >= 0 && at_w < w)
                    v = LOAD(T, x, (i64)image * xn + (g * c + (i64)ch) * xc + at_h * xh + at_w * xw);
            }
            tile_b[e % TK * (TN + 1) + e / TK] = v;
        }
        MULTIPLY;
        if (++since == FLUSH) {
            for (int e = 0; e < RM * RN; ++e) { total[e] += acc[e]; acc[e] = 0; }
            since = 0;
        }
    }
    for (int r = 0; r < RM; ++r)
        for (int s = 0; s < RN; ++s) {
            const i64 i = i0 + ti + 16 * r, j = j0 + tj + 16 * s;
            if (i < o && j < count_j)
                partial[((GROUP_ID(1) * groups + g) * o + i) * count_j + j] = total[r * RN + s] + acc[r * RN + s];
        }
}
