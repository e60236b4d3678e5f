/* Walking over images, N x C x H x W in C order or channels-last: one result per step of a work-item.
 *
 * ROWS 1 (CPUs): a group of SIZE work-items walks over rows of results, its work-items along the axis that is innermost in
 * memory (w, or c for channels-last arrays), so that the runtime makes one vector of them. ROWS 0 (GPUs): flat, one result
 * per work-item. Defines: SIZE, ROWS, LAST (channels-last order), IX (u32 or i64: in which results are counted). */
/* For every (in, ic, ir, il) of n x c x rows x cols: image, channel, row, column. Braces closed by POOL_END. */
#if ROWS
#define POOL_EACH(rows, cols)                                                                                   \
    const i64 inner = LAST ? c : (cols), lines = n * (LAST ? (rows) * (cols) : c * (rows));                     \
    for (i64 line = GROUP_ID(0); line < lines; line += NUM_GROUPS(0)) {                                         \
        const i64 b1 = line % (LAST ? (cols) : (rows)), a1 = line / (LAST ? (cols) : (rows));                   \
        const i64 b0 = a1 % (LAST ? (rows) : c), in = a1 / (LAST ? (rows) : c);                                 \
        for (i64 fast = LOCAL_ID(0); fast < inner; fast += SIZE) {                                              \
            const i64 ic = LAST ? fast : b0, ir = LAST ? b0 : b1, il = LAST ? b1 : fast;
#define POOL_END }}
#else
#define POOL_EACH(rows, cols)                                                                                   \
    const i64 count = n * c * (rows) * (cols);                                                                  \
    for (i64 e = GLOBAL_ID(0); e < count; e += NUM_GROUPS(0) * SIZE) {                                          \
        const IX n3 = (IX)(LAST ? c : (cols)), n2 = (IX)(LAST ? (cols) : (rows)), n1 = (IX)(LAST ? (rows) : c); \
        const IX d3 = (IX)e / n3, d2 = d3 / n2, d1 = d2 / n1;                                                   \
        const i64 e3 = (i64)((IX)e - d3 * n3), e2 = (i64)(d3 - d2 * n2), e1 = (i64)(d2 - d1 * n1);              \
        const i64 in = (i64)d1, ic = LAST ? e3 : e1, ir = LAST ? e1 : e2, il = LAST ? e2 : e3;
#define POOL_END }
#endif
