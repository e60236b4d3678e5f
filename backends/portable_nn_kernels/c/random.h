/* Random numbers. Free to include in other kernels, which then draw what the ops draw:
 *     const pnn_key key = pnn_load_key(words, 1, 0);      four uint32 words, as portable_nn.random_key makes them
 *     const f32 u = pnn_uniform_at_f32(key, e);           element e of `uniform(key, shape)`, in C order
 *     const f32 z = pnn_normal_at_f32(key, e);            element e of `normal(key, shape)`
 * A block of four words serves four elements: who needs all of them calls pnn_block once. */
#include "math.h"

/* Philox4x32-10, a counter-based generator: four 32-bit words from a 128-bit counter and a 64-bit key.
 * J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
 *     u32 w[4]; pnn_philox(block, (u32)(block >> 32), 0, 0, k0, k1, w);
 * About 80 integer operations for four words; no state. */
#define PNN_MULHI_U32(a, b) ((u32)(((u64)(a) * (u64)(b)) >> 32))

DEVICE void pnn_philox(u32 c0, u32 c1, u32 c2, u32 c3, u32 k0, u32 k1, u32* words) {
    for (i32 i = 0; i < 10; i++) {
        const u32 h0 = PNN_MULHI_U32(0xD2511F53u, c0), l0 = 0xD2511F53u * c0;
        const u32 h1 = PNN_MULHI_U32(0xCD9E8D57u, c2), l1 = 0xCD9E8D57u * c2;
        c0 = h1 ^ c1 ^ k0;
        c1 = l1;
        c2 = h0 ^ c3 ^ k1;
        c3 = l0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    words[0] = c0;
    words[1] = c1;
    words[2] = c2;
    words[3] = c3;
}

/* One of the library's keys: four words, of which the last two are the upper half of the counter. */
typedef struct { u32 k0, k1, c2, c3; } pnn_key;

DEVICE pnn_key pnn_load_key(GLOBAL const u32* p, i64 step, u32 mark) {
    pnn_key key;
    key.k0 = p[0];
    key.k1 = p[step] ^ mark;
    key.c2 = p[2 * step];
    key.c3 = p[3 * step];
    return key;
}

/* Block number `block` of a draw: elements 4 block to 4 block + 3 of `random_bits`. */
DEVICE void pnn_block(pnn_key key, i64 block, u32* words) {
    pnn_philox((u32)block, (u32)((u64)block >> 32), key.c2, key.c3, key.k0, key.k1, words);
}

/* Uniform in [0, 1): the upper `bits` bits of a word (24 at most), and 53 bits of two words. */
DEVICE f32 pnn_fraction_f32(u32 word, i32 bits) { return (f32)(word >> (32 - bits)) * (1.0f / (f32)(1u << bits)); }
#ifdef PNN_F64
DEVICE f64 pnn_wide_f64(u32 a, u32 b) { return (f64)(a >> 5) * 67108864.0 + (f64)(b >> 6); }
DEVICE f64 pnn_fraction_f64(u32 a, u32 b) { return pnn_wide_f64(a, b) * 1.1102230246251565e-16; }
#endif

/* Two standard normal numbers of two words (four in float64), by Box and Muller: the first is never 0, so no infinity. */
DEVICE void pnn_normal_pair_f32(u32 a, u32 b, f32* z) {
    const f32 radius = pnn_sqrt_f32(-2.0f * pnn_log_f32(((f32)a + 0.5f) * 2.3283064365386963e-10f));
    const f32 angle = 6.2831853071795862f * pnn_fraction_f32(b, 24);
    z[0] = radius * pnn_cos_f32(angle);
    z[1] = radius * pnn_sin_f32(angle);
}
#ifdef PNN_F64
DEVICE void pnn_normal_pair_f64(u32 a, u32 b, u32 c, u32 d, f64* z) {
    const f64 radius = pnn_sqrt_f64(-2 * pnn_log_f64((pnn_wide_f64(a, b) + 1) * 1.1102230246251565e-16));
    const f64 angle = 6.283185307179586 * pnn_fraction_f64(c, d);
    z[0] = radius * pnn_cos_f64(angle);
    z[1] = radius * pnn_sin_f64(angle);
}
#endif

DEVICE f32 pnn_uniform_at_f32(pnn_key key, i64 e) {
    u32 w[4];
    pnn_block(key, e / 4, w);
    return pnn_fraction_f32(w[e % 4], 24);
}

DEVICE f32 pnn_normal_at_f32(pnn_key key, i64 e) {
    u32 w[4];
    f32 z[2];
    pnn_block(key, e / 4, w);
    pnn_normal_pair_f32(w[e % 4 / 2 * 2], w[e % 4 / 2 * 2 + 1], z);
    return z[e % 2];
}
