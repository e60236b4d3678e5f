"""Convolution by im2col and BLAS: one matrix product per group instead of the bodies' loop over taps with einsum."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from portable_nn.core.geometry import Window, conv_window, pair
from portable_nn.core.registry import find

Array = npt.NDArray[Any]


def _shown(x: Array, window: Window) -> Array:
    """Return a view (N, C, KH, KW, OH, OW) of the padded image: what each tap shows to each output."""
    h, w = window
    if h.before or h.after or w.before or w.after:
        wide = np.zeros((*x.shape[:2], h.before + h.size + h.after, w.before + w.size + w.after), x.dtype)
        wide[:, :, h.before : h.before + h.size, w.before : w.before + w.size] = x
        x = wide
    n, c, sh, sw = x.strides
    return np.lib.stride_tricks.as_strided(
        x, (*x.shape[:2], h.kernel, w.kernel, h.out, w.out),
        (n, c, sh * h.dilation, sw * w.dilation, sh * h.stride, sw * w.stride), writeable=False,
    )  # fmt: skip


def _columns(x: Array, window: Window, groups: int) -> Array:
    """Return (G, C / G KH KW, N OH OW)."""
    n, c = x.shape[:2]
    h, w = window
    shown = _shown(x, window).reshape(n, groups, c // groups, h.kernel, w.kernel, h.out, w.out) if groups > 1 else _shown(x, window)[:, None]
    return np.ascontiguousarray(shown.transpose(1, 2, 3, 4, 0, 5, 6)).reshape(groups, c // groups * h.kernel * w.kernel, n * h.out * w.out)


def _rows(g: Array, groups: int) -> Array:
    """Return (G, O / G, N OH OW)."""
    n, o, h, w = g.shape
    return np.ascontiguousarray(g.reshape(n, groups, o // groups, h * w).transpose(1, 2, 0, 3)).reshape(groups, o // groups, n * h * w)


def conv2d(x: Array, weight: Array, bias: Array | None, stride: Any, padding: Any, dilation: Any, groups: int) -> Array:
    """Return the convolution: filters times columns."""
    window = conv_window("conv2d", x.shape[2:], weight.shape[2:], stride, padding, dilation)
    n, outputs = x.shape[0], weight.shape[0]
    y = weight.reshape(groups, outputs // groups, -1) @ _columns(x, window, groups)
    if bias is not None:
        y += bias.reshape(groups, -1, 1)
    shape = (groups, outputs // groups, n, window[0].out, window[1].out)
    return np.ascontiguousarray(y.reshape(shape).transpose(2, 0, 1, 3, 4)).reshape(n, outputs, *shape[3:])


def conv2d_act(
    x: Array, weight: Array, bias: Array | None, stride: Any, padding: Any, dilation: Any, groups: int, activation: str
) -> Array:
    """Return the activation of the convolution."""
    made: Array = find(activation).body(conv2d(x, weight, bias, stride, padding, dilation, groups))
    return made


def conv2d_input_grad(
    g: Array, weight: Array, input_size: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> Array:
    """Return the gradient of the images: columns of gradients, added back tap by tap."""
    size = pair("conv2d_input_grad", "input_size", input_size, 0)
    h, w = conv_window("conv2d_input_grad", size, weight.shape[2:], stride, padding, dilation)
    n, outputs, per_group = g.shape[0], *weight.shape[:2]
    filters = weight.reshape(groups, outputs // groups, -1).transpose(0, 2, 1)
    columns = (filters @ _rows(g, groups)).reshape(groups, per_group, h.kernel, w.kernel, n, h.out, w.out)
    wide = np.zeros((groups, per_group, n, h.before + size[0] + h.after, w.before + size[1] + w.after), g.dtype)
    for p in range(h.kernel):
        for q in range(w.kernel):
            top, left = p * h.dilation, q * w.dilation
            wide[
                ..., top : top + (h.out - 1) * h.stride + 1 : h.stride, left : left + (w.out - 1) * w.stride + 1 : w.stride
            ] += columns[:, :, p, q]
    inside = wide[..., h.before : h.before + size[0], w.before : w.before + size[1]]
    return np.ascontiguousarray(inside.transpose(2, 0, 1, 3, 4)).reshape(n, groups * per_group, *size)


def conv2d_weight_grad(
    x: Array, g: Array, kernel_size: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> Array:
    """Return the gradient of the filters: cotangents times columns."""
    kernel = pair("conv2d_weight_grad", "kernel_size", kernel_size)
    window = conv_window("conv2d_weight_grad", x.shape[2:], kernel, stride, padding, dilation)
    dw = _rows(g, groups) @ _columns(x, window, groups).transpose(0, 2, 1)
    return dw.reshape(g.shape[1], x.shape[1] // groups, *kernel)
