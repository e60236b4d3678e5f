/* Weight gradient of a 3x3 convolution of channels-last images for CPUs, with Winograd's transforms: conv_winograd.c turned around.
 * OpenCL only.
 *
 * dU = sum over tiles of V = B' d B times A g A', the transform of 2 x 2 cotangents, element by element: 16 products of matrices,
 * channels of the image by tiles by channels of the cotangent. G' dU G at the end. Lanes are NV vectors of the image's channels, OB
 * channels of the cotangent are read one by one. A batch of tiles is summed in registers, batches in dU: a two-level sum.
 *
 * One work-item: c_block channels by o_block of one group, so that its dU [16][o][c] stays in the second-level cache, and bands
 * [GROUP_ID(1) chunk, ...) of tile rows, `batch` of them at a time; `room` tiles. It makes a piece of partial (part, group, o, block of
 * CB channels, tap, CB). Where that is not finite, all of it is added up again, plainly: see conv_winograd.c. Traffic: x and g once per
 * block, V and dU from the second-level cache.
 * Defines: CONV_WINOGRAD_WEIGHT, T, R (its compute type), VW, NV, CB, OB, AHEAD. */
#ifdef PNN_OPENCL
#include "math.h"
#include "vector_cpu.h"
#define REAL R

#include "conv_patch.h"
#include "conv_winograd.h"

DEVICE void pnn_winograd_cotangent(GLOBAL const R* patch, GLOBAL R* to, i64 o, i64 rows, i64 wide, i64 room) {
    const i64 line = 2 * wide * CB, step = room * CB;
    for (i64 c0 = 0; c0 < o; c0 += CB, patch += 2 * rows * line, to += 16 * step)
        for (i64 i = 0; i < rows; ++i)
            for (i64 j = 0; j < wide; ++j)
#pragma unroll
                for (int l = 0; l < CB; l += VW) {
                    GLOBAL const R* g = patch + 2 * i * line + 2 * j * CB + l;
                    GLOBAL R* out = to + (i * wide + j) * CB + l;
                    const VEC g0 = VGET(R, g, 0), g1 = VGET(R, g + CB, 0), g2 = VGET(R, g + line, 0), g3 = VGET(R, g + line + CB, 0);
                    const VEC left[4] = {g0, g0 + g2, g0 - g2, -g2}, right[4] = {g1, g1 + g3, g1 - g3, -g3};
#pragma unroll
                    for (int p = 0; p < 4; ++p) {
                        VPUT(R, out + (4 * p + 0) * step, left[p]);
                        VPUT(R, out + (4 * p + 1) * step, left[p] + right[p]);
                        VPUT(R, out + (4 * p + 2) * step, left[p] - right[p]);
                        VPUT(R, out + (4 * p + 3) * step, -right[p]);
                    }
                }
}

#define TO_THREE(d0, d1, d2, u0, u1, u2, u3) { const VEC sum_ = HALF * (u1 + u2); d0 = u0 + sum_; d1 = HALF * (u1 - u2); d2 = sum_ + u3; }
#define FILL_COTANGENT(at) \
    pnn_conv_fill(g, image * yn, at, 2 * t0, o, yo, yh, yw, oh, 0, 1, 1, 1, 1, 1, 2 * rows, ow, 0, 1, 1, 1, 1, 1, 2 * wide, FED_GIVEN(g))

