"""Geometry: the only place where windows are read from settings and output sizes are computed. Convolution and pooling.

Over 250 lines: the one place has to hold them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from math import prod
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


def _form(rank: int) -> str:
    return "an integer" if rank == 1 else f"an integer or {'a pair (height, width) of' if rank == 2 else rank} integers"


def _int(op: str, name: str, value: Any, whole: Any, low: int, rank: int) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise SettingError(f"{op}: {name} is {whole!r} but must be {_form(rank)}")
    if value.__index__() < low:
        raise SettingError(f"{op}: {name} is {whole!r} but must be at least {low}")
    return int(value.__index__())


def ints(op: str, name: str, value: Any, rank: int, low: int = 1) -> tuple[int, ...]:
    """Return a setting of `rank` axes, written as one int or as many; raise `SettingError` below `low` or for another form."""
    if isinstance(value, tuple | list):
        if len(value) != rank:
            raise SettingError(f"{op}: {name} is {value!r} but must be {_form(rank)}")
        return tuple(_int(op, name, v, value, low, rank) for v in value)
    return (_int(op, name, value, value, low, rank),) * rank


def pair(op: str, name: str, value: Any, low: int = 1) -> tuple[int, int]:
    """Return an int or (height, width) setting as a pair; see `ints`."""
    h, w = ints(op, name, value, 2, low)
    return h, w


def borders(op: str, padding: Any, rank: int) -> tuple[tuple[int, int], ...]:
    """Return padding of `rank` axes, written as ``p``, one number or one (before, after) per axis, in the last form."""
    if isinstance(padding, tuple | list) and len(padding) == rank and all(isinstance(p, tuple | list) for p in padding):
        both = [ints(op, "padding", p, 2, 0) for p in padding]
        return tuple((before, after) for before, after in both)
    if isinstance(padding, str) or (isinstance(padding, tuple | list) and any(isinstance(p, tuple | list) for p in padding)):
        written = "(ph, pw), ((top, bottom), (left, right))" if rank == 2 else f"{rank} numbers, {rank} pairs (before, after)"
        raise SettingError(f"{op}: padding is {padding!r}; write p, {written}, or for convolutions 'same' or 'valid'")
    return tuple((p, p) for p in ints(op, "padding", padding, rank, 0))


def pads(op: str, padding: Any) -> Pads:
    """Return padding, written as ``p``, ``(ph, pw)`` or ``((top, bottom), (left, right))``, in the last form."""
    h, w = borders(op, padding, 2)
    return h, w


def conv_axes(op: str, size: Shape, kernel: Shape, stride: Any, padding: Any, dilation: Any) -> tuple[Axis, ...]:
    """Return the axes of a convolution of a `size` image with a `kernel`, or raise naming what does not fit.

    ``out = floor((size + before + after - dilation * (kernel - 1) - 1) / stride) + 1``. 'same' pads
    ``dilation * (kernel - 1)`` in all, the odd one at the end, and needs stride 1, as in PyTorch.
    """
    rank = len(size)
    strides, dilations = ints(op, "stride", stride, rank), ints(op, "dilation", dilation, rank)
    if padding == "valid":
        given: tuple[tuple[int, int], ...] = ((0, 0),) * rank
    elif padding == "same":
        if any(s != 1 for s in strides):
            raise SettingError(f"{op}: padding='same' needs stride 1 but stride is {stride!r}; write the padding as numbers")
        totals = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
        given = tuple((total // 2, total - total // 2) for total in totals)
    else:
        given = borders(op, padding, rank)
    axes = []
    for n, k, s, (before, after), d in zip(size, kernel, strides, given, dilations, strict=True):
        if k < 1:
            raise ShapeError(f"{op}: the kernel is {kernel} but all its sizes must be at least 1")
        span = d * (k - 1) + 1
        if n + before + after < span:
            raise ShapeError(
                f"{op}: a kernel of {kernel} with dilation {dilations} spans {span} but the padded input is only "
                f"{n + before + after} (input {tuple(size)}, padding {padding!r}); pad more or use a smaller kernel"
            )
        axes.append(Axis(n, k, s, before, after, d, (n + before + after - span) // s + 1))
    return tuple(axes)


def conv_window(op: str, size: Shape, kernel: Shape, stride: Any, padding: Any, dilation: Any) -> Window:
    """Return both axes of a convolution of images; see `conv_axes`."""
    h, w = conv_axes(op, size, kernel, stride, padding, dilation)
    return h, w


def transposed_size(op: str, size: Shape, kernel: Shape, stride: Any, padding: Any, output_padding: Any, dilation: Any) -> Shape:
    """Return the output size of a transposed convolution, or raise.

    ``out = (size - 1) * stride - before - after + dilation * (kernel - 1) + output_padding + 1``. `output_padding` chooses
    among the sizes whose convolution gives `size`, so it is less than the stride.
    """
    rank = len(size)
    strides, dilations = ints(op, "stride", stride, rank), ints(op, "dilation", dilation, rank)
    if isinstance(padding, str):
        raise SettingError(f"{op}: padding is {padding!r} but must be numbers: a transposed convolution has no 'same' or 'valid'")
    extras = ints(op, "output_padding", output_padding, rank, 0)
    made = []
    for n, k, s, (before, after), d, extra in zip(size, kernel, strides, borders(op, padding, rank), dilations, extras, strict=True):
        if extra >= s:
            raise SettingError(f"{op}: output_padding is {output_padding!r} but must be less than the stride {stride!r}")
        if n < 1:
            raise ShapeError(f"{op}: the input is {tuple(size)} but all its sizes must be at least 1")
        made.append((n - 1) * s - before - after + d * (k - 1) + extra + 1)
        if made[-1] < 1:
            raise ShapeError(
                f"{op}: an input of {tuple(size)} with a kernel of {tuple(kernel)}, stride {stride!r} and padding {padding!r} gives a "
                f"size of {made[-1]}; pad less"
            )
    return tuple(made)


def pool_axes(
    op: str, size: Shape, kernel_size: Any, stride: Any, padding: Any, dilation: Any = 1, ceil_mode: bool = False
) -> tuple[Axis, ...]:
    """Return the axes of a pooling; stride None is the kernel size.

    With `ceil_mode` the division rounds up, but a window that would start in the padding after the input is dropped.
    Padding may be at most half the kernel, so that no window lies in padding alone unless it is dilated (PyTorch's rules).
    """
    rank = len(size)
    kernel, dilations = ints(op, "kernel_size", kernel_size, rank), ints(op, "dilation", dilation, rank)
    strides = kernel if stride is None or stride == () else ints(op, "stride", stride, rank)
    axes = []
    for n, k, s, (before, after), d in zip(size, kernel, strides, borders(op, padding, rank), dilations, strict=True):
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
    return tuple(axes)


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


def pool_axes_of(call: Call) -> tuple[Axis, ...]:
    """Return the axes of a call of a pooling op or its gradient."""
    settings, backward = call.settings, call.op.endswith("_grad")
    size = call.outputs[0].shape[2:] if backward else call.spec(0).shape[2:]
    if call.op.startswith("adaptive"):
        return adaptive_window(call.op, size, call.spec(0).shape[2:] if backward else settings["output_size"])
    kernel, stride, padding = (settings[name] for name in ("kernel_size", "stride", "padding"))
    return pool_axes(call.op, size, kernel, stride, padding, settings.get("dilation", 1), settings["ceil_mode"])


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


def divisors(window: tuple[Axis, ...], count_include_pad: bool) -> npt.NDArray[np.int64]:
    """Return the (OH, OW, ...) counts of a mean: positions inside the input, or inside input and padding."""
    counts = []
    for axis in window:
        if count_include_pad and axis.stride:
            start = np.arange(axis.out) * axis.stride - axis.before
            counts.append(np.minimum(start + axis.kernel, axis.size + axis.after) - start)
        else:
            counts.append(positions(axis)[1].sum(axis=1))
    return np.asarray(reduce(np.multiply.outer, counts))


def index_dtype(window: tuple[Axis, ...]) -> DType:
    """Return the dtype of a maximum's winners' numbers, p * KW + q: a byte where that holds them."""
    return uint8 if prod(a.kernel for a in window) <= 256 else int32


def is_channels_last(spec: Spec) -> bool:
    """Tell whether a 4-D array (N, C, H, W) lies densely in memory as (N, H, W, C), and not also in C order."""
    return spec.ndim == 4 and not spec.contiguous and spec is channels_last(spec.shape, spec.dtype)


def channels_last(shape: Shape, dtype: Any) -> Spec:
    """Return the spec of (N, C, H, W) with C innermost in memory."""
    _, c, h, w = shape
    return Spec(shape, dtype, (h * w * c, 1, w * c, c))
