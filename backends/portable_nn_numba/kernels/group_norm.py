"""Twin of `c/group_norm.c`. The element's channel is always found by a division."""

from collections.abc import Callable
from typing import Any

from portable_nn_numba.dialect import FMA, IN, LIT, LOAD, OUT, STORE, TYPE
from portable_nn_numba.registry import Defines, kernel
from portable_nn_numba.scalar import pnn
from portable_nn_numba.shim import cuda

from .line import LINE_BLOCK, lines


@kernel("pnn_group_norm", "group_norm.c", ignores=("KIND", "SPLIT"))
def group_norm(d: Defines) -> Callable[..., Any]:
    T, TW, TB, R, WEIGHT, BIAS = d["T"], d["TW"], d["TB"], d["R"], d["WEIGHT"], d["BIAS"]
    w = lines(d)
    LANES, STEP, SLOTS, BLOCK = w.LANES, w.STEP, w.SLOTS, w.STEP * LINE_BLOCK
    my_lane, begin, stride, join = w.lane, w.first, w.stride, w.join_sum
    real, zero, one, root = TYPE[R], LIT(R, 0), LIT(R, 1), pnn("sqrt", R)
    load, load_w, load_b, store, store_r = LOAD[T], LOAD[TW], LOAD[TB], STORE[T], STORE[R]

    def pnn_group_norm(
        x: IN(T), x_offset, weight: IN(TW), weight_offset, bias: IN(TB), bias_offset, y: OUT(T), y_offset, mean: OUT(R), mean_offset,
        rstd: OUT(R), rstd_offset, rows, groups, channels, span, w_step, b_step, eps: R,
    ):  # fmt: skip
        lanes = cuda.shared.array(SLOTS, real)
        lane = my_lane()
        n = channels * span
        for k in range(begin(), rows, stride()):
            row = k * n
            first = k % groups * channels
            total = zero
            for block in range(0, n, BLOCK):
                part = zero
                for c in range(block + lane, min(block + BLOCK, n), STEP):
                    part += load(x, x_offset + row + c)
                total += part
            mu = join(lanes, lane, total) / real(n)
            square = zero
            for block in range(0, n, BLOCK):
                part = zero
                for c in range(block + lane, min(block + BLOCK, n), STEP):
                    deviation = load(x, x_offset + row + c) - mu
                    part = FMA(deviation, deviation, part)
                square += part
            r = one / root(join(lanes, lane, square) / real(n) + eps)
            for at in range(lane, n, STEP):
                ch = first + at // span
                v = (load(x, x_offset + row + at) - mu) * r
                if WEIGHT:
                    v *= real(load_w(weight, weight_offset + ch * w_step))
                if BIAS:
                    v += real(load_b(bias, bias_offset + ch * b_step))
                store(y, y_offset + row + at, v)
            if lane == 0 or not LANES:
                store_r(mean, mean_offset + k, mu)
                store_r(rstd, rstd_offset + k, r)

    return pnn_group_norm


@kernel("pnn_group_norm_sums", "group_norm.c", ignores=("KIND", "SPLIT", "TW", "WEIGHT"))
def group_norm_sums(d: Defines) -> Callable[..., Any]:
    T, TG, R = d["T"], d["TG"], d["R"]
    w = lines(d)
    LANES, STEP, SLOTS, BLOCK = w.LANES, w.STEP, w.SLOTS, w.STEP * LINE_BLOCK
    my_lane, begin, stride, join = w.lane, w.first, w.stride, w.join_sum
    real, zero = TYPE[R], LIT(R, 0)
    load, load_g, load_r, store = LOAD[T], LOAD[TG], LOAD[R], STORE[R]

    def pnn_group_norm_sums(
        g: IN(TG), g_offset, x: IN(T), x_offset, mean: IN(R), mean_offset, rstd: IN(R), rstd_offset, gb: OUT(R), gb_offset,
        gw: OUT(R), gw_offset, n, c, channels, span,
    ):  # fmt: skip
        lanes = cuda.shared.array(SLOTS, real)
        lane = my_lane()
        for k in range(begin(), n * c, stride()):
            mu = load_r(mean, mean_offset + k // channels)
            r = load_r(rstd, rstd_offset + k // channels)
            total = zero
            dot = zero
            for block in range(0, span, BLOCK):
                part = zero
                part_dot = zero
                for l in range(block + lane, min(block + BLOCK, span), STEP):
                    v = real(load_g(g, g_offset + k * span + l))
                    part += v
                    part_dot = FMA(v, load(x, x_offset + k * span + l) - mu, part_dot)
                total += part
                dot += part_dot
            total = join(lanes, lane, total)
            dot = join(lanes, lane, dot)
            if lane == 0 or not LANES:
                store(gb, gb_offset + k % c * n + k // c, total)
                store(gw, gw_offset + k % c * n + k // c, dot * r)

    return pnn_group_norm_sums


@kernel("pnn_group_norm_grad", "group_norm.c", ignores=("KIND", "SPLIT"))
def group_norm_grad(d: Defines) -> Callable[..., Any]:
    T, TG, TW, R, WEIGHT = d["T"], d["TG"], d["TW"], d["R"], d["WEIGHT"]
    w = lines(d)
    STEP, SLOTS, BLOCK = w.STEP, w.SLOTS, w.STEP * LINE_BLOCK
    my_lane, begin, stride, join = w.lane, w.first, w.stride, w.join_sum
    real, zero, one = TYPE[R], LIT(R, 0), LIT(R, 1)
    load, load_g, load_w, load_r, store = LOAD[T], LOAD[TG], LOAD[TW], LOAD[R], STORE[T]

    def pnn_group_norm_grad(
        g: IN(TG), g_offset, x: IN(T), x_offset, weight: IN(TW), weight_offset, mean: IN(R), mean_offset, rstd: IN(R), rstd_offset,
        gb: IN(R), gb_offset, gw: IN(R), gw_offset, gx: OUT(T), gx_offset, n, groups, channels, span, w_step,
    ):  # fmt: skip
        lanes = cuda.shared.array(SLOTS, real)
        lane = my_lane()
        length = channels * span
        for k in range(begin(), n * groups, stride()):
            row = k * length
            first = k % groups * channels
            example = k // groups
            mu = load_r(mean, mean_offset + k)
            r = load_r(rstd, rstd_offset + k)
            share = one / real(length)
            total = zero
            dot = zero
            for block in range(0, channels, BLOCK):
                part = zero
                part_dot = zero
                for ch in range(block + lane, min(block + BLOCK, channels), STEP):
                    scale = real(load_w(weight, weight_offset + (first + ch) * w_step)) if WEIGHT else one
                    part = FMA(scale, load_r(gb, gb_offset + (first + ch) * n + example), part)
                    part_dot = FMA(scale, load_r(gw, gw_offset + (first + ch) * n + example), part_dot)
                total += part
                dot += part_dot
            total = join(lanes, lane, total) * share
            dot = join(lanes, lane, dot) * share
            for at in range(lane, length, STEP):
                ch = first + at // span
                scale = real(load_w(weight, weight_offset + ch * w_step)) if WEIGHT else one
                h = real(load_g(g, g_offset + row + at)) * scale
                store(gx, gx_offset + row + at, r * (h - total - (load(x, x_offset + row + at) - mu) * r * dot))

    return pnn_group_norm_grad
