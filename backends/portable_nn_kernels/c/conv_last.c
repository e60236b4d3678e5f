/* Convolution of channels-last images for CPUs: no padded copy of the image, no local memory, no barriers. OpenCL only.
 *
 * A work-item takes a band of output rows. It copies the rows of the image that the band reads into a patch of its own, in
 * the compute type, with zeros where the window hangs over the border, and computes from there: the patch stays in the
 * nearest caches, and its strides are known to the compiler, so that P pixels (or P channels) are P constant distances from
 * one pointer, which an FMA reads by itself. One vector of VW lanes holds output channels; P x NV of them are in registers.
 *
 * The patch is [block of CB channels][row phase][row][column phase][column][CB]. What a tap reads at a stride lies side by
 * side in one phase: tap t of an axis reads phase t % period, `shift` entries later for every whole period. So strides and
 * dilations are arguments, and the input gradient (the cotangent under flipped filters, once per phase of the image) is the
 * same kernel. Idea: direct convolution of Georganas et al. 2018 (libxsmm), without code generation.
 * Defines: the kernel's name in capitals, T, R (its compute type), VW, NV, P, CB, TAPS; VEPILOGUE(v) as in conv_cpu.c. */
#ifdef PNN_OPENCL
#include "math.h"
#include "vector_cpu.h"
#define REAL R
#define NR (NV * VW)

#include "conv_patch.h"
#include "conv_store.h"

#ifdef CONV_LAST_PACK
/* Filters as (group, block, block of CB channels, p, q, channel, NR) in the compute type, zeros past o. One work-item: `chunk`
 * of the (group, block, channel block). Strides w* may be negative (flipped filters). */
KERNEL(pnn_conv_last_pack, 1, 1, 1)(IN(T, weight), OUT(R, packed), i64 count, i64 blocks, i64 c, i64 kh, i64 kw, i64 o,
                                    i64 start, i64 wg, i64 wo, i64 wc, i64 wp, i64 wq, i64 chunk) {
    AT_IN(T, weight);
    AT_OUT(R, packed);
    const i64 parts = (c + CB - 1) / CB, first = GROUP_ID(0) * chunk, stop = first + chunk < count ? first + chunk : count;
    for (i64 e = first; e < stop; ++e) {
        const i64 part = e % parts, panel = e / parts, block = panel % blocks;
        const i64 lanes = c - part * CB < CB ? c - part * CB : CB, cols = o - block * NR < NR ? o - block * NR : NR;
        const i64 base = start + panel / blocks * wg + block * NR * wo + part * CB * wc;
        GLOBAL R* out = packed + (panel * c + part * CB) * kh * kw * NR;
        for (i64 p = 0; p < kh; ++p)
            for (i64 q = 0; q < kw; ++q)
                for (i64 ch = 0; ch < lanes; ++ch, out += NR) {
                    ONE_COPY for (i64 l = 0; l < cols; ++l) out[l] = LOAD(T, weight, base + ch * wc + p * wp + q * wq + l * wo);
                    ONE_COPY for (i64 l = cols; l < NR; ++l) out[l] = 0;
                }
    }
}
#endif

#ifdef CONV_LAST
/* A pixel's channel is read once for all TAPS neighbouring taps that see it: reading it for each keeps the load units busier
 * than the multipliers. */
#define TILE_STEP(ch)                                                                                                  \
    {                                                                                                                  \
        VEC bv[TAPS * NV];                                                                                             \
        _Pragma("unroll") for (int t = 0; t < TAPS; ++t)                                                               \
            _Pragma("unroll") for (int j = 0; j < NV; ++j) bv[t * NV + j] = VGET(R, w + (t * lanes + ch) * NR + j * VW, 0); \
        _Pragma("unroll") for (int u = 0; u < P + TAPS - 1; ++u) {                                                     \
            const VEC av = (VEC)(at[u * CB + (ch)]);                                                                   \
            _Pragma("unroll") for (int t = 0; t < TAPS; ++t)                                                           \
                if (u >= t && u - t < P)                                                                               \
                    _Pragma("unroll") for (int j = 0; j < NV; ++j)                                                     \
                        acc[(u - t) * NV + j] = fma(av, bv[t * NV + j], acc[(u - t) * NV + j]);                        \
        }                                                                                                              \
    }

/* One work-item: `chunk` bands of `band` output rows of one group, blocks [GROUP_ID(1) block_step, ...) of output channels.
 * Traffic: the image once and the rows that bands share twice, y once; filters from cache, once per tile. */
