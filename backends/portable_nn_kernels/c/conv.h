/* What the convolution kernels share: the shape of one convolution, in elements of strides, as arguments and as a struct.
 *
 * x (images): n, groups x c channels, h, w.  weight: groups x o, c, kh, kw.  y: n, groups x o, oh, ow. The three kernels
 * (forward, input gradient, weight gradient) read two of the three arrays and write the third; c and o are per group. */
#define CONV_ARGS                                                                                               \
    i64 n, i64 groups, i64 c, i64 h, i64 w, i64 o, i64 oh, i64 ow, i64 kh, i64 kw, i64 sh, i64 sw, i64 top,     \
        i64 left, i64 dh, i64 dw, i64 xn, i64 xc, i64 xh, i64 xw, i64 wo, i64 wc, i64 wp, i64 wq, i64 yn,       \
        i64 yo, i64 yh, i64 yw

/* Quotient and remainder in IX: u32 where the counts allow it (64-bit division is slow on GPUs), i64 otherwise. */
#define CONV_SPLIT(value, by, quotient, rest)                                                                   \
    const IX quotient = (IX)(value) / (IX)(by);                                                                 \
    const IX rest = (IX)(value) - quotient * (IX)(by)
