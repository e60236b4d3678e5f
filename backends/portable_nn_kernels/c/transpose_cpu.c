/* Copy between layouts whose contiguous axes differ (transpose, NCHW to NHWC), for CPUs: one work-item moves whole tiles.
 *
 * A tile is TI elements along x's contiguous axis i by TJ along y's contiguous axis j. It is read line by line into private
 * memory and written line by line, so that no cache line is fetched twice even where the strides are powers of two and all
 * lines of a tile fall in one cache set. Work-group g moves tiles g chunk ... (g + 1) chunk - 1, j fastest. Traffic: every
 * element once in, once out. Three outer axes (size, stride in x, stride in y) are taken apart once per tile. */

KERNEL(pnn_transpose_cpu, 1, 1, 1)(IN(T, x), OUT(T, y), const i64 x_start, const i64 y_start, const i64 ni, const i64 nj,
    const i64 xj, const i64 yi, const i64 n1, const i64 n2, const i64 x0, const i64 x1, const i64 x2, const i64 y0,
    const i64 y1, const i64 y2, const i64 chunk, const i64 tiles) {
    AT_IN(T, x);
    AT_OUT(T, y);
    const i64 across = (ni + TI - 1) / TI;
    const i64 down = (nj + TJ - 1) / TJ;
    const i64 first = GROUP_ID(0) * chunk;
    const i64 last = first + chunk < tiles ? first + chunk : tiles;
    for (i64 tile = first; tile < last; tile++) {
        TYPE(T) t[TJ * TI];
        i64 rest = tile;
        const i64 j = (rest % down) * TJ;
        rest /= down;
        const i64 i = (rest % across) * TI;
        rest /= across;
        const i64 a2 = rest % n2;
        rest /= n2;
        const i64 a1 = rest % n1;
        const i64 a0 = rest / n1;
        GLOBAL const TYPE(T)* p = x + x_start + a0 * x0 + a1 * x1 + a2 * x2 + j * xj + i;
        GLOBAL TYPE(T)* q = y + y_start + a0 * y0 + a1 * y1 + a2 * y2 + i * yi + j;
        if (i + TI <= ni && j + TJ <= nj) {
            for (i64 b = 0; b < TJ; b++)
                for (i64 a = 0; a < TI; a++) t[b * TI + a] = p[b * xj + a];
            for (i64 a = 0; a < TI; a++)
                for (i64 b = 0; b < TJ; b++) q[a * yi + b] = t[b * TI + a];
        } else {
            const i64 wide = ni - i < TI ? ni - i : TI;
            const i64 high = nj - j < TJ ? nj - j : TJ;
            for (i64 b = 0; b < high; b++)
                for (i64 a = 0; a < wide; a++) t[b * TI + a] = p[b * xj + a];
            for (i64 a = 0; a < wide; a++)
                for (i64 b = 0; b < high; b++) q[a * yi + b] = t[b * TI + a];
        }
    }
}
