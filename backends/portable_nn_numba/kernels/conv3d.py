"""Twin of `c/conv3d.c`: convolution of volumes as an implicit GEMM; conv.py with one more axis."""

from collections.abc import Callable
from typing import Any

from portable_nn_numba.dialect import ACC_TAG, GROUP_ID, IN, LOAD, LOCAL_ID, OUT, STORE
from portable_nn_numba.registry import Defines, kernel
from portable_nn_numba.shim import cuda, device

from .conv_tile import FLUSH, Tile, tile


def _apart(t: Tile) -> Any:
    """Return VOXEL (a voxel's image, slice, line, column), which is also FILTER (channel, r, p, q)."""
    split = t.split

    @device
    def apart(i: Any, deep: Any, high: Any, wide: Any) -> Any:
        lines, col = split(i, wide)
        slices, line = split(lines, high)
        image, piece = split(slices, deep)
        return image, piece, line, col

    return apart


@kernel("pnn_conv3d_forward", "conv3d.c", ignores=("KIND",))
def conv3d_forward(d: Defines) -> Callable[..., Any]:
    T = d["T"]
    t = tile(d)
    TM, TN, TK, RM, RN, SUMS = t.TM, t.TN, t.TK, t.RM, t.RN, t.SUMS
    A_WIDE, A_SIZE, B_WIDE, B_SIZE = t.A_WIDE, t.A_SIZE, t.B_WIDE, t.B_SIZE
    real, zero, clear, multiply, where = t.real, t.zero, t.clear, t.multiply, t.where
    apart = _apart(t)
    load, store = LOAD[T], STORE[T]

    def pnn_conv3d_forward(
        x: IN(T), x_offset, weight: IN(T), weight_offset, bias: IN(T), bias_offset, y: OUT(T), y_offset, n, groups, c, o, d, h, w, od, oh, ow,
        kd, kh, kw, sd, sh, sw, front, top, left, dd, dh, dw, xn, xc, xd, xh, xw, wo, wc, wr, wp, wq, yn, yo, yd, yh, yw, has_bias: "i32",
        bias_step,
    ):  # fmt: skip
        tile_a = cuda.shared.array(A_SIZE, real)
        tile_b = cuda.shared.array(B_SIZE, real)
        acc = cuda.local.array(SUMS, real)
        lane = LOCAL_ID(0)
        ti = lane % 16
        tj = lane // 16
        clear(acc)
        i0, j0, g = where(o, groups)
        count_k = c * kd * kh * kw
        voxels = n * od * oh * ow
        for k0 in range(0, count_k, TK):
            for e in range(lane, TM * TK, 256):
                i = i0 + e % TM
                k = k0 + e // TM
                v = zero
                if i < voxels and k < count_k:
                    image, piece, line, col = apart(i, od, oh, ow)
                    ch, r, p, q = apart(k, kd, kh, kw)
                    at_d = piece * sd + r * dd - front
                    at_h = line * sh + p * dh - top
                    at_w = col * sw + q * dw - left
                    if at_d >= 0 and at_d < d and at_h >= 0 and at_h < h and at_w >= 0 and at_w < w:
                        v = load(x, x_offset + image * xn + (g * c + ch) * xc + at_d * xd + at_h * xh + at_w * xw)
                tile_a[e // TM * A_WIDE + e % TM] = v
            for e in range(lane, TN * TK, 256):
                j = j0 + e // TK
                k = k0 + e % TK
                v = zero
                if j < o and k < count_k:
                    ch, r, p, q = apart(k, kd, kh, kw)
                    v = load(weight, weight_offset + (g * o + j) * wo + ch * wc + r * wr + p * wp + q * wq)
                tile_b[e % TK * B_WIDE + e // TK] = v
            multiply(tile_a, tile_b, acc, ti, tj)
        for a in range(RM):
            i = i0 + ti + 16 * a
            if i < voxels:
                image, piece, line, col = apart(i, od, oh, ow)
                place = y_offset + image * yn + piece * yd + line * yh + col * yw
                for b in range(RN):
                    j = j0 + tj + 16 * b
                    if j < o:
                        shift = zero
                        if has_bias:
                            shift = load(bias, bias_offset + (g * o + j) * bias_step)
                        store(y, place + (g * o + j) * yo, acc[a * RN + b] + shift)

    return pnn_conv3d_forward


@kernel("pnn_conv3d_input_grad", "conv3d.c", ignores=("KIND",))
def conv3d_input_grad(d: Defines) -> Callable[..., Any]:
    T = d["T"]
    t = tile(d)
    TM, TN, TK, RM, RN, SUMS = t.TM, t.TN, t.TK, t.RM, t.RN, t.SUMS
    A_WIDE, A_SIZE, B_WIDE, B_SIZE = t.A_WIDE, t.A_SIZE, t.B_WIDE, t.B_SIZE
    real, zero, clear, multiply, where, split = t.real, t.zero, t.clear, t.multiply, t.where, t.split
    apart = _apart(t)
    load, store = LOAD[T], STORE[T]

    def pnn_conv3d_input_grad(
        y: IN(T), y_offset, weight: IN(T), weight_offset, bias: IN(T), bias_offset, x: OUT(T), x_offset, n, groups, c, o, d, h, w, od, oh, ow,
        kd, kh, kw, sd, sh, sw, front, top, left, dd, dh, dw, xn, xc, xd, xh, xw, wo, wc, wr, wp, wq, yn, yo, yd, yh, yw, has_bias: "i32",
        bias_step,
    ):  # fmt: skip
        tile_a = cuda.shared.array(A_SIZE, real)
        tile_b = cuda.shared.array(B_SIZE, real)
        acc = cuda.local.array(SUMS, real)
        lane = LOCAL_ID(0)
        ti = lane % 16
        tj = lane // 16
        clear(acc)
        i0, j0, g = where(c, groups)
        count_k = o * kd * kh * kw
        voxels = n * d * h * w
        for k0 in range(0, count_k, TK):
            for e in range(lane, TM * TK, 256):
                i = i0 + e % TM
                k = k0 + e // TM
                v = zero
                if i < voxels and k < count_k:
                    image, piece, line, col = apart(i, d, h, w)
                    ch, r, p, q = apart(k, kd, kh, kw)
                    far_d = piece + front - r * dd
                    far_h = line + top - p * dh
                    far_w = col + left - q * dw
                    if far_d >= 0 and far_h >= 0 and far_w >= 0:
                        at_d, rest_d = split(far_d, sd)
                        at_h, rest_h = split(far_h, sh)
                        at_w, rest_w = split(far_w, sw)
                        if rest_d == 0 and rest_h == 0 and rest_w == 0 and at_d < od and at_h < oh and at_w < ow:
                            v = load(y, y_offset + image * yn + (g * o + ch) * yo + at_d * yd + at_h * yh + at_w * yw)
                tile_a[e // TM * A_WIDE + e % TM] = v
            for e in range(lane, TN * TK, 256):
                j = j0 + e // TK
                k = k0 + e % TK
                v = zero
                if j < c and k < count_k:
                    ch, r, p, q = apart(k, kd, kh, kw)
                    v = load(weight, weight_offset + (g * o + ch) * wo + j * wc + r * wr + p * wp + q * wq)
                tile_b[e % TK * B_WIDE + e // TK] = v
            multiply(tile_a, tile_b, acc, ti, tj)
        for a in range(RM):
            i = i0 + ti + 16 * a
            if i < voxels:
                image, piece, line, col = apart(i, d, h, w)
                place = x_offset + image * xn + piece * xd + line * xh + col * xw
                for b in range(RN):
                    j = j0 + tj + 16 * b
                    if j < c:
                        shift = zero
                        if has_bias:
                            shift = load(bias, bias_offset + (g * c + j) * bias_step)
                        store(x, place + (g * c + j) * xc, acc[a * RN + b] + shift)

    return pnn_conv3d_input_grad


@kernel("pnn_conv3d_weight_grad", "conv3d.c", ignores=("KIND",))
def conv3d_weight_grad(d: Defines) -> Callable[..., Any]:
    T = d["T"]
    t = tile(d)
    TM, TN, TK, RM, RN, SUMS = t.TM, t.TN, t.TK, t.RM, t.RN, t.SUMS
    A_WIDE, A_SIZE, B_WIDE, B_SIZE = t.A_WIDE, t.A_SIZE, t.B_WIDE, t.B_SIZE
    real, zero, clear, multiply, where = t.real, t.zero, t.clear, t.multiply, t.where
    apart = _apart(t)
    load, store = LOAD[T], STORE[ACC_TAG(T)]

    def pnn_conv3d_weight_grad(
        x: IN(T), x_offset, y: IN(T), y_offset, partial: OUT(ACC_TAG(T)), partial_offset, n, groups, c, o, d, h, w, od, oh, ow, kd, kh, kw, sd,
        sh, sw, front, top, left, dd, dh, dw, xn, xc, xd, xh, xw, wo, wc, wr, wp, wq, yn, yo, yd, yh, yw, step,
    ):  # fmt: skip
        tile_a = cuda.shared.array(A_SIZE, real)
        tile_b = cuda.shared.array(B_SIZE, real)
        acc = cuda.local.array(SUMS, real)
        total = cuda.local.array(SUMS, real)
        lane = LOCAL_ID(0)
        ti = lane % 16
        tj = lane // 16
        count_j = c * kd * kh * kw
        clear(acc)
        clear(total)
        i0, j0, g = where(count_j, groups)
        first = GROUP_ID(1) * step
        stop = min(first + step, n * od * oh * ow)
        since = 0
        for k0 in range(first, stop, TK):
            for e in range(lane, TM * TK, 256):
                i = i0 + e // TK
                k = k0 + e % TK
                v = zero
                if i < o and k < stop:
                    image, piece, line, col = apart(k, od, oh, ow)
                    v = load(y, y_offset + image * yn + (g * o + i) * yo + piece * yd + line * yh + col * yw)
                tile_a[e % TK * A_WIDE + e // TK] = v
            for e in range(lane, TN * TK, 256):
                j = j0 + e // TK
                k = k0 + e % TK
                v = zero
                if j < count_j and k < stop:
                    image, piece, line, col = apart(k, od, oh, ow)
                    ch, r, p, q = apart(j, kd, kh, kw)
                    at_d = piece * sd + r * dd - front
                    at_h = line * sh + p * dh - top
                    at_w = col * sw + q * dw - left
                    if at_d >= 0 and at_d < d and at_h >= 0 and at_h < h and at_w >= 0 and at_w < w:
                        v = load(x, x_offset + image * xn + (g * c + ch) * xc + at_d * xd + at_h * xh + at_w * xw)
                tile_b[e % TK * B_WIDE + e // TK] = v
            multiply(tile_a, tile_b, acc, ti, tj)
            since += 1
            if since == FLUSH:
                for e in range(SUMS):
                    total[e] += acc[e]
                    acc[e] = zero
                since = 0
        for a in range(RM):
            for b in range(RN):
                i = i0 + ti + 16 * a
                j = j0 + tj + 16 * b
                if i < o and j < count_j:
                    place = partial_offset + ((GROUP_ID(1) * groups + g) * o + i) * count_j + j
                    store(partial, place, total[a * RN + b] + acc[a * RN + b])

    return pnn_conv3d_weight_grad
