"""Pooling of volumes.

Over 250 lines because the four records read best side by side.
"""

from __future__ import annotations

from typing import Any

from ..core import geometry
from ..core.array import Array
from ..core.errors import DTypeError, SettingError, ShapeError
from ..core.op import op
from ..core.samples import A, bad, bench, s
from ..core.tape import Saved
from . import pool_any


def _max_vjp(c: Saved, g: Array) -> dict[str, Any]:
    return {"x": max_pool3d_grad(g, c.index, c.spec_of("x").shape[2:], **c.call.settings)}


@op(
    out=pool_any.max_out("max_pool3d", 3), residuals=("index",), vjp=_max_vjp, saves=("index",), flops=pool_any.forward_flops,
    samples=(
        s("2x2x2", A((2, 3, 4, 4, 6), unique=True), 2),
        s("one position", A((1, 1, 1, 1, 1)), 1),
        s("left over", A((1, 2, 5, 7, 5), unique=True), (2, 3, 1)),
        s("overlapping", A((1, 2, 5, 6, 7), unique=True), 3, stride=2, padding=1),
        s("ceil", A((1, 2, 4, 6, 5), unique=True), 3, stride=(1, 2, 2), ceil_mode=True),
        s("dilation", A((1, 2, 5, 6, 7), unique=True), 2, stride=1, padding=((1, 0), (0, 1), (1, 1)), dilation=(1, 2, 3)),
        s("long rows", A((1, 2, 3, 4, 40), unique=True), 2, stride=1),
        s("large window", A((1, 1, 8, 8, 8), unique=True), 7, stride=1),
        s("channels last", A((2, 5, 4, 2, 3), unique=True, view="channels_last"), 2),
        s("reversed", A((3, 2, 2, 4, 3), unique=True, view="reversed"), 2),
        s("no volumes", A((0, 2, 4, 4, 4)), 2),
        s("NaN and ties", A((1, 1, 2, 2, 4), values=(1, 1, 2, 2, 1, float("nan"), 2, 2, 0, 1, float("-inf"), 0, 1, 1, 1, 2)), 2, gradient=False, why="NaN, ties"),
    ),
    bad=(
        bad("axes", ShapeError, ("(3, 3, 3)", "(N, C, D, H, W)"), A((3, 3, 3)), 2),
        bad("window too large", ShapeError, ("(4, 4, 4)", "only 3"), A((1, 1, 4, 3, 4)), 4),
        bad("padding", SettingError, ("padding is 2", "half of kernel_size 3"), A((1, 1, 5, 5, 5)), 3, padding=2),
        bad("kernel pair", SettingError, ("kernel_size is (2, 2)", "3 integers"), A((1, 1, 3, 3, 3)), (2, 2)),
        bad("integers", DTypeError, "int32", A((1, 1, 3, 3, 3), dtype="int32"), 2),
    ),
    bench=(bench("video", A((2, 64, 16, 56, 56)), 2),),
)  # fmt: skip
def max_pool3d(
    x: Array,
    kernel_size: int | tuple[int, int, int],
    stride: int | tuple[int, int, int] | None = None,
    padding: Any = 0,
    dilation: int | tuple[int, int, int] = 1,
    ceil_mode: bool = False,
) -> Array:
    """Maximum over windows of each channel, as `torch.nn.functional.max_pool3d`; rules as `max_pool2d`.

    ``y[n, c, i] = max over p of x[n, c, i stride + p dilation - before]`` along each axis, positions in the padding left out.

    Parameters
    ----------
    x : Array
        (N, C, D, H, W), floating.
    kernel_size : int or (int, int, int)
    stride : int or (int, int, int), optional
        The kernel size by default.
    padding : int, (int, int, int) or three (before, after)
        At most half the kernel size.
    dilation : int or (int, int, int)
    ceil_mode : bool
        Round the output size up; a window that would start in the padding after the input is dropped.

    Returns
    -------
    Array
        (N, C, OD, OH, OW) in C order.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        A window larger than the padded input, integers, settings out of range.

    Notes
    -----
    One comparison per position of a window. The first NaN of a window wins, else the first of equal maxima in row-major order,
    and takes the gradient.
    """
    axes = geometry.pool_axes("max_pool3d", x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    return pool_any.maximum(x, axes)


@op(
    out=pool_any.max_grad_out("max_pool3d_grad", 3), flops=pool_any.grad_flops, reduces=pool_any.covering,
    samples=(
        s("2x2x2", A((2, 3, 2, 2, 3)), A((2, 3, 2, 2, 3), 0, 8, "uint8"), (4, 4, 6), 2),
        s("overlapping", A((1, 2, 3, 3, 4)), A((1, 2, 3, 3, 4), 0, 27, "uint8"), (5, 6, 7), 3, stride=2, padding=1),
        s("dilation, ceil", A((1, 2, 2, 2, 3)), A((1, 2, 2, 2, 3), 0, 8, "uint8"), (4, 5, 6), 2, stride=2, dilation=2, ceil_mode=True),
        s("views", A((2, 3, 2, 3, 2), view="expanded"), A((2, 3, 2, 3, 2), 0, 8, "uint8", view="transposed"), (5, 6, 4), 2),
        s("transposed", A((2, 3, 2, 3, 2), view="transposed"), A((2, 3, 2, 3, 2), 0, 8, "uint8"), (5, 6, 4), 2),
        s("no volumes", A((0, 2, 2, 2, 2)), A((0, 2, 2, 2, 2), 0, 8, "uint8"), 4, 2),
    ),
    bad=(bad("size", ShapeError, ("(1, 1, 2, 2, 2)", "(N, C, 3, 3, 3)"), A((1, 1, 2, 2, 2)), A((1, 1, 2, 2, 2), 0, 8, "uint8"), 6, 2),),
    bench=(bench("video", A((2, 64, 8, 28, 28)), A((2, 64, 8, 28, 28), 0, 8, "uint8"), (16, 56, 56), 2),),
)  # fmt: skip
def max_pool3d_grad(
    g: Array,
    index: Array,
    input_size: int | tuple[int, int, int],
    kernel_size: int | tuple[int, int, int],
    stride: int | tuple[int, int, int] | None = None,
    padding: Any = 0,
    dilation: int | tuple[int, int, int] = 1,
    ceil_mode: bool = False,
) -> Array:
    """Gradient of `max_pool3d`: each window's cotangent goes to its winner.

    Parameters
    ----------
    g : Array
        (N, C, OD, OH, OW), the cotangent.
    index : Array
        (N, C, OD, OH, OW), the number of the winner's position in its window, row-major: uint8, or int32 for windows of more than 256.
    input_size : int or (int, int, int)
        (D, H, W) of x.
    kernel_size, stride, padding, dilation, ceil_mode
        Those of the pooling.

    Returns
    -------
    Array
        (N, C, D, H, W) in C order.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        When g or index is not what such a pooling gives.

    Notes
    -----
    One addition per element of g. Device kernels gather, so overlapping windows are summed in a fixed order.
    """
    size = geometry.ints("max_pool3d_grad", "input_size", input_size, 3, 0)
    axes = geometry.pool_axes("max_pool3d_grad", size, kernel_size, stride, padding, dilation, ceil_mode)
    made: Array = pool_any.scatter(g, axes, lambda number: g * (index == number))
    return made


def _avg_vjp(c: Saved, g: Array) -> dict[str, Any]:
    return {"x": avg_pool3d_grad(g, c.spec_of("x").shape[2:], **c.call.settings)}


@op(
    out=pool_any.avg_out("avg_pool3d", 3), vjp=_avg_vjp, flops=pool_any.forward_flops, reduces=pool_any.taps,
    samples=(
        s("2x2x2", A((2, 3, 4, 4, 6)), 2),
        s("one position", A((1, 1, 1, 1, 1)), 1),
        s("overlapping", A((1, 2, 5, 6, 7)), 3, stride=2, padding=1),
        s("padding not counted", A((1, 2, 5, 6, 7)), 3, stride=(1, 2, 2), padding=1, count_include_pad=False),
        s("ceil", A((1, 2, 4, 6, 5)), 3, stride=2, padding=((1, 0), (0, 1), (1, 1)), ceil_mode=True),
        s("ceil, padding not counted", A((1, 2, 4, 6, 5)), 3, stride=2, padding=1, ceil_mode=True, count_include_pad=False),
        s("long rows", A((1, 2, 3, 4, 40)), 2, stride=1),
        s("channels last", A((2, 5, 4, 2, 3), view="channels_last"), 2),
        s("no volumes", A((0, 2, 4, 4, 4)), 2),
    ),
    bad=(
        bad("axes", ShapeError, ("(3, 3, 3)", "(N, C, D, H, W)"), A((3, 3, 3)), 2),
        bad("window too large", ShapeError, ("(4, 4, 4)", "only 3"), A((1, 1, 4, 3, 4)), 4),
        bad("padding", SettingError, ("padding is 2", "half of kernel_size 3"), A((1, 1, 5, 5, 5)), 3, padding=2),
        bad("kernel pair", SettingError, ("kernel_size is (2, 2)", "3 integers"), A((1, 1, 3, 3, 3)), (2, 2)),
        bad("integers", DTypeError, "int32", A((1, 1, 3, 3, 3), dtype="int32"), 2),
    ),
    bench=(bench("video", A((2, 64, 16, 56, 56)), 2),),
)  # fmt: skip
def avg_pool3d(
    x: Array,
    kernel_size: int | tuple[int, int, int],
    stride: int | tuple[int, int, int] | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Mean over windows of each channel, as `torch.nn.functional.avg_pool3d`; rules as `avg_pool2d`.

    ``y[n, c, i] = sum over p of x[n, c, i stride + p - before] / count`` along each axis; x is zero outside. The count is that of the
    window's positions in input and padding, or with ``count_include_pad=False`` in the input alone.

    Parameters
    ----------
    x : Array
        (N, C, D, H, W), floating.
    kernel_size : int or (int, int, int)
    stride : int or (int, int, int), optional
        The kernel size by default.
    padding : int, (int, int, int) or three (before, after)
        At most half the kernel size.
    ceil_mode : bool
        Round the output size up; a window that would start in the padding after the input is dropped.
    count_include_pad : bool

    Returns
    -------
    Array
        (N, C, OD, OH, OW) in C order.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        A window larger than the padded input, integers, settings out of range.

    Notes
    -----
    One addition per position of a window, in float32 for float16 and bfloat16.
    """
    axes = geometry.pool_axes("avg_pool3d", x.shape[2:], kernel_size, stride, padding, 1, ceil_mode)
    made: Array = pool_any.mean(x, axes, count_include_pad)
    return made


def _avg_grad_vjp(c: Saved, ct: Array) -> dict[str, Any]:
    return {"g": avg_pool3d(ct, **{n: v for n, v in c.call.settings.items() if n != "input_size"})}


@op(
    out=pool_any.avg_grad_out("avg_pool3d_grad", 3), vjp=_avg_grad_vjp, flops=pool_any.grad_flops, reduces=pool_any.covering,
    samples=(
        s("2x2x2", A((2, 3, 2, 2, 3)), (4, 4, 6), 2),
        s("overlapping", A((1, 2, 3, 3, 4)), (5, 6, 7), 3, stride=2, padding=1),
        s("padding not counted", A((1, 2, 3, 3, 4)), (5, 6, 7), 3, stride=2, padding=1, count_include_pad=False),
        s("ceil", A((1, 2, 3, 4, 3)), (4, 6, 5), 3, stride=2, padding=1, ceil_mode=True),
        s("views", A((2, 3, 2, 3, 2), view="expanded"), (5, 6, 4), 2),
        s("transposed", A((2, 3, 2, 3, 2), view="transposed"), (5, 6, 4), 2),
        s("no volumes", A((0, 2, 2, 2, 2)), 4, 2),
    ),
    bad=(bad("size", ShapeError, ("(1, 1, 2, 2, 2)", "(N, C, 3, 3, 3)"), A((1, 1, 2, 2, 2)), 6, 2),),
)  # fmt: skip
def avg_pool3d_grad(
    g: Array,
    input_size: int | tuple[int, int, int],
    kernel_size: int | tuple[int, int, int],
    stride: int | tuple[int, int, int] | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Gradient of `avg_pool3d`: each window's cotangent, over its count, goes to all its positions.

    Parameters
    ----------
    g : Array
        (N, C, OD, OH, OW), the cotangent.
    input_size : int or (int, int, int)
        (D, H, W) of x.
    kernel_size, stride, padding, ceil_mode, count_include_pad
        Those of the pooling.

    Returns
    -------
    Array
        (N, C, D, H, W) in C order.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        When g is not what such a pooling gives.

    Notes
    -----
    One addition per position of a window. Linear in g.
    """
    size = geometry.ints("avg_pool3d_grad", "input_size", input_size, 3, 0)
    axes = geometry.pool_axes("avg_pool3d_grad", size, kernel_size, stride, padding, 1, ceil_mode)
    share = g / geometry.divisors(axes, count_include_pad).astype(g.dtype)
    made: Array = pool_any.scatter(g, axes, lambda number: share)
    return made
