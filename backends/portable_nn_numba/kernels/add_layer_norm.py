"""Twin of `c/add_layer_norm.c`."""

from collections.abc import Callable
from typing import Any

from portable_nn_numba.dialect import ACC, ACC_TAG, FMA, GROUP_ID, IN, LOAD, LOCAL_ID, NUM_GROUPS, OUT, STORE
from portable_nn_numba.registry import Defines, kernel
from portable_nn_numba.scalar import pnn
from portable_nn_numba.shim import cuda, device

from .row import row_reduction


@kernel("pnn_add_layer_norm", "add_layer_norm.c", ignores=("GRAD",))
def add_layer_norm(d: Defines) -> Callable[..., Any]:
    T, TS, TW, TB, WG, WEIGHT, BIAS = d["T"], d["TS"], d["TW"], d["TB"], d["WG"], d["WEIGHT"], d["BIAS"]
    R = ACC_TAG(T)
    real, load, load_w, load_b, store, store_s = ACC(T), LOAD[T], LOAD[TW], LOAD[TB], STORE[T], STORE[TS]
    row_sum, root = row_reduction("sum", R, WG), pnn("sqrt", R)
    zero, one = real(0), real(1)
    sum_at = device(lambda x, at, residual, residual_at, l: real(load(x, at + l) + load(residual, residual_at + l)))

    def pnn_add_layer_norm(
        x: IN(T), x_offset, residual: IN(T), residual_offset, weight: IN(TW), weight_offset, bias: IN(TB), bias_offset,
        total: OUT(T), total_offset, y: OUT(T), y_offset, mean: OUT(TS), mean_offset, rstd: OUT(TS), rstd_offset, rows, length,
        w_step, b_step, eps: R,
    ):  # fmt: skip
        s = cuda.shared.array(WG, real)
        lid = LOCAL_ID(0)
        for row in range(GROUP_ID(0), rows, NUM_GROUPS(0)):
            at = x_offset + row * length
            other = residual_offset + row * length
            partial = zero
            for l in range(lid, length, WG):
                v = sum_at(x, at, residual, other, l)
                store(total, total_offset + row * length + l, v)
                partial += v
            mu = row_sum(partial, s, lid) / real(length)
            partial = zero
            for l in range(lid, length, WG):
                deviation = sum_at(x, at, residual, other, l) - mu
                partial = FMA(deviation, deviation, partial)
            r = one / root(row_sum(partial, s, lid) / real(length) + eps)
            for l in range(lid, length, WG):
                v = (sum_at(x, at, residual, other, l) - mu) * r
                if WEIGHT:
                    v *= real(load_w(weight, weight_offset + l * w_step))
                if BIAS:
                    v += real(load_b(bias, bias_offset + l * b_step))
                store(y, y_offset + row * length + l, v)
            if lid == 0:
                store_s(mean, mean_offset + row, mu)
                store_s(rstd, rstd_offset + row, r)

    return pnn_add_layer_norm


@kernel("pnn_add_layer_norm_grad", "add_layer_norm.c", ignores=("GRAD",))
def add_layer_norm_grad(d: Defines) -> Callable[..., Any]:
    T, TS, TG, TW, WG, WEIGHT = d["T"], d["TS"], d["TG"], d["TW"], d["WG"], d["WEIGHT"]
    real, load, load_s, load_g, load_w, store = ACC(T), LOAD[T], LOAD[TS], LOAD[TG], LOAD[TW], STORE[T]
    row_sum = row_reduction("sum", ACC_TAG(T), WG)
    zero, one = real(0), real(1)

    def pnn_add_layer_norm_grad(
        straight: IN(TG), straight_offset, g: IN(TG), g_offset, total: IN(T), total_offset, weight: IN(TW), weight_offset,
        mean: IN(TS), mean_offset, rstd: IN(TS), rstd_offset, gx: OUT(T), gx_offset, rows, length, w_step,
    ):  # fmt: skip
        s = cuda.shared.array(WG, real)
        lid = LOCAL_ID(0)
        for row in range(GROUP_ID(0), rows, NUM_GROUPS(0)):
            at = row * length
            mu = load_s(mean, mean_offset + row)
            r = load_s(rstd, rstd_offset + row)
            partial = zero
            dot = zero
            for l in range(lid, length, WG):
                w = real(load_w(weight, weight_offset + l * w_step)) if WEIGHT else one
                h = real(load_g(g, g_offset + at + l)) * w
                partial += h
                dot = FMA(h, (load(total, total_offset + at + l) - mu) * r, dot)
            mean_h = row_sum(partial, s, lid) / real(length)
            mean_dot = row_sum(dot, s, lid) / real(length)
            for l in range(lid, length, WG):
                w = real(load_w(weight, weight_offset + l * w_step)) if WEIGHT else one
                h = real(load_g(g, g_offset + at + l)) * w
                xhat = (load(total, total_offset + at + l) - mu) * r
                store(gx, gx_offset + at + l, real(load_g(straight, straight_offset + at + l)) + r * (h - mean_h - xhat * mean_dot))

    return pnn_add_layer_norm_grad
