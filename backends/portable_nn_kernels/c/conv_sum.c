/* dW[r] = sum over parts of partial[part, r], in pairs: the second launch of every weight gradient.
 * partial: (parts, groups, blocks, rows, lanes); element (o, row) of a group lies at block o / lanes, lane o % lanes if
 * BLOCKED, else at (o, row). One work-item per element of dW, which is (groups o, c, kh, kw) in C order.
 * Traffic: partial once. Defines: T, SIZE (work-group), BLOCKED. */
KERNEL(pnn_conv_weight_sum, SIZE, 1, 1)(IN(ACC_TAG(T), partial), OUT(T, dw), i64 parts, i64 count, i64 o, i64 rows,
                                        i64 lanes, i64 part, i64 chunk) {
    AT_IN(ACC_TAG(T), partial);
    AT_OUT(T, dw);
    const i64 first = GROUP_ID(0) * chunk, stop = first + chunk < count ? first + chunk : count;
    for (i64 e = first + LOCAL_ID(0); e < stop; e += SIZE) {
        i64 at = e;
        if (BLOCKED) {
            const i64 row = e % rows, ch = e / rows % o, group = e / (rows * o), blocks = (o + lanes - 1) / lanes;
            at = ((group * blocks + ch / lanes) * rows + row) * lanes + ch % lanes;
        }
        /* Two-level sum: blocks of 16 parts, then the blocks. */
        ACC(T) total = 0;
        for (i64 p0 = 0; p0 < parts; p0 += 16) {
            ACC(T) block = 0;
            for (i64 p = p0; p < parts && p < p0 + 16; ++p) block += LOAD(ACC_TAG(T), partial, p * part + at);
            total += block;
        }
        STORE(T, dw, e, total);
    }
}
