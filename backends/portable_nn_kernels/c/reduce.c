/* Reductions of up to two kept and two reduced axes at any strides: y[k] = FINISH(COMBINE over r of MAP(x[k, r], m[k, r])).
 *
 * pnn_reduce_rows: a work-group makes one output at a time; its G work-items walk along the inner reduced axis, so x is
 * read once in whole lines. The CPU shape is the same text with G = one vector and four accumulators per lane.
 * pnn_reduce_columns: a work-item walks over the reduced axes alone, for one output, or for W of them, G apart, so that a
 * CPU reads whole pages in order: for reduced axes that are not innermost, and for rows too short to fill a group.
 *
 * Both cut the reduced axes into parts_1 x parts_0 parts, when outputs are few: stored in the
 * order (output, part), and a second launch reduces the parts. Sums are kept per block of at most BLOCK terms a lane and the blocks
 * added up, then lanes in a tree, then parts: the error grows with the depth, not with the length. No atomics: the order
 * depends on shape and device profile only. Idea: Blelloch's two-stage reduction; NumPy's blocked summation.
 *
 * Defines: X, M storage tags of the operands (M with HAS_M), A compute tag, Y storage tag of y; MAP, COMBINE, FINISH one
 * of the macros below; INIT a value; G; W (0: the rows kernel);
 * UNIT if the walked axis has stride 1, FLAT if there is one kept axis, DENSE if that has stride 1. */
#include "math.h"
#include "tree.h"

#define MAP_VALUE(v, m, j) ((A)(v))
#define MAP_TRUE(v, m, j) ((A)((v) != 0))
#define MAP_ZERO(v, m, j) ((A)((v) == 0))
#define MAP_NOT_ZERO(v, m, j) ((v) == 0 ? (A)1 : (A)(v)) /* the product of the others */
#define MAP_SQUARE(v, m, j) ((A)(((v) - (m)) * ((v) - (m))))
#define MAP_DISTANCE(v, m, j) CAT(pnn_abs_, A)((A)(v) - (A)(m))
#define PNN_SAME(v, m) ((v) == (m) || ((v) != (v) && (m) != (m)))
#define MAP_SAME(v, m, j) ((A)PNN_SAME(v, m))
#define MAP_PLACE(v, m, j) (PNN_SAME(v, m) ? (A)(j) : INIT) /* where the extremum is */

#define COMBINE_SUM(a, b) CAT(pnn_add_, A)(a, b)
#define COMBINE_PRODUCT(a, b) ((A)((a) * (b)))
#define COMBINE_MAX(a, b) CAT(pnn_max_, A)(a, b)
#define COMBINE_MIN(a, b) CAT(pnn_min_, A)(a, b)

#define FINISH_SAME(a) (a)
#define FINISH_DIVIDE(a) ((a) / divisor)
#define FINISH_ROOT(a) CAT(pnn_sqrt_, A)((a) / divisor)

/* Element i along the inner reduced axis of the line that starts at `line`; j, its place in the reduced axes' C order. */
#ifdef HAS_M
#define PNN_M_PARAMETERS IN(M, m), const i64 mk1, const i64 mk0, const i64 mr1, const i64 mr0,
#define PNN_M_LINE(k1, k0, r1) ((k1) * mk1 + (k0) * mk0 + (r1) * mr1)
#define PNN_M_AT(line, i) LOAD(M, m, (line) + (i) * mr0)
#else
#define PNN_M_PARAMETERS
#define PNN_M_LINE(k1, k0, r1) 0
#define PNN_M_AT(line, i) 0
#endif
#ifdef UNIT
#define PNN_AT(line, m_line, i) MAP(LOAD(X, x, (line) + (i)), PNN_M_AT(m_line, i), place + (i) * w0)
#else
#define PNN_AT(line, m_line, i) MAP(LOAD(X, x, (line) + (i) * xr0), PNN_M_AT(m_line, i), place + (i) * w0)
#endif

#define PNN_PARAMETERS                                                                                          \
    IN(X, x), PNN_M_PARAMETERS OUT(Y, y), const i64 k1s, const i64 k0s, const i64 r1s, const i64 r0s,           \
    const i64 xk1, const i64 xk0, const i64 xr1, const i64 xr0, const i64 w1, const i64 w0,                     \
    const i64 parts_1, const i64 parts_0, const i64 tiles, const D divisor

#define PNN_PART(part)                                                                                          \
    const i64 part_1 = (part) / parts_0, part_0 = (part) - part_1 * parts_0;                                    \
    const i64 first_1 = r1s * part_1 / parts_1, last_1 = r1s * (part_1 + 1) / parts_1;                          \
    const i64 first_0 = r0s * part_0 / parts_0, last_0 = r0s * (part_0 + 1) / parts_0;

#define BLOCK 64
#define COMBINE_4(s) COMBINE(COMBINE(s##0, s##1), COMBINE(s##2, s##3))

