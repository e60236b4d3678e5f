"""Twin of `c/pool.c` and `c/pool_global.c`: pooling and its gradients, one result per work-item (`each_pixel.py`).

One file, as there: the kernels share what `windows` makes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from portable_nn_numba.dialect import (
    ACC,
    GLOBAL_ID,
    GROUP_ID,
    IN,
    INF,
    LOAD,
    LOCAL_ID,
    NUM_GROUPS,
    OUT,
    STORE,
    ZERO,
    i32,
    i64,
)
from portable_nn_numba.registry import Defines, kernel
from portable_nn_numba.shim import cuda, device

from .each_pixel import pixel


@dataclass(frozen=True)
class Windows:
    """The device functions that the macros of `pool.c` are.

    Parameters
    ----------
    sizes : device function
        KH, KW, SH, SW, DH, DW: compile-time constants of small windows, or the arguments.
    item : device function
        See `each_pixel.pixel`.
    first, taps : device functions
        Window o of an axis: first position and number of positions, before those outside are left out.
    step : device function
        Distance of a window's positions.
    within : device function
        Whether a position is inside the input.
    count : device function
        The count a window's sum is divided by, along one axis.
    low, high : device functions
        The first and the last window that cover a position.
    """

    sizes: Any
    item: Any
    first: Any
    taps: Any
    step: Any
    within: Any
    count: Any
    low: Any
    high: Any


def windows(d: Defines) -> Windows:
    """Return the device functions for a launch's defines."""
    ADAPTIVE, INSIDE, PAD_COUNTS, FIXED = d["ADAPTIVE"], d["INSIDE"], d["PAD_COUNTS"], "KH" in d
    KH, KW, SH, SW, DH, DW = (d.get(name, 1) for name in ("KH", "KW", "SH", "SW", "DH", "DW"))
    item = pixel(d)

    @device
    def sizes(kh: Any, kw: Any, sh: Any, sw: Any, dh: Any, dw: Any) -> Any:
        if FIXED:
            return i64(KH), i64(KW), i64(SH), i64(SW), i64(DH), i64(DW)
        return kh, kw, sh, sw, dh, dw

    @device
    def first(o: Any, size: Any, out: Any, stride: Any, before: Any) -> Any:
        return o * size // out if ADAPTIVE else o * stride - before

    @device
    def taps(o: Any, size: Any, out: Any, wide: Any) -> Any:
        return ((o + 1) * size + out - 1) // out - o * size // out if ADAPTIVE else wide

    @device
    def step(dilation: Any) -> Any:
        return i64(1) if ADAPTIVE else dilation

    @device
    def within(at: Any, size: Any) -> Any:
        return True if INSIDE else 0 <= at < size

    @device
    def count(start: Any, wide: Any, size: Any, after: Any) -> Any:
        if PAD_COUNTS:
            return min(wide, size + after - start)
        return min(start + wide, size) - max(start, 0)

    @device
    def low(i: Any, size: Any, out: Any, stride: Any, before: Any, wide: Any, dilation: Any) -> Any:
        if ADAPTIVE:
            return i * out // size
        beyond = i + before - (wide - 1) * dilation
        return 0 if beyond <= 0 else (beyond + stride - 1) // stride

    @device
    def high(i: Any, size: Any, out: Any, stride: Any, before: Any) -> Any:
        if ADAPTIVE:
            return ((i + 1) * out - 1) // size
        return min((i + before) // stride, out - 1)

    return Windows(sizes, item, first, taps, step, within, count, low, high)


@kernel("pnn_max_pool", "pool.c", ignores=("MAX_POOL", "REAL_NAME"))
def max_pool(d: Defines) -> Callable[..., Any]:
    T, I, SIZE, WITH_INDEX = d["T"], d["I"], d["SIZE"], d["WITH_INDEX"]
    w_ = windows(d)
    sizes, item, first, taps, step, within = w_.sizes, w_.item, w_.first, w_.taps, w_.step, w_.within
    lowest, load, store, store_index = ACC(T)(-INF(T)), LOAD[T], STORE[T], STORE[I]

    def pnn_max_pool(
        x: IN(T), x_offset, y: OUT(T), y_offset, index: OUT(I), index_offset, n, c, h, w, oh, ow, kh, kw, top, bottom, left, right, xn, xc, xh,
        xw, yn, yc, yh, yw, sh, sw, dh, dw,
    ):  # fmt: skip
        KH, KW, SH, SW, DH, DW = sizes(kh, kw, sh, sw, dh, dw)
        for e in range(GLOBAL_ID(0), n * c * oh * ow, NUM_GROUPS(0) * SIZE):
            im, ic, ir, il = item(e, c, oh, ow)
            h0 = first(ir, h, oh, SH, top)
            w0 = first(il, w, ow, SW, left)
            rows = taps(ir, h, oh, KH)
            cols = taps(il, w, ow, KW)
            base = x_offset + im * xn + ic * xc
            best = lowest
            winner = i64(0)
            seen = False
            for p in range(rows):
                at_h = h0 + p * step(DH)
                for q in range(cols):
                    at_w = w0 + q * step(DW)
                    if within(at_h, h) and within(at_w, w):
                        v = load(x, base + at_h * xh + at_w * xw)
                        # NaN: v != v beats any number; once best is NaN nothing does.
                        if not seen or v > best or (v != v and best == best):
                            best = v
                            winner = p * KW + q
                        seen = True
            place = im * yn + ic * yc + ir * yh + il * yw
            store(y, y_offset + place, best)
            if WITH_INDEX:
                store_index(index, index_offset + place, i32(winner))

    return pnn_max_pool


@kernel("pnn_avg_pool", "pool.c", ignores=("AVG_POOL", "I", "REAL_NAME", "WITH_INDEX"))
def avg_pool(d: Defines) -> Callable[..., Any]:
    T, SIZE, WHOLE = d["T"], d["SIZE"], d["INSIDE"] and not d["ADAPTIVE"]
    w_ = windows(d)
    sizes, item, first, taps, within, count = w_.sizes, w_.item, w_.first, w_.taps, w_.within, w_.count
    real, zero, load, store = ACC(T), ZERO(T), LOAD[T], STORE[T]

    def pnn_avg_pool(
        x: IN(T), x_offset, y: OUT(T), y_offset, n, c, h, w, oh, ow, kh, kw, top, bottom, left, right, xn, xc, xh, xw, yn, yc, yh, yw, sh, sw,
        dh, dw,
    ):  # fmt: skip
        KH, KW, SH, SW, _, _ = sizes(kh, kw, sh, sw, dh, dw)
        for e in range(GLOBAL_ID(0), n * c * oh * ow, NUM_GROUPS(0) * SIZE):
            im, ic, ir, il = item(e, c, oh, ow)
            h0 = first(ir, h, oh, SH, top)
            w0 = first(il, w, ow, SW, left)
            rows = taps(ir, h, oh, KH)
            cols = taps(il, w, ow, KW)
            base = x_offset + im * xn + ic * xc
            total = zero
            for at_h in range(h0, h0 + rows):
                line_sum = zero
                for at_w in range(w0, w0 + cols):
                    if within(at_h, h) and within(at_w, w):
                        line_sum += load(x, base + at_h * xh + at_w * xw)
                total += line_sum
            divisor = KH * KW if WHOLE else count(h0, rows, h, bottom) * count(w0, cols, w, right)
            store(y, y_offset + im * yn + ic * yc + ir * yh + il * yw, total / real(divisor))

    return pnn_avg_pool


@kernel("pnn_max_pool_grad", "pool.c", ignores=("MAX_POOL_GRAD", "REAL_NAME", "WITH_INDEX"))
def max_pool_grad(d: Defines) -> Callable[..., Any]:
    T, I, SIZE = d["T"], d["I"], d["SIZE"]
    w_ = windows(d)
    sizes, item, first, step, low, high = w_.sizes, w_.item, w_.first, w_.step, w_.low, w_.high
    zero, load, load_index, store = ZERO(T), LOAD[T], LOAD[I], STORE[T]

    def pnn_max_pool_grad(
        g: IN(T), g_offset, index: IN(I), index_offset, x: OUT(T), x_offset, n, c, h, w, oh, ow, kh, kw, top, bottom, left, right, xn, xc, xh,
        xw, yn, yc, yh, yw, sh, sw, dh, dw, jn, jc, jh, jw,
    ):  # fmt: skip
        KH, KW, SH, SW, DH, DW = sizes(kh, kw, sh, sw, dh, dw)
        for e in range(GLOBAL_ID(0), n * c * h * w, NUM_GROUPS(0) * SIZE):
            im, ic, ir, il = item(e, c, h, w)
            total = zero
            for p in range(low(ir, h, oh, SH, top, KH, DH), high(ir, h, oh, SH, top) + 1):
                far_h = ir - first(p, h, oh, SH, top)
                for q in range(low(il, w, ow, SW, left, KW, DW), high(il, w, ow, SW, left) + 1):
                    far_w = il - first(q, w, ow, SW, left)
                    if far_h % step(DH) == 0 and far_w % step(DW) == 0:
                        mine = far_h // step(DH) * KW + far_w // step(DW)
                        won = i64(load_index(index, index_offset + im * jn + ic * jc + p * jh + q * jw))
                        v = load(g, g_offset + im * yn + ic * yc + p * yh + q * yw)
                        total += v if won == mine else zero
            store(x, x_offset + im * xn + ic * xc + ir * xh + il * xw, total)

    return pnn_max_pool_grad


@kernel("pnn_avg_pool_grad", "pool.c", ignores=("AVG_POOL_GRAD", "I", "REAL_NAME", "WITH_INDEX"))
def avg_pool_grad(d: Defines) -> Callable[..., Any]:
    T, SIZE = d["T"], d["SIZE"]
    w_ = windows(d)
    sizes, item, first, taps, count, low, high = w_.sizes, w_.item, w_.first, w_.taps, w_.count, w_.low, w_.high
    real, zero, load, store = ACC(T), ZERO(T), LOAD[T], STORE[T]

    def pnn_avg_pool_grad(
        g: IN(T), g_offset, x: OUT(T), x_offset, n, c, h, w, oh, ow, kh, kw, top, bottom, left, right, xn, xc, xh, xw, yn, yc, yh, yw, sh, sw,
        dh, dw,
    ):  # fmt: skip
        KH, KW, SH, SW, DH, DW = sizes(kh, kw, sh, sw, dh, dw)
        for e in range(GLOBAL_ID(0), n * c * h * w, NUM_GROUPS(0) * SIZE):
            im, ic, ir, il = item(e, c, h, w)
            total = zero
            for p in range(low(ir, h, oh, SH, top, KH, DH), high(ir, h, oh, SH, top) + 1):
                tall = count(first(p, h, oh, SH, top), taps(p, h, oh, KH), h, bottom)
                for q in range(low(il, w, ow, SW, left, KW, DW), high(il, w, ow, SW, left) + 1):
                    wide = count(first(q, w, ow, SW, left), taps(q, w, ow, KW), w, right)
                    total += load(g, g_offset + im * yn + ic * yc + p * yh + q * yw) / real(tall * wide)
            store(x, x_offset + im * xn + ic * xc + ir * xh + il * xw, total)

    return pnn_avg_pool_grad


@kernel("pnn_pool_global_avg", "pool_global.c")
def pool_global_avg(d: Defines) -> Callable[..., Any]:
    T, SIZE = d["T"], d["SIZE"]
    real, zero, load, store = ACC(T), ZERO(T), LOAD[T], STORE[T]

    def pnn_pool_global_avg(x: IN(T), x_offset, y: OUT(T), y_offset, n, c, h, w, xn, xc, xh, xw, yn, yc):
        partial = cuda.shared.array(SIZE, real)
        lane = LOCAL_ID(0)
        flat = xh == w * xw
        for plane in range(GROUP_ID(0), n * c, NUM_GROUPS(0)):
            base = x_offset + plane // c * xn + plane % c * xc
            total = zero
            if flat:
                for e in range(lane, h * w, SIZE):
                    total += load(x, base + e * xw)
            else:
                for e in range(lane, h * w, SIZE):
                    total += load(x, base + e // w * xh + e % w * xw)
            partial[lane] = total
            cuda.syncthreads()
            half = SIZE // 2
            while half > 0:
                if lane < half:
                    partial[lane] += partial[lane + half]
                cuda.syncthreads()
                half //= 2
            if lane == 0:
                store(y, y_offset + plane // c * yn + plane % c * yc, partial[0] / real(h * w))
            cuda.syncthreads()

    return pnn_pool_global_avg
