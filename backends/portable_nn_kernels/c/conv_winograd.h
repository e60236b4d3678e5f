/* What Winograd's convolutions (conv_winograd.c) and their weight gradients share: the transform of an image. Needs their defines,
 * vector_cpu.h and conv_patch.h. */
#define HALF ((R)0.5)

/* V of `rows` rows of `wide` tiles, to where there is room for `room`, from a patch (block of CB, row, column, CB). Columns are
 * transformed once for the two tiles that share them. */
#define B_COLUMN(v, d)                                                        \
    {                                                                         \
        const VEC d0 = VGET(R, d, 0), d1 = VGET(R, (d) + line, 0), d2 = VGET(R, (d) + 2 * line, 0), d3 = VGET(R, (d) + 3 * line, 0); \
        v[0] = d0 - d2; v[1] = d1 + d2; v[2] = d2 - d1; v[3] = d1 - d3;       \
    }
DEVICE void pnn_winograd_image(GLOBAL const R* patch, GLOBAL R* to, i64 c, i64 rows, i64 wide, i64 room) {
    const i64 line = (2 * wide + 2) * CB, step = room * CB;
    for (i64 c0 = 0; c0 < c; c0 += CB, patch += (2 * rows + 2) * line, to += 16 * step)
        for (i64 i = 0; i < rows; ++i)
            for (int l = 0; l < CB; l += VW) {
                GLOBAL const R* d = patch + 2 * i * line + l;
                GLOBAL R* out = to + i * wide * CB + l;
                VEC v0[4], v1[4], v2[4], v3[4];
                B_COLUMN(v0, d)
                B_COLUMN(v1, d + CB)
                for (i64 j = 0; j < wide; ++j, out += CB) {
                    d += 2 * CB;
                    B_COLUMN(v2, d)
                    B_COLUMN(v3, d + CB)
#pragma unroll
                    for (int p = 0; p < 4; ++p) {
                        VPUT(R, out + (4 * p + 0) * step, v0[p] - v2[p]);
                        VPUT(R, out + (4 * p + 1) * step, v1[p] + v2[p]);
                        VPUT(R, out + (4 * p + 2) * step, v2[p] - v1[p]);
                        VPUT(R, out + (4 * p + 3) * step, v1[p] - v3[p]);
                        v0[p] = v2[p];
                        v1[p] = v3[p];
                    }
                }
            }
}

/* Bands [from, to): image, first row of tiles, rows of tiles. */
#define EACH_BAND(e, from, to) \
    for (i64 e = from, image = e / bands, t0 = e % bands * band, rows = high - t0 < band ? high - t0 : band; e < (to); \
         ++e, image = e / bands, t0 = e % bands * band, rows = high - t0 < band ? high - t0 : band)
#define FILL_IMAGE(at) \
    pnn_conv_fill(x, image * xn, at, 2 * t0, c, xc, xh, xw, h_size, h_first, h_step, h_dilation, h_period, h_phases, h_shift, 2 * rows + 2, \
                  AXIS_GIVEN(w), FED_GIVEN(x))
