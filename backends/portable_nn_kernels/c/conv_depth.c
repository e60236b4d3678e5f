/* Depthwise convolution of channels-last images for CPUs (one filter per channel): vectors along channels. OpenCL only.
 * Every image element meets every tap once, so memory is the limit: nothing is copied, borders are taps left out.
 * Defines: the kernel's name in capitals, T, R (its compute type), VW; GRAD, TAPS, or KW. */
#ifdef PNN_OPENCL
#include "math.h"
#include "vector_cpu.h"
#include "conv_depth.h"
#define REAL R
#define MANY 4 /* vectors of channels at a time */

#ifdef CONV_DEPTH
/* Forward, and (GRAD 1) the gradient of the images, where x is the cotangent: output i reads source positions
 * i stride + p dilation - before, or (i + before - p dilation) / stride where that is whole. The filters are (tap, channel).
 * One work-item: `chunk` rows. Traffic: x and y once, rows of x from cache for each tap. */
#if GRAD
#define SOURCE(at, i, p, stride, dilation, before, size)                                                        \
    const i64 at##_far = (i) + (before) - (p) * (dilation), at = (stride) == 1 ? at##_far : at##_far / (stride); \
    if (at##_far < 0 || at * (stride) != at##_far || at >= (size)) continue;
#else
#define SOURCE(at, i, p, stride, dilation, before, size)                                                        \
    const i64 at = (i) * (stride) + (p) * (dilation) - (before);                                                \
    if (at < 0 || at >= (size)) continue;
#endif
KERNEL(pnn_conv_depth, 1, 1, 1)(IN(T, x), IN(R, filters), IN(T, bias), OUT(T, y), i64 images, i64 channels, i64 h, i64 w, i64 oh,
                                i64 ow, i64 kh, i64 kw, i64 sh, i64 sw, i64 dh, i64 dw, i64 top, i64 left, i64 inner_first,
                                i64 inner_last, i64 inner_step, i64 xn, i64 xh, i64 xw, i64 yn, i64 yh, i64 yw, i64 chunk, i32 has_bias, i64 bias_step) {
    AT_IN(T, x);
    AT_IN(R, filters);
    AT_IN(T, bias);
    AT_OUT(T, y);
    const i64 lines = images * oh, first = GROUP_ID(0) * chunk, stop = first + chunk < lines ? first + chunk : lines;
    for (i64 line = first; line < stop; ++line) {
        const i64 image = line / oh, i = line % oh;
        i64 from[TAPS], tap[TAPS], count = 0;
        GLOBAL const TYPE(T)* in = x + image * xn;
        for (i64 j = 0; j < ow; ++j) {
            if (j > inner_first && j < inner_last) in += inner_step; /* the taps of the pixel before */
            else {
                in = x + image * xn;
                count = 0;
                for (i64 p = 0; p < kh; ++p) {
                    SOURCE(row, i, p, sh, dh, top, h)
                    for (i64 q = 0; q < kw; ++q) {
                        SOURCE(col, j, q, sw, dw, left, w)
                        from[count] = row * xh + col * xw;
                        tap[count++] = (p * kw + q) * channels;
                    }
                }
            }
            GLOBAL TYPE(T)* out = y + image * yn + i * yh + j * yw;
            i64 c = 0;
            for (; c + MANY * VW <= channels; c += MANY * VW) {
                VEC acc[MANY];
#pragma unroll
                for (int k = 0; k < MANY; ++k) acc[k] = (VEC)(0);
                if (has_bias) {
                    R lane[MANY * VW];
                    for (i64 l = 0; l < MANY * VW; ++l) lane[l] = LOAD(T, bias, (c + l) * bias_step);
#pragma unroll
                    for (int k = 0; k < MANY; ++k) acc[k] = CAT(vload, VW)(k, lane);
                }
                for (i64 t = 0; t < count; ++t)
#pragma unroll
                    for (int k = 0; k < MANY; ++k)
                        acc[k] = fma(VGET(T, in + from[t] + c + k * VW, 0), VGET(R, filters + tap[t] + c + k * VW, 0), acc[k]);
#pragma unroll
                for (int k = 0; k < MANY; ++k) VPUT(T, out + c + k * VW, acc[k]);
            }
            for (; c < channels; c += VW) {
                c = DEPTH_FIRST(c);
                const i64 live = channels - c < VW ? channels - c : VW;
                R lane[VW];
                for (i64 l = 0; l < VW; ++l) lane[l] = has_bias && l < live ? LOAD(T, bias, (c + l) * bias_step) : 0;
                VEC acc = CAT(vload, VW)(0, lane);
                if (live == VW) {
                    for (i64 t = 0; t < count; ++t) acc = fma(VGET(T, in + from[t] + c, 0), VGET(R, filters + tap[t] + c, 0), acc);
                    VPUT(T, out + c, acc);
                } else {
                    for (i64 t = 0; t < count; ++t)
                        acc = fma(CAT(pnn_part_get_, T)(in + from[t] + c, live, 0), CAT(pnn_part_get_, R)(filters + tap[t] + c, live, 0), acc);
                    CAT(pnn_part_put_, T)(out + c, live, acc);
                }
            }
        }
    }
}
#endif

#ifdef CONV_DEPTH_WEIGHT
/* Gradient of the filters. One work-item: `chunk` bands of `band` rows of cotangents; a band's sums are added to partial
 * (part, channel block, tap, VW), a two-level sum. KW accumulators stay in registers while a band passes, per row of taps.
 * Traffic: x and g once, then from cache for each row of taps. */
#define DEPTH_TAP(GET, q)                                                                                       \
    {                                                                                                           \
        const i64 col = j * sw + (q) * dw - left;                                                               \
        if (col >= 0 && col < w) acc[q] = fma(gv, GET(T, in + col * xw), acc[q]);                               \
    }
#define DEPTH_BODY(GET)                                                                                         \
    for (i64 line = l0; line < l1; ++line) {                                                                    \
        const i64 image = line / oh, i = line % oh, row = i * sh + p * dh - top;                                \
        if (row < 0 || row >= h) continue;                                                                      \
        GLOBAL const TYPE(T)* in = x + image * xn + row * xh + c;                                               \
        GLOBAL const TYPE(T)* gi = g + image * gn + i * gh + c;                                                 \
        i64 j = 0;                                                                                              \
        for (; j < inner_first && j < ow; ++j) {                                                                \
            const VEC gv = GET(T, gi + j * gw);                                                                 \
            _Pragma("unroll") for (int q = 0; q < KW; ++q) DEPTH_TAP(GET, q)                                    \
        }                                                                                                       \
        for (; j < inner_last; ++j) {                                                                           \
            const VEC gv = GET(T, gi + j * gw);                                                                 \
            GLOBAL const TYPE(T)* at = in + (j * sw - left) * xw;                                               \
            _Pragma("unroll") for (int q = 0; q < KW; ++q) acc[q] = fma(gv, GET(T, at + q * dw * xw), acc[q]);  \
        }                                                                                                       \
        for (; j < ow; ++j) {                                                                                   \
            const VEC gv = GET(T, gi + j * gw);                                                                 \
            _Pragma("unroll") for (int q = 0; q < KW; ++q) DEPTH_TAP(GET, q)                                    \
        }                                                                                                       \
    }
#define WHOLE_GET(tag, p) VGET(tag, p, 0)
#define REST_GET(tag, p) CAT(pnn_part_get_, tag)(p, channels - c, 0)

KERNEL(pnn_conv_depth_weight, 1, 1, 1)(IN(T, x), IN(T, g), OUT(R, partial), i64 images, i64 channels, i64 h, i64 w, i64 oh,
                                       i64 ow, i64 kh, i64 sh, i64 sw, i64 dh, i64 dw, i64 top, i64 left, i64 inner_first,
                                       i64 inner_last, i64 xn, i64 xh, i64 xw, i64 gn, i64 gh, i64 gw, i64 band, i64 chunk) {
    AT_IN(T, x);
    AT_IN(T, g);
    AT_OUT(R, partial);
    const i64 lines = images * oh, blocks = (channels + VW - 1) / VW;
    const i64 first = GROUP_ID(0) * chunk, stop = first + chunk < lines ? first + chunk : lines;
    partial += GROUP_ID(0) * blocks * kh * KW * VW;
    for (i64 l0 = first; l0 < stop; l0 += band) {
        const i64 l1 = l0 + band < stop ? l0 + band : stop;
        for (i64 block = 0; block < channels; block += VW) {
            const i64 c = DEPTH_FIRST(block);
            for (i64 p = 0; p < kh; ++p) {
                VEC acc[KW];
#pragma unroll
                for (int q = 0; q < KW; ++q) acc[q] = (VEC)(0);
                if (c + VW <= channels) { DEPTH_BODY(WHOLE_GET) } else { DEPTH_BODY(REST_GET) }
#pragma unroll
                for (int q = 0; q < KW; ++q) {
                    GLOBAL R* sum = partial + ((block / VW * kh + p) * KW + q) * VW;
                    if (c < block) acc[q] = pnn_depth_rest(acc[q], block - c);
                    VPUT(R, sum, l0 == first ? acc[q] : VGET(R, sum, 0) + acc[q]);
                }
            }
        }
    }
}
#endif
#endif
