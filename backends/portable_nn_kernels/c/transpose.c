/* Copy between layouts whose contiguous axes differ (transpose, NCHW to NHWC), for GPUs: one work-group of 32 x 8 moves one
 * tile of 32 x 32 through local memory, reading along x's contiguous axis i and writing along y's contiguous axis j, so that
 * both sides move whole lines. A column more in local memory keeps its banks apart. Traffic: every element once in, once out.
 * Three outer axes (size, stride in x, stride in y) are taken apart once per tile. */

#define TILE 32
#define ROWS 8

KERNEL(pnn_transpose, TILE, ROWS, 1)(IN(T, x), OUT(T, y), const i64 x_start, const i64 y_start, const i64 ni, const i64 nj,
    const i64 xj, const i64 yi, const i64 n1, const i64 n2, const i64 x0, const i64 x1, const i64 x2, const i64 y0,
    const i64 y1, const i64 y2) {
    AT_IN(T, x);
    AT_OUT(T, y);
    LOCAL TYPE(T) t[TILE * (TILE + 1)];
    const i64 across = (ni + TILE - 1) / TILE;
    const i64 down = (nj + TILE - 1) / TILE;
    i64 rest = GROUP_ID(0);
    const i64 j = (rest % down) * TILE;
    rest /= down;
    const i64 i = (rest % across) * TILE;
    rest /= across;
    const i64 a2 = rest % n2;
    rest /= n2;
    const i64 a1 = rest % n1;
    const i64 a0 = rest / n1;
    GLOBAL const TYPE(T)* p = x + x_start + a0 * x0 + a1 * x1 + a2 * x2 + j * xj + i;
    GLOBAL TYPE(T)* q = y + y_start + a0 * y0 + a1 * y1 + a2 * y2 + i * yi + j;
    const i64 lane = LOCAL_ID(0);
    for (i64 b = LOCAL_ID(1); b < TILE; b += ROWS)
        if (i + lane < ni && j + b < nj) t[b * (TILE + 1) + lane] = p[b * xj + lane];
    BARRIER();
    for (i64 a = LOCAL_ID(1); a < TILE; a += ROWS)
        if (i + a < ni && j + lane < nj) q[a * yi + lane] = t[lane * (TILE + 1) + a];
}
