/* Maximum of 2-D windows for CPUs, C-order rows of float32: one work-item per run of output rows, VW outputs of a row at a time.
 * Outputs whose window lies inside the columns are computed by vectors (the last one overlaps its neighbour), those at the
 * edges one by one; rows outside are skipped. OpenCL only. Replaces pnn_max_pool of pool.c there: 3 to 10 times faster.
 * Defines: VW (16 or 8), KH KW SH SW (SW 1 or 2; no dilation), WITH_INDEX; the kernel's name in capitals. */
#ifdef PNN_OPENCL
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
    for (i64 line = first; line < stop; ++line) {
        const i64 plane = line / oh, i = line % oh, h0 = i * SH - top;
        GLOBAL const f32* in = x + plane / c * xn + plane % c * xc + h0 * xh - left;
        const i64 place = plane / c * yn + plane % c * yc + i * yh;
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
    for (i64 line = first; line < stop; ++line) {
        const i64 plane = line / rows, i = line % rows, image = plane / c, ch = plane % c;
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
    }
}
#endif
#endif
