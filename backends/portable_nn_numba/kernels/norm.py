"""Twin of `c/norm.c`."""

from collections.abc import Callable
from typing import Any

from portable_nn_numba.dialect import ACC, ACC_TAG, FMA, GLOBAL_ID, GROUP_ID, IN, LOAD, LOCAL_ID, NUM_GROUPS, OUT, STORE
from portable_nn_numba.registry import Defines, kernel
from portable_nn_numba.scalar import pnn
from portable_nn_numba.shim import cuda, device


def summing(d: Defines) -> Callable[..., Any]:
    """Return TREE: the sum of what the work-items of a group hold, in every one of them."""
    WG = d["WG"]

    @device
    def tree(s: Any, lid: Any, value: Any) -> Any:
        s[lid] = value
        cuda.syncthreads()
        reach = WG // 2
        while reach > 0:
            if lid < reach:
                s[lid] += s[lid + reach]
            cuda.syncthreads()
            reach //= 2
        total = s[0]
        cuda.syncthreads()
        return total

    return tree


@kernel("pnn_norm_stats_rows", "norm.c", ignores=("STATS_ROWS", "UNIT"))
def stats_rows(d: Defines) -> Callable[..., Any]:
    TX, TS, WG = d["TX"], d["TS"], d["WG"]
    real, load, store, tree = ACC(TX), LOAD[TX], STORE[TS], summing(d)
    zero = real(0)

    def pnn_norm_stats_rows(x: IN(TX), x_offset, mean: OUT(TS), mean_offset, m2: OUT(TS), m2_offset, n, length, s_n, s_c, s_l, parts):
        s = cuda.shared.array(WG, real)
        lid = LOCAL_ID(0)
        c = GROUP_ID(0) // parts
        p = GROUP_ID(0) - c * parts
        first = n * p // parts
        last = n * (p + 1) // parts
        total = zero
        for i in range(first, last):
            row = zero
            for l in range(lid, length, WG):
                row += load(x, x_offset + i * s_n + c * s_c + l * s_l)
            total += row
        mu = tree(s, lid, total) / real((last - first) * length)
        total = zero
        for i in range(first, last):
            row = zero
            for l in range(lid, length, WG):
                deviation = load(x, x_offset + i * s_n + c * s_c + l * s_l) - mu
                row = FMA(deviation, deviation, row)
            total += row
        total = tree(s, lid, total)
        if lid == 0:
            store(mean, mean_offset + GROUP_ID(0), mu)
            store(m2, m2_offset + GROUP_ID(0), total)

    return pnn_norm_stats_rows


@kernel("pnn_norm_stats_columns", "norm.c", ignores=("STATS_COLUMNS",))
def stats_columns(d: Defines) -> Callable[..., Any]:
    TX, TS, WG = d["TX"], d["TS"], d["WG"]
    real, load, store = ACC(TX), LOAD[TX], STORE[TS]
    zero = real(0)

    def pnn_norm_stats_columns(x: IN(TX), x_offset, mean: OUT(TS), mean_offset, m2: OUT(TS), m2_offset, rows, channels, s_r, s_c, parts):
        block = GROUP_ID(0) // parts
        p = GROUP_ID(0) - block * parts
        c = block * WG + LOCAL_ID(0)
        first = rows * p // parts
        last = rows * (p + 1) // parts
        if c < channels:
            total = zero
            for i in range(first, last, 64):
                part = zero
                for r in range(i, min(i + 64, last)):
                    part += load(x, x_offset + r * s_r + c * s_c)
                total += part
            mu = total / real(last - first)
            total = zero
            for i in range(first, last, 64):
                part = zero
                for r in range(i, min(i + 64, last)):
                    deviation = load(x, x_offset + r * s_r + c * s_c) - mu
                    part = FMA(deviation, deviation, part)
                total += part
            store(mean, mean_offset + c * parts + p, mu)
            store(m2, m2_offset + c * parts + p, total)

    return pnn_norm_stats_columns


