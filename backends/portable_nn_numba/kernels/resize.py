"""Twin of `c/resize.c`."""

from collections.abc import Callable
from typing import Any

from portable_nn_numba.dialect import ACC, FMA, GLOBAL_ID, IN, LOAD, NUM_GROUPS, OUT, STORE, TYPE, i64
from portable_nn_numba.registry import Defines, kernel
from portable_nn_numba.shim import device

from .each_pixel import pixel


def sources(d: Defines) -> Callable[..., Any]:
    """Return SOURCE: the input before output o, and the share of the next one."""
    LINEAR, IX, real = d["LINEAR"], TYPE[d["IX"]], ACC(d["T"])
    zero = real(0)

    @device
    def source(o: Any, size: Any, step: Any, shift: Any, unit: Any) -> Any:
        at = max(step * o + shift, i64(0))
        low = min(i64(IX(IX(at) // IX(unit))), size - 1)
        if LINEAR and low < size - 1:
            return low, real(at - low * unit) / real(unit)
        return low, zero

    return source


@kernel("pnn_resize", "resize.c", ignores=("GRAD",))
def resize(d: Defines) -> Callable[..., Any]:
    T, SIZE, LINEAR = d["T"], d["SIZE"], d["LINEAR"]
    item, source, load, store, one = pixel(d), sources(d), LOAD[T], STORE[T], ACC(T)(1)

    def pnn_resize(
        x: IN(T), x_offset, y: OUT(T), y_offset, n, c, h, w, oh, ow, xn, xc, xh, xw, yn, yc, yh, yw,
        step_h, shift_h, unit_h, step_w, shift_w, unit_w,
    ):  # fmt: skip
        for e in range(GLOBAL_ID(0), n * c * oh * ow, NUM_GROUPS(0) * SIZE):
            i, channel, row, column = item(e, c, oh, ow)
            top, down = source(row, h, step_h, shift_h, unit_h)
            left, along = source(column, w, step_w, shift_w, unit_w)
            base = x_offset + i * xn + channel * xc + top * xh + left * xw
            value = load(x, base)
            if LINEAR:
                below = xh if top < h - 1 else i64(0)
                beside = xw if left < w - 1 else i64(0)
                upper = value * (one - along) + load(x, base + beside) * along
                lower = load(x, base + below) * (one - along) + load(x, base + below + beside) * along
                value = upper * (one - down) + lower * down
            store(y, y_offset + i * yn + channel * yc + row * yh + column * yw, value)

    return pnn_resize


@kernel("pnn_resize_grad", "resize.c", ignores=("GRAD",))
def resize_grad(d: Defines) -> Callable[..., Any]:
    T, SIZE, LINEAR = d["T"], d["SIZE"], d["LINEAR"]
    item, source, load, store, real = pixel(d), sources(d), LOAD[T], STORE[T], ACC(T)
    zero, one = real(0), real(1)

    @device
    def begin(p: Any, step: Any, shift: Any) -> Any:
        return i64(0) if p - shift <= 0 else (p - shift + step - 1) // step

    @device
    def share(low: Any, part: Any, i: Any) -> Any:
        return one - part if low == i else part if low + 1 == i else zero

    def pnn_resize_grad(
        g: IN(T), g_offset, x: OUT(T), x_offset, n, c, h, w, oh, ow, xn, xc, xh, xw, yn, yc, yh, yw,
        step_h, shift_h, unit_h, step_w, shift_w, unit_w,
    ):  # fmt: skip
        for e in range(GLOBAL_ID(0), n * c * h * w, NUM_GROUPS(0) * SIZE):
            i, channel, row, column = item(e, c, h, w)
            r0 = i64(0) if row == 0 else begin((row - LINEAR) * unit_h, step_h, shift_h)
            r1 = oh if row == h - 1 else begin((row + 1) * unit_h, step_h, shift_h)
            c0 = i64(0) if column == 0 else begin((column - LINEAR) * unit_w, step_w, shift_w)
            c1 = ow if column == w - 1 else begin((column + 1) * unit_w, step_w, shift_w)
            total = zero
            for r in range(r0, min(r1, oh)):
                top, down = source(r, h, step_h, shift_h, unit_h)
                line = zero
                for o in range(c0, min(c1, ow)):
                    left, along = source(o, w, step_w, shift_w, unit_w)
                    line = FMA(share(left, along, column), load(g, g_offset + i * yn + channel * yc + r * yh + o * yw), line)
                total = FMA(share(top, down, row), line, total)
            store(x, x_offset + i * xn + channel * xc + row * xh + column * xw, total)

    return pnn_resize_grad
