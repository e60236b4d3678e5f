/* Direct convolution for CPUs: one work-item per run of register tiles, explicit vectors, no local memory, no barriers.
 * OpenCL only: the vector types have no CUDA name.
 *
 * Panels (many output channels): vectors along output channels, P pixels x NV vectors of VW lanes in registers. A filter tap
 * is one vector load and P broadcasts of image elements, so the image may lie in memory in any order; borders are zeros that
 * pnn_conv_pad wrote around a copy, which is also where halves become float32. The filters are packed
 * (group, block, c, p, q, NR). The input gradient is the same kernel on the padded cotangent with flipped filters: once for
 * stride 1, once per phase (input position modulo the stride) otherwise, so no zero is ever multiplied.
 * One or few output channels per group: see conv_lines.c; but for the weight gradient of up to three, which is here.
 * Over 250 lines because the kernels share one vocabulary and one is compiled at a time.
 * Idea: direct convolution of Georganas et al. 2018 (libxsmm), without code generation.
 * Runs: RUN pixels of a tile that always lie in one row, XW apart in memory, share one pointer; in the weight gradient RUN taps.
 * Defines: T, VW, P (with RUN, XW; or UNIT: neighbours are adjacent), NV, WHOLE (T is its own compute type), and the kernel's name in capitals (one is compiled).
 * Panels take a VEPILOGUE(v), what happens to a whole vector of sums before it is rounded and stored. */
#ifdef PNN_OPENCL
#include "vector_types.h"

#define REAL ACC(T)
#define NR (NV * VW)
#define VEC CAT(PNN_VEC_, CAT(ACC_TAG(T), CAT(_, VW)))
#define INT CAT(PNN_INT_, ACC_TAG(T))
#define PNN_INT_f32 int
#define PNN_INT_f64 long
#define MASK CAT(INT, VW)
#define VLOADC(p) CAT(vload, VW)(0, p)
#define VSTOREC(v, p) CAT(vstore, VW)(v, 0, p)
/* v.hi, which Oclgrind 21.10 would take for unset when it is stored, also of a vector just loaded, and so whatever is made of it. */
#define HIGH(v) (float8)((v).s8, (v).s9, (v).sa, (v).sb, (v).sc, (v).sd, (v).se, (v).sf)
/* VW elements of storage type from p on. */
#define VLOAD(p) CAT(PNN_VLOAD_, T)(p)

/* One stage of a transposition of COUNT vectors: the top bit of the vector's number becomes the lowest of the lane's. After
 * log2(VW) stages VW vectors are transposed; after three stages 8 vectors hold, one channel after the other, 8 pixels each. */
#define ZIP(v, COUNT)                                                                                           \
    do {                                                                                                        \
        VEC zip_[COUNT];                                                                                        \
        _Pragma("unroll") for (int i_ = 0; i_ < (COUNT) / 2; ++i_) {                                            \
            zip_[2 * i_].even = v[i_].lo;                                                                       \
            zip_[2 * i_].odd = v[i_ + (COUNT) / 2].lo;                                                          \
            zip_[2 * i_ + 1].even = v[i_].hi;                                                                   \
            zip_[2 * i_ + 1].odd = v[i_ + (COUNT) / 2].hi;                                                      \
        }                                                                                                       \
        _Pragma("unroll") for (int i_ = 0; i_ < (COUNT); ++i_) v[i_] = zip_[i_];                                \
    } while (0)

/* Where a tile's pixels are read and written: images n, rows oh, columns ow. */
#define PLACES                                                                                                  \
    i64 x_start, i64 xn, i64 xg, i64 xc, i64 xh, i64 xw, i64 tp, i64 tq, i64 y_start, i64 yn, i64 yo, i64 yh, i64 yw

#ifdef CONV_PAD
/* Rows of an image with zeros around them, (images, planes, out_rows, out_row) in C order, in the compute type. A row is w,
 * or w and c together for channels-last images (then planes is 1). One work-item: `chunk` rows. Traffic: image twice. */
