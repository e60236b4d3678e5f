"""Pooling of images: maximum and mean over fixed, adaptive and global windows, and their gradients.

The maximum's residual is the number of the winning position inside its window, one byte per output for windows of up to
256 positions: the backward pass then reads g and that byte, and neither x nor y is kept alive for it. Recomputing the
winner would read x again, once per window that covers a position; a flat int32 index would take four times the memory.
Over 250 lines because eight small records share their helpers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import dtypes, geometry
from ..core.array import Array
from ..core.call import Call
from ..core.errors import DTypeError, SettingError, ShapeError
from ..core.geometry import Window, adaptive_window, divisors, index_dtype, pool_window, positions
from ..core.op import op
from ..core.samples import A, bad, bench, s
from ..core.spec import Spec
from ..core.tape import Saved


def _image(name: str, operand: str, spec: Spec) -> None:
    if spec.ndim != 4:
        raise ShapeError(f"{name}: {operand} has shape {spec.shape} but four axes (N, C, H, W) are needed; reshape it")
    if not dtypes.is_float(spec.dtype):
        raise DTypeError(f"{name}: {operand} is {spec.dtype.name} but a floating dtype is needed; convert it with astype")


def _like(x: Spec, h: int, w: int, dtype: Any = None) -> Spec:
    """Return the spec of an image of another size in x's layout."""
    shape = (*x.shape[:2], h, w)
    dtype = dtype or x.dtype
    return geometry.channels_last(shape, dtype) if geometry.is_channels_last(x) else Spec(shape, dtype)


def _max(x: np.ndarray[Any, Any], window: Window) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    (rows, row_in), (cols, col_in) = positions(window[0]), positions(window[1])
    shape = (*x.shape[:2], window[0].out, window[1].out)
    best, index, seen = np.full(shape, -np.inf, x.dtype), np.zeros(shape, index_dtype(window)), np.zeros(shape, np.bool_)
    for p in range(rows.shape[1]):
        for q in range(cols.shape[1]):
            value = x[:, :, rows[:, p, None], cols[None, :, q]]
            better = ~seen | (value > best) | (np.isnan(value) & ~np.isnan(best))
            inside = row_in[:, p, None] & col_in[None, :, q]
            best = np.where(better & inside, value, best)
            index[better & inside] = p * cols.shape[1] + q
            seen |= inside
    return best, index


def _scatter(dx: np.ndarray[Any, Any], window: Window, share: Any) -> np.ndarray[Any, Any]:
    """Add `share(p, q)` of each window to the input position its (p, q) lies on, if that is inside."""
    (rows, row_in), (cols, col_in) = positions(window[0]), positions(window[1])
    for p in range(rows.shape[1]):
        for q in range(cols.shape[1]):
            inside = row_in[:, p, None] & col_in[None, :, q]
            place: Any = (slice(None), slice(None), rows[:, p, None], cols[None, :, q])
            np.add.at(dx, place, np.where(inside, share(p, q), 0))
    return dx


