"""Twin of `c/rms_norm.c`."""

from collections.abc import Callable
from typing import Any

from portable_nn_numba.dialect import FMA, IN, LIT, LOAD, OUT, STORE, TYPE
from portable_nn_numba.registry import Defines, kernel
from portable_nn_numba.scalar import pnn
from portable_nn_numba.shim import cuda

from .line import LINE_BLOCK, lines


@kernel("pnn_rms_norm", "rms_norm.c", ignores=("GRAD",))
def rms_norm(d: Defines) -> Callable[..., Any]:
    T, TW, R, WEIGHT = d["T"], d["TW"], d["R"], d["WEIGHT"]
    w = lines(d)
    LANES, STEP, SLOTS, BLOCK = w.LANES, w.STEP, w.SLOTS, w.STEP * LINE_BLOCK
    my_lane, first, stride, join = w.lane, w.first, w.stride, w.join_sum
    real, zero, one = TYPE[R], LIT(R, 0), LIT(R, 1)
    load, load_w, store, store_r, root = LOAD[T], LOAD[TW], STORE[T], STORE[R], pnn("sqrt", R)

    def pnn_rms_norm(
        x: IN(T), x_offset, weight: IN(TW), weight_offset, y: OUT(T), y_offset, rstd: OUT(R), rstd_offset, rows, n, w_step, eps: R
    ):
        lanes = cuda.shared.array(SLOTS, real)
        lane = my_lane()
        for k in range(first(), rows, stride()):
            at = k * n
            total = zero
            for block in range(0, n, BLOCK):
                part = zero
                for c in range(block + lane, min(block + BLOCK, n), STEP):
                    v = load(x, x_offset + at + c)
                    part = FMA(v, v, part)
                total += part
            r = one / root(join(lanes, lane, total) / real(n) + eps)
            for c in range(lane, n, STEP):
                scale = real(load_w(weight, weight_offset + c * w_step)) if WEIGHT else one
                store(y, y_offset + at + c, load(x, x_offset + at + c) * r * scale)
            if lane == 0 or not LANES:
                store_r(rstd, rstd_offset + k, r)

    return pnn_rms_norm


@kernel("pnn_rms_norm_grad", "rms_norm.c", ignores=("GRAD",))
def rms_norm_grad(d: Defines) -> Callable[..., Any]:
    T, TG, TW, R, WEIGHT = d["T"], d["TG"], d["TW"], d["R"], d["WEIGHT"]
    w = lines(d)
    STEP, SLOTS, BLOCK = w.STEP, w.SLOTS, w.STEP * LINE_BLOCK
    my_lane, first, stride, join = w.lane, w.first, w.stride, w.join_sum
    real, zero, one = TYPE[R], LIT(R, 0), LIT(R, 1)
    load, load_g, load_w, load_r, store = LOAD[T], LOAD[TG], LOAD[TW], LOAD[R], STORE[T]

    def pnn_rms_norm_grad(
        g: IN(TG), g_offset, x: IN(T), x_offset, weight: IN(TW), weight_offset, rstd: IN(R), rstd_offset, gx: OUT(T), gx_offset, rows, n, w_step
    ):
        lanes = cuda.shared.array(SLOTS, real)
        lane = my_lane()
        for k in range(first(), rows, stride()):
            at = k * n
            r = load_r(rstd, rstd_offset + k)
            total = zero
            for block in range(0, n, BLOCK):
                part = zero
                for c in range(block + lane, min(block + BLOCK, n), STEP):
                    scale = real(load_w(weight, weight_offset + c * w_step)) if WEIGHT else one
                    part = FMA(real(load_g(g, g_offset + at + c)) * scale, load(x, x_offset + at + c) * r, part)
                total += part
            share = join(lanes, lane, total) / real(n)
            for c in range(lane, n, STEP):
                scale = real(load_w(weight, weight_offset + c * w_step)) if WEIGHT else one
                h = real(load_g(g, g_offset + at + c)) * scale
                store(gx, gx_offset + at + c, r * (h - load(x, x_offset + at + c) * r * share))

    return pnn_rms_norm_grad
