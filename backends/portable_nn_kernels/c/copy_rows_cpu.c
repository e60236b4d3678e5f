/* Copy of short rows (a crop, a border, one array's part of a concatenation), for CPUs: one work-item moves whole rows.
 *
 * Rows lie along y's contiguous axis; x steps by XI along it. Work-group g moves rows g chunk ... (g + 1) chunk - 1. The
 * outer axes (up to four: size, stride in x, stride in y) are counted like an odometer, because a division per row costs as
 * much as moving it. Traffic: every element once in, once out. */

KERNEL(pnn_copy_rows_cpu, 1, 1, 1)(IN(T, x), OUT(T, y), const i64 x_start, const i64 y_start, const i64 n, const i64 xi,
    const i64 n0, const i64 n1, const i64 n2, const i64 n3, const i64 x0, const i64 x1, const i64 x2, const i64 x3,
    const i64 y0, const i64 y1, const i64 y2, const i64 y3, const i64 chunk) {
    AT_IN(T, x);
    AT_OUT(T, y);
    const i64 rows = n0 * n1 * n2 * n3;
    const i64 first = GROUP_ID(0) * chunk;
    const i64 last = first + chunk < rows ? first + chunk : rows;
    i64 rest = first;
    i64 a3 = rest % n3;
    rest /= n3;
    i64 a2 = rest % n2;
    rest /= n2;
    i64 a1 = rest % n1;
    i64 a0 = rest / n1;
    for (i64 row = first; row < last; row++) {
        GLOBAL const TYPE(T)* p = x + x_start + a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3;
        GLOBAL TYPE(T)* q = y + y_start + a0 * y0 + a1 * y1 + a2 * y2 + a3 * y3;
        for (i64 i = 0; i < n; i++) q[i] = p[i * (XI)];
        if (++a3 == n3) {
            a3 = 0;
            if (++a2 == n2) {
                a2 = 0;
                if (++a1 == n1) {
                    a1 = 0;
                    a0++;
                }
            }
        }
    }
}
