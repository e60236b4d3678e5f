/* Scaled dot-product attention, forward and backward, tile by tile: the scores are never in global memory.
 *
 * One work-group: 16 x 16 work-items. Rows are a tile of BM = 16 RM queries (keys in pnn_attention_grad_key_value) of one
 * head; columns are tiles of BN = 32 of the other side, one after another. PRODUCT makes a tile of scores, staged through
 * local memory TK features at a time; the tile of probabilities then lies in local memory, and WEIGH adds its product with
 * the rows of another array to results in registers. Forward keeps each row's running maximum and sum (online softmax);
 * backward makes probabilities again from lse. Every sum has one owner and a fixed order.
 * Traffic: rows once, columns once per row tile. Any strides. Local memory: 28 KiB in float64 at RM 2, 21 in float32 at RM 4.
 * Idea: FlashAttention (Dao et al. 2022), online softmax (Milakov and Gimelshein 2018).
 *
 * Operands are (b, h, length, features); `shared` query heads use one head of key and value. A score is allowed unless it
 * is past `length` or, with CAUSAL, its key is after its query; MASK 0 none, 1 bool (allowed where true), 2 added.
 * Defines: T, TMASK (tag of the mask), R (compute tag), RM, RE, RF (registers of E and F features: even, 16 each), CAUSAL,
 * MASK, KIND (which kernel). */
#include "math.h"

#define UNROLL _Pragma("unroll") /* an array that a loop indexes is in registers only if the loop is unrolled */
#define UNROLL_4 _Pragma("unroll 4") /* more would keep rows of both tiles in registers: 256 and spills on gfx1100, for 91 */
#define TK 16
#define BM (16 * RM)
#define BN 32
#define VC 32
#define MINUS_INF (-CAT(A_INF_, R))
#define A_INF_f32 INF_F32
#define A_INF_f64 INF_F64
#define EXP(v) CAT(pnn_exp_, R)(v)

/* Strides of one operand over batch, head, position and feature. */
#define FOUR(t) i64 t##b, i64 t##h_, i64 t##l, i64 t##e
#define SIZES i64 heads, i64 shared, i64 length, i64 span, i64 width, i64 depth, R scale
#define MASK_ARGS i64 mb, i64 mh, i64 ml, i64 ms

#define ATTENTION_LOCALS                                                                                        \
    LOCAL R tile_a[TK * (BM + 1)];                                                                              \
    LOCAL R tile_b[TK * (BN + 1)];                                                                              \
    LOCAL R tile_p[BM * (BN + 1)];                                                                              \
    LOCAL R tile_v[BN * (VC + 1)];                                                                              \
    const i64 lane = LOCAL_ID(0), ti = lane % 16, tj = lane / 16

/* out[r, s] = sum over e < features of a[i0 + ti + 16 r, e] b[j0 + tj + 16 s, e]; rows past their end are zero. */
#define PRODUCT(out, a, al, ae, i0, n_i, b, bl, be, j0, n_j, features)                                          \
    UNROLL for (int t_ = 0; t_ < RM * 2; ++t_) out[t_] = 0;                                                     \
    for (i64 e0 = 0; e0 < (features); e0 += TK) {                                                               \
        for (i64 t_ = lane; t_ < BM * TK; t_ += 256) {                                                          \
            const i64 i_ = (i0) + t_ / TK, e_ = e0 + t_ % TK;                                                   \
            R v_ = 0;                                                                                           \
            if (i_ < (n_i) && e_ < (features)) v_ = LOAD(T, a, i_ * al + e_ * ae);                              \
            tile_a[t_ % TK * (BM + 1) + t_ / TK] = v_;                                                          \
        }                                                                                                       \
        for (i64 t_ = lane; t_ < BN * TK; t_ += 256) {                                                          \
            const i64 j_ = (j0) + t_ / TK, e_ = e0 + t_ % TK;                                                   \
            R v_ = 0;                                                                                           \
            if (j_ < (n_j) && e_ < (features)) v_ = LOAD(T, b, j_ * bl + e_ * be);                              \
            tile_b[t_ % TK * (BN + 1) + t_ / TK] = v_;                                                          \
        }                                                                                                       \
        BARRIER();                                                                                              \
        UNROLL_4 for (int k_ = 0; k_ < TK; ++k_) {                                                              \
            R av_[RM], bv_[2];                                                                                  \
            UNROLL for (int r = 0; r < RM; ++r) av_[r] = tile_a[k_ * (BM + 1) + ti + 16 * r];                   \
            UNROLL for (int s = 0; s < 2; ++s) bv_[s] = tile_b[k_ * (BN + 1) + tj + 16 * s];                    \
            UNROLL for (int r = 0; r < RM; ++r)                                                                 \
                UNROLL for (int s = 0; s < 2; ++s) out[r * 2 + s] = FMA(av_[r], bv_[s], out[r * 2 + s]);        \
        }                                                                                                       \
        BARRIER();                                                                                              \
    }

