/* Sorting along one axis: stable, NaN last; and the scatter that is its gradient.
 *
 * Values become unsigned keys whose order is the one asked for (bits of a float turned round where it is negative; all
 * inverted for descending; NaN the largest), so that one comparison serves every dtype. A line is cut into blocks of
 * `width`; every block is sorted, then runs of equal length are merged in pairs. Of every run only the first `keep` count.
 * pnn_order_blocks (GPU): a work-group sorts ROWS blocks of BLOCK keys in local memory, bitonic, ties by place.
 * pnn_order_runs (CPU): a work-item sorts one block: runs of 16 by insertion, then merges between two buffers; with
 * SELECT it keeps the best `keep` in order and reads on (short topk).
 * pnn_order_merge: a work-item writes `chunk` keys of a merged pair; where it begins is found by binary search.
 * pnn_order_write: values and places, from the sorted places.
 * With FINAL a line is one block, and the first two kernels write the values (VALUES) and places (PLACES) themselves.
 * Traffic: x once, y once; per merge, keys and places once each way. Idea: Batcher's bitonic network; merge path
 * (Green et al. 2012).
 *
 * Defines: WHAT (which kernel), T, K key tag (u32 or u64), P tag of places in scratch, REAL or SIGNED (else unsigned),
 * DESCENDING, FINAL, VALUES, PLACES, BLOCK, ROWS, SELECT, G; L tag of indices (WHAT 4); and those of line.h. */
#include "line.h"
#if WHAT == 4
#include "error.h"
#endif

