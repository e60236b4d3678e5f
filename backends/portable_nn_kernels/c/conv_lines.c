/* Convolution with few output channels per group for CPUs, and its weight gradient: vectors along rows of pixels, filters as
 * scalars. OpenCL only.
 *
 * No padded copy: a work-item copies the rows it is about to read into a patch of its own, in the compute type, which stays in the
 * nearest caches and has zeros on the left and right of each row. Rows above and below the image are not there; taps that meet
 * them alone are left out. The input gradient is the same kernel on the cotangent with flipped filters, once per phase (input
 * position modulo the stride).
 * Defines: the kernel's name in capitals, T, R (its compute type), VW, OB (channels in registers), RB (rows beside them) and UNIT
 * (neighbours are adjacent) or NV (vectors of a row, 0 for any number), TAPS; VEPILOGUE(v) as in conv_cpu.c. */
#ifdef PNN_OPENCL
#include "math.h"
#include "vector_cpu.h"
#define REAL R
#define LANE CAT(PNN_LANE_, R)
#define PNN_LANE_f32 int
#define PNN_LANE_f64 long

/* Rows [lo, hi) of the planes of one image into a patch, `wide` apart and `room` of them per plane, `left` elements from the
 * left; what is around them stays. */
#define COPY(lanes, MOVE)                                                                                       \
    {                                                                                                           \
        for (i64 j = 0; j + lanes <= w; j += lanes) MOVE(from + j, to + j);                                     \
        MOVE(from + w - lanes, to + w - lanes); /* overlaps its neighbour */                                    \
    }
#define MOVE_VECTOR(from, to) VPUT(R, to, VGET(T, from, 0))
#define MOVE_8(from, to) vstore8(vload8(0, from), 0, to)
#define PNN_COMPUTES_f32 1
#define PNN_COMPUTES_f64 1
DEVICE void pnn_conv_rows(GLOBAL const TYPE(T)* x, GLOBAL R* patch, i64 c, i64 w, i64 lo, i64 hi, i64 xc, i64 xh, i64 xw,
                          i64 left, i64 wide, i64 room) {
    for (i64 ch = 0; ch < c; ++ch) {
        GLOBAL const TYPE(T)* from = x + ch * xc + lo * xh;
        GLOBAL R* to = patch + ch * room * wide + left;
        for (i64 i = lo; i < hi; ++i, from += xh, to += wide) {
            if (xw == 1 && w >= VW) COPY(VW, MOVE_VECTOR)
#if VW > 8 && CAT(PNN_COMPUTES_, T)
            else if (xw == 1 && w >= 8) COPY(8, MOVE_8)
#endif
            else
                for (i64 j = 0; j < w; ++j) to[j] = LOAD(T, from, j * xw);
        }
    }
}
/* What the images' rows are: strides, height and width; where a row starts in the patch; rows and elements of a patch. */
#define ROWS i64 xn, i64 xg, i64 xc, i64 xh, i64 xw, i64 h, i64 w, i64 left, i64 wide, i64 room, i64 patch_size
/* Output row i reads row first + i h_step + p h_tap under tap p, column x_first + j w_step + q w_tap of the patch under tap q. */
#define REACH i64 h_first, i64 h_step, i64 h_tap, i64 x_first, i64 w_step, i64 w_tap
#define LOWEST(i) (h_first + (i) * h_step)
#define HIGHEST(i) (LOWEST(i) + (kh - 1) * h_tap)

#ifdef CONV_LINES
/* For few output channels per group: one work-item computes `chunk` bands of RB rows of OB channels, `segment` of them from one
 * patch, VW pixels at a time (the last ones overlap their neighbours). A filter tap is RB vector loads and OB scalars; TAPS
 * neighbours of a row are unrolled, or any number where it is 0. Behind the rows of a patch lies one of zeros. Filters are packed
 * (group, c, p, q, OB). Traffic: image once, but for the rows that two segments read. */
#define LINES_TAP(at)                                                                                           \
    {                                                                                                           \
        VEC v_[RB];                                                                                             \
        _Pragma("unroll") for (int r = 0; r < RB; ++r) v_[r] = SHOWN(from[r] + (at));                           \
        _Pragma("unroll") for (int k = 0; k < OB; ++k) {                                                        \
            const VEC f_ = (VEC)(f[k]);                                                                         \
            _Pragma("unroll") for (int r = 0; r < RB; ++r) acc[r * OB + k] = fma(f_, v_[r], acc[r * OB + k]);   \
        }                                                                                                       \
        f += OB;                                                                                                \
    }
#if UNIT
#define SHOWN(p) VGET(R, p, 0)
#else
#define SHOWN(p) pnn_conv_spread(p, cols, w_step)
DEVICE VEC pnn_conv_spread(GLOBAL const R* p, i64 cols, i64 step) {
    R lane[VW];
#pragma unroll
    for (int l = 0; l < VW; ++l) lane[l] = p[(l < cols ? l : 0) * step];
    return CAT(vload, VW)(0, lane);
}
#endif