/* acc[r, s] += sum over the tile's columns j of tile_p[row, j] b[j0 + j, feature], s over `registers` x 16 features.
 * Its first barrier waits for tile_p. */
#define WEIGH(acc, registers, b, bl, be, j0, n_j, features)                                                     \
    UNROLL for (int chunk_ = 0; chunk_ < (registers) / 2; ++chunk_) {                                           \
        for (i64 t_ = lane; t_ < BN * VC; t_ += 256) {                                                          \
            const i64 j_ = (j0) + t_ / VC, e_ = chunk_ * VC + t_ % VC;                                          \
            R v_ = 0;                                                                                           \
            if (j_ < (n_j) && e_ < (features)) v_ = LOAD(T, b, j_ * bl + e_ * be);                              \
            tile_v[t_ / VC * (VC + 1) + t_ % VC] = v_;                                                          \
        }                                                                                                       \
        BARRIER();                                                                                              \
        UNROLL_4 for (int k_ = 0; k_ < BN; ++k_) {                                                              \
            R pv_[RM], vv_[2];                                                                                  \
            UNROLL for (int r = 0; r < RM; ++r) pv_[r] = tile_p[(ti + 16 * r) * (BN + 1) + k_];                 \
            UNROLL for (int s = 0; s < 2; ++s) vv_[s] = tile_v[k_ * (VC + 1) + tj + 16 * s];                    \
            UNROLL for (int r = 0; r < RM; ++r)                                                                 \
                UNROLL for (int s = 0; s < 2; ++s) {                                                            \
                    const int at_ = r * (registers) + chunk_ * 2 + s;                                           \
                    acc[at_] = FMA(pv_[r], vv_[s], acc[at_]);                                                   \
                }                                                                                               \
        }                                                                                                       \
        BARRIER();                                                                                              \
    }

/* The score of query i and key j from the product of their features. `m` is the mask at this batch and head. */
#if MASK == 1
#define MASKED(value, i, j) (LOAD(TMASK, m, (i) * ml + (j) * ms) ? (value) : MINUS_INF)
#elif MASK == 2
#define MASKED(value, i, j) ((value) + (R)LOAD(TMASK, m, (i) * ml + (j) * ms))
#else
#define MASKED(value, i, j) (value)
#endif
#define SCORE(value, i, j)                                                                                      \
    ((i) < length && (j) < span && !(CAUSAL && (j) > (i)) ? MASKED((value) * scale, i, j) : MINUS_INF)


