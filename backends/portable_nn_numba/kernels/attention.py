"""Twin of `c/attention.c`: scaled dot-product attention, forward and backward, tile by tile.

PRODUCT and WEIGH are device functions that are given the shared arrays. One file, as there, for the five kernels share them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from portable_nn_numba.dialect import FMA, GLOBAL_ID, GROUP_ID, IN, INF, LIT, LOAD, LOCAL_ID, OUT, STORE, TYPE
from portable_nn_numba.registry import Defines, kernel
from portable_nn_numba.scalar import pnn
from portable_nn_numba.shim import cuda, device

TK, BN, VC = 16, 32, 32
_TILES_ONLY = ("RE", "RF", "CAUSAL", "MASK", "TMASK", "RM", "KIND")


@dataclass(frozen=True)
class Tiles:
    """What `tiles` makes of a launch's defines.

    Parameters
    ----------
    BM, A_SIZE, B_SIZE, P_SIZE, V_SIZE : int
        Rows of a group; lengths of the shared arrays tile_a, tile_b, tile_p, tile_v.
    SCORES, FE, FF : int
        A work-item's scores of a tile; its sums over E and F features.
    clear, product, weigh, score, probability : device functions
        The macros of `attention.c`.
    """

    BM: int
    A_SIZE: int
    B_SIZE: int
    P_SIZE: int
    V_SIZE: int
    SCORES: int
    FE: int
    FF: int
    clear: Any
    product: Any
    weigh: Any
    score: Any
    probability: Any


def tiles(d: Defines) -> Tiles:
    """Return the constants and device functions for a launch's defines."""
    R, RM, RE, RF, CAUSAL, MASK = d["R"], d["RM"], d["RE"], d["RF"], d["CAUSAL"], d["MASK"]
    BM = 16 * RM
    A_WIDE, B_WIDE, V_WIDE = BM + 1, BN + 1, VC + 1
    real, zero, low = TYPE[R], LIT(R, 0), -INF(R)
    load, load_mask, exp = LOAD[d["T"]], LOAD[d["TMASK"]], pnn("exp", R)

    @device
    def clear(acc: Any, count: Any) -> None:
        for e in range(count):
            acc[e] = zero

    @device
    def product(
        out: Any, tile_a: Any, tile_b: Any, a: Any, a_at: Any, al: Any, ae: Any, i0: Any, n_i: Any, b: Any, b_at: Any, bl: Any, be: Any,
        j0: Any, n_j: Any, features: Any,
    ) -> None:  # fmt: skip
        av = cuda.local.array(RM, real)
        bv = cuda.local.array(2, real)
        lane = LOCAL_ID(0)
        ti = lane % 16
        tj = lane // 16
        clear(out, RM * 2)
        for e0 in range(0, features, TK):
            for t in range(lane, BM * TK, 256):
                i = i0 + t // TK
                e = e0 + t % TK
                v = zero
                if i < n_i and e < features:
                    v = load(a, a_at + i * al + e * ae)
                tile_a[t % TK * A_WIDE + t // TK] = v
            for t in range(lane, BN * TK, 256):
                j = j0 + t // TK
                e = e0 + t % TK
                v = zero
                if j < n_j and e < features:
                    v = load(b, b_at + j * bl + e * be)
                tile_b[t % TK * B_WIDE + t // TK] = v
            cuda.syncthreads()
            for k in range(TK):
                for r in range(RM):
                    av[r] = tile_a[k * A_WIDE + ti + 16 * r]
                for s in range(2):
                    bv[s] = tile_b[k * B_WIDE + tj + 16 * s]
                for r in range(RM):
                    for s in range(2):
                        out[r * 2 + s] = FMA(av[r], bv[s], out[r * 2 + s])
            cuda.syncthreads()

    def weigher(registers: int) -> Any:
        @device
        def weigh(acc: Any, tile_p: Any, tile_v: Any, b: Any, b_at: Any, bl: Any, be: Any, j0: Any, n_j: Any, features: Any) -> None:
            pv = cuda.local.array(RM, real)
            vv = cuda.local.array(2, real)
            lane = LOCAL_ID(0)
            ti = lane % 16
            tj = lane // 16
            for chunk in range(registers // 2):
                for t in range(lane, BN * VC, 256):
                    j = j0 + t // VC
                    e = chunk * VC + t % VC
                    v = zero
                    if j < n_j and e < features:
                        v = load(b, b_at + j * bl + e * be)
                    tile_v[t // VC * V_WIDE + t % VC] = v
                cuda.syncthreads()
                for k in range(BN):
                    for r in range(RM):
                        pv[r] = tile_p[(ti + 16 * r) * B_WIDE + k]
                    for s in range(2):
                        vv[s] = tile_v[k * V_WIDE + tj + 16 * s]
                    for r in range(RM):
                        for s in range(2):
                            at = r * registers + chunk * 2 + s
                            acc[at] = FMA(pv[r], vv[s], acc[at])
                cuda.syncthreads()

        return weigh

    @device
    def score(value: Any, i: Any, j: Any, length: Any, span: Any, scale: Any, mask: Any, mask_at: Any, ml: Any, ms: Any) -> Any:
        if i >= length or j >= span or (CAUSAL and j > i):
            return low
        if MASK == 1:
            return value * scale if load_mask(mask, mask_at + i * ml + j * ms) != 0 else low
        if MASK == 2:
            return value * scale + real(load_mask(mask, mask_at + i * ml + j * ms))
        return value * scale

    @device
    def probability(value: Any, lse: Any) -> Any:
        return zero if lse == low else exp(value - lse)

    weigh = {RE: weigher(RE), RF: weigher(RF)}
    return Tiles(
        BM, TK * A_WIDE, TK * B_WIDE, BM * B_WIDE, BN * V_WIDE, RM * 2, RM * RE, RM * RF, clear, product, weigh, score, probability
    )  # fmt: skip


@kernel("pnn_attention", "attention.c", ignores=("KIND",))
def attention(d: Defines) -> Callable[..., Any]:
    T, TMASK, R, RM, RF, CAUSAL = d["T"], d["TMASK"], d["R"], d["RM"], d["RF"], d["CAUSAL"]
    t_ = tiles(d)
    BM, A_SIZE, B_SIZE, P_SIZE, V_SIZE, SCORES, FF = t_.BM, t_.A_SIZE, t_.B_SIZE, t_.P_SIZE, t_.V_SIZE, t_.SCORES, t_.FF
    clear, product, weigh, score = t_.clear, t_.product, t_.weigh[RF], t_.score
    PIECES, P_WIDE = 256 // BM, BN + 1
    real, zero, one, low = TYPE[R], LIT(R, 0), LIT(R, 1), -INF(R)
    store, store_lse, exp, log, larger = STORE[T], STORE[R], pnn("exp", R), pnn("log", R), pnn("max", R)

    def pnn_attention(
        q: IN(T), q_offset, k: IN(T), k_offset, v: IN(T), v_offset, mask: IN(TMASK), mask_offset, y: OUT(T), y_offset, lse: OUT(R), lse_offset,
        heads, shared, length, span, width, depth, scale: R, qb, qh_, ql, qe, kb, kh_, kl, ke, vb, vh_, vl, ve, mb, mh, ml, ms,
    ):  # fmt: skip
        tile_a = cuda.shared.array(A_SIZE, real)
        tile_b = cuda.shared.array(B_SIZE, real)
        tile_p = cuda.shared.array(P_SIZE, real)
        tile_v = cuda.shared.array(V_SIZE, real)
        row_max = cuda.shared.array(BM, real)
        row_sum = cuda.shared.array(BM, real)
        row_scale = cuda.shared.array(BM, real)
        part = cuda.shared.array(256, real)
        acc = cuda.local.array(FF, real)
        s_ = cuda.local.array(SCORES, real)
        lane = LOCAL_ID(0)
        ti = lane % 16
        tj = lane // 16
        tiles_i = (length + BM - 1) // BM
        i0 = GROUP_ID(0) % tiles_i * BM
        head = GROUP_ID(0) // tiles_i % heads
        batch = GROUP_ID(0) // (tiles_i * heads)
        qh = q_offset + batch * qb + head * qh_
        kh = k_offset + batch * kb + head // shared * kh_
        vh = v_offset + batch * vb + head // shared * vh_
        m = mask_offset + batch * mb + head * mh
        row = lane // PIECES
        piece = lane % PIECES
        clear(acc, FF)
        if piece == 0:
            row_max[row] = low
            row_sum[row] = zero
        stop = min(i0 + BM, span) if CAUSAL else span
        for j0 in range(0, stop, BN):
            product(s_, tile_a, tile_b, q, qh, ql, qe, i0, length, k, kh, kl, ke, j0, span, width)
            for r in range(RM):
                for s in range(2):
                    i = i0 + ti + 16 * r
                    j = j0 + tj + 16 * s
                    made = score(s_[r * 2 + s], i, j, length, span, scale, mask, m, ml, ms)
                    tile_p[(ti + 16 * r) * P_WIDE + tj + 16 * s] = made
            cuda.syncthreads()
            top = low
            for j in range(piece, BN, PIECES):
                top = larger(top, tile_p[row * P_WIDE + j])
            part[lane] = top
            cuda.syncthreads()
            if piece == 0:
                old = row_max[row]
                for e in range(PIECES):
                    top = larger(top, part[lane + e])
                top = larger(top, old)
                row_max[row] = top
                row_scale[row] = one if top == low else exp(old - top)
            cuda.syncthreads()
            shift = row_max[row]
            if shift == low:
                shift = zero
            total = zero
            for j in range(piece, BN, PIECES):
                p = exp(tile_p[row * P_WIDE + j] - shift)
                tile_p[row * P_WIDE + j] = p
                total += p
            part[lane] = total
            cuda.syncthreads()
            if piece == 0:
                total = zero
                for e in range(PIECES):
                    total += part[lane + e]
                row_sum[row] = FMA(row_sum[row], row_scale[row], total)
            for r in range(RM):
                for s in range(RF):
                    acc[r * RF + s] *= row_scale[ti + 16 * r]
            weigh(acc, tile_p, tile_v, v, vh, vl, ve, j0, span, depth)
        cuda.syncthreads()
        for r in range(RM):
            i = i0 + ti + 16 * r
            if i < length:
                at = (batch * heads + head) * length + i
                total = row_sum[ti + 16 * r]
                top = row_max[ti + 16 * r]
                share = zero if total == zero else one / total
                for s in range(RF):
                    if tj + 16 * s < depth:
                        store(y, y_offset + at * depth + tj + 16 * s, acc[r * RF + s] * share)
                if tj == 0:
                    store_lse(lse, lse_offset + at, (zero if top == low else top) + log(total))

    return pnn_attention


@kernel("pnn_attention_delta", "attention.c", ignores=_TILES_ONLY)
def attention_delta(d: Defines) -> Callable[..., Any]:
    T, R = d["T"], d["R"]
    zero, load, store = LIT(R, 0), LOAD[T], STORE[R]

    def pnn_attention_delta(g: IN(T), g_offset, y: IN(T), y_offset, delta: OUT(R), delta_offset, rows, depth):
        row = GLOBAL_ID(0)
        if row < rows:
            total = zero
            for e0 in range(0, depth, 64):
                block = zero
                for e in range(e0, min(e0 + 64, depth)):
                    block = FMA(load(g, g_offset + row * depth + e), load(y, y_offset + row * depth + e), block)
                total += block
            store(delta, delta_offset + row, total)

    return pnn_attention_delta


@kernel("pnn_attention_grad_query", "attention.c", ignores=("KIND",))
def attention_grad_query(d: Defines) -> Callable[..., Any]:
    T, TMASK, R, RM, RE, CAUSAL = d["T"], d["TMASK"], d["R"], d["RM"], d["RE"], d["CAUSAL"]
    t_ = tiles(d)
    BM, A_SIZE, B_SIZE, P_SIZE, V_SIZE, SCORES, FE = t_.BM, t_.A_SIZE, t_.B_SIZE, t_.P_SIZE, t_.V_SIZE, t_.SCORES, t_.FE
    clear, product, weigh, score, probability = t_.clear, t_.product, t_.weigh[RE], t_.score, t_.probability
    P_WIDE = BN + 1
    real, zero, load_stat, store = TYPE[R], LIT(R, 0), LOAD[R], STORE[T]

    def pnn_attention_grad_query(
        g: IN(T), g_offset, q: IN(T), q_offset, k: IN(T), k_offset, v: IN(T), v_offset, lse: IN(R), lse_offset, delta: IN(R), delta_offset,
        mask: IN(TMASK), mask_offset, d: OUT(T), d_offset, heads, shared, length, span, width, depth, scale: R, qb, qh_, ql, qe, kb, kh_, kl,
        ke, vb, vh_, vl, ve, mb, mh, ml, ms,
    ):  # fmt: skip
        tile_a = cuda.shared.array(A_SIZE, real)
        tile_b = cuda.shared.array(B_SIZE, real)
        tile_p = cuda.shared.array(P_SIZE, real)
        tile_v = cuda.shared.array(V_SIZE, real)
        acc = cuda.local.array(FE, real)
        s_ = cuda.local.array(SCORES, real)
        dp = cuda.local.array(SCORES, real)
        lane = LOCAL_ID(0)
        ti = lane % 16
        tj = lane // 16
        tiles_i = (length + BM - 1) // BM
        i0 = GROUP_ID(0) % tiles_i * BM
        head = GROUP_ID(0) // tiles_i % heads
        batch = GROUP_ID(0) // (tiles_i * heads)
        lse_at = (batch * heads + head) * length
        gh = g_offset + lse_at * depth
        qh = q_offset + batch * qb + head * qh_
        kh = k_offset + batch * kb + head // shared * kh_
        vh = v_offset + batch * vb + head // shared * vh_
        m = mask_offset + batch * mb + head * mh
        clear(acc, FE)
        stop = min(i0 + BM, span) if CAUSAL else span
        for j0 in range(0, stop, BN):
            product(s_, tile_a, tile_b, q, qh, ql, qe, i0, length, k, kh, kl, ke, j0, span, width)
            product(dp, tile_a, tile_b, g, gh, depth, 1, i0, length, v, vh, vl, ve, j0, span, depth)
            for r in range(RM):
                for s in range(2):
                    i = i0 + ti + 16 * r
                    j = j0 + tj + 16 * s
                    ds = zero
                    if i < length and j < span:
                        made = score(s_[r * 2 + s], i, j, length, span, scale, mask, m, ml, ms)
                        p = probability(made, load_stat(lse, lse_offset + lse_at + i))
                        ds = p * (dp[r * 2 + s] - load_stat(delta, delta_offset + lse_at + i))
                    tile_p[(ti + 16 * r) * P_WIDE + tj + 16 * s] = ds
            weigh(acc, tile_p, tile_v, k, kh, kl, ke, j0, span, width)
        for r in range(RM):
            i = i0 + ti + 16 * r
            for s in range(RE):
                if i < length and tj + 16 * s < width:
                    store(d, d_offset + (lse_at + i) * width + tj + 16 * s, acc[r * RE + s] * scale)

    return pnn_attention_grad_query


@kernel("pnn_attention_grad_mask", "attention.c", ignores=("KIND",))
def attention_grad_mask(d: Defines) -> Callable[..., Any]:
    T, TMASK, R, RM = d["T"], d["TMASK"], d["R"], d["RM"]
    t_ = tiles(d)
    BM, A_SIZE, B_SIZE, SCORES = t_.BM, t_.A_SIZE, t_.B_SIZE, t_.SCORES
    product, score, probability = t_.product, t_.score, t_.probability
    real, load_stat, store = TYPE[R], LOAD[R], STORE[T]

    def pnn_attention_grad_mask(
        g: IN(T), g_offset, q: IN(T), q_offset, k: IN(T), k_offset, v: IN(T), v_offset, lse: IN(R), lse_offset, delta: IN(R), delta_offset,
        mask: IN(TMASK), mask_offset, d: OUT(T), d_offset, heads, shared, length, span, width, depth, scale: R, qb, qh_, ql, qe, kb, kh_, kl,
        ke, vb, vh_, vl, ve, mb, mh, ml, ms,
    ):  # fmt: skip
        tile_a = cuda.shared.array(A_SIZE, real)
        tile_b = cuda.shared.array(B_SIZE, real)
        s_ = cuda.local.array(SCORES, real)
        dp = cuda.local.array(SCORES, real)
        lane = LOCAL_ID(0)
        ti = lane % 16
        tj = lane // 16
        tiles_i = (length + BM - 1) // BM
        i0 = GROUP_ID(0) % tiles_i * BM
        head = GROUP_ID(0) // tiles_i % heads
        batch = GROUP_ID(0) // (tiles_i * heads)
        lse_at = (batch * heads + head) * length
        gh = g_offset + lse_at * depth
        qh = q_offset + batch * qb + head * qh_
        kh = k_offset + batch * kb + head // shared * kh_
        vh = v_offset + batch * vb + head // shared * vh_
        m = mask_offset + batch * mb + head * mh
        for j0 in range(0, span, BN):
            product(s_, tile_a, tile_b, q, qh, ql, qe, i0, length, k, kh, kl, ke, j0, span, width)
            product(dp, tile_a, tile_b, g, gh, depth, 1, i0, length, v, vh, vl, ve, j0, span, depth)
            for r in range(RM):
                for s in range(2):
                    i = i0 + ti + 16 * r
                    j = j0 + tj + 16 * s
                    if i < length and j < span:
                        made = score(s_[r * 2 + s], i, j, length, span, scale, mask, m, ml, ms)
                        p = probability(made, load_stat(lse, lse_offset + lse_at + i))
                        ds = p * (dp[r * 2 + s] - load_stat(delta, delta_offset + lse_at + i))
                        store(d, d_offset + (lse_at + i) * span + j, ds)

    return pnn_attention_grad_mask


@kernel("pnn_attention_grad_key_value", "attention.c", ignores=("KIND",))
def attention_grad_key_value(d: Defines) -> Callable[..., Any]:
    T, TMASK, R, RM, RE, RF, CAUSAL = d["T"], d["TMASK"], d["R"], d["RM"], d["RE"], d["RF"], d["CAUSAL"]
    t_ = tiles(d)
    BM, A_SIZE, B_SIZE, P_SIZE, V_SIZE, SCORES, FE, FF = t_.BM, t_.A_SIZE, t_.B_SIZE, t_.P_SIZE, t_.V_SIZE, t_.SCORES, t_.FE, t_.FF
    clear, product, weigh_k, weigh_v, score, probability = t_.clear, t_.product, t_.weigh[RE], t_.weigh[RF], t_.score, t_.probability
    P_WIDE = BN + 1
    real, zero, load_stat, store = TYPE[R], LIT(R, 0), LOAD[R], STORE[T]

    def pnn_attention_grad_key_value(
        g: IN(T), g_offset, q: IN(T), q_offset, k: IN(T), k_offset, v: IN(T), v_offset, lse: IN(R), lse_offset, delta: IN(R), delta_offset,
        mask: IN(TMASK), mask_offset, dk: OUT(T), dk_offset, dv: OUT(T), dv_offset, heads, shared, length, span, width, depth, scale: R, qb,
        qh_, ql, qe, kb, kh_, kl, ke, vb, vh_, vl, ve, mb, mh, ml, ms,
    ):  # fmt: skip
        tile_a = cuda.shared.array(A_SIZE, real)
        tile_b = cuda.shared.array(B_SIZE, real)
        tile_p = cuda.shared.array(P_SIZE, real)
        tile_v = cuda.shared.array(V_SIZE, real)
        acc_k = cuda.local.array(FE, real)
        acc_v = cuda.local.array(FF, real)
        s_ = cuda.local.array(SCORES, real)
        dp = cuda.local.array(SCORES, real)
        lane = LOCAL_ID(0)
        ti = lane % 16
        tj = lane // 16
        tiles_j = (span + BM - 1) // BM
        j0 = GROUP_ID(0) % tiles_j * BM
        owners = heads // shared
        owner = GROUP_ID(0) // tiles_j % owners
        batch = GROUP_ID(0) // (tiles_j * owners)
        kh = k_offset + batch * kb + owner * kh_
        vh = v_offset + batch * vb + owner * vh_
        clear(acc_k, FE)
        clear(acc_v, FF)
        for head in range(owner * shared, (owner + 1) * shared):
            lse_at = (batch * heads + head) * length
            gh = g_offset + lse_at * depth
            qh = q_offset + batch * qb + head * qh_
            m = mask_offset + batch * mb + head * mh
            for i0 in range(j0 // BN * BN if CAUSAL else 0, length, BN):
                product(s_, tile_a, tile_b, k, kh, kl, ke, j0, span, q, qh, ql, qe, i0, length, width)
                product(dp, tile_a, tile_b, v, vh, vl, ve, j0, span, g, gh, depth, 1, i0, length, depth)
                for r in range(RM):
                    for s in range(2):
                        j = j0 + ti + 16 * r
                        i = i0 + tj + 16 * s
                        p = zero
                        ds = zero
                        if i < length and j < span:
                            made = score(s_[r * 2 + s], i, j, length, span, scale, mask, m, ml, ms)
                            p = probability(made, load_stat(lse, lse_offset + lse_at + i))
                            ds = p * (dp[r * 2 + s] - load_stat(delta, delta_offset + lse_at + i))
                        tile_p[(ti + 16 * r) * P_WIDE + tj + 16 * s] = p
                        dp[r * 2 + s] = ds
                weigh_v(acc_v, tile_p, tile_v, g, gh, depth, 1, i0, length, depth)
                for r in range(RM):
                    for s in range(2):
                        tile_p[(ti + 16 * r) * P_WIDE + tj + 16 * s] = dp[r * 2 + s]
                weigh_k(acc_k, tile_p, tile_v, q, qh, ql, qe, i0, length, width)
        for r in range(RM):
            j = j0 + ti + 16 * r
            if j < span:
                at = (batch * owners + owner) * span + j
                for s in range(RE):
                    if tj + 16 * s < width:
                        store(dk, dk_offset + at * width + tj + 16 * s, acc_k[r * RE + s] * scale)
                for s in range(RF):
                    if tj + 16 * s < depth:
                        store(dv, dv_offset + at * depth + tj + 16 * s, acc_v[r * RF + s])

    return pnn_attention_grad_key_value
