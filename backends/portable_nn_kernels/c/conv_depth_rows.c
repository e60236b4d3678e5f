/* Gradient of the filters of a depthwise convolution, channels-last images, stride and dilation 1, for CPUs. OpenCL only.
 *
 * A band of ROWS rows of cotangents meets HIGH rows of x. For each vector of channels their columns pass once, from left to right: all
 * sums stay in registers, and so do the KW columns of cotangents that a column of x meets. So each element is loaded once per band, where a
 * pass for each row of taps (c/conv_depth.c) loads it KH times. Columns of x that meet fewer, near the borders, read those they do meet:
 * what is outside is left out, not multiplied by zero, and an infinity beside it stays where it belongs.
 * One work-item: `chunk` bands, whose sums are added to partial (part, channel block, tap, VW): a two-level sum.
 * Traffic: x and g once, KH - 1 of HIGH rows of x once more from cache.
 * Defines: T, R (its compute type), VW, KH, KW, ROWS, AHEAD 1 where the compiler knows __builtin_prefetch. */
#ifdef PNN_OPENCL
#include "math.h"
#include "vector_cpu.h"
#include "conv_depth.h"
#define HIGH (ROWS + KH - 1)

#define DEPTH_ADD(r, k, q, v, gv) acc[((r) - (k)) * KW + (q)] = fma(v, gv, acc[((r) - (k)) * KW + (q)])
#define DEPTH_WEIGHT(GET)                                                                                       \
    for (i64 col = 0; col < w; ++col) {                                                                         \
        if (col == inner_first && inner_first < inner_last) {                                                   \
            VEC near[ROWS * KW];                                                                                \
            _Pragma("unroll") for (int q = 1; q < KW; ++q)                                                      \
                _Pragma("unroll") for (int k = 0; k < ROWS; ++k)                                                \
                    near[(q - 1) * ROWS + k] = GET(T, gi[k] + (col + left - q) * gw + c, 0);                    \
            for (; col < inner_last; ++col) {                                                                   \
                _Pragma("unroll") for (int a = ROWS * KW - 1; a >= ROWS; --a) near[a] = near[a - ROWS];         \
                _Pragma("unroll") for (int k = 0; k < ROWS; ++k) near[k] = GET(T, gi[k] + (col + left) * gw + c, 0); \
                _Pragma("unroll") for (int r = 0; r < HIGH; ++r) {                                              \
                    if (!live[r]) continue;                                                                     \
                    const VEC v = GET(T, row[r] + col * xw + c, 0);                                             \
                    _Pragma("unroll") for (int k = 0; k < ROWS; ++k)                                            \
                        if (r >= k && r - k < KH && k < rows)                                                   \
                            _Pragma("unroll") for (int q = 0; q < KW; ++q) DEPTH_ADD(r, k, q, v, near[q * ROWS + k]); \
                }                                                                                               \
                _Pragma("unroll") for (int k = 0; k < ROWS; ++k) {                                              \
                    PREFETCH(soon_x + k * xh + ahead);                                                          \
                    PREFETCH(soon_g + k * gh + ahead);                                                          \
                }                                                                                               \
                ahead += CACHE_LINE(T);                                                                         \
            }                                                                                                   \
            if (col == w) break;                                                                                \
        }                                                                                                       \
        for (i64 q = 0; q < KW; ++q) {                                                                          \
            const i64 j = col + left - q;                                                                       \
            if (j < 0 || j >= ow) continue;                                                                     \
            _Pragma("unroll") for (int r = 0; r < HIGH; ++r) {                                                  \
                if (!live[r]) continue;                                                                         \
                const VEC v = GET(T, row[r] + col * xw + c, 0);                                                 \
                _Pragma("unroll") for (int k = 0; k < ROWS; ++k)                                                \
                    if (r >= k && r - k < KH && k < rows) {                                                     \
                        const VEC gv = GET(T, gi[k] + j * gw + c, 0);                                           \
                        _Pragma("unroll") for (int u = 0; u < KW; ++u)                                          \
                            if (u == q) DEPTH_ADD(r, k, u, v, gv);                                              \
                    }                                                                                           \
            }                                                                                                   \
        }                                                                                                       \
    }
#define REST_GET(tag, p, fill) CAT(pnn_part_get_, tag)(p, channels - c, fill)

KERNEL(pnn_conv_depth_weight_rows, 1, 1, 1)(IN(T, x), IN(T, g), OUT(R, partial), i64 images, i64 channels, i64 h, i64 w, i64 oh,
                                            i64 ow, i64 top, i64 left, i64 inner_first, i64 inner_last, i64 xn, i64 xh, i64 xw,
                                            i64 gn, i64 gh, i64 gw, i64 chunk) {
    AT_IN(T, x);
    AT_IN(T, g);
    AT_OUT(R, partial);
    const i64 bands = (oh + ROWS - 1) / ROWS, all = images * bands;
    const i64 first = GROUP_ID(0) * chunk, stop = first + chunk < all ? first + chunk : all;
    partial += GROUP_ID(0) * ((channels + VW - 1) / VW) * KH * KW * VW;
    for (i64 band = first; band < stop; ++band) {
        const i64 image = band / bands, i0 = band % bands * ROWS, rows = oh - i0;
        GLOBAL const TYPE(T)* row[HIGH];
        i32 live[HIGH];
#pragma unroll
        for (int r = 0; r < HIGH; ++r) {
            const i64 s = i0 + r - top;
            live[r] = s >= 0 && s < h;
            row[r] = x + image * xn + (live[r] ? s : 0) * xh;
        }
        GLOBAL const TYPE(T)* gi[ROWS];
#pragma unroll
        for (int k = 0; k < ROWS; ++k) gi[k] = g + image * gn + (i0 + (k < rows ? k : 0)) * gh;
        /* What the next band adds, asked for one line at a time. */
        const i64 image1 = (band + 1) / bands, i1 = (band + 1) % bands * ROWS;
        GLOBAL const TYPE(T)* soon_x = x + image1 * xn + (i1 == 0 ? 0 : i1 + KH - 1 - top) * xh;
        GLOBAL const TYPE(T)* soon_g = g + image1 * gn + i1 * gh;
        i64 ahead = 0;
        for (i64 block = 0; block < channels; block += VW) {
            const i64 c = DEPTH_FIRST(block);
            VEC acc[KH * KW];
#pragma unroll
            for (int t = 0; t < KH * KW; ++t) acc[t] = (VEC)(0);
            if (c + VW <= channels) DEPTH_WEIGHT(VGET) else DEPTH_WEIGHT(REST_GET)
            GLOBAL R* sum = partial + block * (KH * KW);
            if (c < block)
                for (int t = 0; t < KH * KW; ++t) acc[t] = pnn_depth_rest(acc[t], block - c);
#pragma unroll
            for (int t = 0; t < KH * KW; ++t, sum += VW) VPUT(R, sum, band == first ? acc[t] : VGET(R, sum, 0) + acc[t]);
        }
    }
}
#endif