#if KIND == 0
/* length queries of width features, span keys, depth features of value. Group: (batch, head, tile of queries). */
KERNEL(pnn_attention, 256, 1, 1)(IN(T, q), IN(T, k), IN(T, v), IN(TMASK, mask), OUT(T, y), OUT(R, lse), SIZES, FOUR(q), FOUR(k),
                                 FOUR(v), MASK_ARGS) {
    AT_IN(T, q); AT_IN(T, k); AT_IN(T, v); AT_IN(TMASK, mask); AT_OUT(T, y); AT_OUT(R, lse);
    ATTENTION_LOCALS;
    LOCAL R row_max[BM];
    LOCAL R row_sum[BM];
    LOCAL R row_scale[BM];
    LOCAL R part[256];
    const i64 tiles = (length + BM - 1) / BM, i0 = GROUP_ID(0) % tiles * BM;
    const i64 head = GROUP_ID(0) / tiles % heads, batch = GROUP_ID(0) / (tiles * heads);
    GLOBAL const TYPE(T)* qh = q + (batch * qb + head * qh_);
    GLOBAL const TYPE(T)* kh = k + (batch * kb + head / shared * kh_);
    GLOBAL const TYPE(T)* vh = v + (batch * vb + head / shared * vh_);
    GLOBAL const TYPE(TMASK)* m = mask + (batch * mb + head * mh);
    const i64 row = lane / (256 / BM), piece = lane % (256 / BM);
    R acc[RM * RF], s_[RM * 2];
    UNROLL for (int e = 0; e < RM * RF; ++e) acc[e] = 0;
    if (piece == 0) {
        row_max[row] = MINUS_INF;
        row_sum[row] = 0;
    }
    const i64 stop = CAUSAL && i0 + BM < span ? i0 + BM : span;
    for (i64 j0 = 0; j0 < stop; j0 += BN) {
        PRODUCT(s_, qh, ql, qe, i0, length, kh, kl, ke, j0, span, width)
        UNROLL for (int r = 0; r < RM; ++r)
            UNROLL for (int s = 0; s < 2; ++s) {
                const i64 i = i0 + ti + 16 * r, j = j0 + tj + 16 * s;
                tile_p[(ti + 16 * r) * (BN + 1) + tj + 16 * s] = SCORE(s_[r * 2 + s], i, j);
            }
        BARRIER();
        R top = MINUS_INF;
        for (i64 j = piece; j < BN; j += 256 / BM) top = CAT(pnn_max_, R)(top, tile_p[row * (BN + 1) + j]);
        part[lane] = top;
        BARRIER();
        if (piece == 0) {
            const R old = row_max[row];
            for (i64 e = 0; e < 256 / BM; ++e) top = CAT(pnn_max_, R)(top, part[lane + e]);
            top = CAT(pnn_max_, R)(top, old);
            row_max[row] = top;
            row_scale[row] = top == MINUS_INF ? 1 : EXP(old - top);
        }
        BARRIER();
        const R shift = row_max[row] == MINUS_INF ? 0 : row_max[row];
        R sum = 0;
        for (i64 j = piece; j < BN; j += 256 / BM) {
            const R p = EXP(tile_p[row * (BN + 1) + j] - shift);
            tile_p[row * (BN + 1) + j] = p;
            sum += p;
        }
        part[lane] = sum;
        BARRIER();
        if (piece == 0) {
            R total = 0;
            for (i64 e = 0; e < 256 / BM; ++e) total += part[lane + e];
            row_sum[row] = FMA(row_sum[row], row_scale[row], total);
        }
        UNROLL for (int r = 0; r < RM; ++r)
            UNROLL for (int s = 0; s < RF; ++s) acc[r * RF + s] *= row_scale[ti + 16 * r];
        WEIGH(acc, RF, vh, vl, ve, j0, span, depth)
    }
    BARRIER();
    UNROLL for (int r = 0; r < RM; ++r) {
        const i64 i = i0 + ti + 16 * r;
        if (i >= length) continue;
        const i64 at = (batch * heads + head) * length + i;
        const R total = row_sum[ti + 16 * r], top = row_max[ti + 16 * r];
        const R share = total == 0 ? 0 : 1 / total;
        UNROLL for (int s = 0; s < RF; ++s)
            if (tj + 16 * s < depth) STORE(T, y, at * depth + tj + 16 * s, acc[r * RF + s] * share);
        if (tj == 0) STORE(R, lse, at, (top == MINUS_INF ? 0 : top) + CAT(pnn_log_, R)(total));
    }
}
#endif

