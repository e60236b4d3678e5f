/* dW = sum over parts of partial, in blocks of 16 parts: the second launch of every weight gradient. dW is (groups o, c, kh, kw)
 * in C order. Traffic: partial once. Defines: T, SIZE (work-group), BLOCKED.
 *
 * BLOCKED 0: partial is (parts, groups o, rows), one work-item per element.
 * BLOCKED 1: partial is (parts, panels, rows, SIZE), a panel being SIZE output channels of one group: a work-group takes `chunk`
 * of the (panel, row), its work-items the channels, which lie next to each other. */
DEVICE ACC(T) pnn_conv_parts(GLOBAL const ACC(T)* partial, i64 parts, i64 part) {
    ACC(T) total = 0;
    for (i64 p0 = 0; p0 < parts; p0 += 16) {
        ACC(T) block = 0;
        for (i64 p = p0; p < parts && p < p0 + 16; ++p) block += partial[p * part];
        total += block;
    }
    return total;
}

KERNEL(pnn_conv_weight_sum, SIZE, 1, 1)(IN(ACC_TAG(T), partial), OUT(T, dw), i64 parts, i64 count, i64 part, i64 chunk, i64 o,
                                        i64 blocks, i64 rows) {
    AT_IN(ACC_TAG(T), partial);
    AT_OUT(T, dw);
    const i64 first = GROUP_ID(0) * chunk, stop = first + chunk < count ? first + chunk : count;
#if BLOCKED
    for (i64 e = first; e < stop; ++e) {
        const i64 panel = e / rows, ch = panel % blocks * SIZE + LOCAL_ID(0);
        if (ch < o)
            STORE(T, dw, (panel / blocks * o + ch) * rows + e % rows, pnn_conv_parts(partial + e * SIZE + LOCAL_ID(0), parts, part));
    }
#else
    for (i64 e = first + LOCAL_ID(0); e < stop; e += SIZE) STORE(T, dw, e, pnn_conv_parts(partial + e, parts, part));
#endif
}
