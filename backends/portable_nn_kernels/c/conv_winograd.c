/* 3x3 convolution of channels-last images for CPUs with 4/9 of the multiplications: Winograd's F(2x2, 3x3). OpenCL only.
 *
 * Four results that lie in a square see 4 x 4 of the image, the tile. With the tile's transform V = B' d B and the filter's
 * U = G g G' they are A' (U V, element by element, summed over channels) A: 16 products in place of 36. So a convolution
 * is 16 products of matrices, tiles by channels by channels, between transforms that only add. Only halves and ones are
 * multiplied with, and 4 c terms are added up in place of 9 c: measured errors are below those of the plain sum
 * (docs/decisions/0022). Larger tiles save more and lose a decimal digit; they are not used.
 *
 * A work-item takes bands of rows, as in conv_last.c: a patch of the image, its V, then per block of output channels the 16
 * products into M, and M's transform. What is not finite is added up again, plainly: a NaN or an infinity of a tile must reach
 * those of the four results whose window holds it, and sums of large numbers must overflow only where they would.
 * V is [block of CB channels][16][tile][CB], U [16][channel][NR], M [16][tile][NR]. Idea: Lavin and Gray 2015.
 * Defines: the kernel's name in capitals, T, R (its compute type), VW, NV, P, CB, AHEAD; VEPILOGUE(v) as in conv_cpu.c. */
#ifdef PNN_OPENCL
#include "math.h"
#include "vector_cpu.h"
#define REAL R
#define NR (NV * VW)

#include "conv_patch.h"
#include "conv_store.h"
#include "conv_winograd.h"

#ifdef CONV_WINOGRAD_PACK
/* Three taps of a filter to four of its transform. */
#define TO_FOUR(u0, u1, u2, u3, g0, g1, g2) { u0 = g0; u1 = HALF * (g0 + g2 + g1); u2 = HALF * (g0 + g2 - g1); u3 = g2; }
/* Filters as (group, block, 16, channel up to whole CB, nr), zeros past o and c. One work-item: `chunk` of the (group, block, channel). */
KERNEL(pnn_conv_winograd_pack, 1, 1, 1)(IN(T, weight), OUT(R, packed), i64 count, i64 blocks, i64 c, i64 o, i64 nr, i64 start, i64 wg,
                                        i64 wo, i64 wc, i64 wp, i64 wq, i64 chunk) {
    AT_IN(T, weight);
    AT_OUT(R, packed);
    const i64 all = (c + CB - 1) / CB * CB, first = GROUP_ID(0) * chunk, stop = first + chunk < count ? first + chunk : count;
    for (i64 e = first; e < stop; ++e) {
        const i64 ch = e % all, panel = e / all, block = panel % blocks;
        for (i64 j = 0; j < nr; j += VW) {
            const i64 o0 = block * nr + j, cols = ch < c ? (o - o0 < VW ? o - o0 : VW) : 0;
            GLOBAL R* out = packed + (panel * 16 * all + ch) * nr + j;
            VEC g[9], v[12], u0, u1, u2, u3;
            ONE_COPY for (int t = 0; t < 9; ++t) {
                const i64 at = start + panel / blocks * wg + o0 * wo + ch * wc + t / 3 * wp + t % 3 * wq;
                R lane[VW];
                ONE_COPY for (i64 l = 0; l < VW; ++l) lane[l] = l < cols ? LOAD(T, weight, at + l * wo) : 0;
                g[t] = CAT(vload, VW)(0, lane);
            }
#pragma unroll
            for (int q = 0; q < 3; ++q) TO_FOUR(v[q], v[3 + q], v[6 + q], v[9 + q], g[q], g[3 + q], g[6 + q])
#pragma unroll
            for (int p = 0; p < 4; ++p) {
                TO_FOUR(u0, u1, u2, u3, v[3 * p], v[3 * p + 1], v[3 * p + 2])
                VPUT(R, out + (4 * p + 0) * all * nr, u0);
                VPUT(R, out + (4 * p + 1) * all * nr, u1);
                VPUT(R, out + (4 * p + 2) * all * nr, u2);
                VPUT(R, out + (4 * p + 3) * all * nr, u3);
            }
        }
    }
}
#endif