#if KIND == 1
/* delta[row] = sum over the features of g y, both in C order. One work-item per row. */
KERNEL(pnn_attention_delta, 64, 1, 1)(IN(T, g), IN(T, y), OUT(R, delta), i64 rows, i64 depth) {
    AT_IN(T, g); AT_IN(T, y); AT_OUT(R, delta);
    const i64 row = GLOBAL_ID(0);
    if (row < rows) {
        R sum = 0;
        for (i64 e0 = 0; e0 < depth; e0 += 64) {
            R block = 0;
            for (i64 e = e0; e < depth && e < e0 + 64; ++e) block = FMA(LOAD(T, g, row * depth + e), LOAD(T, y, row * depth + e), block);
            sum += block;
        }
        STORE(R, delta, row, sum);
    }
}
#endif

/* The probability of a score, and 0 for a query without keys. */
#define PROBABILITY(score, i) (LOAD(R, lse, lse_at + (i)) == MINUS_INF ? 0 : EXP((score) - LOAD(R, lse, lse_at + (i))))

#if KIND == 2 || KIND == 3
/* Group: (batch, head, tile of queries). KIND 2 writes dq, KIND 3 the gradient of every score. g and y are in C order. */
#if KIND == 2
KERNEL(pnn_attention_grad_query, 256, 1, 1)
#else
KERNEL(pnn_attention_grad_mask, 256, 1, 1)
#endif
(IN(T, g), IN(T, q), IN(T, k), IN(T, v), IN(R, lse), IN(R, delta), IN(TMASK, mask), OUT(T, d), SIZES, FOUR(q), FOUR(k), FOUR(v), MASK_ARGS) {
    AT_IN(T, g); AT_IN(T, q); AT_IN(T, k); AT_IN(T, v); AT_IN(R, lse); AT_IN(R, delta); AT_IN(TMASK, mask); AT_OUT(T, d);
    ATTENTION_LOCALS;
    const i64 tiles = (length + BM - 1) / BM, i0 = GROUP_ID(0) % tiles * BM;
    const i64 head = GROUP_ID(0) / tiles % heads, batch = GROUP_ID(0) / (tiles * heads);
    const i64 lse_at = (batch * heads + head) * length;
    GLOBAL const TYPE(T)* gh = g + lse_at * depth;
    GLOBAL const TYPE(T)* qh = q + (batch * qb + head * qh_);
    GLOBAL const TYPE(T)* kh = k + (batch * kb + head / shared * kh_);
    GLOBAL const TYPE(T)* vh = v + (batch * vb + head / shared * vh_);
    GLOBAL const TYPE(TMASK)* m = mask + (batch * mb + head * mh);
    R s_[RM * 2], dp[RM * 2];
#if KIND == 2
    R acc[RM * RE];
    UNROLL for (int e = 0; e < RM * RE; ++e) acc[e] = 0;
    const i64 stop = CAUSAL && i0 + BM < span ? i0 + BM : span;
#else
    const i64 stop = span;
#endif
    for (i64 j0 = 0; j0 < stop; j0 += BN) {
        PRODUCT(s_, qh, ql, qe, i0, length, kh, kl, ke, j0, span, width)
        PRODUCT(dp, gh, depth, 1, i0, length, vh, vl, ve, j0, span, depth)
        UNROLL for (int r = 0; r < RM; ++r)
            UNROLL for (int s = 0; s < 2; ++s) {
                const i64 i = i0 + ti + 16 * r, j = j0 + tj + 16 * s;
                R ds = 0;
                if (i < length && j < span)
                    ds = PROBABILITY(SCORE(s_[r * 2 + s], i, j), i) * (dp[r * 2 + s] - LOAD(R, delta, lse_at + i));
#if KIND == 2
                tile_p[(ti + 16 * r) * (BN + 1) + tj + 16 * s] = ds;
#else
                if (i < length && j < span) STORE(T, d, (lse_at + i) * span + j, ds);
#endif
            }
#if KIND == 2
        WEIGH(acc, RE, kh, kl, ke, j0, span, width)
#endif
    }
#if KIND == 2
    UNROLL for (int r = 0; r < RM; ++r) {
        const i64 i = i0 + ti + 16 * r;
        UNROLL for (int s = 0; s < RE; ++s)
            if (i < length && tj + 16 * s < width) STORE(T, d, (lse_at + i) * width + tj + 16 * s, acc[r * RE + s] * scale);
    }
#endif
}
#endif

