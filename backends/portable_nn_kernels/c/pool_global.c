/* Mean of whole planes: y[n, c] = sum over h, w of x / (h w). For arrays whose planes are contiguous rows (not
 * channels-last). One group of SIZE work-items per plane, strided sums joined by a tree; a group walks over several planes.
 * Traffic: x once. Defines: T, SIZE (a power of two). */
#include "tree.h"

#define REAL ACC(T)
#define PNN_SUM(a, b) ((a) + (b))
KERNEL(pnn_pool_global_avg, SIZE, 1, 1)(IN(T, x), OUT(T, y), i64 n, i64 c, i64 h, i64 w, i64 xn, i64 xc, i64 xh, i64 xw,
                                        i64 yn, i64 yc) {
    AT_IN(T, x); AT_OUT(T, y);
    LOCAL REAL partial[SIZE];
    const i64 lane = LOCAL_ID(0), flat = xh == w * xw;
    for (i64 plane = GROUP_ID(0); plane < n * c; plane += NUM_GROUPS(0)) {
        const i64 base = plane / c * xn + plane % c * xc;
        REAL total = 0;
        if (flat)
            for (i64 e = lane; e < h * w; e += SIZE) total += LOAD(T, x, base + e * xw);
        else
            for (i64 e = lane; e < h * w; e += SIZE) total += LOAD(T, x, base + e / w * xh + e % w * xw);
        TREE(REAL, total, partial, lane, SIZE, PNN_SUM)
        if (lane == 0) STORE(T, y, plane / c * yn + plane % c * yc, total / (REAL)(h * w));
    }
}
