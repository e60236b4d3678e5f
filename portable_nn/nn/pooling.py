"""Pooling layers; each calls the op of the same name."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..core.array import Array
from .module import Module

_Pair = int | tuple[int, int]


class MaxPool2d(Module):
    """Largest value of each window, see `ops.max_pool2d`; `stride` is `kernel_size` unless given."""

    def __init__(
        self, kernel_size: _Pair, stride: _Pair | None = None, padding: Any = 0, dilation: _Pair = 1, ceil_mode: bool = False
    ) -> None:
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.dilation, self.ceil_mode = dilation, ceil_mode

    def __call__(self, x: Array) -> Array:
        return ops.max_pool2d(
            x, self.kernel_size, stride=self.stride, padding=self.padding, dilation=self.dilation, ceil_mode=self.ceil_mode
        )


class AvgPool2d(Module):
    """Mean of each window, see `ops.avg_pool2d`; `stride` is `kernel_size` unless given."""

    def __init__(
        self, kernel_size: _Pair, stride: _Pair | None = None, padding: Any = 0, ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:  # fmt: skip
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def __call__(self, x: Array) -> Array:
        return ops.avg_pool2d(
            x, self.kernel_size, stride=self.stride, padding=self.padding, ceil_mode=self.ceil_mode,
            count_include_pad=self.count_include_pad,
        )  # fmt: skip


class AdaptiveAvgPool2d(Module):
    """Mean over as many windows as make an image of `output_size`, see `ops.adaptive_avg_pool2d`."""

    def __init__(self, output_size: Any) -> None:
        self.output_size = output_size

    def __call__(self, x: Array) -> Array:
        return ops.adaptive_avg_pool2d(x, self.output_size)