#if W == 0
KERNEL(pnn_reduce_rows, G, 1, 1)(PNN_PARAMETERS) {
    LOCAL A lanes[G];
    AT_IN(X, x);
#ifdef HAS_M
    AT_IN(M, m);
#endif
    AT_OUT(Y, y);
    const i64 lane = LOCAL_ID(0);
    const i64 parts = parts_1 * parts_0;
    for (i64 tile = GROUP_ID(0); tile < tiles; tile += NUM_GROUPS(0)) {
        const i64 k = tile / parts, k1 = k / k0s, k0 = k - k1 * k0s;
        PNN_PART(tile - k * parts)
        A sum = INIT;
        for (i64 r1 = first_1; r1 < last_1; ++r1) {
            const i64 line = k1 * xk1 + k0 * xk0 + r1 * xr1, m_line = PNN_M_LINE(k1, k0, r1), place = r1 * w1;
            for (i64 start = first_0; start < last_0; start += 4 * G * BLOCK) {
                const i64 stop = start + 4 * G * BLOCK < last_0 ? start + 4 * G * BLOCK : last_0;
                A s0 = INIT, s1 = INIT, s2 = INIT, s3 = INIT;
                i64 i = start; /* the same in every work-item, so that the body has no mask */
                for (; i + 4 * G <= stop; i += 4 * G) {
                    s0 = COMBINE(s0, PNN_AT(line, m_line, i + lane));
                    s1 = COMBINE(s1, PNN_AT(line, m_line, i + G + lane));
                    s2 = COMBINE(s2, PNN_AT(line, m_line, i + 2 * G + lane));
                    s3 = COMBINE(s3, PNN_AT(line, m_line, i + 3 * G + lane));
                }
                for (; i < stop; i += G)
                    if (i + lane < stop) s0 = COMBINE(s0, PNN_AT(line, m_line, i + lane));
                sum = COMBINE(sum, COMBINE_4(s));
            }
        }
        TREE(A, sum, lanes, lane, G, COMBINE)
        if (lane == 0) STORE(Y, y, tile, FINISH(sum));
    }
}
#else
#ifdef FLAT
#define PNN_OUTPUT(k)                                                                                           \
    const i64 k1 = 0, k0 = (k);
#else
#define PNN_OUTPUT(k)                                                                                           \
    const i64 k1 = (k) / k0s, k0 = (k) - k1 * k0s;
#endif
#ifdef DENSE /* neighbouring outputs read neighbouring elements: say it, so that loads become whole vectors */
#define PNN_FROM(k1, k0) ((k1) * xk1 + (k0))
#else
#define PNN_FROM(k1, k0) ((k1) * xk1 + (k0) * xk0)
#endif

KERNEL(pnn_reduce_columns, G, 1, 1)(PNN_PARAMETERS) {
    AT_IN(X, x);
#ifdef HAS_M
    AT_IN(M, m);
#endif
    AT_OUT(Y, y);
    const i64 parts = parts_1 * parts_0, columns = tiles / parts;
    for (i64 tile = GROUP_ID(0); tile < tiles; tile += NUM_GROUPS(0)) {
        const i64 part = tile / columns, column = tile - part * columns;
        PNN_PART(part)
#if W == 1
        const i64 k = column * G + LOCAL_ID(0);
        if (k < k1s * k0s) {
            PNN_OUTPUT(k)
            A sum = INIT;
            for (i64 r1 = first_1; r1 < last_1; ++r1) {
                const i64 line = PNN_FROM(k1, k0) + r1 * xr1, m_line = PNN_M_LINE(k1, k0, r1), place = r1 * w1;
                for (i64 start = first_0; start < last_0; start += 4 * BLOCK) {
                    const i64 stop = start + 4 * BLOCK < last_0 ? start + 4 * BLOCK : last_0;
                    A s0 = INIT, s1 = INIT, s2 = INIT, s3 = INIT;
                    i64 i = start;
                    for (; i + 4 <= stop; i += 4) {
                        s0 = COMBINE(s0, PNN_AT(line, m_line, i));
                        s1 = COMBINE(s1, PNN_AT(line, m_line, i + 1));
                        s2 = COMBINE(s2, PNN_AT(line, m_line, i + 2));
                        s3 = COMBINE(s3, PNN_AT(line, m_line, i + 3));
                    }
                    for (; i < stop; ++i) s0 = COMBINE(s0, PNN_AT(line, m_line, i));
                    sum = COMBINE(sum, COMBINE_4(s));
                }
            }
            STORE(Y, y, k * parts + part, FINISH(sum));
        }
#else
        /* The plan promises one kept axis whose length is a multiple of G W: no masks. */
        A sum[W], s[W];
        const i64 k0 = column * (G * W) + LOCAL_ID(0);
        for (int c = 0; c < W; ++c) sum[c] = INIT;
        for (i64 r1 = first_1; r1 < last_1; ++r1) {
            const i64 line = PNN_FROM(0, k0) + r1 * xr1, m_line = PNN_M_LINE(0, k0, r1), place = r1 * w1;
            for (i64 start = first_0; start < last_0; start += BLOCK) {
                const i64 stop = start + BLOCK < last_0 ? start + BLOCK : last_0;
                for (int c = 0; c < W; ++c) s[c] = INIT;
                for (i64 i = start; i < stop; ++i)
                    for (int c = 0; c < W; ++c) s[c] = COMBINE(s[c], PNN_AT(line + c * G, m_line + PNN_M_LINE(0, c * G, 0), i));
                for (int c = 0; c < W; ++c) sum[c] = COMBINE(sum[c], s[c]);
            }
        }
        for (int c = 0; c < W; ++c) STORE(Y, y, (k0 + c * G) * parts + part, FINISH(sum[c]));
#endif
    }
}
#endif
