/* 2-D pooling for CPUs. OpenCL only; replaces the kernels of pool.c there: 3 to 30 times faster.
 *
 * Forward, C-order rows of float32: one work-item per run of output rows, VW outputs of a row at a time. Outputs whose
 * window lies inside the columns are computed by vectors (the last one overlaps its neighbour), those at the edges one by
 * one; rows outside are skipped. Backward: 2 x 2 windows by vectors, everything else plane by plane.
 * Defines: the kernel's name in capitals, VW (16, 8 or 4), KH KW SH SW (SW 1 or 2; no dilation), WITH_INDEX, PAD_COUNTS;
 * for planes T (f32 or f64), I (tag of the winners' numbers; none: a mean) and ADAPTIVE. */
#ifdef PNN_OPENCL
#ifdef POOL_GRAD_PLANES
/* Gradient of any pooling, plane by plane: one work-item zeroes a plane of x and then walks over the windows in row-major
 * order, adding each one's share where it belongs: the order in which pool.c's gathering kernel adds, so the same sums.
 * Traffic: g (and index) once, a plane of x from the nearest cache. T is its own compute type: sums rest in x. */
#if ADAPTIVE
#define FIRST(o, size, out, stride, before) ((o) * (size) / (out))
#define TAPS(o, size, out, kernel) ((((o) + 1) * (size) + (out) - 1) / (out) - (o) * (size) / (out))
#else
#define FIRST(o, size, out, stride, before) ((o) * (stride) - (before))
#define TAPS(o, size, out, kernel) (kernel)
#endif
/* The positions of a window that lie inside: [a, b); and how many its mean counts. */
#define EXTENT(a, b, counted, o, size, out, kernel, stride, before, after)                                      \
    const i64 a##_at = FIRST(o, size, out, stride, before), a##_end = a##_at + TAPS(o, size, out, kernel);      \
    const i64 a = a##_at < 0 ? 0 : a##_at, b = a##_end < (size) ? a##_end : (size);                             \
    const i64 counted = PAD_COUNTS ? (a##_end < (size) + (after) ? a##_end : (size) + (after)) - a##_at : b - a;

KERNEL(pnn_pool_grad_planes, 1, 1, 1)(IN(T, g),
#ifdef I
                                      IN(I, index),
#endif
                                      OUT(T, x), i64 planes, i64 c, i64 h, i64 w, i64 oh, i64 ow, i64 kh, i64 kw, i64 sh,
                                      i64 sw, i64 dh, i64 dw, i64 top, i64 bottom, i64 left, i64 right, i64 gn, i64 gc,
                                      i64 gh, i64 gw, i64 jn, i64 jc, i64 jh, i64 jw, i64 xn, i64 xc, i64 xh, i64 xw) {
    AT_IN(T, g); AT_OUT(T, x);
#ifdef I
    AT_IN(I, index);
#endif
    for (i64 plane = planes * GROUP_ID(0) / NUM_GROUPS(0); plane < planes * (GROUP_ID(0) + 1) / NUM_GROUPS(0); ++plane) {
        const i64 image = plane / c, ch = plane % c;
        GLOBAL TYPE(T)* out = x + image * xn + ch * xc;
        GLOBAL const TYPE(T)* in = g + image * gn + ch * gc;
        if (xw == 1)
            for (i64 i = 0; i < h; ++i)
                for (i64 j = 0; j < w; ++j) out[i * xh + j] = 0;
        else
            for (i64 i = 0; i < h; ++i)
                for (i64 j = 0; j < w; ++j) out[i * xh + j * xw] = 0;
        for (i64 p = 0; p < oh; ++p) {
#ifdef I
            GLOBAL const TYPE(I)* won = index + image * jn + ch * jc + p * jh;
            const i64 h0 = FIRST(p, h, oh, sh, top), rows = TAPS(p, h, oh, kh);
            for (i64 q = 0; q < ow; ++q) {
                const i64 winner = (i64)LOAD(I, won, q * jw), row = winner / kw, col = winner - row * kw;
                const i64 i = h0 + row * dh, j = FIRST(q, w, ow, sw, left) + col * dw;
                /* A number that no forward pass wrote names a place outside the window or x: it counts for nothing. */
                if (winner >= 0 && row < rows && col < TAPS(q, w, ow, kw) && i >= 0 && i < h && j >= 0 && j < w)
                    out[i * xh + j * xw] += in[p * gh + q * gw];
            }
#else
            EXTENT(i0, i1, high, p, h, oh, kh, sh, top, bottom)
            for (i64 q = 0; q < ow; ++q) {
                EXTENT(j0, j1, wide, q, w, ow, kw, sw, left, right)
                const TYPE(T) share = in[p * gh + q * gw] / (TYPE(T))(high * wide);
                for (i64 i = i0; i < i1; ++i)
                    for (i64 j = j0; j < j1; ++j) out[i * xh + j * xw] += share;
            }
#endif
        }
    }
}
#else
#define VEC CAT(float, VW)
#define IVEC CAT(int, VW)

#if SW == 1
#define SHOWN(p) CAT(vload, VW)(0, p)
#else
DEVICE VEC pnn_pool_even(GLOBAL const f32* p) {
    const VEC a = CAT(vload, VW)(0, p), b = CAT(vload, VW)(0, p + VW - 1); /* reads p[0 .. 2 VW - 2], no further */
    VEC v;
    v.lo = a.even;
    v.hi = b.odd;
    return v;
}
#define SHOWN(p) pnn_pool_even(p)
#endif

#ifdef MAX_POOL_LINES
KERNEL(pnn_max_pool_lines, 1, 1, 1)(IN(f32, x), OUT(f32, y), OUT(u8, index), i64 planes, i64 c, i64 h, i64 w, i64 oh, i64 ow,
                                    i64 top, i64 left, i64 first_in, i64 last_in, i64 xn, i64 xc, i64 xh, i64 yn, i64 yc,
                                    i64 yh, i64 chunk) {
    AT_IN(f32, x); AT_OUT(f32, y); AT_OUT(u8, index);
    const i64 first = GROUP_ID(0) * chunk, lines = planes * oh, stop = first + chunk < lines ? first + chunk : lines;
    i64 i = first % oh, ch = first / oh % c, image = first / oh / c; /* counted, for rows are short and divisions slow */
    for (i64 line = first; line < stop; ++line) {
        const i64 h0 = i * SH - top;
        GLOBAL const f32* in = x + image * xn + ch * xc + h0 * xh - left;
        const i64 place = image * yn + ch * yc + i * yh;
        const i64 p0 = h0 < 0 ? -h0 : 0, p1 = h0 + KH < h ? KH : h - h0;
        for (i64 j = first_in; j < last_in; j += VW) {
            const i64 at = j + VW <= last_in ? j : last_in - VW;
            VEC best = (VEC)(0);
            IVEC winner = (IVEC)(0);
            for (i64 p = p0; p < p1; ++p)
#pragma unroll
                for (int q = 0; q < KW; ++q) {
                    const VEC v = SHOWN(in + p * xh + at * SW + q);
                    const IVEC better = p == p0 && q == 0 ? (IVEC)(-1) : ~(v <= best) & (best == best);
                    best = select(best, v, better);
#if WITH_INDEX
                    winner = select(winner, (IVEC)((int)p * KW + q), better);
#endif
                }
            CAT(vstore, VW)(best, 0, y + place + at);
#if WITH_INDEX
            CAT(vstore, VW)(CAT(convert_uchar, VW)(winner), 0, index + place + at);
#endif
        }
        for (i64 j = 0; j < ow; ++j) {
            if (j == first_in && last_in > first_in) j = last_in;
            if (j >= ow) break;
            f32 best = -INF_F32;
            i32 winner = 0, seen = 0;
            for (i64 p = p0; p < p1; ++p)
                for (i64 q = 0; q < KW; ++q) {
                    const i64 at = j * SW + q - left;
                    if (at < 0 || at >= w) continue;
                    const f32 v = in[p * xh + at + left];
                    if (!seen || v > best || (v != v && best == best)) { best = v; winner = (i32)(p * KW + q); }
                    seen = 1;
                }
            y[place + j] = best;
#if WITH_INDEX
            index[place + j] = (u8)winner;
#endif
        }
        if (++i == oh) {
            i = 0;
            if (++ch == c) { ch = 0; ++image; }
        }
    }
}
#endif

#ifdef AVG_POOL_LINES
/* The mean: as above. Sums of a row of the window first, then of the rows, as pool.c does. */
KERNEL(pnn_avg_pool_lines, 1, 1, 1)(IN(f32, x), OUT(f32, y), i64 planes, i64 c, i64 h, i64 w, i64 oh, i64 ow, i64 top,
                                    i64 bottom, i64 left, i64 right, i64 first_in, i64 last_in, i64 xn, i64 xc, i64 xh,
                                    i64 yn, i64 yc, i64 yh, i64 chunk) {
    AT_IN(f32, x); AT_OUT(f32, y);
    const i64 first = GROUP_ID(0) * chunk, lines = planes * oh, stop = first + chunk < lines ? first + chunk : lines;
    for (i64 line = first; line < stop; ++line) {
        const i64 plane = line / oh, i = line % oh, h0 = i * SH - top;
        GLOBAL const f32* in = x + plane / c * xn + plane % c * xc + h0 * xh - left;
        GLOBAL f32* out = y + plane / c * yn + plane % c * yc + i * yh;
        const i64 p0 = h0 < 0 ? -h0 : 0, p1 = h0 + KH < h ? KH : h - h0;
        const i64 high = PAD_COUNTS ? (h0 + KH < h + bottom ? KH : h + bottom - h0) : p1 - p0;
        for (i64 j = first_in; j < last_in; j += VW) {
            const i64 at = j + VW <= last_in ? j : last_in - VW;
            VEC total = (VEC)(0);
            for (i64 p = p0; p < p1; ++p) {
                VEC row = (VEC)(0);
#pragma unroll
                for (int q = 0; q < KW; ++q) row += SHOWN(in + p * xh + at * SW + q);
                total += row;
            }
            CAT(vstore, VW)(total / (f32)(high * KW), 0, out + at);
        }
        for (i64 j = 0; j < ow; ++j) {
            if (j == first_in && last_in > first_in) j = last_in;
            if (j >= ow) break;
            const i64 w0 = j * SW - left, q0 = w0 < 0 ? -w0 : 0, q1 = w0 + KW < w ? KW : w - w0;
            const i64 wide = PAD_COUNTS ? (w0 + KW < w + right ? KW : w + right - w0) : q1 - q0;
            f32 total = 0;
            for (i64 p = p0; p < p1; ++p) {
                f32 row = 0;
                for (i64 q = q0; q < q1; ++q) row += in[p * xh + j * SW + q];
                total += row;
            }
            out[j] = total / (f32)(high * wide);
        }
    }
}
#endif

#ifdef MAX_POOL_GRAD_PAIRS
/* Gradient for 2 x 2 windows at stride 2 without padding: every input position belongs to one window or none, so rows of
 * cotangents are spread over two rows of twice the length. One work-item: `chunk` rows of windows. */
KERNEL(pnn_max_pool_grad_pairs, 1, 1, 1)(IN(f32, g), IN(u8, index), OUT(f32, x), i64 planes, i64 c, i64 h, i64 w, i64 oh,
                                         i64 ow, i64 gn, i64 gc, i64 gh, i64 jn, i64 jc, i64 jh, i64 xn, i64 xc, i64 xh,
                                         i64 chunk) {
    AT_IN(f32, g); AT_IN(u8, index); AT_OUT(f32, x);
    const i64 rows = (h + 1) / 2, lines = planes * rows;
    const i64 first = GROUP_ID(0) * chunk, stop = first + chunk < lines ? first + chunk : lines;
    i64 i = first % rows, ch = first / rows % c, image = first / rows / c; /* counted, as above */
    for (i64 line = first; line < stop; ++line) {
        for (i64 p = 0; p < 2 && 2 * i + p < h; ++p) {
            GLOBAL f32* out = x + image * xn + ch * xc + (2 * i + p) * xh;
            if (i >= oh) {
                for (i64 j = 0; j < w; ++j) out[j] = 0;
                continue;
            }
            GLOBAL const f32* in = g + image * gn + ch * gc + i * gh;
            GLOBAL const u8* won = index + image * jn + ch * jc + i * jh;
            for (i64 k = 0; k < ow && ow >= VW; k += VW) { /* the last vector overlaps its neighbour */
                const i64 j = k + VW <= ow ? k : ow - VW;
                const VEC v = CAT(vload, VW)(0, in + j);
                const IVEC mine = CAT(convert_int, VW)(CAT(vload, VW)(0, won + j)) - (IVEC)((int)(2 * p));
                const VEC even = select((VEC)(0), v, mine == (IVEC)(0)), odd = select((VEC)(0), v, mine == (IVEC)(1));
                VEC low, high;
                low.even = even.lo; low.odd = odd.lo;
                high.even = even.hi; high.odd = odd.hi;
                CAT(vstore, VW)(low, 0, out + 2 * j);
                CAT(vstore, VW)(high, 0, out + 2 * j + VW);
            }
            for (i64 j = ow < VW ? 0 : ow; j < ow; ++j) {
                out[2 * j] = won[j] == 2 * p ? in[j] : 0;
                out[2 * j + 1] = won[j] == 2 * p + 1 ? in[j] : 0;
            }
            for (i64 j = 2 * ow; j < w; ++j) out[j] = 0;
        }
        if (++i == rows) {
            i = 0;
            if (++ch == c) { ch = 0; ++image; }
        }
    }
}
#endif
#endif
#endif
