"""Pooling of images: maximum and mean over windows of one size, and their gradients.

The maximum's residual is the number of the winning position inside its window, one byte per output for windows of up to
256 positions: the backward pass then reads g and that byte, and neither x nor y is kept alive for it. Recomputing the
winner would read x again, once per window that covers a position; a flat int32 index would take four times the memory.
Over 250 lines because the four records read best side by side.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import geometry
from ..core.array import Array
from ..core.errors import DTypeError, SettingError, ShapeError
from ..core.op import op
from ..core.samples import A, bad, bench, s
from ..core.tape import Saved
from . import pool_any


def _max_vjp(c: Saved, g: Array) -> dict[str, Any]:
    return {"x": max_pool2d_grad(g, c.index, c.spec_of("x").shape[2:], **c.call.settings)}


@op(
    out=pool_any.max_out("max_pool2d", 2), residuals=("index",), vjp=_max_vjp, saves=("index",), flops=pool_any.forward_flops,
    samples=(
        s("2x2", A((2, 3, 6, 8), unique=True), 2),
        s("one position", A((1, 1, 1, 1)), 1),
        s("rows left over", A((2, 2, 7, 5), unique=True), (2, 3)),
        s("overlapping", A((2, 3, 9, 8), unique=True), 3, stride=2, padding=1),
        s("stride 1", A((1, 2, 5, 6), unique=True), 3, stride=1, padding=1),
        s("ceil", A((2, 2, 6, 5), unique=True), 3, stride=2, ceil_mode=True),
        s("ceil drops a window", A((1, 1, 4, 5), unique=True), 2, stride=3, padding=1, ceil_mode=True),
        s("dilation", A((1, 2, 9, 10), unique=True), (3, 2), stride=(2, 1), dilation=(2, 3)),
        s("asymmetric padding", A((1, 2, 5, 6), unique=True), 4, stride=2, padding=((0, 2), (1, 0))),
        s("gaps between windows", A((1, 2, 7, 8), unique=True), 2, stride=3),
        s("long rows", A((1, 2, 4, 70), unique=True), 2),
        s("long rows, overlapping", A((2, 1, 5, 43), unique=True), 3, stride=2, padding=1),
        s("long rows, stride 1", A((2, 1, 4, 37), unique=True), (3, 2), stride=1, padding=1, ceil_mode=True),
        s("large window", A((1, 1, 18, 17), unique=True), 17),
        s("channels last", A((2, 5, 6, 4), unique=True, view="channels_last"), 2),
        s("transposed", A((2, 5, 6, 4), unique=True, view="transposed"), 3, stride=1),
        s("reversed", A((3, 2, 6, 4), unique=True, view="reversed"), 2),
        s("no images", A((0, 2, 4, 4)), 2),
        s("first of ties", A((1, 1, 4, 4), values=(1, 1, 2, 2, 1, 1, 2, 2, 0, 3, 3, 0, 3, 3, 3, 3)), 2, gradient=False, why="ties"),
        s("first NaN", A((1, 1, 2, 6), values=(0, float("nan"), 5, 1, float("inf"), 1, float("nan"), 9, 4, float("nan"), 2, -2)),
          2, gradient=False, why="holds NaN and inf"),
        s("NaN in long rows", A((1, 1, 2, 40), values=(*range(30), float("nan"), *range(33), float("nan"), float("-inf"), *range(14))),
          2, gradient=False, why="holds NaN and inf"),
        s("all -inf", A((1, 1, 2, 2), values=(float("-inf"),) * 4), 2, gradient=False, why="inf"),
    ),
    bad=(
        bad("axes", ShapeError, ("(3, 3)", "(N, C, H, W)"), A((3, 3)), 2),
        bad("window too large", ShapeError, ("(4, 4)", "only 3"), A((1, 1, 3, 3)), 4),
        bad("padding", SettingError, ("padding is 2", "half of kernel_size 3"), A((1, 1, 5, 5)), 3, padding=2),
        bad("kernel 0", SettingError, "kernel_size is 0", A((1, 1, 3, 3)), 0),
        bad("integers", DTypeError, "int32", A((1, 1, 3, 3), dtype="int32"), 2),
    ),
    bench=(
        bench("LeNet, digits", A((64, 16, 8, 8)), 2),
        bench("LeNet, MNIST", A((64, 6, 28, 28)), 2),
        bench("ResNet stem", A((8, 64, 112, 112)), 3, stride=2, padding=1),
    ),
)  # fmt: skip
def max_pool2d(
    x: Array,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    padding: Any = 0,
    dilation: int | tuple[int, int] = 1,
    ceil_mode: bool = False,
) -> Array:
    """Maximum over windows of each channel, as `torch.nn.functional.max_pool2d`.

    ``y[n, c, i, j] = max over p, q of x[n, c, i stride + p dilation - top, j stride + q dilation - left]``, positions in the
    padding left out.

    Parameters
    ----------
    x : Array
        (N, C, H, W), floating.
    kernel_size : int or (int, int)
    stride : int or (int, int), optional
        The kernel size by default.
    padding : int, (int, int) or ((top, bottom), (left, right))
        At most half the kernel size.
    dilation : int or (int, int)
    ceil_mode : bool
        Round the output size up; a window that would start in the padding after the input is dropped.

    Returns
    -------
    Array
        (N, C, OH, OW), channels-last in memory if x is.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        A window larger than the padded input, integers, settings out of range.

    Notes
    -----
    KH KW comparisons per output. A NaN in the window wins; the first of several, and the first of equal maxima in row-major
    order, takes the gradient. A window that lies outside the input (dilation can do that) gives -inf and no gradient.
    """
    axes = geometry.pool_axes("max_pool2d", x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    return pool_any.maximum(x, axes)


@op(
    out=pool_any.max_grad_out("max_pool2d_grad", 2), flops=pool_any.grad_flops, reduces=pool_any.covering,
    samples=(
        s("2x2", A((2, 3, 3, 4)), A((2, 3, 3, 4), 0, 4, "uint8"), (6, 8), 2),
        s("overlapping", A((2, 3, 5, 4)), A((2, 3, 5, 4), 0, 9, "uint8"), (9, 8), 3, stride=2, padding=1),
        s("gaps", A((1, 2, 2, 3)), A((1, 2, 2, 3), 0, 4, "uint8"), (7, 8), 2, stride=3),
        s("long rows", A((1, 2, 3, 37)), A((1, 2, 3, 37), 0, 4, "uint8"), (7, 75), 2),
        s("dilation", A((1, 2, 3, 7)), A((1, 2, 3, 7), 0, 6, "uint8"), (9, 10), (3, 2), stride=(2, 1), dilation=(2, 3)),
        s("ceil", A((2, 2, 3, 2)), A((2, 2, 3, 2), 0, 9, "uint8"), (6, 5), 3, stride=2, ceil_mode=True),
        s("channels last", A((2, 5, 3, 2), view="channels_last"), A((2, 5, 3, 2), 0, 4, "uint8"), (6, 4), 2),
        s("g expanded", A((2, 5, 3, 2), view="expanded"), A((2, 5, 3, 2), 0, 4, "uint8", view="transposed"), (6, 4), 2),
        s("no images", A((0, 2, 2, 2)), A((0, 2, 2, 2), 0, 4, "uint8"), 4, 2),
    ),
    bad=(bad("size", ShapeError, ("(1, 1, 2, 2)", "(N, C, 3, 3)"), A((1, 1, 2, 2)), A((1, 1, 2, 2), 0, 4, "uint8"), 6, 2),),
    bench=(bench("LeNet, digits", A((64, 16, 4, 4)), A((64, 16, 4, 4), 0, 4, "uint8"), 8, 2),),
)  # fmt: skip
def max_pool2d_grad(
    g: Array,
    index: Array,
    input_size: int | tuple[int, int],
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    padding: Any = 0,
    dilation: int | tuple[int, int] = 1,
    ceil_mode: bool = False,
) -> Array:
    """Gradient of `max_pool2d`: each window's cotangent goes to its winner.

    ``dx[n, c, h, w]`` = sum of ``g[n, c, i, j]`` over the windows whose ``index[n, c, i, j]`` is that of (h, w).

    Parameters
    ----------
    g : Array
        (N, C, OH, OW), the cotangent.
    index : Array
        (N, C, OH, OW), the winner's position in its window, ``p KW + q``: uint8, or int32 for windows of more than 256.
    input_size : int or (int, int)
        (H, W).
    kernel_size, stride, padding, dilation, ceil_mode
        Those of the pooling.

    Returns
    -------
    Array
        (N, C, H, W), channels-last in memory if g is.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        When g or index is not what such a pooling gives.

    Notes
    -----
    One addition per output. Device kernels gather, so overlapping windows are summed in a fixed order.
    """
    size = geometry.pair("max_pool2d_grad", "input_size", input_size, 0)
    axes = geometry.pool_axes("max_pool2d_grad", size, kernel_size, stride, padding, dilation, ceil_mode)
    made: Array = pool_any.scatter(g, axes, lambda number: np.where(index == number, g, 0))
    return made


def _avg_vjp(c: Saved, g: Array) -> dict[str, Any]:
    return {"x": avg_pool2d_grad(g, c.spec_of("x").shape[2:], **c.call.settings)}


@op(
    out=pool_any.avg_out("avg_pool2d", 2), vjp=_avg_vjp, flops=pool_any.forward_flops, reduces=pool_any.taps,
    samples=(
        s("2x2", A((2, 3, 6, 8)), 2),
        s("one position", A((1, 1, 1, 1)), 1),
        s("rows left over", A((2, 2, 7, 5)), (2, 3)),
        s("overlapping", A((2, 3, 9, 8)), 3, stride=2, padding=1),
        s("padding not counted", A((2, 3, 9, 8)), 3, stride=2, padding=1, count_include_pad=False),
        s("ceil", A((2, 2, 6, 5)), 3, stride=2, padding=1, ceil_mode=True),
        s("ceil, padding not counted", A((2, 2, 6, 6)), (3, 2), stride=(2, 3), padding=1, ceil_mode=True, count_include_pad=False),
        s("asymmetric padding", A((1, 2, 5, 6)), 4, stride=2, padding=((0, 2), (1, 0))),
        s("long rows", A((1, 2, 4, 70)), 2),
        s("channels last", A((2, 5, 6, 4), view="channels_last"), 2),
        s("expanded", A((3, 2, 6, 4), view="expanded"), 3, stride=1),
        s("no images", A((0, 2, 4, 4)), 2),
    ),
    bad=(
        bad("window too large", ShapeError, ("(4, 4)", "only 3"), A((1, 1, 3, 3)), 4),
        bad("padding", SettingError, "half of kernel_size 2", A((1, 1, 3, 3)), 2, padding=(1, 2)),
    ),
    bench=(bench("DenseNet transition", A((8, 128, 56, 56)), 2),),
)  # fmt: skip
def avg_pool2d(
    x: Array,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Mean over windows of each channel, as `torch.nn.functional.avg_pool2d`.

    ``y[n, c, i, j] = sum over p, q of x[n, c, i stride + p - top, j stride + q - left] / count``; x is zero outside. The count
    is that of the window's positions in input and padding, or with ``count_include_pad=False`` in the input alone.

    Parameters
    ----------
    x : Array
        (N, C, H, W), floating.
    kernel_size : int or (int, int)
    stride : int or (int, int), optional
        The kernel size by default.
    padding : int, (int, int) or ((top, bottom), (left, right))
        At most half the kernel size.
    ceil_mode : bool
        Round the output size up; a window that would start in the padding after the input is dropped.
    count_include_pad : bool

    Returns
    -------
    Array
        (N, C, OH, OW), channels-last in memory if x is.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        A window larger than the padded input, integers, settings out of range.

    Notes
    -----
    KH KW additions per output, in float32 for float16 and bfloat16.
    """
    axes = geometry.pool_axes("avg_pool2d", x.shape[2:], kernel_size, stride, padding, 1, ceil_mode)
    made: Array = pool_any.mean(x, axes, count_include_pad)
    return made


