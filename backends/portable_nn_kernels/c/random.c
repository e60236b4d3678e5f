/* Random draws: every work-item draws blocks of four words and turns each block into PER consecutive elements.
 *
 * One work-group walks over `chunk` blocks, GROUP at a time; they pass through local memory, so that neighbours read and
 * write neighbours. Traffic: n elements written (dropout: n read), the key read once per work-item; about 20 integer
 * operations per element. DRAW names what a block becomes:
 *
 *   BITS       the words;                                   T = u32, PER 4
 *   UNIFORM    b + a u, u of KEPT bits;                     T floating, PER 4 (f64: 2)
 *   NORMAL     b + a z, Box and Muller;                     T floating, PER 4 (f64: 2)
 *   BERNOULLI  word < limit, or all;                        T = b8, PER 4
 *   DROPOUT    word < limit, or all ? 0 : a x;              T floating, PER 4, an operand x in C order
 *
 * Nothing is contracted, so that a u + b rounds as on the host. */
#include "math.h"
#include "random.h"

#define BITS 1
#define UNIFORM 2
#define NORMAL 3
#define BERNOULLI 4
#define DROPOUT 5

#define V ACC(T)

/* Turn block number `block` into v[0] ... v[PER - 1]; for DROPOUT, into what x is multiplied by. */
DEVICE void pnn_draw(pnn_key k, i64 block, V a, V b, u32 limit, i32 all, V* v) {
    u32 w[4];
    pnn_block(k, block, w);
#if DRAW == BITS
    for (i32 i = 0; i < 4; i++) v[i] = w[i];
#elif DRAW == BERNOULLI
    for (i32 i = 0; i < 4; i++) v[i] = (w[i] < limit) | all;
#elif DRAW == DROPOUT
    for (i32 i = 0; i < 4; i++) v[i] = (V)(i32)((w[i] >= limit) & (all == 0)) * a;
#elif DRAW == UNIFORM && PER == 2
    v[0] = pnn_fraction_f64(w[0], w[1]) * a + b;
    v[1] = pnn_fraction_f64(w[2], w[3]) * a + b;
#elif DRAW == UNIFORM
    for (i32 i = 0; i < 4; i++) v[i] = pnn_fraction_f32(w[i], KEPT) * a + b;
#elif DRAW == NORMAL && PER == 2
    pnn_normal_pair_f64(w[0], w[1], w[2], w[3], v);
    for (i32 i = 0; i < 2; i++) v[i] = v[i] * a + b;
#else
    for (i32 i = 0; i < 4; i += 2) pnn_normal_pair_f32(w[i], w[i + 1], v + i);
    for (i32 i = 0; i < 4; i++) v[i] = v[i] * a + b;
#endif
}

KERNEL(pnn_random, GROUP, 1, 1)(IN(u32, key),
#if DRAW == DROPOUT
    IN(T, x),
#endif
    OUT(T, y), const i64 key_step, const i64 n, const i64 chunk, const V a, const V b, const u32 limit, const i32 all) {
    AT_IN(u32, key);
#if DRAW == DROPOUT
    AT_IN(T, x);
#endif
    AT_OUT(T, y);
    const pnn_key k = pnn_load_key(key, key_step, 0);
    LOCAL V t[GROUP * PER];
    V v[4];
    const i64 lane = LOCAL_ID(0);
    const i64 blocks = (n + PER - 1) / PER;
    const i64 first = GROUP_ID(0) * chunk;
    const i64 last = first + chunk < blocks ? first + chunk : blocks;
    for (i64 tile = first; tile < last; tile += GROUP) {
        pnn_draw(k, tile + lane, a, b, limit, all, v);
        for (i32 i = 0; i < PER; i++) t[lane * PER + i] = v[i];
        BARRIER();
        const i64 start = tile * PER;
        const i64 stop = start + GROUP * PER < n ? GROUP * PER : n - start;
        for (i64 e = lane; e < stop; e += GROUP) {
#if DRAW == DROPOUT
            const V value = LOAD(T, x, start + e);
            STORE(T, y, start + e, t[e] == (V)0 ? (V)0 : value * t[e]);
#else
            STORE(T, y, start + e, t[e]);
#endif
        }
        BARRIER();
    }
}