KERNEL(pnn_conv_last, 1, 1, 1)(IN(T, x), IN(R, packed), IN(T, bias), OUT(T, y), OUT(R, patch), i64 images, i64 groups, i64 c,
                               i64 o, i64 oh, i64 ow, i64 kh, i64 kw, AXIS(h), AXIS(w), i64 xn, i64 xc, i64 xh, i64 xw,
                               i64 y_start, i64 yn, i64 yo, i64 yh, i64 yw, i64 blocks, i64 band, i64 chunk, i64 block_step,
                               i64 patch_size, i32 has_bias, i64 bias_step, FED_IN(x), IN(T, more), IN(T, gate),
                               i32 end) {
    AT_IN(T, x);
    AT_IN(R, packed);
    AT_IN(T, bias);
    AT_OUT(T, y);
    AT_OUT(R, patch);
    FED_AT(x)
    AT_IN(T, more);
    AT_IN(T, gate);
    const i64 group = GROUP_ID(0) % groups, bands = (oh + band - 1) / band, count = images * bands;
    const i64 first = GROUP_ID(0) / groups * chunk, stop = first + chunk < count ? first + chunk : count;
    const i64 b0 = GROUP_ID(1) * block_step, b1 = b0 + block_step < blocks ? b0 + block_step : blocks;
    const i64 line = w_phases * w_count * CB, plane = h_count * line;
    patch += (GROUP_ID(1) * NUM_GROUPS(0) + GROUP_ID(0)) * patch_size;
    x += group * c * xc;
    y += group * o * yo;
    for (i64 e = first; e < stop; ++e) {
        const i64 image = e / bands, i0 = e % bands * band, rows = oh - i0 < band ? oh - i0 : band;
        pnn_conv_fill(x, image * xn, patch, i0, c, xc, xh, xw, AXIS_GIVEN(h), AXIS_GIVEN(w), FED_GIVEN(x));
        for (i64 block = b0; block < b1; ++block) {
            const i64 j0 = block * NR, cols = o - j0 < NR ? o - j0 : NR;
            VEC shift[NV];
            R lane[NR];
            ONE_COPY for (i64 l = 0; l < NR; ++l) lane[l] = has_bias && l < cols ? LOAD(T, bias, (group * o + j0 + l) * bias_step) : 0;
#pragma unroll
            for (int j = 0; j < NV; ++j) shift[j] = CAT(vload, VW)(j, lane);
            for (i64 i = 0; i < rows; ++i)
                for (i64 k = 0; k < ow; k += P) {
#if AHEAD
                    if (block == b0) { /* the next band's part of these pixels */
                        const i64 ahead = image * xn + (h_first + (i0 + i + h_count) * h_step) * xh + (w_first + k * w_step) * xw;
                        for (i64 l = ahead; l < ahead + P * w_step * xw; l += CACHE_LINE(T)) PREFETCH(x + l);
                        if (x_kind > NORM_RELU)
                            for (i64 l = ahead; l < ahead + P * w_step * xw; l += CACHE_LINE(T)) PREFETCH(x_z + l);
                    }
#endif
                    const i64 place = y_start + image * yn + (i0 + i) * yh + k * yw + j0 * yo, live = ow - k < P ? ow - k : P;
                    if (end)
                        for (i64 r = 0; r < live; ++r)
                            for (i64 l = 0; l < NR; l += CACHE_LINE(T)) {
                                PREFETCH(more + place + r * yw + l);
                                PREFETCH(gate + place + r * yw + l);
                            }
                    VEC acc[P * NV];
#pragma unroll
                    for (int r = 0; r < P * NV; ++r) acc[r] = shift[r % NV];
                    GLOBAL const R* w = packed + (group * blocks + block) * c * kh * kw * NR;
                    for (i64 c0 = 0, base = i * line + k * CB; c0 < c; c0 += CB, base += h_phases * plane) {
                        const i64 lanes = c - c0 < CB ? c - c0 : CB;
                        for (i64 p = 0, h_phase = 0, h_entry = 0; p < kh; ++p) {
                            GLOBAL const R* row = patch + base + h_phase * plane + h_entry * line;
                            for (i64 q = 0, w_phase = 0, w_entry = 0; q < kw; q += TAPS) {
                                GLOBAL const R* at = row + (w_phase * w_count + w_entry) * CB;
                                if (lanes == CB) {
#pragma unroll 4
                                    for (int ch = 0; ch < CB; ++ch) TILE_STEP(ch)
                                } else
                                    ONE_COPY for (i64 ch = 0; ch < lanes; ++ch) TILE_STEP(ch)
                                w += TAPS * lanes * NR;
                                for (int t = 0; t < TAPS; ++t) { NEXT_TAP(w) }
                            }
                            NEXT_TAP(h)
                        }
                    }
#pragma unroll
                    for (int r = 0; r < P; ++r)
                        if (r < live)
#pragma unroll
                            for (int j = 0; j < NV; ++j)
                                if (j * VW < cols)
                                    pnn_conv_store(acc[r * NV + j], y, place + r * yw + j * VW * yo, yo, cols - j * VW < VW ? cols - j * VW : VW, more, gate, end);
                }
        }
    }
}
#endif