KERNEL(pnn_conv_winograd_weight, 1, 1, 1)(IN(T, x), IN(T, g), OUT(R, partial), OUT(R, patch), i64 images, i64 groups, i64 c_all, i64 o_all, i64 oh,
                                          i64 ow, AXIS(h), AXIS(w), i64 xn, i64 xc, i64 xh, i64 xw, i64 yn, i64 yo, i64 yh, i64 yw,
                                          i64 band, i64 chunk, i64 batch, i64 room, i64 patch_size, i64 copy_size, i64 c_block, i64 o_block, FED_IN(x), FED_IN(g)) {
    AT_IN(T, x);
    AT_IN(T, g);
    AT_OUT(R, partial);
    AT_OUT(R, patch);
    FED_AT(x)
    FED_AT(g)
    const i64 wide = (ow + 1) / 2, high = (oh + 1) / 2, bands = (high + band - 1) / band, count = images * bands;
    const i64 squares = ((c_all + c_block - 1) / c_block) * ((o_all + o_block - 1) / o_block), group = GROUP_ID(0) / squares;
    const i64 c0 = GROUP_ID(0) % squares % ((c_all + c_block - 1) / c_block) * c_block, o0 = GROUP_ID(0) % squares / ((c_all + c_block - 1) / c_block) * o_block;
    const i64 c = c_all - c0 < c_block ? c_all - c0 : c_block, o = o_all - o0 < o_block ? o_all - o0 : o_block;
    const i64 parts = (c + CB - 1) / CB, made = (o + CB - 1) / CB, columns = parts * CB, square = made * CB * columns;
    const i64 first = GROUP_ID(1) * chunk, stop = first + chunk < count ? first + chunk : count;
    patch += (GROUP_ID(1) * NUM_GROUPS(0) + GROUP_ID(0)) * (patch_size + copy_size + 16 * (room * (c_block + o_block) + c_block * o_block));
    GLOBAL R* copy = patch + patch_size;
    GLOBAL R* v = copy + copy_size;
    GLOBAL R* w = v + 16 * room * parts * CB;
    GLOBAL R* sums = w + 16 * room * made * CB;
    const i64 row = (c_all + CB - 1) / CB * 9 * CB; /* of partial */
    partial += ((GROUP_ID(1) * groups + group) * o_all + o0) * row + c0 * 9;
    x += (group * c_all + c0) * xc;
    g += (group * o_all + o0) * yo;
    FED_FROM(x, c0, xc)
    FED_FROM(g, o0, yo)
    for (i64 e0 = first; e0 < stop; e0 += batch) {
        i64 tiles = 0;
        EACH_BAND(e, e0, e0 + batch < stop ? e0 + batch : stop) {
            FILL_IMAGE(patch);
            pnn_winograd_image(patch, v + tiles * CB, c, rows, wide, room);
            FILL_COTANGENT(copy);
            pnn_winograd_cotangent(copy, w + tiles * CB, o, rows, wide, room);
            tiles += rows * wide;
        }
        for (i64 k = 0; k < 16; ++k) {
#if AHEAD
            /* A sixteenth of what the next batch will read. */
            const i64 next = e0 + batch, lines = 2 * band * batch, x_share = lines * xh / 16, g_share = lines * yh / 16;
            const i64 x_at = next / bands * xn + (h_first + 2 * (next % bands * band)) * xh + w_first * xw + k * x_share;
            const i64 g_at = next / bands * yn + 2 * (next % bands * band) * yh + k * g_share;
            for (i64 l = 0; l < x_share; l += CACHE_LINE(T)) PREFETCH(x + x_at + l);
            for (i64 l = 0; l < g_share; l += CACHE_LINE(T)) {
                PREFETCH(g + g_at + l);
                if (g_kind) PREFETCH(g_z + g_at + l);
            }
#endif
            for (i64 oo = 0; oo < o; oo += OB)
                for (i64 part = 0; part < parts; part += NV * VW / CB) {
                    GLOBAL const R* gv = w + ((oo / CB * 16 + k) * room) * CB + oo % CB;
                    GLOBAL const R* at = v + ((part * 16 + k) * room) * CB;
                    VEC acc[OB * NV];
#pragma unroll
                    for (int r = 0; r < OB * NV; ++r) acc[r] = (VEC)(0);
                    for (i64 t = 0; t < tiles; ++t, gv += CB, at += CB) {
                        VEC xv[NV];
#pragma unroll
                        for (int j = 0; j < NV; ++j) xv[j] = VGET(R, at + j * VW / CB * 16 * room * CB + j * VW % CB, 0);
#pragma unroll
                        for (int r = 0; r < OB; ++r) {
                            const VEC av = (VEC)(gv[r]);
#pragma unroll
                            for (int j = 0; j < NV; ++j) acc[r * NV + j] = fma(av, xv[j], acc[r * NV + j]);
                        }
                    }
                    GLOBAL R* sum = sums + k * square + oo * columns + part * CB;
#pragma unroll
                    for (int r = 0; r < OB; ++r)
#pragma unroll
                        for (int j = 0; j < NV; ++j) {
                            GLOBAL R* here = sum + r * columns + j * VW;
                            VPUT(R, here, e0 == first ? acc[r * NV + j] : VGET(R, here, 0) + acc[r * NV + j]);
                        }
                }
        }
    }
    VEC odd = (VEC)(0);
    for (i64 oo = 0; oo < o; ++oo)
        for (i64 l = 0; l < columns; l += VW) {
            GLOBAL const R* from = sums + oo * columns + l;
            GLOBAL R* to = partial + oo * row + l / CB * 9 * CB + l % CB;
            VEC d[12];
#pragma unroll
            for (int q = 0; q < 4; ++q)
                TO_THREE(d[q], d[4 + q], d[8 + q], VGET(R, from + q * square, 0), VGET(R, from + (4 + q) * square, 0),
                         VGET(R, from + (8 + q) * square, 0), VGET(R, from + (12 + q) * square, 0))
#pragma unroll
            for (int p = 0; p < 3; ++p) {
                VEC d0, d1, d2;
                TO_THREE(d0, d1, d2, d[4 * p], d[4 * p + 1], d[4 * p + 2], d[4 * p + 3])
                VPUT(R, to + (3 * p + 0) * CB, d0);
                VPUT(R, to + (3 * p + 1) * CB, d1);
                VPUT(R, to + (3 * p + 2) * CB, d2);
                odd = fma(d0, (VEC)(0), fma(d1, (VEC)(0), fma(d2, (VEC)(0), odd)));
            }
        }
    if (!any(odd != odd)) return;
    /* Not finite: all of it again, plainly. */
    EACH_BAND(e, first, stop) {
        FILL_IMAGE(patch);
        FILL_COTANGENT(copy);
        for (i64 oo = 0; oo < o; ++oo)
            for (i64 l = 0; l < columns; l += VW) {
                VEC acc[9];
#pragma unroll
                for (int tap = 0; tap < 9; ++tap) acc[tap] = (VEC)(0);
                for (i64 i = 0; i < 2 * rows && 2 * t0 + i < oh; ++i)
                    for (i64 j = 0; j < ow; ++j) {
                        const VEC av = (VEC)(copy[((oo / CB * 2 * rows + i) * 2 * wide + j) * CB + oo % CB]);
                        GLOBAL const R* at = patch + ((l / CB * (2 * rows + 2) + i) * w_count + j) * CB + l % CB;
#pragma unroll
                        for (int tap = 0; tap < 9; ++tap) acc[tap] = fma(av, VGET(R, at + (tap / 3 * w_count + tap % 3) * CB, 0), acc[tap]);
                    }
                GLOBAL R* to = partial + oo * row + l / CB * 9 * CB + l % CB;
#pragma unroll
                for (int tap = 0; tap < 9; ++tap) VPUT(R, to + tap * CB, e == first ? acc[tap] : VGET(R, to + tap * CB, 0) + acc[tap]);
            }
    }
}
#endif
