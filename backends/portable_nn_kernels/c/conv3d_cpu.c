/* The CPU-shaped input gradient of a convolution of volumes, last step: conv2d's kernels made, for each output slice and
 * each depth tap, what it gives back to the input; an input slice adds what is its own.
 *
 *   x[n, c, d, e] = bias[c] + sum over taps r with (d + front - r dd) = sd s of parts[n, s, c, r, e],  e = (h, w)
 *
 * One work-group of G work-items takes whole planes e, lines GROUP_ID, ... of (n, c, d). Traffic: parts and x once.
 * Defines: T (storage of x and bias), G. parts holds the compute type. */
KERNEL(pnn_conv3d_slices, G, 1, 1)(IN(ACC_TAG(T), parts), IN(T, bias), OUT(T, x), i64 n, i64 c, i64 d, i64 od, i64 kd, i64 sd, i64 front,
                                   i64 dd, i64 plane, i32 has_bias, i64 bias_step) {
    AT_IN(ACC_TAG(T), parts);
    AT_IN(T, bias);
    AT_OUT(T, x);
    for (i64 line = GROUP_ID(0); line < n * c * d; line += NUM_GROUPS(0)) {
        const i64 slice = line % d, ch = line / d % c, image = line / (d * c);
        const ACC(T) shift = has_bias ? LOAD(T, bias, ch * bias_step) : 0;
        for (i64 e = LOCAL_ID(0); e < plane; e += G) {
            ACC(T) sum = shift;
            for (i64 r = 0; r < kd; ++r) {
                const i64 far = slice + front - r * dd;
                if (far >= 0 && far % sd == 0 && far / sd < od) sum += parts[(((image * od + far / sd) * c + ch) * kd + r) * plane + e];
            }
            STORE(T, x, line * plane + e, sum);
        }
    }
}