#if WHAT < 2
#define PNN_KEY_BITS (8 * (i32)sizeof(K))
#define PNN_TOP ((K)1 << (PNN_KEY_BITS - 1))
#define PNN_BITS_u32(v) AS_U32(v)
#define PNN_BITS_u64(v) AS_U64(v)
#ifdef REAL
#define PNN_INFINITY_u32 0x7f800000u
#define PNN_INFINITY_u64 0x7ff0000000000000ul
/* On bits, not values: a device may flush subnormal numbers when it compares. */
DEVICE K pnn_order_key(ACC(T) value) {
    K bits = CAT(PNN_BITS_, K)(value);
    if ((K)(bits << 1) == 0) bits = 0; /* -0.0 */
    if ((bits & ~PNN_TOP) > CAT(PNN_INFINITY_, K)) return ~(K)0;
    bits = bits & PNN_TOP ? ~bits : bits | PNN_TOP;
#else
DEVICE K pnn_order_key(ACC(T) value) {
#ifdef SIGNED
    K bits = (K)value ^ PNN_TOP;
#else
    K bits = (K)value;
#endif
#endif
#ifdef DESCENDING
    return ~bits;
#else
    return bits;
#endif
}

#ifdef FINAL
#ifdef VALUES
#define PNN_VALUES OUT(T, y),
#define PNN_AT_VALUES AT_OUT(T, y);
#define PNN_PUT_VALUE(c, from) y[ITEM(y, c)] = x[ITEM(x, from)];
#else
#define PNN_VALUES
#define PNN_AT_VALUES
#define PNN_PUT_VALUE(c, from)
#endif
#ifdef PLACES
#define PNN_PLACES OUT(i64, places),
#define PNN_AT_PLACES AT_OUT(i64, places);
#define PNN_PUT_PLACE(c, from) places[ITEM(y, c)] = (from);
#else
#define PNN_PLACES
#define PNN_AT_PLACES
#define PNN_PUT_PLACE(c, from)
#endif
#define PNN_TARGETS PNN_VALUES PNN_PLACES
#define PNN_AT_TARGETS PNN_AT_VALUES PNN_AT_PLACES
#define PNN_PUT(c, key, from) { PNN_PUT_VALUE(c, from) PNN_PUT_PLACE(c, from) }
#else
#define PNN_TARGETS OUT(K, keys), OUT(P, places),
#define PNN_AT_TARGETS AT_OUT(K, keys); AT_OUT(P, places);
#define PNN_PUT(c, key, from) { keys[k * n + start + (c)] = (key); places[k * n + start + (c)] = (P)(from); }
#endif
#define PNN_ORDER_PARAMETERS                                                                                    \
    IN(T, x), PNN_TARGETS const i64 lines, const i64 k0s, const i64 n, LINES(x), LINES(y), const i64 blocks, const i64 width, const i64 keep
#endif

#if WHAT == 0
#define TOTAL (ROWS * BLOCK)
KERNEL(pnn_order_blocks, G, 1, 1)(PNN_ORDER_PARAMETERS) {
    LOCAL K key[TOTAL];
    LOCAL i32 from[TOTAL];
    AT_IN(T, x);
    PNN_AT_TARGETS
    const i64 segments = lines * blocks;
    for (i64 tile = GROUP_ID(0); tile * ROWS < segments; tile += NUM_GROUPS(0)) {
        for (i64 i = LOCAL_ID(0); i < TOTAL; i += G) {
            const i64 segment = tile * ROWS + i / BLOCK, c = i % BLOCK;
            from[i] = (i32)c;
            key[i] = ~(K)0; /* past the end: after everything, since its place is */
            if (segment < segments) {
                const i64 k = segment / blocks, start = (segment - k * blocks) * width;
                if (c < width && start + c < n) {
                    const i64 k1 = k / k0s, k0 = k - k1 * k0s, x_line = LINE(x);
                    key[i] = pnn_order_key(LOAD(T, x, ITEM(x, start + c)));
                }
            }
        }
        BARRIER();
        for (i64 size = 2; size <= BLOCK; size *= 2) {
            for (i64 step = size / 2; step > 0; step /= 2) {
                for (i64 q = LOCAL_ID(0); q < TOTAL / 2; q += G) {
                    const i64 a = 2 * q - (q & (step - 1)), b = a + step;
                    const K key_a = key[a], key_b = key[b];
                    const i32 from_a = from[a], from_b = from[b];
                    const i32 after = key_a > key_b || (key_a == key_b && from_a > from_b);
                    if (after == ((a & (BLOCK - 1) & size) == 0)) {
                        key[a] = key_b;
                        key[b] = key_a;
                        from[a] = from_b;
                        from[b] = from_a;
                    }
                }
                BARRIER();
            }
        }
        for (i64 i = LOCAL_ID(0); i < TOTAL; i += G) {
            const i64 segment = tile * ROWS + i / BLOCK, c = i % BLOCK;
            if (segment < segments && c < keep) {
                const i64 k = segment / blocks, start = (segment - k * blocks) * width;
                if (c < width && start + c < n) {
#ifdef FINAL
                    const i64 k1 = k / k0s, k0 = k - k1 * k0s, x_line = LINE(x), y_line = LINE(y);
#endif
                    PNN_PUT(c, key[i], start + from[i])
                }
            }
        }
        BARRIER();
    }
}
#elif WHAT == 1
/* `room` holds 2 `width` keys and places for every work-group that sorts FINAL blocks, else for every block. */
KERNEL(pnn_order_runs, G, 1, 1)
(PNN_ORDER_PARAMETERS, OUT(K, room), OUT(P, room_places)) {
    AT_IN(T, x);
    PNN_AT_TARGETS
    AT_OUT(K, room);
    AT_OUT(P, room_places);
    for (i64 segment = GLOBAL_ID(0); segment < lines * blocks; segment += NUM_GROUPS(0) * G) {
        const i64 k = segment / blocks, start = (segment - k * blocks) * width;
        const i64 length = start + width < n ? width : n - start;
        const i64 k1 = k / k0s, k0 = k - k1 * k0s, x_line = LINE(x);
#ifdef FINAL
        const i64 y_line = LINE(y), slot = GLOBAL_ID(0);
#else
        const i64 slot = segment;
#endif
        GLOBAL K* from_keys = room + 2 * slot * width;
        GLOBAL K* to_keys = from_keys + width;
        GLOBAL P* from_places = room_places + 2 * slot * width;
        GLOBAL P* to_places = from_places + width;
        const i64 wanted = keep < length ? keep : length;
#ifdef SELECT
        i64 count = 0;
        K worst = ~(K)0;
        for (i64 c = 0; c < length; ++c) {
            const K key = pnn_order_key(LOAD(T, x, ITEM(x, start + c)));
            if (count == wanted && key >= worst) continue;
            i64 at = count < wanted ? count++ : wanted - 1;
            for (; at > 0 && from_keys[at - 1] > key; --at) {
                from_keys[at] = from_keys[at - 1];
                from_places[at] = from_places[at - 1];
            }
            from_keys[at] = key;
            from_places[at] = (P)(start + c);
            if (count == wanted) worst = from_keys[wanted - 1];
        }
#else
        for (i64 run = 0; run < length; run += 16) {
            const i64 stop = run + 16 < length ? run + 16 : length;
            for (i64 c = run; c < stop; ++c) {
                const K key = pnn_order_key(LOAD(T, x, ITEM(x, start + c)));
                i64 at = c;
                for (; at > run && from_keys[at - 1] > key; --at) {
                    from_keys[at] = from_keys[at - 1];
                    from_places[at] = from_places[at - 1];
                }
                from_keys[at] = key;
                from_places[at] = (P)(start + c);
            }
        }
        for (i64 run = 16; run < length; run *= 2) {
            for (i64 low = 0; low < length; low += 2 * run) {
                const i64 middle = low + run < length ? low + run : length;
                const i64 high = low + 2 * run < length ? low + 2 * run : length;
                i64 i = low, j = middle;
                for (i64 o = low; o < high; ++o) {
                    const i32 second = i == middle || (j < high && from_keys[j] < from_keys[i]);
                    const i64 at = second ? j : i;
                    to_keys[o] = from_keys[at];
                    to_places[o] = from_places[at];
                    j += second;
                    i += !second;
                }
            }
            GLOBAL K* const keys_before = from_keys;
            GLOBAL P* const places_before = from_places;
            from_keys = to_keys;
            from_places = to_places;
            to_keys = keys_before;
            to_places = places_before;
        }
#endif
        for (i64 c = 0; c < wanted; ++c) PNN_PUT(c, from_keys[c], from_places[c])
    }
}
#elif WHAT == 2
KERNEL(pnn_order_merge, G, 1, 1)
(IN(K, keys), IN(P, places), OUT(K, new_keys), OUT(P, new_places), const i64 lines, const i64 n, const i64 width, const i64 keep,
 const i64 chunk, const i64 pairs, const i64 parts) {
    AT_IN(K, keys);
    AT_IN(P, places);
    AT_OUT(K, new_keys);
    AT_OUT(P, new_places);
    for (i64 e = GLOBAL_ID(0); e < lines * pairs * parts; e += NUM_GROUPS(0) * G) {
        const i64 q = e / parts, part = e - q * parts, k = q / pairs, first = (q - k * pairs) * 2 * width;
        const i64 here = n - first < width ? n - first : width, rest = n - first - here, there = rest < width ? rest : width;
        const i64 a_length = here < keep ? here : keep, b_length = there < keep ? there : keep;
        const i64 all = a_length + b_length < keep ? a_length + b_length : keep;
        const i64 start = part * chunk, stop = start + chunk < all ? start + chunk : all;
        if (start >= all) continue;
        const i64 a = k * n + first, b = a + width;
        i64 low = start > b_length ? start - b_length : 0, high = start < a_length ? start : a_length;
        while (low < high) { /* the fewest of the first run that leave nothing smaller behind */
            const i64 middle = (low + high) / 2;
            if (keys[a + middle] <= keys[b + start - 1 - middle]) low = middle + 1;
            else high = middle;
        }
        i64 i = low, j = start - low;
        for (i64 o = start; o < stop; ++o) {
            const i32 second = i == a_length || (j < b_length && keys[b + j] < keys[a + i]);
            const i64 at = second ? b + j : a + i;
            new_keys[a + o] = keys[at];
            new_places[a + o] = places[at];
            j += second;
            i += !second;
        }
    }
}
#elif WHAT == 3
KERNEL(pnn_order_write, G, 1, 1)
(IN(T, x), IN(P, places),
#ifdef VALUES
 OUT(T, y),
#endif
#ifdef PLACES
 OUT(i64, to),
#endif
 const i64 lines, const i64 k0s, const i64 n, LINES(x), LINES(y), const i64 keep) {
    AT_IN(T, x);
    AT_IN(P, places);
#ifdef VALUES
    AT_OUT(T, y);
#endif
#ifdef PLACES
    AT_OUT(i64, to);
#endif
    for (i64 e = GLOBAL_ID(0); e < lines * keep; e += NUM_GROUPS(0) * G) {
        const i64 k = e / keep, c = e - k * keep, from = (i64)places[k * n + c];
        const i64 k1 = k / k0s, k0 = k - k1 * k0s, x_line = LINE(x), y_line = LINE(y);
#ifdef VALUES
        y[ITEM(y, c)] = x[ITEM(x, from)];
#endif
#ifdef PLACES
        to[ITEM(y, c)] = from;
#endif
    }
}
#else
/* Dense operands read as (outer, axis, inner); z was filled with zeros, and no place occurs twice. */
KERNEL(pnn_order_scatter, G, 1, 1)
(IN(T, g), IN(L, places), OUT(T, z), const i64 count, const i64 size, const i64 taken, const i64 inner, ERROR_WORD(err)) {
    AT_IN(T, g);
    AT_IN(L, places);
    AT_OUT(T, z);
    for (i64 e = GLOBAL_ID(0); e < count; e += NUM_GROUPS(0) * G) {
        const i64 row = e / inner, i = e - row * inner, o = row / taken;
        i64 at = (i64)LOAD(L, places, e);
        if (at < 0 || at >= size) {
            REPORT(err, err_code, e, at);
            at = at < 0 ? 0 : size - 1;
        }
        z[(o * size + at) * inner + i] = g[e];
    }
}
#endif
