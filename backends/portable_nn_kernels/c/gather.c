/* Gathering by index arrays, and the deterministic gradients: sorted runs instead of float atomics.
 *
 * All operands are dense, read as (outer, axis, inner). Indices outside [0, size) are reported and clamped.
 * pnn_take: y[o, j, i] = x[o, k[j], i]; pnn_take_along: y[o, j, i] = x[o, k[o, j, i], i]; a work-item per element, so
 * that neighbours read neighbours; bytes: each of y once, as much of x.
 * pnn_take_along_grad: a work-item per element of the result compares its place with every index of its line.
 * pnn_sort_blocks, pnn_sort_merge: a stable sort of the indices by rank: within blocks of 64 by counting, then runs of
 * equal length merged by binary search; every work-item finds the place of its own element, nothing is exchanged.
 * pnn_one_hot: y[n, c] = 1 where c = k[n], else 0.
 * pnn_sort_starts: where the run of each index begins.
 * pnn_sort_sum: z[o, v, i] = the sum over the run of v among the sorted indices, in the order of the positions.
 *
 * Defines: WHAT (which kernel), T, R compute type of T, L tag of the indices, G. Idea: merge path; radix-free
 * embedding gradients of the large frameworks. */
#include "error.h"

#define INDEX(value, place)                                                                                     \
    i64 at = (i64)(value);                                                                                      \
    if (at < 0 || at >= size) {                                                                                 \
        REPORT(err, err_code, place, at);                                                                       \
        at = at < 0 ? 0 : size - 1;                                                                             \
    }
#define EACH_ITEM(e, n) for (i64 e = GLOBAL_ID(0); e < (n); e += NUM_GROUPS(0) * G)
#define SORT_BLOCK 64

