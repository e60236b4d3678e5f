"""Twin of `c/unfold.c`."""

from collections.abc import Callable
from typing import Any

from portable_nn_numba.dialect import GLOBAL_ID, IN, LIT, LOAD, NUM_GROUPS, OUT, STORE
from portable_nn_numba.registry import Defines, kernel

from .each_pixel import pixel


@kernel("pnn_unfold", "unfold.c", ignores=("FOLD",))
def unfold(d: Defines) -> Callable[..., Any]:
    T, SIZE = d["T"], d["SIZE"]
    item, load, store, zero = pixel(d), LOAD[T], STORE[T], LIT(T, 0)

    def pnn_unfold(
        x: IN(T), x_offset, y: OUT(T), y_offset, n, c, h, w, oh, ow, kh, kw, sh, sw, top, left, dh, dw, xn, xc, xh, xw
    ):
        for e in range(GLOBAL_ID(0), n * c * oh * ow, NUM_GROUPS(0) * SIZE):
            i, channel, row, column = item(e, c, oh, ow)
            above = channel // kw
            at_h = row * sh + above % kh * dh - top
            at_w = column * sw + channel % kw * dw - left
            v = zero
            if at_h >= 0 and at_h < h and at_w >= 0 and at_w < w:
                v = load(x, x_offset + i * xn + above // kh * xc + at_h * xh + at_w * xw)
            store(y, y_offset + ((i * c + channel) * oh + row) * ow + column, v)

    return pnn_unfold


@kernel("pnn_fold", "unfold.c", ignores=("FOLD",))
def fold(d: Defines) -> Callable[..., Any]:
    T, SIZE = d["T"], d["SIZE"]
    item, load, store, zero = pixel(d), LOAD[T], STORE[T], LIT(T, 0)

    def pnn_fold(x: IN(T), x_offset, y: OUT(T), y_offset, n, c, h, w, oh, ow, kh, kw, sh, sw, top, left, dh, dw, xn, xc, xl):
        for e in range(GLOBAL_ID(0), n * c * h * w, NUM_GROUPS(0) * SIZE):
            i, channel, row, column = item(e, c, h, w)
            total = zero
            for p in range(kh):
                far_h = row + top - p * dh
                if far_h >= 0 and far_h % sh == 0 and far_h // sh < oh:
                    line = zero
                    for q in range(kw):
                        far_w = column + left - q * dw
                        if far_w >= 0 and far_w % sw == 0 and far_w // sw < ow:
                            tap = (channel * kh + p) * kw + q
                            line += load(x, x_offset + i * xn + tap * xc + (far_h // sh * ow + far_w // sw) * xl)
                    total += line
            store(y, y_offset + ((i * c + channel) * h + row) * w + column, total)

    return pnn_fold
