/* Convolution of volumes as an implicit GEMM: conv.c with one more axis (see there for how tiles are gathered and summed).
 *
 *   forward          i = output voxel (n, od, oh, ow), j = output channel,  k = (c, r, p, q)
 *   input gradient   i = input voxel (n, d, h, w),     j = input channel,   k = (o, r, p, q)
 *   weight gradient  i = output channel,               j = (c, r, p, q),    k = output voxel, in parts (conv_sum.c adds them)
 *
 * One work-group: 16 x 16 work-items, a tile of 16 RM x 16 RN results of one group of channels. No column matrix is written.
 * Any stride, dilation, groups and array strides. Defines: T (storage), IX (u32 or i64), RM, RN, TK, KIND (which kernel). */
#include "conv.h"
#include "conv_tile.h"

#define VOLUME_ARGS                                                                                             \
    i64 n, i64 groups, i64 c, i64 o, i64 d, i64 h, i64 w, i64 od, i64 oh, i64 ow, i64 kd, i64 kh, i64 kw, i64 sd, i64 sh, \
        i64 sw, i64 front, i64 top, i64 left, i64 dd, i64 dh, i64 dw, i64 xn, i64 xc, i64 xd, i64 xh, i64 xw, i64 wo, \
        i64 wc, i64 wr, i64 wp, i64 wq, i64 yn, i64 yo, i64 yd, i64 yh, i64 yw

/* Takes a voxel number apart into image, slice, line, col; a filter number into ch, r, p, q. */
#define VOXEL(i, deep, high, wide)                                                                              \
    CONV_SPLIT(i, wide, lines_, col); CONV_SPLIT(lines_, high, slices_, line); CONV_SPLIT(slices_, deep, image, slice)
#define FILTER(k)                                                                                               \
    CONV_SPLIT(k, kw, rows_, q); CONV_SPLIT(rows_, kh, planes_, p); CONV_SPLIT(planes_, kd, ch, r)
#define X_AT(channel) ((i64)image * xn + (g * c + (i64)(channel)) * xc)
#define Y_AT(channel) ((i64)image * yn + (g * o + (i64)(channel)) * yo)
#define W_AT(to, from) ((g * o + (i64)(to)) * wo + (i64)(from) * wc + (i64)r * wr + (i64)p * wp + (i64)q * wq)

/* What filter (ch, r, p, q) reads of x for output voxel (image, slice, line, col); v stays 0 outside. */
#define READ_X                                                                                                  \
    const i64 at_d = (i64)slice * sd + (i64)r * dd - front, at_h = (i64)line * sh + (i64)p * dh - top,          \
              at_w = (i64)col * sw + (i64)q * dw - left;                                                        \
    if (at_d >= 0 && at_d < d && at_h >= 0 && at_h < h && at_w >= 0 && at_w < w)                                \
        v = LOAD(T, x, X_AT(ch) + at_d * xd + at_h * xh + at_w * xw)

#if KIND == 0
KERNEL(pnn_conv3d_forward, 256, 1, 1)(IN(T, x), IN(T, weight), IN(T, bias), OUT(T, y), VOLUME_ARGS, i32 has_bias, i64 bias_step) {
    AT_IN(T, x); AT_IN(T, weight); AT_IN(T, bias); AT_OUT(T, y);
    TILES;
    WHERE(o);
    const i64 count_k = c * kd * kh * kw, voxels = n * od * oh * ow;
    for (i64 k0 = 0; k0 < count_k; k0 += TK) {
        for (i64 e = lane; e < TM * TK; e += 256) {
            const i64 i = i0 + e % TM, k = k0 + e / TM;
            REAL v = 0;
            if (i < voxels && k < count_k) {
                VOXEL(i, od, oh, ow);
                FILTER(k);
                READ_X;
            }
            tile_a[e / TM * (TM + 1) + e % TM] = v;
        }
        for (i64 e = lane; e < TN * TK; e += 256) {
            const i64 j = j0 + e / TK, k = k0 + e % TK;
            REAL v = 0;
            if (j < o && k < count_k) {
                FILTER(k);
                v = LOAD(T, weight, W_AT(j, ch));
            }
            tile_b[e % TK * (TN + 1) + e / TK] = v;
        }
        MULTIPLY;
    }
    for (int a = 0; a < RM; ++a) {
        const i64 i = i0 + ti + 16 * a;
        if (i >= voxels) continue;
        VOXEL(i, od, oh, ow);
        for (int b = 0; b < RN; ++b) {
            const i64 j = j0 + tj + 16 * b;
            if (j < o) {
                const REAL shift = has_bias ? LOAD(T, bias, (g * o + j) * bias_step) : 0;
                STORE(T, y, Y_AT(j) + (i64)slice * yd + (i64)line * yh + (i64)col * yw, acc[a * RN + b] + shift);
            }
        }
    }
}
#endif

