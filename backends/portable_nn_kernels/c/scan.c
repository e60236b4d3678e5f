/* Running sums along one axis: y[k, initial + c] = start + sum of x[k, c'] for c' <= c in the part of c.
 *
 * A line is cut into `parts` of `length` elements where lines are few: a first launch (TOTALS) leaves the total of each
 * part, a second makes running sums of these, a third (BASE) begins every part with what came before it.
 * pnn_scan_lines: a work-item walks one part; for axes that are not innermost (neighbours walk side by side), short
 * lines, and CPUs. pnn_scan_groups: a work-group walks one part in tiles of G PER elements through local memory: each
 * work-item sums PER neighbours, the sums are scanned by doubling. x is read once, or twice in parts; y written once.
 * Sums are kept per block of 64, then per 64 blocks: the error grows with the depth. Idea: Blelloch 1990.
 *
 * Defines: T, Y storage tags, A compute tag; G; PER (0: pnn_scan_lines); TOTALS; BASE; and UNIT, DENSE, FLAT of line.h. */
#include "line.h"

#ifdef BASE
#define PNN_BASE IN(A, base),
#else
#define PNN_BASE
#endif
#define PNN_SCAN_PARAMETERS                                                                                     \
    IN(T, x), PNN_BASE OUT(Y, y), const i64 lines, const i64 k0s, const i64 n, LINES(x), LINES(y),              \
    const i64 initial, const i64 parts, const i64 length
#define PNN_SCAN_PLACE                                                                                          \
    LINE_PLACE                                                                                                  \
    const i64 first = part * length, last = first + length < n ? first + length : n;                            \
    const i64 x_line = LINE(x), y_line = LINE(y) + initial * yc;
#ifdef BASE
#define PNN_START (part > 0 ? LOAD(A, base, k * parts + part - 1) : ZERO(A))
#else
#define PNN_START ZERO(A)
#endif

#if PER == 0
KERNEL(pnn_scan_lines, G, 1, 1)(PNN_SCAN_PARAMETERS) {
    AT_IN(T, x);
#ifdef BASE
    AT_IN(A, base);
#endif
    AT_OUT(Y, y);
    for (i64 e = GLOBAL_ID(0); e < lines * parts; e += NUM_GROUPS(0) * G) {
        const i64 part = e / lines, k = e - part * lines;
        PNN_SCAN_PLACE
        A before = PNN_START;
#ifndef TOTALS
        if (initial && part == 0) STORE(Y, y, y_line - yc, ZERO(A));
#endif
        for (i64 large = first; large < last; large += 64 * 64) {
            const i64 end = large + 64 * 64 < last ? large + 64 * 64 : last;
            A middle = ZERO(A);
            for (i64 block = large; block < end; block += 64) {
                const i64 stop = block + 64 < end ? block + 64 : end;
                A sum = ZERO(A);
#ifndef TOTALS
                const A so_far = ADD(A, before, middle);
#endif
                for (i64 c = block; c < stop; ++c) {
                    sum = ADD(A, sum, (A)LOAD(T, x, ITEM(x, c)));
#ifndef TOTALS
                    STORE(Y, y, ITEM(y, c), ADD(A, so_far, sum));
#endif
                }
                middle = ADD(A, middle, sum);
            }
            before = ADD(A, before, middle);
        }
#ifdef TOTALS
        STORE(Y, y, k * parts + part, before);
#endif
    }
}
#else
#define PNN_AT_TILE(i) ((i) + (i) / 32) /* work-items PER apart would meet in one bank */
KERNEL(pnn_scan_groups, G, 1, 1)(PNN_SCAN_PARAMETERS) {
    LOCAL A tile[G * PER + G * PER / 32];
    LOCAL A sums[G];
    AT_IN(T, x);
#ifdef BASE
    AT_IN(A, base);
#endif
    AT_OUT(Y, y);
    const i64 lane = LOCAL_ID(0);
    for (i64 e = GROUP_ID(0); e < lines * parts; e += NUM_GROUPS(0)) {
        const i64 k = e / parts, part = e - k * parts;
        PNN_SCAN_PLACE
        A before = PNN_START;
#ifndef TOTALS
        if (initial && part == 0 && lane == 0) STORE(Y, y, y_line - yc, ZERO(A));
#endif
        for (i64 start = first; start < last; start += G * PER) {
            for (i64 i = lane; i < G * PER; i += G)
                tile[PNN_AT_TILE(i)] = start + i < last ? (A)LOAD(T, x, ITEM(x, start + i)) : ZERO(A);
            BARRIER();
            A sum = ZERO(A);
            for (i64 i = lane * PER; i < lane * PER + PER; ++i) sum = ADD(A, sum, tile[PNN_AT_TILE(i)]);
            sums[lane] = sum;
            BARRIER();
            for (i64 span = 1; span < G; span *= 2) {
                const A other = lane >= span ? sums[lane - span] : ZERO(A);
                BARRIER();
                sums[lane] = ADD(A, sums[lane], other);
                BARRIER();
            }
#ifndef TOTALS
            const A so_far = lane > 0 ? ADD(A, before, sums[lane - 1]) : before;
            sum = ZERO(A);
            for (i64 i = lane * PER; i < lane * PER + PER; ++i) {
                sum = ADD(A, sum, tile[PNN_AT_TILE(i)]);
                tile[PNN_AT_TILE(i)] = ADD(A, so_far, sum);
            }
            BARRIER();
            for (i64 i = lane; i < G * PER; i += G)
                if (start + i < last) STORE(Y, y, ITEM(y, start + i), tile[PNN_AT_TILE(i)]);
#endif
            before = ADD(A, before, sums[G - 1]);
            BARRIER();
        }
#ifdef TOTALS
        if (lane == 0) STORE(Y, y, k * parts + part, before);
#endif
    }
}
#endif
