/* Scaled dot-product attention for CPUs: one work-item per run of row blocks, explicit vectors, no local memory, no barriers.
 * OpenCL only: the vector types have no CUDA name. What is computed, and the names of sizes, are those of attention.c.
 *
 * Rows are a block of BR queries (keys in pnn_attention_cpu_key_value) of one head; columns come in tiles of BN = 64. The
 * operands were copied before, in the compute type: panels are (.., tile, feature, BN), so that a tile of scores is vectors
 * along the columns times broadcasts; matrices are (.., position, features filled up with zeros to whole vectors), so that
 * probabilities times rows is vectors along the features. A tile of scores and the results of a block are private arrays,
 * in the nearest cache. Traffic: rows once, panels and matrices once per block of rows.
 * Defines: T (results), TMASK, VW, BR, EP, FP (E and F filled up), CAUSAL, MASK, KIND. The compute type is ACC(T). */
#ifdef PNN_OPENCL
#include "math.h"
#include "vector_types.h"

#define REAL ACC(T)
#define BN 64
#define NV (BN / VW)
#define MR (BR < 4 ? BR : 4)
#define VEC CAT(PNN_VEC_, CAT(ACC_TAG(T), CAT(_, VW)))
#define VLOADC(p) CAT(vload, VW)(0, p)
#define VSTOREC(v, p) CAT(vstore, VW)(v, 0, p)
#define MINUS_INF (-CAT(A_INF_, ACC_TAG(T)))
#define A_INF_f32 INF_F32
#define A_INF_f64 INF_F64
/* Vectors of features that are summed at a time. */
#define BLOCK(features) ((features) / VW % 4 == 0 ? 4 : (features) / VW % 2 == 0 ? 2 : 1)

/* tile[r, j] = sum over e of rows[min(i0 + r, last), e] panel[e, j]. */
DEVICE void pnn_attention_product(REAL* tile, GLOBAL const REAL* rows, i64 step, i64 i0, i64 last, GLOBAL const REAL* panel, i64 features) {
    for (i64 r0 = 0; r0 < BR; r0 += MR) {
        GLOBAL const REAL* from[MR];
        for (int r = 0; r < MR; ++r) from[r] = rows + (i0 + r0 + r < last ? i0 + r0 + r : last) * step;
        for (int v0 = 0; v0 < NV; v0 += 4) {
            VEC acc[MR * 4];
#pragma unroll
            for (int e = 0; e < MR * 4; ++e) acc[e] = (VEC)(0);
            for (i64 e = 0; e < features; ++e) {
                VEC column[4];
#pragma unroll
                for (int v = 0; v < 4; ++v) column[v] = VLOADC(panel + e * BN + (v0 + v) * VW);
#pragma unroll
                for (int r = 0; r < MR; ++r) {
                    const VEC one = (VEC)(from[r][e]);
#pragma unroll
                    for (int v = 0; v < 4; ++v) acc[r * 4 + v] = fma(one, column[v], acc[r * 4 + v]);
                }
            }
#pragma unroll
            for (int r = 0; r < MR; ++r)
#pragma unroll
                for (int v = 0; v < 4; ++v) VSTOREC(acc[r * 4 + v], tile + (r0 + r) * BN + (v0 + v) * VW);
        }
    }
}

/* sum[r, f] += sum over j < count of tile[r, j] matrix[j, f]; `features` is whole vectors. A macro, so that it is a constant. */
#define WEIGH(sum, tile, matrix, count, features)                                                                       \
    for (i64 r0_ = 0; r0_ < BR; r0_ += MR)                                                                              \
        for (i64 f0_ = 0; f0_ < (features); f0_ += BLOCK(features) * VW) {                                              \
            VEC acc_[MR * BLOCK(features)];                                                                             \
            _Pragma("unroll") for (int r_ = 0; r_ < MR; ++r_)                                                           \
                _Pragma("unroll") for (int u_ = 0; u_ < BLOCK(features); ++u_)                                          \
                    acc_[r_ * BLOCK(features) + u_] = VLOADC(sum + (r0_ + r_) * (features) + f0_ + u_ * VW);            \
            for (i64 j_ = 0; j_ < (count); ++j_) {                                                                      \
                VEC row_[BLOCK(features)];                                                                              \
                _Pragma("unroll") for (int u_ = 0; u_ < BLOCK(features); ++u_)                                          \
                    row_[u_] = VLOADC((matrix) + j_ * (features) + f0_ + u_ * VW);                                      \
                _Pragma("unroll") for (int r_ = 0; r_ < MR; ++r_) {                                                     \
                    const VEC one_ = (VEC)(tile[(r0_ + r_) * BN + j_]);                                                 \
                    _Pragma("unroll") for (int u_ = 0; u_ < BLOCK(features); ++u_)                                      \
                        acc_[r_ * BLOCK(features) + u_] = fma(one_, row_[u_], acc_[r_ * BLOCK(features) + u_]);         \
                }                                                                                                       \
            }                                                                                                           \
            _Pragma("unroll") for (int r_ = 0; r_ < MR; ++r_)                                                           \
                _Pragma("unroll") for (int u_ = 0; u_ < BLOCK(features); ++u_)                                          \
                    VSTOREC(acc_[r_ * BLOCK(features) + u_], sum + (r0_ + r_) * (features) + f0_ + u_ * VW);            \
        }

