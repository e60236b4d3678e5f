"""Unfold (im2col) and fold (its adjoint): windows of images as columns, and columns summed back into images."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import dtypes, geometry
from ..core.array import Array
from ..core.call import Call
from ..core.errors import DTypeError, SettingError, ShapeError
from ..core.geometry import Window, conv_window
from ..core.op import op
from ..core.samples import A, bad, bench, s
from ..core.spec import Spec
from ..core.tape import Saved
from .conv import taps


def window_of(call: Call) -> Window:
    """Return both axes of a call of unfold or fold."""
    settings = call.settings
    size = call.spec(0).shape[2:] if call.op == "unfold" else geometry.pair(call.op, "output_size", settings["output_size"], 0)
    return _window(call.op, size, *(settings[name] for name in ("kernel_size", "dilation", "padding", "stride")))


def _window(name: str, size: tuple[int, ...], kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Window:
    if isinstance(padding, str):
        raise SettingError(f"{name}: padding is {padding!r} but must be numbers")
    return conv_window(name, size, geometry.pair(name, "kernel_size", kernel_size), stride, padding, dilation)


def _float(name: str, x: Spec) -> None:
    if not dtypes.is_float(x.dtype):
        raise DTypeError(f"{name}: x is {x.dtype.name} but a floating dtype is needed; convert it with astype")


def _unfold_out(x: Spec, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Spec:
    if x.ndim != 4:
        raise ShapeError(f"unfold: x has shape {x.shape} but four axes (N, C, H, W) are needed; reshape it")
    _float("unfold", x)
    h, w = _window("unfold", x.shape[2:], kernel_size, dilation, padding, stride)
    return Spec((x.shape[0], x.shape[1] * h.kernel * w.kernel, h.out * w.out), x.dtype)


def _unfold_vjp(c: Saved, g: Array) -> dict[str, Any]:
    return {"x": fold(g, c.spec_of("x").shape[2:], **c.call.settings)}


@op(
    out=_unfold_out, vjp=_unfold_vjp, flops=lambda call: 0,
    samples=(
        s("3x3", A((2, 3, 5, 6)), 3, padding=1),
        s("one of everything", A((1, 1, 1, 1)), 1),
        s("patches", A((2, 3, 8, 6)), 2, stride=2),
        s("stride and dilation", A((1, 2, 9, 8)), (3, 2), dilation=(2, 3), stride=(2, 1), padding=(1, 2)),
        s("asymmetric padding", A((1, 2, 4, 5)), 3, padding=((0, 2), (3, 1))),
        s("rows of 20", A((1, 2, 3, 20)), (1, 3), padding=(0, 1)),
        s("channels last", A((2, 4, 5, 6), view="channels_last"), 2),
        s("views", A((3, 2, 5, 4), view="transposed"), 3, padding=1),
        s("expanded", A((3, 2, 5, 4), view="expanded"), 2),
        s("no images", A((0, 2, 5, 4)), 2),
        s("NaN", A((1, 1, 2, 3), values=(0, 1, float("nan"), 3, 4, 5)), 2, gradient=False, why="NaN"),
    ),
    bad=(
        bad("axes", ShapeError, ("(3, 3)", "(N, C, H, W)"), A((3, 3)), 2),
        bad("kernel too large", ShapeError, ("(4, 4)", "only 3"), A((1, 1, 3, 3)), 4),
        bad("padding word", SettingError, "'same'", A((1, 1, 3, 3)), 2, padding="same"),
        bad("stride 0", SettingError, "stride is 0", A((1, 1, 3, 3)), 2, stride=0),
        bad("integers", DTypeError, "int32", A((1, 1, 3, 3), dtype="int32"), 2),
    ),
    bench=(bench("patches of ViT", A((8, 3, 224, 224)), 16, stride=16), bench("3x3", A((8, 64, 56, 56)), 3, padding=1)),
)  # fmt: skip
def unfold(
    x: Array,
    kernel_size: int | tuple[int, int],
    dilation: int | tuple[int, int] = 1,
    padding: Any = 0,
    stride: int | tuple[int, int] = 1,
) -> Array:
    """Lay the windows of images out as columns (im2col), as `torch.nn.functional.unfold`.

    ``y[n, (c KH + p) KW + q, i OW + j] = x[n, c, i stride + p dilation - top, j stride + q dilation - left]``, 0 outside x.

    Parameters
    ----------
    x : Array
        (N, C, H, W), floating.
    kernel_size, dilation, stride : int or (int, int)
        At least 1.
    padding : int, (int, int) or ((top, bottom), (left, right))
        Zeros around x.

    Returns
    -------
    Array
        (N, C KH KW, OH OW) in C order; OH and OW are those of `conv2d`.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        A kernel larger than the padded image, integers, settings out of range.

    Notes
    -----
    No arithmetic; the result is KH KW times as large as x at stride 1. The gradient is `fold`.
    """
    h, w = window = _window("unfold", x.shape[2:], kernel_size, dilation, padding, stride)
    at = taps(np.pad(x, ((0, 0), (0, 0), (h.before, h.after), (w.before, w.after))), window)
    columns = np.empty((*x.shape[:2], h.kernel, w.kernel, h.out, w.out), x.dtype)
    for p in range(h.kernel):
        for q in range(w.kernel):
            columns[:, :, p, q] = at(p, q)
    made: Array = columns.reshape(x.shape[0], x.shape[1] * h.kernel * w.kernel, h.out * w.out)
    return made


def _fold_out(x: Spec, output_size: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Spec:
    if x.ndim != 3:
        raise ShapeError(f"fold: x has shape {x.shape} but three axes (N, C KH KW, OH OW) are needed; reshape it")
    _float("fold", x)
    size = geometry.pair("fold", "output_size", output_size, 0)
    h, w = _window("fold", size, kernel_size, dilation, padding, stride)
    if x.shape[1] % (h.kernel * w.kernel) or x.shape[2] != h.out * w.out:
        raise ShapeError(
            f"fold: x has shape {x.shape} but windows of ({h.kernel}, {w.kernel}) on images of {size} need a multiple of "
            f"{h.kernel * w.kernel} rows and {h.out} x {w.out} = {h.out * w.out} columns"
        )
    return Spec((x.shape[0], x.shape[1] // (h.kernel * w.kernel), *size), x.dtype)


def _fold_vjp(c: Saved, g: Array) -> dict[str, Any]:
    return {"x": unfold(g, **{name: v for name, v in c.call.settings.items() if name != "output_size"})}


def _covering(call: Call) -> int:
    h, w = window_of(call)
    return h.kernel * w.kernel


@op(
    out=_fold_out, vjp=_fold_vjp, flops=lambda call: call.spec(0).size, reduces=_covering,
    samples=(
        s("3x3", A((2, 27, 30)), (5, 6), 3, padding=1),
        s("one of everything", A((1, 1, 1)), 1, 1),
        s("patches", A((2, 12, 12)), (8, 6), 2, stride=2),
        s("gaps", A((1, 8, 6)), (7, 5), 2, stride=(3, 2), padding=((1, 0), (0, 0))),
        s("stride and dilation", A((1, 12, 36)), (9, 8), (3, 2), dilation=(2, 3), stride=(2, 1), padding=(1, 2)),
        s("rows of 20", A((1, 6, 60)), (3, 20), (1, 3), padding=(0, 1)),
        s("views", A((2, 8, 9), view="transposed"), 4, 2),
        s("expanded", A((3, 8, 9), view="expanded"), 4, 2),
        s("no images", A((0, 8, 9)), 4, 2),
    ),
    bad=(
        bad("columns", ShapeError, ("(1, 4, 5)", "2 x 2 = 4 columns"), A((1, 4, 5)), 3, 2),
        bad("rows", ShapeError, ("(1, 5, 4)", "multiple of 4"), A((1, 5, 4)), 3, 2),
        bad("axes", ShapeError, ("(4, 4)", "three axes"), A((4, 4)), 3, 2),
        bad("integers", DTypeError, "int32", A((1, 4, 4), dtype="int32"), 3, 2),
    ),
    bench=(bench("3x3", A((8, 576, 3136)), 56, 3, padding=1),),
)  # fmt: skip
def fold(
    x: Array,
    output_size: int | tuple[int, int],
    kernel_size: int | tuple[int, int],
    dilation: int | tuple[int, int] = 1,
    padding: Any = 0,
    stride: int | tuple[int, int] = 1,
) -> Array:
    """Sum columns back into images (col2im), the adjoint of `unfold`, as `torch.nn.functional.fold`.

    ``y[n, c, h, w]`` = sum of ``x[n, (c KH + p) KW + q, i OW + j]`` over those with ``i stride + p dilation - top = h`` and
    ``j stride + q dilation - left = w``.

    Parameters
    ----------
    x : Array
        (N, C KH KW, OH OW), floating.
    output_size : int or (int, int)
        (H, W) of the images.
    kernel_size, dilation, padding, stride
        Those of `unfold`.

    Returns
    -------
    Array
        (N, C, H, W) in C order.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        An x that is not what `unfold` gives for such images, integers, settings out of range.

    Notes
    -----
    One addition per element of x, in float32 for float16 and bfloat16. Device kernels gather, so the sums have a fixed order.
    """
    size = geometry.pair("fold", "output_size", output_size, 0)
    h, w = window = _window("fold", size, kernel_size, dilation, padding, stride)
    n, c = x.shape[0], x.shape[1] // (h.kernel * w.kernel)
    columns = x.reshape(n, c, h.kernel, w.kernel, h.out, w.out)
    wide = np.zeros((n, c, h.before + size[0] + h.after, w.before + size[1] + w.after), x.dtype)
    at = taps(wide, window)
    for p in range(h.kernel):
        for q in range(w.kernel):
            shown = at(p, q)
            shown += columns[:, :, p, q]
    return wide[:, :, h.before : h.before + size[0], w.before : w.before + size[1]].copy()