#if WHAT == 0
KERNEL(pnn_take, G, 1, 1)
(IN(T, x), IN(L, k), OUT(T, y), const i64 rows, const i64 size, const i64 taken, const i64 inner, ERROR_WORD(err)) {
    AT_IN(T, x);
    AT_IN(L, k);
    AT_OUT(T, y);
#ifdef ROWS /* a group copies whole rows */
    for (i64 row = GROUP_ID(0); row < rows; row += NUM_GROUPS(0)) {
        const i64 o = row / taken, j = row - o * taken;
        INDEX(LOAD(L, k, j), j)
        const i64 from = (o * size + at) * inner, to = row * inner;
        for (i64 i = LOCAL_ID(0); i < inner; i += G) y[to + i] = x[from + i];
    }
#else
    EACH_ITEM(e, rows * inner) {
        const i64 row = e / inner, i = e - row * inner, o = row / taken, j = row - o * taken;
        INDEX(LOAD(L, k, j), j)
        y[e] = x[(o * size + at) * inner + i];
    }
#endif
}
#elif WHAT == 1
KERNEL(pnn_take_along, G, 1, 1)
(IN(T, x), IN(L, k), OUT(T, y), const i64 n, const i64 size, const i64 taken, const i64 inner, ERROR_WORD(err)) {
    AT_IN(T, x);
    AT_IN(L, k);
    AT_OUT(T, y);
    EACH_ITEM(e, n) {
        const i64 row = e / inner, i = e - row * inner, o = row / taken;
        INDEX(LOAD(L, k, e), e)
        y[e] = x[(o * size + at) * inner + i];
    }
}
#elif WHAT == 2
KERNEL(pnn_take_along_grad, G, 1, 1)
(IN(T, g), IN(L, k), OUT(T, z), const i64 n, const i64 size, const i64 taken, const i64 inner, ERROR_WORD(err)) {
    AT_IN(T, g);
    AT_IN(L, k);
    AT_OUT(T, z);
    EACH_ITEM(e, n) {
        const i64 row = e / inner, i = e - row * inner, o = row / size, v = row - o * size;
        R sum = 0;
        for (i64 j = 0; j < taken; ++j) {
            const i64 from = (o * taken + j) * inner + i;
            INDEX(LOAD(L, k, from), from)
            if (at == v) sum += LOAD(T, g, from);
        }
        STORE(T, z, e, sum);
    }
}
#elif WHAT == 3
KERNEL(pnn_sort_blocks, G, 1, 1)(IN(L, k), OUT(i64, keys), OUT(i64, from), const i64 n, const i64 size, ERROR_WORD(err)) {
    AT_IN(L, k);
    AT_OUT(i64, keys);
    AT_OUT(i64, from);
    EACH_ITEM(e, n) {
        const i64 start = e / SORT_BLOCK * SORT_BLOCK, stop = start + SORT_BLOCK < n ? start + SORT_BLOCK : n;
        const i64 raw = (i64)LOAD(L, k, e);
        i64 rank = 0;
        for (i64 j = start; j < stop; ++j) {
            const i64 other = (i64)LOAD(L, k, j);
            rank += other < raw || (other == raw && j < e);
        }
        INDEX(raw, e)
        keys[start + rank] = at;
        from[start + rank] = e;
    }
}
#elif WHAT == 4
/* The first place of [low, high) whose key is not below (below = 1), or above (below = 0), `key`. */
DEVICE i64 pnn_bound(GLOBAL const i64* keys, i64 low, i64 high, i64 key, i32 below) {
    while (low < high) {
        const i64 middle = (low + high) / 2;
        if (keys[middle] < key || (!below && keys[middle] == key)) low = middle + 1;
        else high = middle;
    }
    return low;
}
KERNEL(pnn_sort_merge, G, 1, 1)
(IN(i64, keys), IN(i64, from), OUT(i64, new_keys), OUT(i64, new_from), const i64 n, const i64 width) {
    AT_IN(i64, keys);
    AT_IN(i64, from);
    AT_OUT(i64, new_keys);
    AT_OUT(i64, new_from);
    EACH_ITEM(e, n) {
        const i64 run = e / width, pair = run / 2 * 2;
        const i64 low = (run == pair ? pair + 1 : pair) * width, high = low + width;
        const i64 first = low < n ? low : n, last = high < n ? high : n;
        const i64 key = keys[e];
        const i64 place = pair * width + (e - run * width) + pnn_bound(keys, first, last, key, run == pair) - first;
        new_keys[place] = key;
        new_from[place] = from[e];
    }
}
#elif WHAT == 6
KERNEL(pnn_one_hot, G, 1, 1)(IN(L, k), OUT(T, y), const i64 n, const i64 size, ERROR_WORD(err)) {
    AT_IN(L, k);
    AT_OUT(T, y);
    EACH_ITEM(e, n) {
        const i64 row = e / size, c = e - row * size;
        INDEX(LOAD(L, k, row), row)
        STORE(T, y, e, c == (i64)LOAD(L, k, row) ? 1 : 0);
    }
}
#elif WHAT == 7
/* starts[v] = how many of the sorted keys are below v, for v in [0, size]. */
KERNEL(pnn_sort_starts, G, 1, 1)(IN(i64, keys), OUT(i64, starts), const i64 n, const i64 size) {
    AT_IN(i64, keys);
    AT_OUT(i64, starts);
    EACH_ITEM(v, size + 1) {
        i64 low = 0, high = n;
        while (low < high) {
            const i64 middle = (low + high) / 2;
            if (keys[middle] < v) low = middle + 1;
            else high = middle;
        }
        starts[v] = low;
    }
}
#else
KERNEL(pnn_sort_sum, G, 1, 1)
(IN(T, g), IN(i64, starts), IN(i64, from), OUT(T, z), const i64 rows, const i64 size, const i64 n, const i64 inner, const i64 skip) {
    AT_IN(T, g);
    AT_IN(i64, starts);
    AT_IN(i64, from);
    AT_OUT(T, z);
    for (i64 row = GROUP_ID(0); row < rows; row += NUM_GROUPS(0)) {
        const i64 o = row / size, v = row - o * size;
        const i64 first = starts[v], last = v == skip ? first : starts[v + 1];
        for (i64 i = LOCAL_ID(0); i < inner; i += G) {
            R sum = 0;
            for (i64 block = first; block < last; block += 64) { /* blocked: the error grows with the depth */
                const i64 stop = block + 64 < last ? block + 64 : last;
                R part = 0;
                for (i64 j = block; j < stop; ++j) part += LOAD(T, g, (o * n + from[j]) * inner + i);
                sum += part;
            }
            STORE(T, z, row * inner + i, sum);
        }
    }
}
#endif