#ifdef CONV_WINOGRAD
/* One result of `live` output channels, added up plainly: from its window in a patch, `plane` elements per block of channels. */
DEVICE VEC pnn_winograd_plain(GLOBAL const R* window, i64 plane, i64 line, GLOBAL const TYPE(T)* weight, i64 live, i64 c, i64 wo, i64 wc, i64 wp, i64 wq) {
    R sum[VW];
    ONE_COPY for (i64 l = 0; l < VW; ++l) {
        sum[l] = 0;
        for (i64 ch = 0; ch < c && l < live; ++ch)
            for (int t = 0; t < 9; ++t)
                sum[l] = FMA(window[ch / CB * plane + t / 3 * line + t % 3 * CB + ch % CB], LOAD(T, weight, l * wo + ch * wc + t / 3 * wp + t % 3 * wq), sum[l]);
    }
    return CAT(vload, VW)(0, sum);
}

/* One work-item: `chunk` bands of `band` rows of tiles of one group, `batch` of them at a time, blocks [GROUP_ID(1) block_step, ...) of output channels.
 * Traffic: the image once and the rows that bands share twice, y once; U from the second-level cache, once per band. */
KERNEL(pnn_conv_winograd, 1, 1, 1)(IN(T, x), IN(R, packed), IN(T, weight), IN(T, bias), OUT(T, y), OUT(R, patch), i64 images, i64 groups,
                                   i64 c, i64 o, i64 oh, i64 ow, AXIS(h), AXIS(w), i64 xn, i64 xc, i64 xh, i64 xw, i64 y_start,
                                   i64 yn, i64 yo, i64 yh, i64 yw, i64 start, i64 wg, i64 wo, i64 wc, i64 wp, i64 wq, i64 blocks, i64 band,
                                   i64 chunk, i64 batch, i64 block_step, i64 room, i64 patch_size, i32 has_bias, i64 bias_step, FED_IN(x),
                                   IN(T, more), IN(T, gate), i32 end) {
    AT_IN(T, x);
    AT_IN(R, packed);
    AT_IN(T, weight);
    AT_IN(T, bias);
    AT_OUT(T, y);
    AT_OUT(R, patch);
    FED_AT(x)
    AT_IN(T, more);
    AT_IN(T, gate);
    const i64 wide = (ow + 1) / 2, high = (oh + 1) / 2, parts = (c + CB - 1) / CB;
    const i64 group = GROUP_ID(0) % groups, bands = (high + band - 1) / band, count = images * bands;
    const i64 first = GROUP_ID(0) / groups * chunk, stop = first + chunk < count ? first + chunk : count;
    const i64 b0 = GROUP_ID(1) * block_step, b1 = b0 + block_step < blocks ? b0 + block_step : blocks;
    patch += (GROUP_ID(1) * NUM_GROUPS(0) + GROUP_ID(0)) * (batch * patch_size + 16 * room * (parts * CB + NR));
    GLOBAL R* v = patch + batch * patch_size;
    GLOBAL R* m = v + 16 * room * parts * CB;
    x += group * c * xc;
    y += group * o * yo;
    weight += start + group * wg;
    for (i64 e0 = first; e0 < stop; e0 += batch) {
        const i64 e1 = e0 + batch < stop ? e0 + batch : stop;
        i64 tiles = 0;
        EACH_BAND(e, e0, e1) {
            GLOBAL R* here = patch + (e - e0) * patch_size;
            FILL_IMAGE(here);
            pnn_winograd_image(here, v + tiles * CB, c, rows, wide, room);
            tiles += rows * wide;
        }
        for (i64 k = 0; k < 16 * parts; ++k)
            ONE_COPY for (i64 l = tiles * CB; l < room * CB; ++l) v[k * room * CB + l] = 0;
        for (i64 block = b0; block < b1; ++block) {
            const i64 j0 = block * NR, cols = o - j0 < NR ? o - j0 : NR;
            GLOBAL const R* u = packed + (group * blocks + block) * 16 * parts * CB * NR;
            for (i64 k = 0; k < 16; ++k, u += parts * CB * NR) {
#if AHEAD
                /* A sixteenth of what this block will store to, and of what the next bands will read. */
                for (i64 t = tiles * k / 16; t < tiles * (k + 1) / 16; ++t) {
                    const i64 e = e0 + t / (band * wide), tile = t % (band * wide), row = e % bands * band + tile / wide;
                    const i64 corner = y_start + e / bands * yn + 2 * row * yh + 2 * (tile % wide) * yw + j0 * yo;
                    for (int r = 0; r < 4; ++r)
                        for (i64 l = 0; l < NR; l += CACHE_LINE(T)) {
                            const i64 at = corner + r / 2 * yh + r % 2 * yw + l;
                            PREFETCH_STORE(y + at);
                            if (end) {
                                PREFETCH(more + at);
                                PREFETCH(gate + at);
                            }
                        }
                }
                const i64 share = 2 * band * batch * xh / (16 * (b1 - b0)), from = ((block - b0) * 16 + k) * share;
                const i64 next = e1 / bands * xn + (h_first + 2 * (e1 % bands * band + 1)) * xh + w_first * xw + from;
                for (i64 l = 0; l < share; l += CACHE_LINE(T)) {
                    PREFETCH(x + next + l);
                    if (x_kind > NORM_RELU) PREFETCH(x_z + next + l);
                }
#endif
                for (i64 t = 0; t < tiles; t += P) {
                    VEC acc[P * NV];
#pragma unroll
                    for (int r = 0; r < P * NV; ++r) acc[r] = (VEC)(0);
                    GLOBAL const R* w = u;
                    for (i64 part = 0; part < parts; ++part) {
                        GLOBAL const R* at = v + ((part * 16 + k) * room + t) * CB;
#pragma unroll 4
                        for (int ch = 0; ch < CB; ++ch, w += NR) {
                            VEC bv[NV];
#pragma unroll
                            for (int j = 0; j < NV; ++j) bv[j] = VGET(R, w + j * VW, 0);
#pragma unroll
                            for (int r = 0; r < P; ++r) {
                                const VEC av = (VEC)(at[r * CB + ch]);
#pragma unroll
                                for (int j = 0; j < NV; ++j) acc[r * NV + j] = fma(av, bv[j], acc[r * NV + j]);
                            }
                        }
                    }
#pragma unroll
                    for (int r = 0; r < P * NV; ++r) VPUT(R, m + (k * room + t) * NR + r * VW, acc[r]);
                }
            }
            for (int j = 0; j < NV && j * VW < cols; ++j) {
                const i64 live = cols - j * VW < VW ? cols - j * VW : VW;
                R lane[VW];
                ONE_COPY for (i64 l = 0; l < VW; ++l) lane[l] = has_bias && l < live ? LOAD(T, bias, (group * o + j0 + j * VW + l) * bias_step) : 0;
                const VEC shift = CAT(vload, VW)(0, lane);
                GLOBAL const R* from = m + j * VW;
                EACH_BAND(e, e0, e1) {
                    GLOBAL const R* here = patch + (e - e0) * patch_size;
                    for (i64 i = 0; i < rows; ++i)
                        for (i64 k = 0; k < wide; ++k, from += NR) {
                            VEC s0[4], s1[4], sum[4];
#pragma unroll
                            for (int q = 0; q < 4; ++q) {
                                const VEC m0 = VGET(R, from + q * room * NR, 0), m1 = VGET(R, from + (4 + q) * room * NR, 0);
                                const VEC m2 = VGET(R, from + (8 + q) * room * NR, 0), m3 = VGET(R, from + (12 + q) * room * NR, 0);
                                s0[q] = m0 + m1 + m2;
                                s1[q] = m1 - m2 - m3;
                            }
                            sum[0] = s0[0] + s0[1] + s0[2];
                            sum[1] = s0[1] - s0[2] - s0[3];
                            sum[2] = s1[0] + s1[1] + s1[2];
                            sum[3] = s1[1] - s1[2] - s1[3];
                            const VEC odd = fma(sum[0], (VEC)(0), fma(sum[1], (VEC)(0), fma(sum[2], (VEC)(0), sum[3] * 0)));
                            if (any(odd != odd))
                                for (int r = 0; r < 4; ++r)
                                    sum[r] = pnn_winograd_plain(here + ((2 * i + r / 2) * w_count + 2 * k + r % 2) * CB, (2 * rows + 2) * w_count * CB,
                                                                w_count * CB, weight + (j0 + j * VW) * wo, live, c, wo, wc, wp, wq);
#pragma unroll
                            for (int r = 0; r < 4; ++r) {
                                const i64 row = 2 * (t0 + i) + r / 2, column = 2 * k + r % 2;
                                if (row < oh && column < ow)
                                    pnn_conv_store(sum[r] + shift, y, y_start + image * yn + row * yh + column * yw + (j0 + j * VW) * yo, yo, live, more, gate, end);
                            }
                        }
                }
            }
        }
    }
}
#endif
#endif
