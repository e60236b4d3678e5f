"""Twin of `c/conv.c` and `c/conv_sum.c`: convolution as an implicit GEMM, and the sum of a weight gradient's parts.

A tile's rows and columns are i64 here and split in IX, as there.
"""

from collections.abc import Callable
from typing import Any

from portable_nn_numba.dialect import ACC, ACC_TAG, GROUP_ID, IN, LOAD, LOCAL_ID, OUT, STORE, ZERO
from portable_nn_numba.registry import Defines, kernel
from portable_nn_numba.rendered import epilogue
from portable_nn_numba.shim import cuda, device

from .conv_tile import FLUSH, tile


@kernel("pnn_conv_forward", "conv.c")
def conv_forward(d: Defines) -> Callable[..., Any]:
    T = d["T"]
    t = tile(d)
    finished = epilogue(d, T)
    TM, TN, TK, RM, RN, SUMS = t.TM, t.TN, t.TK, t.RM, t.RN, t.SUMS
    A_WIDE, A_SIZE, B_WIDE, B_SIZE = t.A_WIDE, t.A_SIZE, t.B_WIDE, t.B_SIZE
    real, zero, clear, multiply, where, split = t.real, t.zero, t.clear, t.multiply, t.where, t.split
    load, store = LOAD[T], STORE[T]

    def pnn_conv_forward(
        x: IN(T), x_offset, weight: IN(T), weight_offset, bias: IN(T), bias_offset, y: OUT(T), y_offset, n, groups, c, h, w, o, oh, ow,
        kh, kw, sh, sw, top, left, dh, dw, xn, xc, xh, xw, wo, wc, wp, wq, yn, yo, yh, yw, has_bias: "i32", bias_step,
    ):  # fmt: skip
        tile_a = cuda.shared.array(A_SIZE, real)
        tile_b = cuda.shared.array(B_SIZE, real)
        acc = cuda.local.array(SUMS, real)
        lane = LOCAL_ID(0)
        ti = lane % 16
        tj = lane // 16
        clear(acc)
        i0, j0, g = where(o, groups)
        count_k = c * kh * kw
        pixels = n * oh * ow
        for k0 in range(0, count_k, TK):
            for e in range(lane, TM * TK, 256):
                i = i0 + e % TM
                k = k0 + e // TM
                v = zero
                if i < pixels and k < count_k:
                    row, col = split(i, ow)
                    image, line = split(row, oh)
                    above, q = split(k, kw)
                    ch, p = split(above, kh)
                    at_h = line * sh + p * dh - top
                    at_w = col * sw + q * dw - left
                    if at_h >= 0 and at_h < h and at_w >= 0 and at_w < w:
                        v = load(x, x_offset + image * xn + (g * c + ch) * xc + at_h * xh + at_w * xw)
                tile_a[e // TM * A_WIDE + e % TM] = v
            for e in range(lane, TN * TK, 256):
                j = j0 + e // TK
                k = k0 + e % TK
                v = zero
                if j < o and k < count_k:
                    above, q = split(k, kw)
                    ch, p = split(above, kh)
                    v = load(weight, weight_offset + (g * o + j) * wo + ch * wc + p * wp + q * wq)
                tile_b[e % TK * B_WIDE + e // TK] = v
            multiply(tile_a, tile_b, acc, ti, tj)
        for r in range(RM):
            i = i0 + ti + 16 * r
            if i < pixels:
                row, col = split(i, ow)
                image, line = split(row, oh)
                place = y_offset + image * yn + line * yh + col * yw
                for s in range(RN):
                    j = j0 + tj + 16 * s
                    if j < o:
                        shift = zero
                        if has_bias:
                            shift = load(bias, bias_offset + (g * o + j) * bias_step)
                        store(y, place + (g * o + j) * yo, finished(acc[r * RN + s] + shift))

    return pnn_conv_forward


@kernel("pnn_conv_input_grad", "conv.c")
def conv_input_grad(d: Defines) -> Callable[..., Any]:
    T = d["T"]
    t = tile(d)
    TM, TN, TK, RM, RN, SUMS = t.TM, t.TN, t.TK, t.RM, t.RN, t.SUMS
    A_WIDE, A_SIZE, B_WIDE, B_SIZE = t.A_WIDE, t.A_SIZE, t.B_WIDE, t.B_SIZE
    real, zero, clear, multiply, where, split = t.real, t.zero, t.clear, t.multiply, t.where, t.split
    load, store = LOAD[T], STORE[T]

    def pnn_conv_input_grad(
        y: IN(T), y_offset, weight: IN(T), weight_offset, bias: IN(T), bias_offset, x: OUT(T), x_offset, n, groups, c, h, w, o, oh, ow,
        kh, kw, sh, sw, top, left, dh, dw, xn, xc, xh, xw, wo, wc, wp, wq, yn, yo, yh, yw, has_bias: "i32", bias_step,
    ):  # fmt: skip
        tile_a = cuda.shared.array(A_SIZE, real)
        tile_b = cuda.shared.array(B_SIZE, real)
        acc = cuda.local.array(SUMS, real)
        lane = LOCAL_ID(0)
        ti = lane % 16
        tj = lane // 16
        clear(acc)
        i0, j0, g = where(c, groups)
        count_k = o * kh * kw
        pixels = n * h * w
        for k0 in range(0, count_k, TK):
            for e in range(lane, TM * TK, 256):
                i = i0 + e % TM
                k = k0 + e // TM
                v = zero
                if i < pixels and k < count_k:
                    row, col = split(i, w)
                    image, line = split(row, h)
                    above, q = split(k, kw)
                    ch, p = split(above, kh)
                    far_h = line + top - p * dh
                    far_w = col + left - q * dw
                    if far_h >= 0 and far_w >= 0:
                        at_h, rest_h = split(far_h, sh)
                        at_w, rest_w = split(far_w, sw)
                        if rest_h == 0 and rest_w == 0 and at_h < oh and at_w < ow:
                            v = load(y, y_offset + image * yn + (g * o + ch) * yo + at_h * yh + at_w * yw)
                tile_a[e // TM * A_WIDE + e % TM] = v
            for e in range(lane, TN * TK, 256):
                j = j0 + e // TK
                k = k0 + e % TK
                v = zero
                if j < c and k < count_k:
                    above, q = split(k, kw)
                    ch, p = split(above, kh)
                    v = load(weight, weight_offset + (g * o + ch) * wo + j * wc + p * wp + q * wq)
                tile_b[e % TK * B_WIDE + e // TK] = v
            multiply(tile_a, tile_b, acc, ti, tj)
        for r in range(RM):
            i = i0 + ti + 16 * r
            if i < pixels:
                row, col = split(i, w)
                image, line = split(row, h)
                place = x_offset + image * xn + line * xh + col * xw
                for s in range(RN):
                    j = j0 + tj + 16 * s
                    if j < c:
                        shift = zero
                        if has_bias:
                            shift = load(bias, bias_offset + (g * c + j) * bias_step)
                        store(x, place + (g * c + j) * xc, acc[r * RN + s] + shift)

    return pnn_conv_input_grad


@kernel("pnn_conv_weight_grad", "conv.c")
def conv_weight_grad(d: Defines) -> Callable[..., Any]:
    T = d["T"]
    t = tile(d)
    TM, TN, TK, RM, RN, SUMS = t.TM, t.TN, t.TK, t.RM, t.RN, t.SUMS
    A_WIDE, A_SIZE, B_WIDE, B_SIZE = t.A_WIDE, t.A_SIZE, t.B_WIDE, t.B_SIZE
    real, zero, clear, multiply, where, split = t.real, t.zero, t.clear, t.multiply, t.where, t.split
    load, store = LOAD[T], STORE[ACC_TAG(T)]

    def pnn_conv_weight_grad(
        x: IN(T), x_offset, y: IN(T), y_offset, partial: OUT(ACC_TAG(T)), partial_offset, n, groups, c, h, w, o, oh, ow, kh, kw, sh, sw, top,
        left, dh, dw, xn, xc, xh, xw, wo, wc, wp, wq, yn, yo, yh, yw, step,
    ):  # fmt: skip
        tile_a = cuda.shared.array(A_SIZE, real)
        tile_b = cuda.shared.array(B_SIZE, real)
        acc = cuda.local.array(SUMS, real)
        total = cuda.local.array(SUMS, real)
        lane = LOCAL_ID(0)
        ti = lane % 16
        tj = lane // 16
        count_j = c * kh * kw
        clear(acc)
        clear(total)
        i0, j0, g = where(count_j, groups)
        first = GROUP_ID(1) * step
        stop = min(first + step, n * oh * ow)
        since = 0
        for k0 in range(first, stop, TK):
            for e in range(lane, TM * TK, 256):
                i = i0 + e // TK
                k = k0 + e % TK
                v = zero
                if i < o and k < stop:
                    row, col = split(k, ow)
                    image, line = split(row, oh)
                    v = load(y, y_offset + image * yn + (g * o + i) * yo + line * yh + col * yw)
                tile_a[e % TK * A_WIDE + e // TK] = v
            for e in range(lane, TN * TK, 256):
                j = j0 + e // TK
                k = k0 + e % TK
                v = zero
                if j < count_j and k < stop:
                    row, col = split(k, ow)
                    image, line = split(row, oh)
                    above, q = split(j, kw)
                    ch, p = split(above, kh)
                    at_h = line * sh + p * dh - top
                    at_w = col * sw + q * dw - left
                    if at_h >= 0 and at_h < h and at_w >= 0 and at_w < w:
                        v = load(x, x_offset + image * xn + (g * c + ch) * xc + at_h * xh + at_w * xw)
                tile_b[e % TK * B_WIDE + e // TK] = v
            multiply(tile_a, tile_b, acc, ti, tj)
            since += 1
            if since == FLUSH:
                for e in range(SUMS):
                    total[e] += acc[e]
                    acc[e] = zero
                since = 0
        for r in range(RM):
            for s in range(RN):
                i = i0 + ti + 16 * r
                j = j0 + tj + 16 * s
                if i < o and j < count_j:
                    place = partial_offset + ((GROUP_ID(1) * groups + g) * o + i) * count_j + j
                    store(partial, place, total[r * RN + s] + acc[r * RN + s])

    return pnn_conv_weight_grad


@kernel("pnn_conv_weight_sum", "conv_sum.c")
def conv_weight_sum(d: Defines) -> Callable[..., Any]:
    T, SIZE, BLOCKED = d["T"], d["SIZE"], d["BLOCKED"]
    real, zero, store = ACC(T), ZERO(T), STORE[T]

    @device
    def conv_parts(partial: Any, at: Any, parts: Any, part: Any) -> Any:
        total = zero
        for p0 in range(0, parts, 16):
            block = zero
            for p in range(p0, min(parts, p0 + 16)):
                block = real(block + partial[at + p * part])
            total = real(total + block)
        return total

    def pnn_conv_weight_sum(partial: IN(ACC_TAG(T)), partial_offset, dw: OUT(T), dw_offset, parts, count, part, chunk, o, blocks, rows):
        first = GROUP_ID(0) * chunk
        stop = min(first + chunk, count)
        if BLOCKED:
            for e in range(first, stop):
                panel = e // rows
                ch = panel % blocks * SIZE + LOCAL_ID(0)
                if ch < o:
                    value = conv_parts(partial, partial_offset + e * SIZE + LOCAL_ID(0), parts, part)
                    store(dw, dw_offset + (panel // blocks * o + ch) * rows + e % rows, value)
        else:
            for e in range(first + LOCAL_ID(0), stop, SIZE):
                store(dw, dw_offset + e, conv_parts(partial, partial_offset + e, parts, part))

    return pnn_conv_weight_sum