#ifdef CONV_LAST_WEIGHT
#define GB (OB > VW ? OB : VW) /* channels of a copied cotangent that lie together */
/* Weight gradient: lanes are channels of the image, NV vectors of a block, under TAPS neighbouring taps; OB channels of the
 * cotangent are read one by one, each once for all taps. OB x TAPS x NV vectors in registers are summed over the pixels of
 * `batch` bands, then added to partial (part, group, o, block of CB channels, p, q, CB): a two-level sum.
 * One work-item: one group, bands [GROUP_ID(1) chunk, ...). Cotangents are read where they are, or from a copy (row, column, o,
 * zeros past it) of copy_size elements, not 0. Traffic: x and g once, partial in cache. */
KERNEL(pnn_conv_last_weight, 1, 1, 1)(IN(T, x), IN(T, g), OUT(R, partial), OUT(R, patch), i64 images, i64 groups, i64 c, i64 o,
                                      i64 oh, i64 ow, i64 kh, i64 kw, AXIS(h), AXIS(w), i64 xn, i64 xc, i64 xh, i64 xw, i64 yn,
                                      i64 yo, i64 yh, i64 yw, i64 band, i64 chunk, i64 batch, i64 patch_size, i64 copy_size, FED_IN(x),
                                      FED_IN(g)) {
    AT_IN(T, x);
    AT_IN(T, g);
    AT_OUT(R, partial);
    AT_OUT(R, patch);
    FED_AT(x)
    FED_AT(g)
    const i64 group = GROUP_ID(0), bands = (oh + band - 1) / band, count = images * bands, blocks = (c + CB - 1) / CB;
    const i64 first = GROUP_ID(1) * chunk, stop = first + chunk < count ? first + chunk : count;
    const i64 line = w_phases * w_count * CB, plane = h_count * line, taps = kh * kw;
    const i64 copied = (o + GB - 1) / GB * GB;
    patch += (GROUP_ID(1) * groups + group) * batch * (patch_size + copy_size);
    GLOBAL R* copy = patch + batch * patch_size;
    partial += (GROUP_ID(1) * groups + group) * o * blocks * taps * CB;
    x += group * c * xc;
    g += group * o * yo;
    const i64 gh = copy_size ? ow * GB : yh, gw = copy_size ? GB : yw;
    for (i64 e0 = first; e0 < stop; e0 += batch) {
        const i64 units = stop - e0 < batch ? stop - e0 : batch;
        for (i64 u = 0; u < units; ++u) {
            const i64 image = (e0 + u) / bands, i0 = (e0 + u) % bands * band;
            pnn_conv_fill(x, image * xn, patch + u * patch_size, i0, c, xc, xh, xw, AXIS_GIVEN(h), AXIS_GIVEN(w), FED_GIVEN(x));
            const i64 rows = oh - i0 < band ? oh - i0 : band;
            for (i64 i = 0; copy_size && i < rows; ++i)
                for (i64 l0 = 0; l0 < copied; l0 += GB) {
                    const i64 line_at = image * yn + (i0 + i) * yh + l0 * yo;
                    GLOBAL R* line_to = copy + u * copy_size + l0 * band * ow + i * gh;
                    if (g_kind)
                        for (i64 l = 0; l < GB; l += VW) pnn_conv_fed(g, line_at + l, l0 + l, ow, yw, line_to + l, GB, FED_GIVEN(g));
                    else if (yo == 1 && l0 + GB <= o)
                        for (i64 j = 0; j < ow; ++j)
#pragma unroll
                            for (int l = 0; l < GB; l += VW) VPUT(R, line_to + j * GB + l, VGET(T, g + line_at + j * yw + l, 0));
                    else
                        for (i64 j = 0; j < ow; ++j)
                            ONE_COPY for (i64 l = 0; l < GB; ++l) line_to[j * GB + l] = l0 + l < o ? LOAD(T, g, line_at + j * yw + l * yo) : 0;
                }
        }
        for (i64 o0 = 0; o0 < o; o0 += OB)
            for (i64 block = 0; block < blocks; ++block)
                for (i64 p = 0, h_phase = 0, h_entry = 0; p < kh; ++p) {
                    GLOBAL const R* row = patch + (block * h_phases + h_phase) * plane + h_entry * line;
                    for (i64 q = 0, w_phase = 0, w_entry = 0; q < kw; q += TAPS) {
                        i64 to[TAPS]; /* past the last tap: it once more, which is not kept */
#pragma unroll
                        for (int t = 0; t < TAPS; ++t) {
                            to[t] = (w_phase * w_count + w_entry) * CB;
                            if (q + t + 1 < kw) { NEXT_TAP(w) }
                        }
#if AHEAD
                        /* Each pass asks for one cache line per pixel of the next batch: of x, of g, of what else g is made of. */
                        const i64 pass = ((o0 / OB * blocks + block) * kh + p) * ((kw + TAPS - 1) / TAPS) + q / TAPS;
                        const i64 g_pass = pass - (c + CACHE_LINE(T) - 1) / CACHE_LINE(T), g_lines = (o + CACHE_LINE(T) - 1) / CACHE_LINE(T), z_pass = g_pass - g_lines;
                        const int of_x = g_pass < 0, of_g = !of_x && z_pass < (g_kind ? g_lines : 0);
                        GLOBAL const TYPE(T)* next = of_x ? x + (h_first + (h_count - band) * h_step) * xh + pass * CACHE_LINE(T) : z_pass < 0 ? g + g_pass * CACHE_LINE(T) : g_z + z_pass * CACHE_LINE(T);
                        const i64 next_n = of_x ? xn : of_g ? yn : 0, next_h = of_x ? h_step * xh : of_g ? yh : 0, next_w = of_x ? w_step * xw : of_g ? yw : 0;
#endif
                        VEC acc[OB * TAPS * NV];
#pragma unroll
                        for (int r = 0; r < OB * TAPS * NV; ++r) acc[r] = (VEC)(0);
                        for (i64 u = 0; u < units; ++u) {
                            const i64 i0 = (e0 + u) % bands * band, rows = oh - i0 < band ? oh - i0 : band;
                            GLOBAL const R* given = copy_size ? copy + u * copy_size + o0 / GB * GB * band * ow + o0 % GB : (GLOBAL const R*)g + (e0 + u) / bands * yn + i0 * yh + o0;
                            for (i64 i = 0; i < rows; ++i) {
                                GLOBAL const R* at = row + u * patch_size + i * line;
                                GLOBAL const R* gv = given + i * gh;
#if AHEAD
                                GLOBAL const TYPE(T)* ahead = next + (e0 + u + units) / bands * next_n + ((e0 + u + units) % bands * band + i) * next_h;
#endif
                                for (i64 j = 0; j < ow; ++j, at += CB, gv += gw) {
                                    PREFETCH(ahead + j * next_w);
                                    VEC xv[TAPS * NV];
#pragma unroll
                                    for (int t = 0; t < TAPS * NV; ++t) xv[t] = VGET(R, at + to[t / NV] + t % NV * VW, 0);
#pragma unroll
                                    for (int r = 0; r < OB; ++r) {
                                        const VEC av = (VEC)(gv[r]);
#pragma unroll
                                        for (int t = 0; t < TAPS * NV; ++t) acc[r * TAPS * NV + t] = fma(av, xv[t], acc[r * TAPS * NV + t]);
                                    }
                                }
                            }
                        }
#pragma unroll
                        for (int r = 0; r < OB * TAPS; ++r)
                            if (o0 + r / TAPS < o && q + r % TAPS < kw) {
                                GLOBAL R* sum = partial + (((o0 + r / TAPS) * blocks + block) * taps + p * kw + q + r % TAPS) * CB;
#pragma unroll
                                for (int k = 0; k < NV; ++k)
                                    VPUT(R, sum + k * VW, e0 == first ? acc[r * NV + k] : VGET(R, sum + k * VW, 0) + acc[r * NV + k]);
                            }
                    }
                    NEXT_TAP(h)
                }
    }
}
#endif
#endif