KERNEL(pnn_conv_pad, 1, 1, 1)(IN(T, x), OUT(ACC_TAG(T), padded), i64 lines, i64 planes, i64 rows, i64 row, i64 out_rows,
                              i64 out_row, i64 top, i64 left, i64 xn, i64 xc, i64 xh, i64 step, i64 chunk) {
    AT_IN(T, x);
    AT_OUT(ACC_TAG(T), padded);
    const i64 first = GROUP_ID(0) * chunk, stop = first + chunk < lines ? first + chunk : lines;
    i64 i = first % out_rows, plane = first / out_rows % planes, image = first / (out_rows * planes);
    if (stop == lines) /* the room behind the last row is read in whole vectors (and dropped) by pnn_conv_weight_lines */
        for (int j = 0; j < 64 / (int)sizeof(REAL); ++j) padded[lines * out_row + j] = 0;
    for (i64 line = first; line < stop; ++line) {
        GLOBAL REAL* out = padded + line * out_row;
        const i64 at = i - top;
        if (at < 0 || at >= rows) {
            i64 j = 0;
            for (; j + VW <= out_row; j += VW) VSTOREC((VEC)(0), out + j);
            for (; j < out_row; ++j) out[j] = 0;
        } else {
            GLOBAL const TYPE(T)* in = x + image * xn + plane * xc + at * xh;
            for (i64 j = 0; j < left; ++j) out[j] = 0;
            i64 j = 0;
            if (step == 1 && row >= VW) {
                for (; j + VW <= row; j += VW) VSTOREC(VLOAD(in + j), out + left + j);
                if (j < row) VSTOREC(VLOAD(in + row - VW), out + left + row - VW); /* the rest, with an overlap */
                j = row;
            }
            for (; j < row; ++j) out[left + j] = LOAD(T, in, j * step);
            for (j = left + row; j < out_row; ++j) out[j] = 0;
        }
        if (++i == out_rows) {
            i = 0;
            if (++plane == planes) { plane = 0; ++image; }
        }
    }
}
#endif

#ifdef CONV_PACK
/* Filters into panels, (group, block, c, p, q, NR) in the compute type, zeros past o. One work-item: `chunk` of the
 * (group, block, c). Strides w* may be negative (flipped filters). */
KERNEL(pnn_conv_pack, 1, 1, 1)(IN(T, weight), OUT(ACC_TAG(T), packed), i64 count, i64 blocks, i64 c, i64 kh, i64 kw, i64 o,
                               i64 start, i64 wg, i64 wo, i64 wc, i64 wp, i64 wq, i64 chunk) {
    AT_IN(T, weight);
    AT_OUT(ACC_TAG(T), packed);
    const i64 first = GROUP_ID(0) * chunk, stop = first + chunk < count ? first + chunk : count;
    for (i64 e = first; e < stop; ++e) {
        const i64 ch = e % c, block = e / c % blocks, group = e / (c * blocks);
        const i64 base = start + group * wg + block * NR * wo + ch * wc, cols = o - block * NR < NR ? o - block * NR : NR;
        GLOBAL REAL* out = packed + e * kh * kw * NR;
        for (i64 p = 0; p < kh; ++p)
            for (i64 q = 0; q < kw; ++q, out += NR) {
                for (i64 l = 0; l < cols; ++l) out[l] = LOAD(T, weight, base + p * wp + q * wq + l * wo);
                for (i64 l = cols; l < NR; ++l) out[l] = 0;
            }
    }
}
#endif

#ifdef CONV_PANELS
/* One work-item: `tiles` tiles of P pixels of one group, all panels of its range of blocks one after the other.
 * Traffic: packed filters once per work-item and tile from cache, image elements once per panel. */