@kernel("pnn_norm_merge", "norm.c", ignores=("STATS_MERGE", "WG"))
def merge(d: Defines) -> Callable[..., Any]:
    TX, TS = d["TX"], d["TS"]
    R = ACC_TAG(TX)
    real, load, store, root = ACC(TX), LOAD[TS], STORE[TS], pnn("sqrt", R)
    zero, one = real(0), real(1)

    def pnn_norm_merge(
        means: IN(TS), means_offset, m2s: IN(TS), m2s_offset, mean: OUT(TS), mean_offset, var: OUT(TS), var_offset,
        rstd: OUT(TS), rstd_offset, channels, units, length, parts, eps: R,
    ):  # fmt: skip
        c = GLOBAL_ID(0)
        if c < channels:
            mu = zero
            count = zero
            m2 = zero
            for p in range(parts):
                more = real((units * (p + 1) // parts - units * p // parts) * length)
                delta = load(means, means_offset + c * parts + p) - mu
                total = count + more
                m2 += load(m2s, m2s_offset + c * parts + p) + delta * delta * (count * more / total)
                mu += delta * (more / total)
                count = total
            v = m2 / count
            store(mean, mean_offset + c, mu)
            store(var, var_offset + c, v)
            store(rstd, rstd_offset + c, one / root(v + eps))

    return pnn_norm_merge


@kernel("pnn_norm_grad_rows", "norm.c", ignores=("GRAD_ROWS", "PER_ROW", "UNIT"))
def grad_rows(d: Defines) -> Callable[..., Any]:
    TX, TS, TG, WG = d["TX"], d["TS"], d["TG"], d["WG"]
    real, load, load_s, load_g, store, tree = ACC(TX), LOAD[TX], LOAD[TS], LOAD[TG], STORE[TS], summing(d)
    zero = real(0)

    def pnn_norm_grad_rows(
        g: IN(TG), g_offset, x: IN(TX), x_offset, mean: IN(TS), mean_offset, rstd: IN(TS), rstd_offset, gb: OUT(TS), gb_offset,
        gw: OUT(TS), gw_offset, n, length, g_n, g_c, g_l, s_n, s_c, s_l, parts,
    ):  # fmt: skip
        s = cuda.shared.array(WG, real)
        lid = LOCAL_ID(0)
        c = GROUP_ID(0) // parts
        p = GROUP_ID(0) - c * parts
        mu = load_s(mean, mean_offset + c)
        r = load_s(rstd, rstd_offset + c)
        total = zero
        dot = zero
        for i in range(n * p // parts, n * (p + 1) // parts):
            row = zero
            row_dot = zero
            for l in range(lid, length, WG):
                v = real(load_g(g, g_offset + i * g_n + c * g_c + l * g_l))
                row += v
                row_dot = FMA(v, load(x, x_offset + i * s_n + c * s_c + l * s_l) - mu, row_dot)
            total += row
            dot += row_dot
        total = tree(s, lid, total)
        dot = tree(s, lid, dot)
        if lid == 0:
            store(gb, gb_offset + GROUP_ID(0), total)
            store(gw, gw_offset + GROUP_ID(0), dot * r)

    return pnn_norm_grad_rows


@kernel("pnn_norm_grad_columns", "norm.c", ignores=("GRAD_COLUMNS",))
def grad_columns(d: Defines) -> Callable[..., Any]:
    TX, TS, TG, WG, PER_ROW = d["TX"], d["TS"], d["TG"], d["WG"], d["PER_ROW"]
    real, load, load_s, load_g, store = ACC(TX), LOAD[TX], LOAD[TS], LOAD[TG], STORE[TS]
    zero = real(0)

    def pnn_norm_grad_columns(
        g: IN(TG), g_offset, x: IN(TX), x_offset, mean: IN(TS), mean_offset, rstd: IN(TS), rstd_offset, gb: OUT(TS), gb_offset,
        gw: OUT(TS), gw_offset, rows, channels, g_r, g_c, s_r, s_c, parts,
    ):  # fmt: skip
        block = GROUP_ID(0) // parts
        p = GROUP_ID(0) - block * parts
        c = block * WG + LOCAL_ID(0)
        last = rows * (p + 1) // parts
        if c < channels:
            total = zero
            dot = zero
            for i in range(rows * p // parts, last, 64):
                part = zero
                part_dot = zero
                for row in range(i, min(i + 64, last)):
                    k = row if PER_ROW else c
                    v = real(load_g(g, g_offset + row * g_r + c * g_c))
                    part += v
                    xhat = (load(x, x_offset + row * s_r + c * s_c) - load_s(mean, mean_offset + k)) * load_s(rstd, rstd_offset + k)
                    part_dot = FMA(v, xhat, part_dot)
                total += part
                dot += part_dot
            store(gb, gb_offset + c * parts + p, total)
            store(gw, gw_offset + c * parts + p, dot)

    return pnn_norm_grad_columns


@kernel("pnn_norm_grad_merge", "norm.c", ignores=("GRAD_MERGE", "WG"))
def grad_merge(d: Defines) -> Callable[..., Any]:
    TX, TS = d["TX"], d["TS"]
    real, load, store = ACC(TX), LOAD[TS], STORE[TS]
    zero = real(0)

    def pnn_norm_grad_merge(
        gbs: IN(TS), gbs_offset, gws: IN(TS), gws_offset, gb: OUT(TS), gb_offset, gw: OUT(TS), gw_offset, channels, parts
    ):
        c = GLOBAL_ID(0)
        if c < channels:
            total = zero
            dot = zero
            for p in range(parts):
                total += load(gbs, gbs_offset + c * parts + p)
                dot += load(gws, gws_offset + c * parts + p)
            store(gb, gb_offset + c, total)
            store(gw, gw_offset + c, dot)

    return pnn_norm_grad_merge


@kernel("pnn_norm_layer", "norm.c", ignores=("LAYER",))
def layer(d: Defines) -> Callable[..., Any]:
    TX, TS, TW, TB, WG, WEIGHT, BIAS = d["TX"], d["TS"], d["TW"], d["TB"], d["WG"], d["WEIGHT"], d["BIAS"]
    R = ACC_TAG(TX)
    real, load, load_w, load_b, store, store_s, tree = ACC(TX), LOAD[TX], LOAD[TW], LOAD[TB], STORE[TX], STORE[TS], summing(d)
    root = pnn("sqrt", R)
    zero, one = real(0), real(1)

    def pnn_norm_layer(
        x: IN(TX), x_offset, weight: IN(TW), weight_offset, bias: IN(TB), bias_offset, y: OUT(TX), y_offset,
        mean: OUT(TS), mean_offset, rstd: OUT(TS), rstd_offset, rows, length, w_step, b_step, eps: R,
    ):  # fmt: skip
        s = cuda.shared.array(WG, real)
        lid = LOCAL_ID(0)
        for row in range(GROUP_ID(0), rows, NUM_GROUPS(0)):
            at = x_offset + row * length
            total = zero
            for l in range(lid, length, WG):
                total += load(x, at + l)
            mu = tree(s, lid, total) / real(length)
            total = zero
            for l in range(lid, length, WG):
                deviation = load(x, at + l) - mu
                total = FMA(deviation, deviation, total)
            r = one / root(tree(s, lid, total) / real(length) + eps)
            for l in range(lid, length, WG):
                v = (load(x, at + l) - mu) * r
                if WEIGHT:
                    v *= real(load_w(weight, weight_offset + l * w_step))
                if BIAS:
                    v += real(load_b(bias, bias_offset + l * b_step))
                store(y, y_offset + row * length + l, v)
            if lid == 0:
                store_s(mean, mean_offset + row, mu)
                store_s(rstd, rstd_offset + row, r)

    return pnn_norm_layer


@kernel("pnn_norm_layer_grad", "norm.c", ignores=("LAYER_GRAD",))
def layer_grad(d: Defines) -> Callable[..., Any]:
    TX, TS, TG, TW, WG, WEIGHT = d["TX"], d["TS"], d["TG"], d["TW"], d["WG"], d["WEIGHT"]
    real, load, load_s, load_g, load_w, store, tree = ACC(TX), LOAD[TX], LOAD[TS], LOAD[TG], LOAD[TW], STORE[TX], summing(d)
    zero, one = real(0), real(1)

    def pnn_norm_layer_grad(
        g: IN(TG), g_offset, x: IN(TX), x_offset, weight: IN(TW), weight_offset, mean: IN(TS), mean_offset, rstd: IN(TS), rstd_offset,
        gx: OUT(TX), gx_offset, rows, length, w_step,
    ):  # fmt: skip
        s = cuda.shared.array(WG, real)
        lid = LOCAL_ID(0)
        for row in range(GROUP_ID(0), rows, NUM_GROUPS(0)):
            at = row * length
            mu = load_s(mean, mean_offset + row)
            r = load_s(rstd, rstd_offset + row)
            total = zero
            dot = zero
            for l in range(lid, length, WG):
                w = real(load_w(weight, weight_offset + l * w_step)) if WEIGHT else one
                h = real(load_g(g, g_offset + at + l)) * w
                total += h
                dot = FMA(h, (load(x, x_offset + at + l) - mu) * r, dot)
            mean_h = tree(s, lid, total) / real(length)
            mean_dot = tree(s, lid, dot) / real(length)
            for l in range(lid, length, WG):
                w = real(load_w(weight, weight_offset + l * w_step)) if WEIGHT else one
                h = real(load_g(g, g_offset + at + l)) * w
                xhat = (load(x, x_offset + at + l) - mu) * r
                store(gx, gx_offset + at + l, r * (h - mean_h - xhat * mean_dot))

    return pnn_norm_layer_grad