#if KIND == 4
/* Group: (batch, head of key and value, tile of keys): rows are keys, columns the queries of all heads that share them. */
KERNEL(pnn_attention_grad_key_value, 256, 1, 1)(IN(T, g), IN(T, q), IN(T, k), IN(T, v), IN(R, lse), IN(R, delta), IN(TMASK, mask), OUT(T, dk),
                                                OUT(T, dv), SIZES, FOUR(q), FOUR(k), FOUR(v), MASK_ARGS) {
    AT_IN(T, g); AT_IN(T, q); AT_IN(T, k); AT_IN(T, v); AT_IN(R, lse); AT_IN(R, delta); AT_IN(TMASK, mask); AT_OUT(T, dk); AT_OUT(T, dv);
    ATTENTION_LOCALS;
    const i64 tiles = (span + BM - 1) / BM, j0 = GROUP_ID(0) % tiles * BM, owners = heads / shared;
    const i64 owner = GROUP_ID(0) / tiles % owners, batch = GROUP_ID(0) / (tiles * owners);
    GLOBAL const TYPE(T)* kh = k + (batch * kb + owner * kh_);
    GLOBAL const TYPE(T)* vh = v + (batch * vb + owner * vh_);
    R acc_k[RM * RE], acc_v[RM * RF], s_[RM * 2], dp[RM * 2];
    UNROLL for (int e = 0; e < RM * RE; ++e) acc_k[e] = 0;
    UNROLL for (int e = 0; e < RM * RF; ++e) acc_v[e] = 0;
    for (i64 head = owner * shared; head < (owner + 1) * shared; ++head) {
        const i64 lse_at = (batch * heads + head) * length;
        GLOBAL const TYPE(T)* gh = g + lse_at * depth;
        GLOBAL const TYPE(T)* qh = q + (batch * qb + head * qh_);
        GLOBAL const TYPE(TMASK)* m = mask + (batch * mb + head * mh);
        for (i64 i0 = CAUSAL ? j0 / BN * BN : 0; i0 < length; i0 += BN) {
            PRODUCT(s_, kh, kl, ke, j0, span, qh, ql, qe, i0, length, width)
            PRODUCT(dp, vh, vl, ve, j0, span, gh, depth, 1, i0, length, depth)
            UNROLL for (int r = 0; r < RM; ++r)
                UNROLL for (int s = 0; s < 2; ++s) {
                    const i64 j = j0 + ti + 16 * r, i = i0 + tj + 16 * s;
                    R p = 0, ds = 0;
                    if (i < length && j < span) {
                        p = PROBABILITY(SCORE(s_[r * 2 + s], i, j), i);
                        ds = p * (dp[r * 2 + s] - LOAD(R, delta, lse_at + i));
                    }
                    tile_p[(ti + 16 * r) * (BN + 1) + tj + 16 * s] = p;
                    dp[r * 2 + s] = ds;
                }
            WEIGH(acc_v, RF, gh, depth, 1, i0, length, depth)
            UNROLL for (int r = 0; r < RM; ++r)
                UNROLL for (int s = 0; s < 2; ++s) tile_p[(ti + 16 * r) * (BN + 1) + tj + 16 * s] = dp[r * 2 + s];
            WEIGH(acc_k, RE, qh, ql, qe, i0, length, width)
        }
    }
    UNROLL for (int r = 0; r < RM; ++r) {
        const i64 j = j0 + ti + 16 * r;
        const i64 at = (batch * owners + owner) * span + j;
        if (j >= span) continue;
        UNROLL for (int s = 0; s < RE; ++s)
            if (tj + 16 * s < width) STORE(T, dk, at * width + tj + 16 * s, acc_k[r * RE + s] * scale);
        UNROLL for (int s = 0; s < RF; ++s)
            if (tj + 16 * s < depth) STORE(T, dv, at * depth + tj + 16 * s, acc_v[r * RF + s]);
    }
}
#endif