KERNEL(pnn_conv_panels, 1, 1, 1)(IN(ACC_TAG(T), x), IN(ACC_TAG(T), packed), IN(T, bias), OUT(T, y), i64 pixels, i64 groups,
                                 i64 oh, i64 ow, i64 c, i64 kh, i64 kw, i64 o, PLACES, i64 blocks, i64 tiles, i64 block_step,
                                 i32 has_bias, i64 bias_step) {
    AT_IN(ACC_TAG(T), x);
    AT_IN(ACC_TAG(T), packed);
    AT_IN(T, bias);
    AT_OUT(T, y);
    const i64 group = GROUP_ID(0) % groups, first = GROUP_ID(0) / groups * tiles * P;
    const i64 b0 = GROUP_ID(1) * block_step, b1 = b0 + block_step < blocks ? b0 + block_step : blocks;
    x += x_start + group * xg;
    y += y_start + group * o * yo;
    for (i64 block = b0; block < b1; ++block) {
        const i64 j0 = block * NR, cols = o - j0 < NR ? o - j0 : NR;
        VEC shift[NV];
#pragma unroll
        for (int j = 0; j < NV; ++j) shift[j] = (VEC)(0);
        if (has_bias) {
            REAL lane[NR];
            for (i64 l = 0; l < NR; ++l) lane[l] = l < cols ? LOAD(T, bias, (group * o + j0 + l) * bias_step) : 0;
#pragma unroll
            for (int j = 0; j < NV; ++j) shift[j] = VLOADC(lane + j * VW);
        }
        i64 col = first % ow, line = first / ow % oh, image = first / (ow * oh);
        for (i64 i = first; i < first + tiles * P && i < pixels; i += P) {
            const i64 live = pixels - i < P ? pixels - i : P;
            GLOBAL const REAL* row[P / RUN];
            i64 place[P], adjacent = 1;
#pragma unroll
            for (int r = 0; r < P; ++r) {
                if (r < live) {
                    if (r % RUN == 0) row[r / RUN] = x + image * xn + line * xh + col * xw;
                    place[r] = image * yn + line * yh + col * yw;
                    if (++col == ow) {
                        col = 0;
                        if (++line == oh) { line = 0; ++image; }
                    }
                } else {
                    if (r % RUN == 0) row[r / RUN] = row[r > 0 ? r / RUN - 1 : 0];
                    place[r] = place[r > 0 ? r - 1 : 0];
                }
                if (r > 0) adjacent &= place[r] == place[r > 0 ? r - 1 : 0] + 1;
            }
            VEC acc[P * NV];
#pragma unroll
            for (int r = 0; r < P * NV; ++r) acc[r] = shift[r % NV];
            GLOBAL const REAL* w = packed + (group * blocks + block) * c * kh * kw * NR;
            for (i64 ch = 0; ch < c; ++ch)
                for (i64 p = 0; p < kh; ++p) {
                    i64 at = ch * xc + p * tp;
                    for (i64 q = 0; q < kw; ++q, at += tq, w += NR) {
                        VEC bv[NV];
#pragma unroll
                        for (int j = 0; j < NV; ++j) bv[j] = VLOADC(w + j * VW);
#pragma unroll
                        for (int r = 0; r < P; ++r) {
                            const VEC av = (VEC)(row[r / RUN][at + r % RUN * XW]);
#pragma unroll
                            for (int j = 0; j < NV; ++j) acc[r * NV + j] = fma(av, bv[j], acc[r * NV + j]);
                        }
                    }
                }
#ifdef VEPILOGUE
#pragma unroll
            for (int r = 0; r < P * NV; ++r) acc[r] = VEPILOGUE(acc[r]);
#endif
            GLOBAL TYPE(T)* out = y + j0 * yo;
#if WHOLE
            if (yo == 1 && cols == NR) {
#pragma unroll
                for (int r = 0; r < P; ++r)
                    if (r < live)
#pragma unroll
                        for (int j = 0; j < NV; ++j) VSTOREC(acc[r * NV + j], out + place[r] + j * VW);
                continue;
            }
#endif
#if WHOLE && VW >= 8
            if (adjacent) { /* P neighbours in memory per channel: turn 8 pixels at a time, then store them whole */
#pragma unroll
                for (int s = 0; s < P / 8; ++s)
#pragma unroll
                    for (int j = 0; j < NV; ++j) {
                        VEC v[8];
#pragma unroll
                        for (int r = 0; r < 8; ++r) v[r] = acc[(8 * s + r) * NV + j];
                        ZIP(v, 8);
                        ZIP(v, 8);
                        ZIP(v, 8);
                        GLOBAL REAL* to = out + place[0] + 8 * s + j * VW * yo;
                        const i64 left_over = cols - j * VW;
#pragma unroll
                        for (int e = 0; e < 8; ++e) {
#if VW == 16
                            if (2 * e < left_over) vstore8(v[e].lo, 0, to + 2 * e * yo);
                            if (2 * e + 1 < left_over) vstore8(HIGH(v[e]), 0, to + (2 * e + 1) * yo);
#else
                            if (e < left_over) vstore8(v[e], 0, to + e * yo);
#endif
                        }
                    }
                continue;
            }
#endif
            REAL lane[P * NR];
#pragma unroll
            for (int r = 0; r < P * NV; ++r) VSTOREC(acc[r], lane + r * VW);
            for (i64 j = 0; j < cols; ++j)
#pragma unroll
                for (int r = 0; r < P; ++r)
                    if (r < live) STORE(T, out, place[r] + j * yo, lane[r * NR + j]);
        }
    }
}
#endif

#ifdef CONV_TURN
/* The cotangent with channels innermost, (group, block, pixel, NR) in the compute type; lanes past o repeat the
 * last channel and are never read back. One work-item: `chunk` lines (image, row). Traffic: cotangent twice. */
