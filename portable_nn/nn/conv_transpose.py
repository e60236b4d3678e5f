"""ConvTranspose2d."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..core.array import Array
from ..core.errors import SettingError
from . import init
from .linear import check_sizes
from .module import Module, parameter


class ConvTranspose2d(Module):
    """Transposed convolution of images, see `ops.conv_transpose2d`: with stride 2 it doubles height and width.

    Parameters
    ----------
    in_channels, out_channels : int
        C and O.
    kernel_size, stride, padding, output_padding : int or (int, int)
        As in `ops.conv_transpose2d`.
    bias : bool
        Whether each output channel has a number added.
    groups : int
        Divides both channel counts.

    Attributes
    ----------
    weight : array, (C, O / groups, KH, KW)
    bias : array, (O,), or None
        Both start uniform in +-1/sqrt(O / groups KH KW), as in PyTorch.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int], stride: int | tuple[int, int] = 1,
        padding: Any = 0, output_padding: int | tuple[int, int] = 0, groups: int = 1, bias: bool = True,
    ) -> None:  # fmt: skip
        kh, kw = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        check_sizes("ConvTranspose2d", in_channels=in_channels, out_channels=out_channels, kernel_size=min(kh, kw), groups=groups)
        if in_channels % groups or out_channels % groups:
            raise SettingError(
                f"ConvTranspose2d: groups is {groups} but must divide in_channels {in_channels} and out_channels {out_channels}"
            )
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, (kh, kw)
        self.stride, self.padding, self.output_padding, self.groups = stride, padding, output_padding, groups
        fan_in = out_channels // groups * kh * kw
        self.weight = parameter(init.kaiming_uniform((in_channels, out_channels // groups, kh, kw), fan_in))
        self.bias = parameter(init.kaiming_uniform((out_channels,), fan_in)) if bias else None

    def __call__(self, x: Array) -> Array:
        return ops.conv_transpose2d(x, self.weight, self.bias, self.stride, self.padding, self.output_padding, self.groups)
