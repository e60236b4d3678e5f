"""Geometry: the only place where windows are read from settings and output sizes are computed. Convolution and pooling, two axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .call import Call
from .dtypes import DType, int32, uint8
from .errors import SettingError, ShapeError
from .spec import Shape, Spec

Pads = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Axis:
    """One spatial axis of a convolution or pooling: window `o` reads input ``o * stride + k * dilation - before``.

    Parameters
    ----------
    size, out : int
        Input and output size.
    kernel, stride, dilation : int
    before, after : int
        Padding on both sides.
    """

    size: int
    kernel: int
    stride: int
    before: int
    after: int
    dilation: int
    out: int


Window = tuple[Axis, Axis]


def _int(op: str, name: str, value: Any, whole: Any, low: int) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise SettingError(f"{op}: {name} is {whole!r} but must be an integer or a pair (height, width) of integers")
    if value.__index__() < low:
        raise SettingError(f"{op}: {name} is {whole!r} but must be at least {low}")
    return int(value.__index__())


def pair(op: str, name: str, value: Any, low: int = 1) -> tuple[int, int]:
    """Return an int or (height, width) setting as a pair; raise `SettingError` below `low` or for another form."""
    if isinstance(value, tuple | list):
        if len(value) != 2:
            raise SettingError(f"{op}: {name} is {value!r} but must be an integer or a pair (height, width) of integers")
        return _int(op, name, value[0], value, low), _int(op, name, value[1], value, low)
    one = _int(op, name, value, value, low)
    return one, one


def pads(op: str, padding: Any) -> Pads:
    """Return padding, written as ``p``, ``(ph, pw)`` or ``((top, bottom), (left, right))``, in the last form."""
    if isinstance(padding, tuple | list) and len(padding) == 2 and all(isinstance(p, tuple | list) for p in padding):
        return pair(op, "padding", padding[0], 0), pair(op, "padding", padding[1], 0)
    if isinstance(padding, str) or (isinstance(padding, tuple | list) and any(isinstance(p, tuple | list) for p in padding)):
        raise SettingError(
            f"{op}: padding is {padding!r}; write p, (ph, pw), ((top, bottom), (left, right)), or for convolutions 'same' or 'valid'"
        )
    h, w = pair(op, "padding", padding, 0)
    return (h, h), (w, w)


def conv_window(op: str, size: Shape, kernel: Shape, stride: Any, padding: Any, dilation: Any) -> Window:
    """Return both axes of a convolution of a `size` image with a `kernel`, or raise naming what does not fit.

    ``out = floor((size + before + after - dilation * (kernel - 1) - 1) / stride) + 1``. 'same' pads
    ``dilation * (kernel - 1)`` in all, the odd one at the end, and needs stride 1, as in PyTorch.
    """
    strides, dilations = pair(op, "stride", stride), pair(op, "dilation", dilation)
    if padding == "valid":
        given: Pads = ((0, 0), (0, 0))
    elif padding == "same":
        if strides != (1, 1):
            raise SettingError(f"{op}: padding='same' needs stride 1 but stride is {stride!r}; write the padding as numbers")
        totals = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
        given = (totals[0] // 2, totals[0] - totals[0] // 2), (totals[1] // 2, totals[1] - totals[1] // 2)
    else:
        given = pads(op, padding)
    axes = []
    for n, k, s, (before, after), d in zip(size, kernel, strides, given, dilations, strict=True):
        if k < 1:
            raise ShapeError(f"{op}: the kernel is {kernel} but both its sizes must be at least 1")
        span = d * (k - 1) + 1
        if n + before + after < span:
            raise ShapeError(
                f"{op}: a kernel of {kernel} with dilation {dilations} spans {span} but the padded input is only "
                f"{n + before + after} (input {tuple(size)}, padding {padding!r}); pad more or use a smaller kernel"
            )
        axes.append(Axis(n, k, s, before, after, d, (n + before + after - span) // s + 1))
    return axes[0], axes[1]


def pool_window(
    op: str, size: Shape, kernel_size: Any, stride: Any, padding: Any, dilation: Any = 1, ceil_mode: bool = False
) -> Window:
    """Return both axes of a pooling; stride None is the kernel size.

    With `ceil_mode` the division rounds up, but a window that would start in the padding after the input is dropped.
    Padding may be at most half the kernel, so that no window lies in padding alone (PyTorch's rules).
    """
    kernel, dilations = pair(op, "kernel_size", kernel_size), pair(op, "dilation", dilation)
    strides = kernel if stride is None or stride == () else pair(op, "stride", stride)
    axes = []
    for n, k, s, (before, after), d in zip(size, kernel, strides, pads(op, padding), dilations, strict=True):
        if 2 * max(before, after) > k:
            raise SettingError(f"{op}: padding is {padding!r} but may be at most half of kernel_size {kernel_size!r}")
        span = d * (k - 1) + 1
        room = n + before + after - span
        if room < 0 and not (ceil_mode and room > -s and n > 0):
            raise ShapeError(
                f"{op}: a window of {kernel} with dilation {dilations} spans {span} but the padded input is only "
                f"{n + before + after} (input {tuple(size)}); use a smaller window or pad"
            )
        out = (room + (s - 1 if ceil_mode else 0)) // s + 1
        if ceil_mode and (out - 1) * s >= n + before:
            out -= 1
        axes.append(Axis(n, k, s, before, after, d, out))
    return axes[0], axes[1]


def adaptive_bounds(o: int, size: int, out: int) -> tuple[int, int]:
    """Return first and last + 1 input index of adaptive window `o`: floor(o size / out), ceil((o + 1) size / out)."""
    return o * size // out, -(-(o + 1) * size // out)


def adaptive_window(op: str, size: Shape, output_size: Any) -> Window:
    """Return both axes of an adaptive pooling; `kernel` is the size of the largest window. None keeps the input's size."""
    wanted = output_size if isinstance(output_size, tuple | list) and len(output_size) == 2 else (output_size, output_size)
    filled = tuple(n if o is None else o for n, o in zip(size, wanted, strict=True))
    axes = []
    for n, o in zip(size, pair(op, "output_size", filled), strict=True):
        if n < 1:
            raise ShapeError(f"{op}: the input is {tuple(size)} but both its spatial sizes must be at least 1")
        bounds = [adaptive_bounds(i, n, o) for i in range(o)]
        axes.append(Axis(n, max(stop - start for start, stop in bounds), 0, 0, 0, 1, o))
    return axes[0], axes[1]


def conv_window_of(call: Call) -> Window:
    """Return the window of a call of conv2d, conv2d_input_grad or conv2d_weight_grad."""
    made = call.outputs[0].shape[2:]
    size = made if call.op == "conv2d_input_grad" else call.spec(0).shape[2:]
    kernel = made if call.op == "conv2d_weight_grad" else call.spec(1).shape[2:]
    return conv_window(call.op, size, kernel, *(call.settings[name] for name in ("stride", "padding", "dilation")))


def pool_window_of(call: Call) -> Window:
    """Return the window of a call of a pooling op or its gradient."""
    settings, backward = call.settings, call.op.endswith("_grad")
    size = call.outputs[0].shape[2:] if backward else call.spec(0).shape[2:]
    if call.op.startswith("adaptive"):
        return adaptive_window(call.op, size, call.spec(0).shape[2:] if backward else settings["output_size"])
    kernel, stride, padding = (settings[name] for name in ("kernel_size", "stride", "padding"))
    return pool_window(call.op, size, kernel, stride, padding, settings.get("dilation", 1), settings["ceil_mode"])


def positions(axis: Axis) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return (out, kernel) input positions of a pooling axis, clipped into the input, and which of them were inside."""
    o, k = np.arange(axis.out)[:, None], np.arange(axis.kernel)[None, :]
    if axis.stride == 0:  # adaptive
        bounds = np.array([adaptive_bounds(i, axis.size, axis.out) for i in range(axis.out)]).reshape(-1, 2)
        at = bounds[:, :1] + k
        inside = at < bounds[:, 1:]
    else:
        at = o * axis.stride + k * axis.dilation - axis.before
        inside = (at >= 0) & (at < axis.size)
    return np.clip(at, 0, max(axis.size - 1, 0)), inside


def divisors(window: Window, count_include_pad: bool) -> npt.NDArray[np.int64]:
    """Return the (OH, OW) counts of a mean: positions inside the input, or inside input and padding."""
    counts = []
    for axis in window:
        if count_include_pad and axis.stride:
            start = np.arange(axis.out) * axis.stride - axis.before
            counts.append(np.minimum(start + axis.kernel, axis.size + axis.after) - start)
        else:
            counts.append(positions(axis)[1].sum(axis=1))
    return np.asarray(counts[0][:, None] * counts[1][None, :])


def index_dtype(window: Window) -> DType:
    """Return the dtype of a maximum's winners' numbers, p * KW + q: a byte where that holds them."""
    h, w = window
    return uint8 if h.kernel * w.kernel <= 256 else int32


def is_channels_last(spec: Spec) -> bool:
    """Tell whether a 4-D array (N, C, H, W) lies densely in memory as (N, H, W, C), and not also in C order."""
    return spec.ndim == 4 and not spec.contiguous and spec is channels_last(spec.shape, spec.dtype)


def channels_last(shape: Shape, dtype: Any) -> Spec:
    """Return the spec of (N, C, H, W) with C innermost in memory."""
    _, c, h, w = shape
    return Spec(shape, dtype, (h * w * c, 1, w * c, c))