/* Scores of query i at the columns j0 + 0 .. of tile row p: scaled, masked, -inf where not allowed. */
#if MASK == 1
#define ADD_MASK(value, i, j) (LOAD(TMASK, m, (i) * ml + (j) * ms) ? (value) : MINUS_INF)
#elif MASK == 2
#define ADD_MASK(value, i, j) ((value) + (REAL)LOAD(TMASK, m, (i) * ml + (j) * ms))
#endif

#define SIZES i64 heads, i64 shared, i64 length, i64 span, i64 width, i64 depth, REAL scale
#define MASK_ARGS i64 mb, i64 mh, i64 ml, i64 ms

#if KIND == 0
/* q: (b, heads, length, width), kp: panels, v: matrix. Work-items take `chunk` of the (b, head, block of queries). */
KERNEL(pnn_attention_cpu, 1, 1, 1)(IN(ACC_TAG(T), q), IN(ACC_TAG(T), kp), IN(ACC_TAG(T), v), IN(TMASK, mask), OUT(T, y), OUT(ACC_TAG(T), lse),
                                   SIZES, MASK_ARGS, i64 count, i64 chunk) {
    AT_IN(ACC_TAG(T), q); AT_IN(ACC_TAG(T), kp); AT_IN(ACC_TAG(T), v); AT_IN(TMASK, mask); AT_OUT(T, y); AT_OUT(ACC_TAG(T), lse);
    REAL tile[BR * BN], sum[BR * FP], top[BR], total[BR];
    const i64 blocks = (length + BR - 1) / BR, tiles = (span + BN - 1) / BN;
    for (i64 task = GROUP_ID(0) * chunk; task < count && task < (GROUP_ID(0) + 1) * chunk; ++task) {
        const i64 i0 = task % blocks * BR, head = task / blocks % heads, batch = task / (blocks * heads);
        const i64 own = batch * heads + head, other = batch * (heads / shared) + head / shared;
        GLOBAL const REAL* rows = q + own * length * width;
        GLOBAL const TYPE(TMASK)* m = mask + (batch * mb + head * mh);
        for (i64 e = 0; e < BR * FP; ++e) sum[e] = 0;
        for (i64 r = 0; r < BR; ++r) {
            top[r] = MINUS_INF;
            total[r] = 0;
        }
        const i64 stop = CAUSAL && i0 + BR < span ? i0 + BR : span;
        for (i64 j0 = 0; j0 < stop; j0 += BN) {
            const i64 cols = stop - j0 < BN ? stop - j0 : BN;
            pnn_attention_product(tile, rows, width, i0, length - 1, kp + (other * tiles + j0 / BN) * width * BN, width);
            for (i64 r = 0; r < BR; ++r) {
                const i64 i = i0 + r < length ? i0 + r : length - 1;
                REAL* s = tile + r * BN;
                for (i64 j = 0; j < BN; ++j) s[j] *= scale;
#if MASK
                for (i64 j = 0; j < cols; ++j) s[j] = ADD_MASK(s[j], i, j0 + j);
#endif
                for (i64 j = CAUSAL && i - j0 + 1 < cols ? (i - j0 + 1 > 0 ? i - j0 + 1 : 0) : cols; j < BN; ++j) s[j] = MINUS_INF;
                REAL most = top[r];
                VEC lanes = VLOADC(s);
                for (int e = 1; e < NV; ++e) {
                    const VEC next = VLOADC(s + e * VW);
                    lanes = select(lanes, next, next > lanes || next != next);
                }
                REAL each[VW];
                VSTOREC(lanes, each);
                for (int e = 0; e < VW; ++e) most = CAT(pnn_max_, ACC_TAG(T))(most, each[e]);
                const REAL shift = most == MINUS_INF ? 0 : most;
                const REAL fade = most == MINUS_INF ? 1 : CAT(pnn_exp_, ACC_TAG(T))(top[r] - shift);
                VEC part = (VEC)(0);
                for (int e = 0; e < NV; ++e) {
                    const VEC p = exp(VLOADC(s + e * VW) - (VEC)(shift));
                    VSTOREC(p, s + e * VW);
                    part += p;
                }
                VSTOREC(part, each);
                REAL more = 0;
                for (int e = 0; e < VW; ++e) more += each[e];
                total[r] = fma(total[r], fade, more);
                top[r] = most;
                if (fade != 1)
                    for (i64 e = 0; e < FP; ++e) sum[r * FP + e] *= fade;
            }
            WEIGH(sum, tile, v + (other * span + j0) * FP, cols, FP)
        }
        for (i64 r = 0; r < BR && i0 + r < length; ++r) {
            const REAL share = total[r] == 0 ? 0 : 1 / total[r];
            const i64 at = own * length + i0 + r;
            for (i64 e = 0; e < depth; ++e) STORE(T, y, at * depth + e, sum[r * FP + e] * share);
            lse[at] = (top[r] == MINUS_INF ? 0 : top[r]) + CAT(pnn_log_, ACC_TAG(T))(total[r]);
        }
    }
}
#endif