KERNEL(pnn_conv_lines, 1, 1, 1)(IN(T, x), IN(R, packed), IN(T, bias), OUT(T, y), OUT(R, patch), i64 n, i64 groups, i64 oh,
                                i64 ow, i64 c, i64 kh, i64 kw, ROWS, REACH, i64 y_start, i64 yn, i64 yo, i64 yh,
                                i64 yw, i64 chunk, i64 segment, i32 has_bias, i64 bias_step) {
    AT_IN(T, x);
    AT_IN(R, packed);
    AT_IN(T, bias);
    AT_OUT(T, y);
    AT_OUT(R, patch);
    const i64 bands = (oh + RB - 1) / RB, count = n * groups * bands;
    const i64 first = GROUP_ID(0) * chunk, stop = first + chunk < count ? first + chunk : count;
    patch += GROUP_ID(0) * patch_size;
    for (i64 l = 0; l < patch_size; l += VW) VPUT(R, patch + l, (VEC)(0));
    for (i64 e = first, after; e < stop; e = after) {
        const i64 image = e / bands / groups, group = e / bands % groups, e0 = e - e % bands;
        after = e0 + bands < e + segment ? e0 + bands : e + segment;
        after = after < stop ? after : stop;
        const i64 last = (after - e0) * RB < oh ? (after - e0) * RB - 1 : oh - 1;
        const i64 lo = LOWEST((e - e0) * RB) < 0 ? 0 : LOWEST((e - e0) * RB), hi = HIGHEST(last) < h ? HIGHEST(last) + 1 : h;
        pnn_conv_rows(x + image * xn + group * xg, patch, c, w, lo, hi, xc, xh, xw, left, wide, room);
        R shift[OB];
#pragma unroll
        for (int k = 0; k < OB; ++k) shift[k] = has_bias ? LOAD(T, bias, (group * OB + k) * bias_step) : 0;
        for (i64 i0 = (e - e0) * RB; i0 <= last; i0 += RB) {
            GLOBAL TYPE(T)* out = y + y_start + image * yn + group * OB * yo + i0 * yh;
            for (i64 done = 0; done < ow; done += VW) {
                const i64 j0 = done + VW > ow && ow >= VW ? ow - VW : done, cols = ow < VW ? ow : VW;
                GLOBAL const R* zeros = patch + c * room * wide + x_first + j0 * w_step;
                VEC acc[RB * OB];
#pragma unroll
                for (int r = 0; r < RB * OB; ++r) acc[r] = (VEC)(shift[r % OB]);
                for (i64 p = 0; p < kh; ++p) {
                    i64 row[RB], some = 0; /* of the patch; that of zeros for what is above or below the image */
#pragma unroll
                    for (int r = 0; r < RB; ++r) {
                        const i64 at = h_first + (i0 + r) * h_step + p * h_tap;
                        const i64 inside = at >= 0 && at < h && i0 + r <= last;
                        row[r] = inside ? (at - lo) * wide : -1;
                        some |= inside;
                    }
                    if (!some) continue;
                    for (i64 ch = 0; ch < c; ++ch) {
                        GLOBAL const R* from[RB];
                        GLOBAL const R* f = packed + ((group * c + ch) * kh + p) * kw * OB;
#pragma unroll
                        for (int r = 0; r < RB; ++r) from[r] = row[r] < 0 ? zeros : patch + ch * room * wide + row[r] + x_first + j0 * w_step;
#if TAPS
#pragma unroll
                        for (int q = 0; q < TAPS; ++q) LINES_TAP(q)
#else
                        for (i64 q = 0, at = 0; q < kw; ++q, at += w_tap) LINES_TAP(at)
#endif
                    }
                }
#ifdef VEPILOGUE
#pragma unroll
                for (int r = 0; r < RB * OB; ++r) acc[r] = VEPILOGUE(acc[r]);
#endif
#pragma unroll
                for (int r = 0; r < RB; ++r)
#pragma unroll
                    for (int k = 0; k < OB; ++k) {
                        if (i0 + r > last) continue;
                        GLOBAL TYPE(T)* to = out + k * yo + r * yh + j0 * yw;
                        if (yw == 1 && cols == VW) {
                            VPUT(T, to, acc[r * OB + k]);
                            continue;
                        }
                        R lane[VW];
                        CAT(vstore, VW)(acc[r * OB + k], 0, lane);
                        for (i64 l = 0; l < cols; ++l) STORE(T, to, l * yw, lane[l]);
                    }
            }
        }
    }
}
#endif

#ifdef CONV_WEIGHT_ROWS
/* Weight gradient for up to eight output channels per group: vectors along rows of pixels, OB channels under the TAPS taps of a
 * row. One work-item: one block of channels of one group, part GROUP_ID(1) of the lines (image, row), those of one image, at most
 * `segment`, from one patch. Cotangents are copied too, into rows of g_wide, whole vectors with zeros at the end; those of the
 * image are as long. Each segment's sums are added to `sums` (c, p, OB, TAPS, VW), whose lanes are added at the end: partial
 * (part, channel, c, p, q). Traffic: image once per block, cotangent once. */
