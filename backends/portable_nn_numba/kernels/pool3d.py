"""Twin of `c/pool3d.c`: pooling of volumes and its gradients, one result per work-item.

Only the flat form for GPUs (ROWS 0): the other makes vectors of CPUs.
"""

from collections.abc import Callable
from typing import Any

from portable_nn.core.errors import NoKernel
from portable_nn_numba.dialect import ACC, GLOBAL_ID, IN, INF, LOAD, NUM_GROUPS, OUT, STORE, TYPE, ZERO, i32, i64
from portable_nn_numba.registry import Defines, kernel
from portable_nn_numba.shim import device


def _voxel(d: Defines) -> Any:
    """Return EACH_VOXEL: image, channel, slice, row and column of result e."""
    if d["ROWS"]:
        raise NoKernel("backend numba walks over volumes without ROWS, which is for CPUs")
    IX = TYPE[d["IX"]]

    @device
    def item(e: Any, c: Any, deep: Any, rows: Any, cols: Any) -> Any:
        a4 = IX(IX(e) // IX(cols))
        a3 = IX(a4 // IX(rows))
        a2 = IX(a3 // IX(deep))
        a1 = IX(a2 // IX(c))
        il = i64(IX(IX(e) - IX(a4 * IX(cols))))
        ir = i64(IX(a4 - IX(a3 * IX(rows))))
        at = i64(IX(a3 - IX(a2 * IX(deep))))
        return i64(a1), i64(IX(a2 - IX(a1 * IX(c)))), at, ir, il

    return item


def _count(d: Defines) -> Any:
    """Return pnn_pool3d_count: the positions of one axis' window that count."""
    PAD_COUNTS = d["PAD_COUNTS"]

    @device
    def count(first: Any, wide: Any, size: Any, after: Any) -> Any:
        if PAD_COUNTS:
            return min(wide, size + after - first)
        return min(first + wide, size) - max(first, 0)

    return count


@device
def low(i: Any, stride: Any, before: Any, wide: Any, dilation: Any) -> Any:
    """Return the first window that covers position i of an axis."""
    beyond = i + before - (wide - 1) * dilation
    return 0 if beyond <= 0 else (beyond + stride - 1) // stride


@device
def high(i: Any, out: Any, stride: Any, before: Any) -> Any:
    """Return the last window that covers position i of an axis."""
    return min((i + before) // stride, out - 1)


@kernel("pnn_max_pool3d", "pool3d.c", ignores=("KIND", "REAL_NAME", "PAD_COUNTS"))
def max_pool3d(d: Defines) -> Callable[..., Any]:
    T, I, SIZE, WITH_INDEX = d["T"], d["I"], d["SIZE"], d["WITH_INDEX"]
    item, lowest, load, store, store_index = _voxel(d), ACC(T)(-INF(T)), LOAD[T], STORE[T], STORE[I]

    def pnn_max_pool3d(
        x: IN(T), x_offset, y: OUT(T), y_offset, index: OUT(I), index_offset, n, c, d, h, w, od, oh, ow, kd, kh, kw, sd, sh, sw, front, top,
        left, back, bottom, right, dd, dh, dw, xn, xc, xd, xh, xw, yn, yc, yd, yh, yw,
    ):  # fmt: skip
        for e in range(GLOBAL_ID(0), n * c * od * oh * ow, NUM_GROUPS(0) * SIZE):
            im, ic, at, ir, il = item(e, c, od, oh, ow)
            base = x_offset + im * xn + ic * xc
            best = lowest
            winner = i64(0)
            seen = False
            for o in range(kd):
                for p in range(kh):
                    for q in range(kw):
                        at_d = at * sd + o * dd - front
                        at_h = ir * sh + p * dh - top
                        at_w = il * sw + q * dw - left
                        if 0 <= at_d < d and 0 <= at_h < h and 0 <= at_w < w:
                            v = load(x, base + at_d * xd + at_h * xh + at_w * xw)
                            # NaN: v != v beats any number; once best is NaN nothing does.
                            if not seen or v > best or (v != v and best == best):
                                best = v
                                winner = (o * kh + p) * kw + q
                            seen = True
            place = im * yn + ic * yc + at * yd + ir * yh + il * yw
            store(y, y_offset + place, best)
            if WITH_INDEX:
                store_index(index, index_offset + place, i32(winner))

    return pnn_max_pool3d


@kernel("pnn_avg_pool3d", "pool3d.c", ignores=("KIND", "REAL_NAME", "I", "WITH_INDEX"))
def avg_pool3d(d: Defines) -> Callable[..., Any]:
    T, SIZE = d["T"], d["SIZE"]
    item, count, real, zero, load, store = _voxel(d), _count(d), ACC(T), ZERO(T), LOAD[T], STORE[T]

    def pnn_avg_pool3d(
        x: IN(T), x_offset, y: OUT(T), y_offset, n, c, d, h, w, od, oh, ow, kd, kh, kw, sd, sh, sw, front, top, left, back, bottom, right, dd,
        dh, dw, xn, xc, xd, xh, xw, yn, yc, yd, yh, yw,
    ):  # fmt: skip
        for e in range(GLOBAL_ID(0), n * c * od * oh * ow, NUM_GROUPS(0) * SIZE):
            im, ic, at, ir, il = item(e, c, od, oh, ow)
            base = x_offset + im * xn + ic * xc
            d0 = at * sd - front
            h0 = ir * sh - top
            w0 = il * sw - left
            total = zero
            for at_d in range(d0, d0 + kd):
                plane = zero
                for at_h in range(h0, h0 + kh):
                    row = zero
                    for at_w in range(w0, w0 + kw):
                        if 0 <= at_d < d and 0 <= at_h < h and 0 <= at_w < w:
                            row += load(x, base + at_d * xd + at_h * xh + at_w * xw)
                    plane += row
                total += plane
            divisor = count(d0, kd, d, back) * count(h0, kh, h, bottom) * count(w0, kw, w, right)
            store(y, y_offset + im * yn + ic * yc + at * yd + ir * yh + il * yw, total / real(divisor))

    return pnn_avg_pool3d


@kernel("pnn_max_pool3d_grad", "pool3d.c", ignores=("KIND", "REAL_NAME", "WITH_INDEX", "PAD_COUNTS"))
def max_pool3d_grad(d: Defines) -> Callable[..., Any]:
    T, I, SIZE = d["T"], d["I"], d["SIZE"]
    item, zero, load, load_index, store = _voxel(d), ZERO(T), LOAD[T], LOAD[I], STORE[T]

    def pnn_max_pool3d_grad(
        g: IN(T), g_offset, index: IN(I), index_offset, x: OUT(T), x_offset, n, c, d, h, w, od, oh, ow, kd, kh, kw, sd, sh, sw, front, top,
        left, back, bottom, right, dd, dh, dw, xn, xc, xd, xh, xw, yn, yc, yd, yh, yw, jn, jc, jd, jh, jw,
    ):  # fmt: skip
        for e in range(GLOBAL_ID(0), n * c * d * h * w, NUM_GROUPS(0) * SIZE):
            im, ic, at, ir, il = item(e, c, d, h, w)
            g_at = g_offset + im * yn + ic * yc
            j_at = index_offset + im * jn + ic * jc
            total = zero
            for o in range(low(at, sd, front, kd, dd), high(at, od, sd, front) + 1):
                for p in range(low(ir, sh, top, kh, dh), high(ir, oh, sh, top) + 1):
                    for q in range(low(il, sw, left, kw, dw), high(il, ow, sw, left) + 1):
                        far_d = at - (o * sd - front)
                        far_h = ir - (p * sh - top)
                        far_w = il - (q * sw - left)
                        if far_d % dd == 0 and far_h % dh == 0 and far_w % dw == 0:
                            mine = (far_d // dd * kh + far_h // dh) * kw + far_w // dw
                            won = i64(load_index(index, j_at + o * jd + p * jh + q * jw))
                            v = load(g, g_at + o * yd + p * yh + q * yw)
                            total += v if won == mine else zero
            store(x, x_offset + im * xn + ic * xc + at * xd + ir * xh + il * xw, total)

    return pnn_max_pool3d_grad


@kernel("pnn_avg_pool3d_grad", "pool3d.c", ignores=("KIND", "REAL_NAME", "I", "WITH_INDEX"))
def avg_pool3d_grad(d: Defines) -> Callable[..., Any]:
    T, SIZE = d["T"], d["SIZE"]
    item, count, real, zero, load, store = _voxel(d), _count(d), ACC(T), ZERO(T), LOAD[T], STORE[T]

    def pnn_avg_pool3d_grad(
        g: IN(T), g_offset, x: OUT(T), x_offset, n, c, d, h, w, od, oh, ow, kd, kh, kw, sd, sh, sw, front, top, left, back, bottom, right, dd,
        dh, dw, xn, xc, xd, xh, xw, yn, yc, yd, yh, yw,
    ):  # fmt: skip
        for e in range(GLOBAL_ID(0), n * c * d * h * w, NUM_GROUPS(0) * SIZE):
            im, ic, at, ir, il = item(e, c, d, h, w)
            g_at = g_offset + im * yn + ic * yc
            total = zero
            for o in range(low(at, sd, front, kd, dd), high(at, od, sd, front) + 1):
                deep = count(o * sd - front, kd, d, back)
                for p in range(low(ir, sh, top, kh, dh), high(ir, oh, sh, top) + 1):
                    tall = deep * count(p * sh - top, kh, h, bottom)
                    for q in range(low(il, sw, left, kw, dw), high(il, ow, sw, left) + 1):
                        wide = tall * count(q * sw - left, kw, w, right)
                        total += load(g, g_at + o * yd + p * yh + q * yw) / real(wide)
            store(x, x_offset + im * xn + ic * xc + at * xd + ir * xh + il * xw, total)

    return pnn_avg_pool3d_grad