def _avg_grad_vjp(c: Saved, ct: Array) -> dict[str, Any]:
    return {"g": avg_pool2d(ct, **{n: v for n, v in c.call.settings.items() if n != "input_size"})}


@op(
    out=pool_any.avg_grad_out("avg_pool2d_grad", 2), vjp=_avg_grad_vjp, flops=pool_any.grad_flops, reduces=pool_any.covering,
    samples=(
        s("2x2", A((2, 3, 3, 4)), (6, 8), 2),
        s("overlapping", A((2, 3, 5, 4)), (9, 8), 3, stride=2, padding=1),
        s("padding not counted", A((2, 3, 5, 4)), (9, 8), 3, stride=2, padding=1, count_include_pad=False),
        s("ceil", A((2, 2, 4, 3)), (6, 5), 3, stride=2, padding=1, ceil_mode=True),
        s("gaps", A((1, 2, 2, 3)), (7, 8), 2, stride=3),
        s("channels last", A((2, 5, 3, 2), view="channels_last"), (6, 4), 2),
        s("no images", A((0, 2, 2, 2)), 4, 2),
    ),
    bad=(bad("size", ShapeError, ("(1, 1, 2, 2)", "(N, C, 3, 3)"), A((1, 1, 2, 2)), 6, 2),),
)  # fmt: skip
def avg_pool2d_grad(
    g: Array,
    input_size: int | tuple[int, int],
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Gradient of `avg_pool2d`: each window's cotangent, over its count, goes to all its positions.

    ``dx[n, c, h, w]`` = sum of ``g[n, c, i, j] / count[i, j]`` over the windows that hold (h, w).

    Parameters
    ----------
    g : Array
        (N, C, OH, OW), the cotangent.
    input_size : int or (int, int)
        (H, W).
    kernel_size, stride, padding, ceil_mode, count_include_pad
        Those of the pooling.

    Returns
    -------
    Array
        (N, C, H, W), channels-last in memory if g is.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        When g is not what such a pooling gives.

    Notes
    -----
    KH KW additions per output. Linear in g.
    """
    size = geometry.pair("avg_pool2d_grad", "input_size", input_size, 0)
    axes = geometry.pool_axes("avg_pool2d_grad", size, kernel_size, stride, padding, 1, ceil_mode)
    share = g / geometry.divisors(axes, count_include_pad).astype(g.dtype)
    made: Array = pool_any.scatter(g, axes, lambda number: share)
    return made
