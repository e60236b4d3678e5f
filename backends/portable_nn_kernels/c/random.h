/* Philox4x32-10, a counter-based generator: four 32-bit words from a 128-bit counter and a 64-bit key.
 * J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. Free to include in other kernels:
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