KERNEL(pnn_conv_turn, 1, 1, 1)(IN(T, y), OUT(ACC_TAG(T), turned), i64 lines, i64 groups, i64 blocks, i64 oh, i64 ow, i64 o,
                               i64 yn, i64 yo, i64 yh, i64 yw, i64 chunk) {
    AT_IN(T, y);
    AT_OUT(ACC_TAG(T), turned);
    const i64 first = GROUP_ID(0) * chunk, stop = first + chunk < lines ? first + chunk : lines;
    for (i64 line = first; line < stop; ++line)
        for (i64 panel = 0; panel < groups * blocks; ++panel) {
            const i64 group = panel / blocks, j0 = panel % blocks * NR, cols = o - j0 < NR ? o - j0 : NR;
            GLOBAL const TYPE(T)* in = y + line / oh * yn + line % oh * yh + (group * o + j0) * yo;
            GLOBAL REAL* out = turned + (panel * lines + line) * ow * NR;
            i64 done = 0;
            if (yw == 1)
                for (; done + VW <= ow; done += VW)
                    for (i64 l = 0; l < NR; l += VW) {
                        VEC v[VW];
#pragma unroll
                        for (int e = 0; e < VW; ++e) v[e] = VLOAD(in + (l + e < cols ? l + e : cols - 1) * yo + done);
#pragma unroll
                        for (int s = 1; s < VW; s *= 2) ZIP(v, VW);
#pragma unroll
                        for (int e = 0; e < VW; ++e) VSTOREC(v[e], out + (done + e) * NR + l);
                    }
            for (i64 j = done; j < ow; ++j)
                for (i64 l = 0; l < NR; ++l) out[j * NR + l] = LOAD(T, in, (l < cols ? l : cols - 1) * yo + j * yw);
        }
}
#endif

#ifdef CONV_WEIGHT_PANELS
/* Weight gradient. Rows are (c, p, q), P of them in registers with NV vectors of output channels. One work-item: one panel of
 * one group, rows [GROUP_ID(0) / panels * row_step, ...), and the lines (image, row of pixels) of part GROUP_ID(1), taken
 * `block` at a time so that their cotangents stay in the first cache while all rows pass; each block's sum is then added to
 * partial (part, group, block, row, NR): a two-level sum. */
KERNEL(pnn_conv_weight_panels, 1, 1, 1)(IN(ACC_TAG(T), x), IN(ACC_TAG(T), g), OUT(ACC_TAG(T), partial), i64 lines, i64 groups,
                                        i64 blocks, i64 oh, i64 ow, i64 c, i64 kh, i64 kw, i64 xn, i64 xg, i64 xc, i64 xh,
                                        i64 xw, i64 tp, i64 tq, i64 g_panel, i64 g_pixel, i64 step, i64 block, i64 row_step) {
    AT_IN(ACC_TAG(T), x);
    AT_IN(ACC_TAG(T), g);
    AT_OUT(ACC_TAG(T), partial);
    const i64 panels = groups * blocks, panel = GROUP_ID(0) % panels, rows = c * kh * kw;
    const i64 r_first = GROUP_ID(0) / panels * row_step, r_stop = r_first + row_step < rows ? r_first + row_step : rows;
    const i64 first = GROUP_ID(1) * step, stop = first + step < lines ? first + step : lines;
    x += panel / blocks * xg;
    g += panel * g_panel;
    partial += (GROUP_ID(1) * panels + panel) * rows * NR;
    for (i64 l0 = first; l0 == first || l0 < stop; l0 += block) {
        const i64 l1 = l0 + block < stop ? l0 + block : stop;
        for (i64 r0 = r_first; r0 < r_stop; r0 += P) {
            GLOBAL const REAL* row[P / RUN];
            VEC acc[P * NV];
#pragma unroll
            for (int r = 0; r < P; r += RUN) {
                const i64 at = r0 + r < rows ? r0 + r : rows - RUN;
                row[r / RUN] = x + at / (kh * kw) * xc + at / kw % kh * tp + at % kw * tq;
            }
#pragma unroll
            for (int r = 0; r < P * NV; ++r) acc[r] = (VEC)(0);
            for (i64 line = l0; line < l1; ++line) {
                i64 at = line / oh * xn + line % oh * xh;
                GLOBAL const REAL* gv = g + line * ow * g_pixel;
                for (i64 j = 0; j < ow; ++j, at += xw, gv += g_pixel) {
                    VEC bv[NV];
#pragma unroll
                    for (int s = 0; s < NV; ++s) bv[s] = VLOADC(gv + s * VW);
#pragma unroll
                    for (int r = 0; r < P; ++r) {
                        const VEC av = (VEC)(row[r / RUN][at + r % RUN]);
#pragma unroll
                        for (int s = 0; s < NV; ++s) acc[r * NV + s] = fma(av, bv[s], acc[r * NV + s]);
                    }
                }
            }
#pragma unroll
            for (int r = 0; r < P; ++r)
                if (r0 + r < r_stop)
#pragma unroll
                    for (int s = 0; s < NV; ++s) {
                        GLOBAL REAL* out = partial + (r0 + r) * NR + s * VW;
                        VSTOREC(l0 == first ? acc[r * NV + s] : VLOADC(out) + acc[r * NV + s], out);
                    }
        }
    }
}
#endif

