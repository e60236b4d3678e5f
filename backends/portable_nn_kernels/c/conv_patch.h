/* The patch that kernels of conv_last.c copy rows of an image into, and how an image is made on the way. See there; needs its
 * defines and vector_cpu.h.
 *
 * An image may be fed: computed where it is copied, from what a batch norm would have made it of, so that it never lies in
 * memory. How is an argument, not a define: the copy is apart from the sums, and another program would have to be compiled. */
/* An axis: the image's size, the source position of the first tap of output 0, how far an output step and a tap step move
 * it, the phases and the entries of each in the patch. */
#define AXIS(a) i64 a##_size, i64 a##_first, i64 a##_step, i64 a##_dilation, i64 a##_period, i64 a##_phases, i64 a##_shift, i64 a##_count
#define AXIS_GIVEN(a) a##_size, a##_first, a##_step, a##_dilation, a##_period, a##_phases, a##_shift, a##_count
#define NEXT_TAP(a) if (++a##_phase == a##_period) { a##_phase = 0; a##_entry += a##_shift; }

/* A fed image: x is NORM_RELU: what is normalised, before weight, bias and ReLU; NORM_GRAD, NORM_RELU_GRAD: the cotangent (of
 * the ReLU's result), z then what was normalised. The operations are those of plans/norm.py, in their order: the same bits. */
#define NORM_RELU 1
#define NORM_GRAD 2
#define NORM_RELU_GRAD 3
#define FED_IN(x) IN(T, x##_z), IN(R, x##_mean), IN(R, x##_rstd), IN(R, x##_weight), IN(R, x##_bias), IN(R, x##_gw), IN(R, x##_gb), i32 x##_kind, R x##_share
#define FED_AT(x)      \
    AT_IN(T, x##_z);   \
    AT_IN(R, x##_mean); \
    AT_IN(R, x##_rstd); \
    AT_IN(R, x##_weight); \
    AT_IN(R, x##_bias); \
    AT_IN(R, x##_gw); \
    AT_IN(R, x##_gb);
#define FED(x) GLOBAL const TYPE(T)* x##_z, GLOBAL const R* x##_mean, GLOBAL const R* x##_rstd, GLOBAL const R* x##_weight, \
    GLOBAL const R* x##_bias, GLOBAL const R* x##_gw, GLOBAL const R* x##_gb, i32 x##_kind, R x##_share
/* Channels from `c` on, which are `step` apart in memory. */
#define FED_FROM(x, c, step) x##_z += (c) * (step); x##_mean += c; x##_rstd += c; x##_weight += c; x##_bias += c; x##_gw += c; x##_gb += c;
#define FED_GIVEN(x) x##_z, x##_mean, x##_rstd, x##_weight, x##_bias, x##_gw, x##_gb, x##_kind, x##_share

/* `count` pixels, `move` apart from element `at` on, channels [c, c + VW): to `to`, `step` apart. */
#define FED_PIXELS(FROM) for (i64 v = 0; v < count; ++v, at += move, to += step) VPUT(R, to, FROM);
DEVICE void pnn_conv_fed(GLOBAL const TYPE(T)* x, i64 at, i64 c, i64 count, i64 move, GLOBAL R* to, i64 step, FED(x)) {
    const VEC mean = VGET(R, x_mean + c, 0), rstd = VGET(R, x_rstd + c, 0), weight = VGET(R, x_weight + c, 0), bias = VGET(R, x_bias + c, 0);
    if (x_kind == NORM_RELU) {
        FED_PIXELS(pnn_vmax((VGET(T, x + at, 0) - mean) * rstd * weight + bias, (VEC)(0)))
        return;
    }
    const VEC dot = VGET(R, x_gw + c, 0) * x_share, sum = VGET(R, x_gb + c, 0) * x_share;
#define FED_GRAD(g, away) (((g) - sum - (away) * rstd * dot) * rstd * weight)
    if (x_kind == NORM_GRAD)
        FED_PIXELS(FED_GRAD(VGET(T, x + at, 0), VGET(T, x_z + at, 0) - mean))
    else
        for (i64 v = 0; v < count; ++v, at += move, to += step) {
            const VEC away = VGET(T, x_z + at, 0) - mean;
            VPUT(R, to, FED_GRAD(select((VEC)(0), VGET(T, x + at, 0), away * rstd * weight + bias > 0), away));
        }
}

DEVICE void pnn_conv_fill(GLOBAL const TYPE(T)* x, i64 start, GLOBAL R* to, i64 i0, i64 c, i64 xc, i64 xh, i64 xw, AXIS(h), AXIS(w), FED(x)) {
    for (i64 c0 = 0; c0 < c; c0 += CB) {
        const i64 lanes = c - c0 < CB ? c - c0 : CB;
        for (i64 f = 0; f < h_phases; ++f)
            for (i64 u = 0; u < h_count; ++u) {
                const i64 row = h_first + f * h_dilation + (i0 + u) * h_step;
                for (i64 g = 0; g < w_phases; ++g, to += w_count * CB) {
                    const i64 left = w_first + g * w_dilation, room = w_size - left;
                    i64 v0 = left < 0 ? (w_step - 1 - left) / w_step : 0, v1 = room > 0 ? (room + w_step - 1) / w_step : 0;
                    if (row < 0 || row >= h_size) v0 = w_count;
                    v0 = v0 < w_count ? v0 : w_count;
                    v1 = v1 < w_count ? v1 : w_count;
                    ONE_COPY for (i64 e = 0; e < v0 * CB; ++e) to[e] = 0;
                    const i64 at = start + row * xh + left * xw + c0 * xc, move = w_step * xw;
                    GLOBAL const TYPE(T)* from = x + at;
#if CB % VW == 0
                    if (x_kind) {
                        for (int l = 0; l < CB; l += VW)
                            pnn_conv_fed(x, at + v0 * move + l, c0 + l, v1 - v0, move, to + v0 * CB + l, CB, FED_GIVEN(x));
                    } else if (lanes == CB && xc == 1) {
                        for (i64 v = v0; v < v1; ++v)
#pragma unroll
                            for (int l = 0; l < CB; l += VW) VPUT(R, to + v * CB + l, VGET(T, from + v * move + l, 0));
                    } else
#endif
                    for (i64 v = v0; v < v1; ++v) {
                        ONE_COPY for (i64 l = 0; l < lanes; ++l) to[v * CB + l] = LOAD(T, from, v * move + l * xc);
                        ONE_COPY for (i64 l = lanes; l < CB; ++l) to[v * CB + l] = 0;
                    }
                    ONE_COPY for (i64 e = (v1 > v0 ? v1 : v0) * CB; e < w_count * CB; ++e) to[e] = 0;
                }
            }
    }
}
