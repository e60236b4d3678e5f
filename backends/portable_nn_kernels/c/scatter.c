/* Combines at indices along one axis, deterministic: every place of the result takes its run of the sorted indices.
 *
 * Operands are dense, read as (outer, axis, inner); `keys` and `places` are the sorted indices of every line, n each
 * (key_step n), or of one line for all (key_step 0), as ordering.c leaves them. A work-item makes one element of y: it
 * finds its run by two binary searches and takes the terms in the order of their positions, sums in blocks of 64.
 * Reads: x and the terms once each, and 2 log2 n keys per element. An index outside [0, size) is reported, and dropped.
 *
 * Defines: T storage tag, R compute type; K, P tags of keys and places; SIGNED keys are less half their range; HAS_X;
 * REDUCE (0 sum, 1 mean, 2 maximum, 3 minimum); OWN (x is one of the terms); G. Idea: segmented sums of sparse matrices. */
#include "error.h"
#include "math.h"

#ifdef SIGNED
#define PNN_SCATTER_TOP ((K)1 << (8 * (i32)sizeof(K) - 1))
#else
#define PNN_SCATTER_TOP ((K)0)
#endif
#define PNN_SCATTER_KEY(v) ((K)(v) ^ PNN_SCATTER_TOP)
#define PNN_SCATTER_SIGNED_u32 i32
#define PNN_SCATTER_SIGNED_u64 i64
#ifdef SIGNED
#define PNN_SCATTER_INDEX(key) ((i64)(CAT(PNN_SCATTER_SIGNED_, K))((key) ^ PNN_SCATTER_TOP))
#else
#define PNN_SCATTER_INDEX(key) ((i64)(key))
#endif

/* How many keys of [0, n) are below `key` (or_equal 0), or not above it (or_equal 1). */
DEVICE i64 pnn_scatter_rank(GLOBAL const K* keys, i64 n, K key, i32 or_equal) {
    i64 low = 0, high = n;
    while (low < high) {
        const i64 middle = (low + high) / 2;
        if (keys[middle] < key || (or_equal && keys[middle] == key)) low = middle + 1;
        else high = middle;
    }
    return low;
}

KERNEL(pnn_scatter, G, 1, 1)
(
#ifdef HAS_X
 IN(T, x),
#endif
 IN(T, s), IN(K, keys), IN(P, places), OUT(T, y), const i64 count, const i64 size, const i64 n, const i64 inner, const i64 key_step,
 const R alpha, ERROR_WORD(err)) {
#ifdef HAS_X
    AT_IN(T, x);
#endif
    AT_IN(T, s);
    AT_IN(K, keys);
    AT_IN(P, places);
    AT_OUT(T, y);
    for (i64 e = GLOBAL_ID(0); e < count; e += NUM_GROUPS(0) * G) {
        const i64 row = e / inner, i = e - row * inner, o = row / size, v = row - o * size, line = (o * inner + i) * key_step;
        const K key = PNN_SCATTER_KEY(v);
        const i64 first = pnn_scatter_rank(keys + line, n, key, 0);
        const i64 last = first + pnn_scatter_rank(keys + line + first, n - first, key, 1);
        if (v == 0 && first > 0) REPORT(err, err_code, key_step > 0 ? ((o * n) + (i64)places[line]) * inner + i : (i64)places[line], PNN_SCATTER_INDEX(keys[line]));
        if (v == size - 1 && last < n) REPORT(err, err_code, key_step > 0 ? ((o * n) + (i64)places[line + last]) * inner + i : (i64)places[line + last], PNN_SCATTER_INDEX(keys[line + last]));
#ifdef HAS_X
        if (first == last) {
            y[e] = x[e];
            continue;
        }
#endif
#if REDUCE < 2
        R sum = ZERO(R);
        for (i64 block = first; block < last; block += 64) {
            const i64 stop = block + 64 < last ? block + 64 : last;
            R part = ZERO(R);
            for (i64 j = block; j < stop; ++j) part = ADD(R, part, LOAD(T, s, (o * n + (i64)places[line + j]) * inner + i));
            sum = ADD(R, sum, part);
        }
        sum = (R)(alpha * sum);
#ifdef OWN
        sum = ADD(R, LOAD(T, x, e), sum);
#if REDUCE == 1
        sum = sum / (R)(last - first + 1);
#endif
#elif REDUCE == 1
        sum = sum / (R)(last - first);
#endif
        STORE(T, y, e, sum);
#else
        R found = LOAD(T, s, (o * n + (i64)places[line + first]) * inner + i);
        for (i64 j = first + 1; j < last; ++j) {
            const R term = LOAD(T, s, (o * n + (i64)places[line + j]) * inner + i);
#if REDUCE == 2
            found = CAT(pnn_max_, R)(found, term);
#else
            found = CAT(pnn_min_, R)(found, term);
#endif
        }
#ifdef OWN
#if REDUCE == 2
        found = CAT(pnn_max_, R)(found, LOAD(T, x, e));
#else
        found = CAT(pnn_min_, R)(found, LOAD(T, x, e));
#endif
#endif
        STORE(T, y, e, found);
#endif
    }
}