#define TERM(j, SHOWN)                                                                                          \
    {                                                                                                           \
        VEC x_[TAPS];                                                                                           \
        _Pragma("unroll") for (int t = 0; t < TAPS; ++t) x_[t] = SHOWN(VGET(R, in + (j) + t * w_tap, 0));       \
        _Pragma("unroll") for (int k = 0; k < OB; ++k) {                                                        \
            const VEC g_ = VGET(R, g + k * plane + (j), 0);                                                     \
            _Pragma("unroll") for (int t = 0; t < TAPS; ++t) acc[k * TAPS + t] = fma(g_, x_[t], acc[k * TAPS + t]); \
        }                                                                                                       \
    }
#define ALL(v) (v)
#define INSIDE(v) select((VEC)(0), v, inside) /* under the zeros behind a row of cotangents there may be infinities */

KERNEL(pnn_conv_weight_rows, 1, 1, 1)(IN(T, x), IN(T, y), OUT(R, partial), OUT(R, patch), OUT(R, sums), i64 lines, i64 groups,
                                      i64 oh, i64 ow, i64 c, i64 kh, i64 o, ROWS, REACH, i64 yn, i64 yo, i64 yh, i64 yw,
                                      i64 g_wide, i64 chunk, i64 segment) {
    AT_IN(T, x);
    AT_IN(T, y);
    AT_OUT(R, partial);
    AT_OUT(R, patch);
    AT_OUT(R, sums);
    const i64 blocks = (o + OB - 1) / OB, group = GROUP_ID(0) / blocks, k0 = GROUP_ID(0) % blocks * OB;
    const i64 item = GROUP_ID(1) * NUM_GROUPS(0) + GROUP_ID(0), live = o - k0 < OB ? o - k0 : OB;
    const i64 first = GROUP_ID(1) * chunk, stop = first + chunk < lines ? first + chunk : lines;
    LANE iota[VW];
#pragma unroll
    for (int l = 0; l < VW; ++l) iota[l] = l;
    const CAT(LANE, VW) inside = CAT(vload, VW)(0, iota) < (CAT(LANE, VW))((LANE)(ow - (g_wide - VW)));
    const i64 plane = segment * g_wide, row_sums = OB * TAPS * VW;
    patch += item * (patch_size + OB * plane);
    GLOBAL R* cotangents = patch + patch_size;
    sums += item * c * kh * row_sums;
    for (i64 l = 0; l < patch_size + OB * plane; l += VW) VPUT(R, patch + l, (VEC)(0));
    for (i64 l = 0; l < c * kh * row_sums; l += VW) VPUT(R, sums + l, (VEC)(0));
    for (i64 e = first, after; e < stop; e = after) {
        const i64 image = e / oh, i0 = e % oh, e0 = e - i0;
        after = e0 + oh < e + segment ? e0 + oh : e + segment;
        after = after < stop ? after : stop;
        const i64 i1 = after - e0;
        const i64 lo = LOWEST(i0) < 0 ? 0 : LOWEST(i0), hi = HIGHEST(i1 - 1) < h ? HIGHEST(i1 - 1) + 1 : h;
        pnn_conv_rows(x + image * xn + group * xg, patch, c, w, lo, hi, xc, xh, xw, left, wide, room);
        pnn_conv_rows(y + image * yn + (group * o + k0) * yo, cotangents, live, ow, i0, i1, yo, yh, yw, 0, g_wide, segment);
        for (i64 row = 0; row < c * kh; ++row) {
            const i64 base = h_first + row % kh * h_tap;
            GLOBAL const R* rows = patch + row / kh * room * wide + x_first;
            GLOBAL R* sum = sums + row * row_sums;
            VEC acc[OB * TAPS];
#pragma unroll
            for (int r = 0; r < OB * TAPS; ++r) acc[r] = (VEC)(0);
            i64 a = i0, b = i1; /* lines whose tap lies inside the image */
            while (a < b && base + a * h_step < 0) ++a;
            while (a < b && base + (b - 1) * h_step >= h) --b;
            GLOBAL const R* in = rows + (base + a * h_step - lo) * wide;
            GLOBAL const R* g = cotangents + (a - i0) * g_wide;
            for (i64 i = a; i < b; ++i, in += h_step * wide, g += g_wide) {
#if NV
#pragma unroll
                for (int j = 0; j < (NV - 1) * VW; j += VW) TERM(j, ALL)
                TERM((NV - 1) * VW, INSIDE)
#else
                for (i64 j = 0; j < g_wide - VW; j += VW) TERM(j, ALL)
                TERM(g_wide - VW, INSIDE)
#endif
            }
#pragma unroll
            for (int r = 0; r < OB * TAPS; ++r) VPUT(R, sum + r * VW, VGET(R, sum + r * VW, 0) + acc[r]);
        }
    }
    partial += ((GROUP_ID(1) * groups + group) * o + k0) * c * kh * TAPS;
    for (i64 k = 0; k < live; ++k)
        for (i64 row = 0; row < c * kh; ++row)
            for (i64 t = 0; t < TAPS; ++t)
                partial[(k * c * kh + row) * TAPS + t] = pnn_lanes_sum(VGET(R, sums + row * row_sums + (k * TAPS + t) * VW, 0));
}
#endif
#endif