#ifdef CONV_WEIGHT_LINES
/* Weight gradient for few output channels per group: dots along rows of pixels. One work-item: one output channel, part
 * GROUP_ID(1) of the lines (image, row), P rows (c, p, q) at a time. partial: (part, channel, row). */
KERNEL(pnn_conv_weight_lines, 1, 1, 1)(IN(ACC_TAG(T), x), IN(T, y), OUT(ACC_TAG(T), partial), i64 lines, i64 channels, i64 oh,
                                       i64 ow, i64 c, i64 kh, i64 kw, i64 o, i64 xn, i64 xg, i64 xc, i64 xh, i64 xw, i64 tp,
                                       i64 tq, i64 yn, i64 yo, i64 yh, i64 yw, i64 step) {
    AT_IN(ACC_TAG(T), x);
    AT_IN(T, y);
    AT_OUT(ACC_TAG(T), partial);
    const i64 ch = GROUP_ID(0), rows = c * kh * kw;
    INT iota[VW];
#pragma unroll
    for (int l = 0; l < VW; ++l) iota[l] = l;
    const i64 first = GROUP_ID(1) * step, stop = first + step < lines ? first + step : lines;
    x += ch / o * xg;
    y += ch * yo;
    for (i64 r0 = 0; r0 < rows; r0 += P) {
        GLOBAL const REAL* row[P];
        VEC acc[P];
        VEC total[P];
#pragma unroll
        for (int r = 0; r < P; ++r) {
            const i64 at = r0 + r < rows ? r0 + r : rows - 1;
            row[r] = x + at / (kh * kw) * xc + at / kw % kh * tp + at % kw * tq;
            acc[r] = (VEC)(0);
            total[r] = (VEC)(0);
        }
        i64 since = 0;
        for (i64 line = first; line < stop; ++line) {
            const i64 base = line / oh * xn + line % oh * xh;
            GLOBAL const TYPE(T)* in = y + line / oh * yn + line % oh * yh;
            for (i64 j = 0; j < ow; j += VW) {
                const i64 cols = ow - j < VW ? ow - j : VW, at = base + j * xw;
                if (cols == VW && yw == 1 && xw == 1) {
                    const VEC gv = VLOAD(in + j);
#pragma unroll
                    for (int r = 0; r < P; ++r) acc[r] = fma(gv, VLOADC(row[r] + at), acc[r]);
                } else {
                    REAL lane[VW];
#pragma unroll
                    for (int l = 0; l < VW; ++l) lane[l] = l < cols ? LOAD(T, in, (j + l) * yw) : 0;
                    const VEC gv = VLOADC(lane);
#if UNIT
                    const MASK keep = VLOADC(iota) < (MASK)(cols); /* what lies behind the row may be NaN */
#pragma unroll
                    for (int r = 0; r < P; ++r) acc[r] = fma(gv, select((VEC)(0), VLOADC(row[r] + at), keep), acc[r]);
#else
#pragma unroll
                    for (int r = 0; r < P; ++r) {
                        REAL shown[VW];
#pragma unroll
                        for (int l = 0; l < VW; ++l) shown[l] = l < cols ? row[r][at + l * xw] : 0;
                        acc[r] = fma(gv, VLOADC(shown), acc[r]);
                    }
#endif
                }
                if (++since == 32) { /* flush: the error grows like that of a blocked sum */
#pragma unroll
                    for (int r = 0; r < P; ++r) { total[r] += acc[r]; acc[r] = (VEC)(0); }
                    since = 0;
                }
            }
        }
#pragma unroll
        for (int r = 0; r < P; ++r) {
            REAL lane[VW];
            VSTOREC(total[r] + acc[r], lane);
#pragma unroll
            for (int half_ = VW / 2; half_ > 0; half_ /= 2)
#pragma unroll
                for (int l = 0; l < half_; ++l) lane[l] += lane[l + half_];
            if (r0 + r < rows) partial[(GROUP_ID(1) * channels + ch) * rows + r0 + r] = lane[0];
        }
    }
}
#endif
#endif