#if KIND == 1
/* has_bias: one number per channel of x is added (transposed convolutions; none for gradients). */
KERNEL(pnn_conv3d_input_grad, 256, 1, 1)(IN(T, y), IN(T, weight), IN(T, bias), OUT(T, x), VOLUME_ARGS, i32 has_bias, i64 bias_step) {
    AT_IN(T, y); AT_IN(T, weight); AT_IN(T, bias); AT_OUT(T, x);
    TILES;
    WHERE(c);
    const i64 count_k = o * kd * kh * kw, voxels = n * d * h * w;
    for (i64 k0 = 0; k0 < count_k; k0 += TK) {
        for (i64 e = lane; e < TM * TK; e += 256) {
            const i64 i = i0 + e % TM, k = k0 + e / TM;
            REAL v = 0;
            if (i < voxels && k < count_k) {
                VOXEL(i, d, h, w);
                FILTER(k);
                const i64 far_d = (i64)slice + front - (i64)r * dd, far_h = (i64)line + top - (i64)p * dh,
                          far_w = (i64)col + left - (i64)q * dw;
                if (far_d >= 0 && far_h >= 0 && far_w >= 0) {
                    CONV_SPLIT(far_d, sd, at_d, rest_d); CONV_SPLIT(far_h, sh, at_h, rest_h); CONV_SPLIT(far_w, sw, at_w, rest_w);
                    if (rest_d == 0 && rest_h == 0 && rest_w == 0 && (i64)at_d < od && (i64)at_h < oh && (i64)at_w < ow)
                        v = LOAD(T, y, Y_AT(ch) + (i64)at_d * yd + (i64)at_h * yh + (i64)at_w * yw);
                }
            }
            tile_a[e / TM * (TM + 1) + e % TM] = v;
        }
        for (i64 e = lane; e < TN * TK; e += 256) {
            const i64 j = j0 + e / TK, k = k0 + e % TK;
            REAL v = 0;
            if (j < c && k < count_k) {
                FILTER(k);
                v = LOAD(T, weight, W_AT(ch, j));
            }
            tile_b[e % TK * (TN + 1) + e / TK] = v;
        }
        MULTIPLY;
    }
    for (int a = 0; a < RM; ++a) {
        const i64 i = i0 + ti + 16 * a;
        if (i >= voxels) continue;
        VOXEL(i, d, h, w);
        for (int b = 0; b < RN; ++b) {
            const i64 j = j0 + tj + 16 * b;
            if (j < c) {
                const REAL shift = has_bias ? LOAD(T, bias, (g * c + j) * bias_step) : 0;
                STORE(T, x, X_AT(j) + (i64)slice * xd + (i64)line * xh + (i64)col * xw, acc[a * RN + b] + shift);
            }
        }
    }
}
#endif

#if KIND == 2
/* Part GROUP_ID(1) sums output voxels [part * step, (part + 1) * step) into partial (part, group, o, c kd kh kw). */
KERNEL(pnn_conv3d_weight_grad, 256, 1, 1)(IN(T, x), IN(T, y), OUT(ACC_TAG(T), partial), VOLUME_ARGS, i64 step) {
    AT_IN(T, x); AT_IN(T, y); AT_OUT(ACC_TAG(T), partial);
    const i64 count_j = c * kd * kh * kw;
    TILES;
    WHERE(count_j);
    const i64 first = GROUP_ID(1) * step, voxels = n * od * oh * ow, stop = first + step < voxels ? first + step : voxels;
    REAL total[RM * RN];
    for (int e = 0; e < RM * RN; ++e) total[e] = 0;
    i64 since = 0;
    for (i64 k0 = first; k0 < stop; k0 += TK) {
        for (i64 e = lane; e < TM * TK; e += 256) {
            const i64 i = i0 + e / TK, k = k0 + e % TK;
            REAL v = 0;
            if (i < o && k < stop) {
                VOXEL(k, od, oh, ow);
                v = LOAD(T, y, Y_AT(i) + (i64)slice * yd + (i64)line * yh + (i64)col * yw);
            }
            tile_a[e % TK * (TM + 1) + e / TK] = v;
        }
        for (i64 e = lane; e < TN * TK; e += 256) {
            const i64 j = j0 + e / TK, k = k0 + e % TK;
            REAL v = 0;
            if (j < count_j && k < stop) {
                VOXEL(k, od, oh, ow);
                FILTER(j);
                READ_X;
            }
            tile_b[e % TK * (TN + 1) + e / TK] = v;
        }
        MULTIPLY;
        if (++since == FLUSH) {
            for (int e = 0; e < RM * RN; ++e) { total[e] += acc[e]; acc[e] = 0; }
            since = 0;
        }
    }
    for (int a = 0; a < RM; ++a)
        for (int b = 0; b < RN; ++b) {
            const i64 i = i0 + ti + 16 * a, j = j0 + tj + 16 * b;
            if (i < o && j < count_j)
                partial[((GROUP_ID(1) * groups + g) * o + i) * count_j + j] = total[a * RN + b] + acc[a * RN + b];
        }
}
#endif