#if KIND == 2
/* dq: g and q as rows, panels of key (kp) and value (vp), key as a matrix (k). */
KERNEL(pnn_attention_cpu_query, 1, 1, 1)(IN(ACC_TAG(T), g), IN(ACC_TAG(T), q), IN(ACC_TAG(T), kp), IN(ACC_TAG(T), vp), IN(ACC_TAG(T), k),
                                         IN(ACC_TAG(T), lse), IN(ACC_TAG(T), delta), IN(TMASK, mask), OUT(T, d), SIZES, MASK_ARGS, i64 count,
                                         i64 chunk) {
    AT_IN(ACC_TAG(T), g); AT_IN(ACC_TAG(T), q); AT_IN(ACC_TAG(T), kp); AT_IN(ACC_TAG(T), vp); AT_IN(ACC_TAG(T), k);
    AT_IN(ACC_TAG(T), lse); AT_IN(ACC_TAG(T), delta); AT_IN(TMASK, mask); AT_OUT(T, d);
    REAL tile[BR * BN], back[BR * BN], sum[BR * EP];
    const i64 blocks = (length + BR - 1) / BR, tiles = (span + BN - 1) / BN;
    for (i64 task = GROUP_ID(0) * chunk; task < count && task < (GROUP_ID(0) + 1) * chunk; ++task) {
        const i64 i0 = task % blocks * BR, head = task / blocks % heads, batch = task / (blocks * heads);
        const i64 own = batch * heads + head, other = batch * (heads / shared) + head / shared;
        GLOBAL const TYPE(TMASK)* m = mask + (batch * mb + head * mh);
        for (i64 e = 0; e < BR * EP; ++e) sum[e] = 0;
        const i64 stop = CAUSAL && i0 + BR < span ? i0 + BR : span;
        for (i64 j0 = 0; j0 < stop; j0 += BN) {
            const i64 cols = stop - j0 < BN ? stop - j0 : BN, panel = (other * tiles + j0 / BN) * BN;
            pnn_attention_product(tile, q + own * length * width, width, i0, length - 1, kp + panel * width, width);
            pnn_attention_product(back, g + own * length * depth, depth, i0, length - 1, vp + panel * depth, depth);
            for (i64 r = 0; r < BR; ++r) {
                const i64 i = i0 + r < length ? i0 + r : length - 1;
                const REAL sum_log = lse[own * length + i], dot = delta[own * length + i];
                REAL* s = tile + r * BN;
                const REAL* dp = back + r * BN;
                const i64 seen = CAUSAL && i - j0 + 1 < cols ? (i - j0 + 1 > 0 ? i - j0 + 1 : 0) : cols;
                for (i64 j = 0; j < BN; ++j) s[j] *= scale;
#if MASK
                for (i64 j = 0; j < cols; ++j) s[j] = ADD_MASK(s[j], i, j0 + j);
#endif
                for (int e = 0; e < NV; ++e)
                    VSTOREC(exp(VLOADC(s + e * VW) - (VEC)(sum_log)) * (VLOADC(dp + e * VW) - (VEC)(dot)), s + e * VW);
                for (i64 j = sum_log == MINUS_INF ? 0 : seen; j < BN; ++j) s[j] = 0;
            }
            WEIGH(sum, tile, k + (other * span + j0) * EP, cols, EP)
        }
        for (i64 r = 0; r < BR && i0 + r < length; ++r)
            for (i64 e = 0; e < width; ++e) STORE(T, d, (own * length + i0 + r) * width + e, sum[r * EP + e] * scale);
    }
}
#endif