def _mean(x: np.ndarray[Any, Any], window: Window, counts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    (rows, row_in), (cols, col_in) = positions(window[0]), positions(window[1])
    total = np.zeros((*x.shape[:2], window[0].out, window[1].out), x.dtype)
    for p in range(rows.shape[1]):
        for q in range(cols.shape[1]):
            inside = row_in[:, p, None] & col_in[None, :, q]
            total += np.where(inside, x[:, :, rows[:, p, None], cols[None, :, q]], 0)
    return np.asarray(total / counts.astype(x.dtype))


def _taps(call: Call) -> int:
    h, w = geometry.pool_window_of(call)
    return max(h.kernel * w.kernel, 1)


def _covering(call: Call) -> int:
    """How many windows cover one input position, at most."""
    n = 1
    for axis in geometry.pool_window_of(call):
        n *= -(-axis.kernel // axis.stride) if axis.stride else -(-axis.out // max(axis.size, 1)) + 1
    return n


def _forward_flops(call: Call) -> int:
    return call.outputs[0].size * _taps(call)


def _grad_flops(call: Call) -> int:
    return call.spec(0).size * (1 if "max" in call.op else _taps(call))


def _check_grad(name: str, g: Spec, index: Spec | None, window: Window) -> None:
    _image(name, "g", g)
    h, w = window
    if g.shape[2:] != (h.out, w.out):
        raise ShapeError(
            f"{name}: g has shape {g.shape} but pooling a ({h.size}, {w.size}) image so gives (N, C, {h.out}, {w.out}); "
            f"pass the settings of the forward call"
        )
    if index is not None and index.shape != g.shape:
        raise ShapeError(f"{name}: index has shape {index.shape} but g has {g.shape}; pass the index of the forward call")
    if index is not None and index.dtype != index_dtype(window):
        raise DTypeError(f"{name}: index is {index.dtype.name} but windows of this size have {index_dtype(window).name}")


# -- maximum ----------------------------------------------------------------------------------------------------------


def _max_out(
    x: Spec, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any
) -> tuple[Spec, Spec]:
    _image("max_pool2d", "x", x)
    window = pool_window("max_pool2d", x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    h, w = window
    return _like(x, h.out, w.out), _like(x, h.out, w.out, index_dtype(window))


def _max_vjp(c: Saved, g: Array) -> dict[str, Any]:
    return {"x": max_pool2d_grad(g, c.index, c.spec_of("x").shape[2:], **c.call.settings)}


@op(
    out=_max_out, residuals=("index",), vjp=_max_vjp, saves=("index",), flops=_forward_flops,
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
    return _max(x, pool_window("max_pool2d", x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode))


def _max_grad_out(
    g: Spec, index: Spec, input_size: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any
) -> Spec:
    name = "max_pool2d_grad"
    size = geometry.pair(name, "input_size", input_size, 0)
    _check_grad(name, g, index, pool_window(name, size, kernel_size, stride, padding, dilation, ceil_mode))
    return _like(g, *size)


@op(
    out=_max_grad_out, flops=_grad_flops, reduces=_covering,
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
    window = pool_window("max_pool2d_grad", size, kernel_size, stride, padding, dilation, ceil_mode)
    kw = window[1].kernel
    return _scatter(np.zeros((*g.shape[:2], *size), g.dtype), window, lambda p, q: np.where(index == p * kw + q, g, 0))


def _adaptive_max_out(x: Spec, output_size: Any) -> tuple[Spec, Spec]:
    _image("adaptive_max_pool2d", "x", x)
    window = adaptive_window("adaptive_max_pool2d", x.shape[2:], output_size)
    h, w = window
    return _like(x, h.out, w.out), _like(x, h.out, w.out, index_dtype(window))


def _adaptive_max_vjp(c: Saved, g: Array) -> dict[str, Any]:
    return {"x": adaptive_max_pool2d_grad(g, c.index, c.spec_of("x").shape[2:])}


@op(
    out=_adaptive_max_out, residuals=("index",), vjp=_adaptive_max_vjp, saves=("index",), flops=_forward_flops,
    samples=(
        s("even", A((2, 3, 6, 8), unique=True), (3, 2)),
        s("uneven", A((2, 3, 7, 5), unique=True), (3, 4)),
        s("global", A((2, 3, 5, 4), unique=True), 1),
        s("more outputs than inputs", A((1, 2, 2, 3), unique=True), 5),
        s("keeps a size", A((1, 2, 4, 6), unique=True), (None, 2)),
        s("channels last", A((2, 5, 6, 4), unique=True, view="channels_last"), 4),
        s("large window", A((1, 1, 17, 18), unique=True), 1),
        s("NaN", A((1, 1, 2, 4), values=(1, 2, 3, 4, 5, float("nan"), 7, 8)), 2, gradient=False, why="holds NaN"),
    ),
    bad=(bad("output 0", SettingError, "output_size is (0, 0)", A((1, 1, 3, 3)), 0),),
    bench=(bench("VGG head", A((8, 512, 14, 14)), 7),),
)  # fmt: skip
def adaptive_max_pool2d(x: Array, output_size: int | tuple[int | None, int | None]) -> Array:
    """Maximum over windows chosen so that the output has `output_size`, as `torch.nn.functional.adaptive_max_pool2d`.

    Window i of an axis is ``[floor(i H / OH), ceil((i + 1) H / OH))``.

    Parameters
    ----------
    x : Array
        (N, C, H, W), floating.
    output_size : int or (int or None, int or None)
        (OH, OW); None keeps the input's size. 1 is global pooling.

    Returns
    -------
    Array
        (N, C, OH, OW), channels-last in memory if x is.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        An empty image, integers, an output size below 1.

    Notes
    -----
    Ties and NaN as in `max_pool2d`. About H W comparisons per channel.
    """
    return _max(x, adaptive_window("adaptive_max_pool2d", x.shape[2:], output_size))


def _adaptive_max_grad_out(g: Spec, index: Spec, input_size: Any) -> Spec:
    name = "adaptive_max_pool2d_grad"
    _image(name, "g", g)
    size = geometry.pair(name, "input_size", input_size)
    _check_grad(name, g, index, adaptive_window(name, size, g.shape[2:]))
    return _like(g, *size)


@op(
    out=_adaptive_max_grad_out, flops=_grad_flops, reduces=_covering,
    samples=(
        s("even", A((2, 3, 3, 2)), A((2, 3, 3, 2), 0, 8, "uint8"), (6, 8)),
        s("uneven", A((2, 3, 3, 4)), A((2, 3, 3, 4), 0, 6, "uint8"), (7, 5)),
        s("global", A((2, 3, 1, 1)), A((2, 3, 1, 1), 0, 20, "uint8"), (5, 4)),
        s("channels last", A((2, 3, 3, 4), view="channels_last"), A((2, 3, 3, 4), 0, 6, "uint8", view="reversed"), (7, 5)),
        s("more outputs than inputs", A((1, 2, 5, 5)), A((1, 2, 5, 5), 0, 4, "uint8"), (2, 3)),
    ),
    bad=(bad("index", ShapeError, "index has shape (1, 1, 1, 1)", A((1, 1, 2, 2)), A((1, 1, 1, 1), 0, 4, "uint8"), 4),),
)  # fmt: skip
def adaptive_max_pool2d_grad(g: Array, index: Array, input_size: int | tuple[int, int]) -> Array:
    """Gradient of `adaptive_max_pool2d`: each window's cotangent goes to its winner.

    Parameters
    ----------
    g : Array
        (N, C, OH, OW), the cotangent.
    index : Array
        (N, C, OH, OW), the winner's position in its window, ``p KW + q`` with KW the largest window's width: uint8, or int32
        for windows of more than 256 positions.
    input_size : int or (int, int)
        (H, W).

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
    One addition per output.
    """
    size = geometry.pair("adaptive_max_pool2d_grad", "input_size", input_size)
    window = adaptive_window("adaptive_max_pool2d_grad", size, g.shape[2:])
    kw = window[1].kernel
    return _scatter(np.zeros((*g.shape[:2], *size), g.dtype), window, lambda p, q: np.where(index == p * kw + q, g, 0))


# -- mean -------------------------------------------------------------------------------------------------------------


def _avg_out(x: Spec, kernel_size: Any, stride: Any, padding: Any, ceil_mode: Any, count_include_pad: Any) -> Spec:
    _image("avg_pool2d", "x", x)
    h, w = pool_window("avg_pool2d", x.shape[2:], kernel_size, stride, padding, 1, ceil_mode)
    return _like(x, h.out, w.out)


def _avg_vjp(c: Saved, g: Array) -> dict[str, Any]:
    return {"x": avg_pool2d_grad(g, c.spec_of("x").shape[2:], **c.call.settings)}


@op(
    out=_avg_out, vjp=_avg_vjp, flops=_forward_flops, reduces=_taps,
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
    window = pool_window("avg_pool2d", x.shape[2:], kernel_size, stride, padding, 1, ceil_mode)
    return _mean(x, window, divisors(window, count_include_pad))


def _avg_grad_out(
    g: Spec, input_size: Any, kernel_size: Any, stride: Any, padding: Any, ceil_mode: Any, count_include_pad: Any
) -> Spec:
    name = "avg_pool2d_grad"
    size = geometry.pair(name, "input_size", input_size, 0)
    _check_grad(name, g, None, pool_window(name, size, kernel_size, stride, padding, 1, ceil_mode))
    return _like(g, *size)


def _avg_grad_vjp(c: Saved, ct: Array) -> dict[str, Any]:
    return {"g": avg_pool2d(ct, **{n: v for n, v in c.call.settings.items() if n != "input_size"})}


@op(
    out=_avg_grad_out, vjp=_avg_grad_vjp, flops=_grad_flops, reduces=_covering,
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
    window = pool_window("avg_pool2d_grad", size, kernel_size, stride, padding, 1, ceil_mode)
    share = g / divisors(window, count_include_pad).astype(g.dtype)
    return _scatter(np.zeros((*g.shape[:2], *size), g.dtype), window, lambda p, q: share)


def _adaptive_avg_out(x: Spec, output_size: Any) -> Spec:
    _image("adaptive_avg_pool2d", "x", x)
    h, w = adaptive_window("adaptive_avg_pool2d", x.shape[2:], output_size)
    return _like(x, h.out, w.out)


def _adaptive_avg_vjp(c: Saved, g: Array) -> dict[str, Any]:
    return {"x": adaptive_avg_pool2d_grad(g, c.spec_of("x").shape[2:])}


@op(
    out=_adaptive_avg_out, vjp=_adaptive_avg_vjp, flops=_forward_flops, reduces=_taps,
    samples=(
        s("even", A((2, 3, 6, 8)), (3, 2)),
        s("uneven", A((2, 3, 7, 5)), (3, 4)),
        s("global", A((2, 3, 5, 4)), 1),
        s("global, larger than a work-group", A((1, 2, 17, 19)), 1),
        s("global, channels last", A((2, 5, 6, 4), view="channels_last"), 1),
        s("global, transposed", A((2, 5, 6, 4), view="transposed"), 1),
        s("more outputs than inputs", A((1, 2, 2, 3)), 5),
        s("keeps a size", A((1, 2, 4, 6)), (None, 2)),
        s("channels last", A((2, 5, 6, 4), view="channels_last"), 4),
        s("no images", A((0, 2, 4, 4)), 1),
    ),
    bad=(
        bad("output 0", SettingError, "output_size is (0, 0)", A((1, 1, 3, 3)), 0),
        bad("empty image", ShapeError, "(0, 3)", A((1, 1, 0, 3)), 1),
    ),
    bench=(bench("ResNet-20 head", A((128, 64, 8, 8)), 1),),
)  # fmt: skip
def adaptive_avg_pool2d(x: Array, output_size: int | tuple[int | None, int | None]) -> Array:
    """Mean over windows chosen so that the output has `output_size`, as `torch.nn.functional.adaptive_avg_pool2d`.

    Window i of an axis is ``[floor(i H / OH), ceil((i + 1) H / OH))``.

    Parameters
    ----------
    x : Array
        (N, C, H, W), floating.
    output_size : int or (int or None, int or None)
        (OH, OW); None keeps the input's size. 1 is global pooling.

    Returns
    -------
    Array
        (N, C, OH, OW), channels-last in memory if x is.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        An empty image, integers, an output size below 1.

    Notes
    -----
    About H W additions per channel, in float32 for float16 and bfloat16.
    """
    window = adaptive_window("adaptive_avg_pool2d", x.shape[2:], output_size)
    return _mean(x, window, divisors(window, False))


def _adaptive_avg_grad_out(g: Spec, input_size: Any) -> Spec:
    name = "adaptive_avg_pool2d_grad"
    _image(name, "g", g)
    size = geometry.pair(name, "input_size", input_size)
    _check_grad(name, g, None, adaptive_window(name, size, g.shape[2:]))
    return _like(g, *size)


def _adaptive_avg_grad_vjp(c: Saved, ct: Array) -> dict[str, Any]:
    return {"g": adaptive_avg_pool2d(ct, c.spec_of("g").shape[2:])}


@op(
    out=_adaptive_avg_grad_out, vjp=_adaptive_avg_grad_vjp, flops=_grad_flops, reduces=_covering,
    samples=(
        s("even", A((2, 3, 3, 2)), (6, 8)),
        s("uneven", A((2, 3, 3, 4)), (7, 5)),
        s("channels last", A((2, 3, 3, 4), view="channels_last"), (7, 5)),
        s("expanded", A((2, 3, 1, 1), view="expanded"), (3, 5)),
        s("global", A((2, 3, 1, 1)), (5, 4)),
        s("more outputs than inputs", A((1, 2, 5, 5)), (2, 3)),
    ),
    bad=(bad("size 0", SettingError, "input_size is 0", A((1, 1, 1, 1)), 0),),
)  # fmt: skip
def adaptive_avg_pool2d_grad(g: Array, input_size: int | tuple[int, int]) -> Array:
    """Gradient of `adaptive_avg_pool2d`: each window's cotangent, over its count, goes to all its positions.

    Parameters
    ----------
    g : Array
        (N, C, OH, OW), the cotangent.
    input_size : int or (int, int)
        (H, W).

    Returns
    -------
    Array
        (N, C, H, W), channels-last in memory if g is.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        Wrong axes, integers, a size below 1.

    Notes
    -----
    One addition per output and position. Linear in g.
    """
    size = geometry.pair("adaptive_avg_pool2d_grad", "input_size", input_size)
    window = adaptive_window("adaptive_avg_pool2d_grad", size, g.shape[2:])
    share = g / divisors(window, False).astype(g.dtype)
    return _scatter(np.zeros((*g.shape[:2], *size), g.dtype), window, lambda p, q: share)


def global_avg_pool2d(x: Array) -> Array:
    """Mean of each channel, (N, C, 1, 1): `adaptive_avg_pool2d` with output size 1."""
    return adaptive_avg_pool2d(x, 1)


def global_max_pool2d(x: Array) -> Array:
    """Maximum of each channel, (N, C, 1, 1): `adaptive_max_pool2d` with output size 1."""
    return adaptive_max_pool2d(x, 1)