#if KIND == 4
/* dk and dv: key and value as rows (k, v), panels and matrices of query (qp, qm) and of the cotangent (gp, gm). */
KERNEL(pnn_attention_cpu_key_value, 1, 1, 1)(IN(ACC_TAG(T), k), IN(ACC_TAG(T), v), IN(ACC_TAG(T), qp), IN(ACC_TAG(T), gp), IN(ACC_TAG(T), qm),
                                             IN(ACC_TAG(T), gm), IN(ACC_TAG(T), lse), IN(ACC_TAG(T), delta), IN(TMASK, mask), OUT(T, dk),
                                             OUT(T, dv), SIZES, MASK_ARGS, i64 count, i64 chunk) {
    AT_IN(ACC_TAG(T), k); AT_IN(ACC_TAG(T), v); AT_IN(ACC_TAG(T), qp); AT_IN(ACC_TAG(T), gp); AT_IN(ACC_TAG(T), qm); AT_IN(ACC_TAG(T), gm);
    AT_IN(ACC_TAG(T), lse); AT_IN(ACC_TAG(T), delta); AT_IN(TMASK, mask); AT_OUT(T, dk); AT_OUT(T, dv);
    REAL tile[BR * BN], back[BR * BN], sum_k[BR * EP], sum_v[BR * FP];
    const i64 owners = heads / shared, blocks = (span + BR - 1) / BR, tiles = (length + BN - 1) / BN;
    for (i64 task = GROUP_ID(0) * chunk; task < count && task < (GROUP_ID(0) + 1) * chunk; ++task) {
        const i64 j0 = task % blocks * BR, owner = task / blocks % owners, batch = task / (blocks * owners);
        const i64 own = batch * owners + owner;
        for (i64 e = 0; e < BR * EP; ++e) sum_k[e] = 0;
        for (i64 e = 0; e < BR * FP; ++e) sum_v[e] = 0;
        for (i64 head = owner * shared; head < (owner + 1) * shared; ++head) {
            const i64 other = batch * heads + head;
            GLOBAL const TYPE(TMASK)* m = mask + (batch * mb + head * mh);
            for (i64 i0 = CAUSAL ? j0 / BN * BN : 0; i0 < length; i0 += BN) {
                const i64 cols = length - i0 < BN ? length - i0 : BN, panel = (other * tiles + i0 / BN) * BN;
                pnn_attention_product(tile, k + own * span * width, width, j0, span - 1, qp + panel * width, width);
                pnn_attention_product(back, v + own * span * depth, depth, j0, span - 1, gp + panel * depth, depth);
                for (i64 r = 0; r < BR; ++r) {
                    const i64 j = j0 + r < span ? j0 + r : span - 1, at = other * length + i0;
                    REAL* s = tile + r * BN;
                    REAL* dp = back + r * BN;
                    for (i64 i = 0; i < cols; ++i) {
                        REAL score = s[i] * scale;
#if MASK
                        score = ADD_MASK(score, i0 + i, j);
#endif
                        s[i] = lse[at + i] == MINUS_INF || (CAUSAL && j > i0 + i) ? MINUS_INF : score - lse[at + i];
                        dp[i] -= delta[at + i];
                    }
                    for (i64 i = cols; i < BN; ++i) s[i] = MINUS_INF;
                    for (int e = 0; e < NV; ++e) {
                        const VEC p = exp(VLOADC(s + e * VW));
                        VSTOREC(p, s + e * VW);
                        VSTOREC(p * VLOADC(dp + e * VW), dp + e * VW);
                    }
                }
                WEIGH(sum_v, tile, gm + (other * length + i0) * FP, cols, FP)
                WEIGH(sum_k, back, qm + (other * length + i0) * EP, cols, EP)
            }
        }
        for (i64 r = 0; r < BR && j0 + r < span; ++r) {
            const i64 at = own * span + j0 + r;
            for (i64 e = 0; e < width; ++e) STORE(T, dk, at * width + e, sum_k[r * EP + e] * scale);
            for (i64 e = 0; e < depth; ++e) STORE(T, dv, at * depth + e, sum_v[r * FP + e]);
        }
    }
}
#endif
#endif
