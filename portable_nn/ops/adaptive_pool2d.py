"""Pooling of images to a size: maximum and mean over adaptive and global windows, and their gradients; residuals as in `pool`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import geometry
from ..core.array import Array
from ..core.errors import SettingError, ShapeError
from ..core.geometry import adaptive_window, divisors, index_dtype
from ..core.op import op
from ..core.samples import A, bad, bench, s
from ..core.spec import Spec
from ..core.tape import Saved
from . import pool_any


def _adaptive_max_out(x: Spec, output_size: Any) -> tuple[Spec, Spec]:
    pool_any.check("adaptive_max_pool2d", "x", x, 2)
    window = adaptive_window("adaptive_max_pool2d", x.shape[2:], output_size)
    return pool_any.pooled(x, window), pool_any.pooled(x, window, index_dtype(window))


def _adaptive_max_vjp(c: Saved, g: Array) -> dict[str, Any]:
    return {"x": adaptive_max_pool2d_grad(g, c.index, c.spec_of("x").shape[2:])}


@op(
    out=_adaptive_max_out, residuals=("index",), vjp=_adaptive_max_vjp, saves=("index",), flops=pool_any.forward_flops,
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
    return pool_any.maximum(x, adaptive_window("adaptive_max_pool2d", x.shape[2:], output_size))


def _adaptive_max_grad_out(g: Spec, index: Spec, input_size: Any) -> Spec:
    name = "adaptive_max_pool2d_grad"
    pool_any.check(name, "g", g, 2)
    size = geometry.pair(name, "input_size", input_size)
    window = adaptive_window(name, size, g.shape[2:])
    pool_any.check_index(name, g, index, window)
    return pool_any.like(g, size)


@op(
    out=_adaptive_max_grad_out, flops=pool_any.grad_flops, reduces=pool_any.covering,
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
    made: Array = pool_any.scatter(g, window, lambda number: np.where(index == number, g, 0))
    return made


def _adaptive_avg_out(x: Spec, output_size: Any) -> Spec:
    pool_any.check("adaptive_avg_pool2d", "x", x, 2)
    return pool_any.pooled(x, adaptive_window("adaptive_avg_pool2d", x.shape[2:], output_size))


def _adaptive_avg_vjp(c: Saved, g: Array) -> dict[str, Any]:
    return {"x": adaptive_avg_pool2d_grad(g, c.spec_of("x").shape[2:])}


@op(
    out=_adaptive_avg_out, vjp=_adaptive_avg_vjp, flops=pool_any.forward_flops, reduces=pool_any.taps,
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
    made: Array = pool_any.mean(x, adaptive_window("adaptive_avg_pool2d", x.shape[2:], output_size), False)
    return made


def _adaptive_avg_grad_out(g: Spec, input_size: Any) -> Spec:
    name = "adaptive_avg_pool2d_grad"
    pool_any.check(name, "g", g, 2)
    size = geometry.pair(name, "input_size", input_size)
    adaptive_window(name, size, g.shape[2:])
    return pool_any.like(g, size)


def _adaptive_avg_grad_vjp(c: Saved, ct: Array) -> dict[str, Any]:
    return {"g": adaptive_avg_pool2d(ct, c.spec_of("g").shape[2:])}


@op(
    out=_adaptive_avg_grad_out, vjp=_adaptive_avg_grad_vjp, flops=pool_any.grad_flops, reduces=pool_any.covering,
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
    made: Array = pool_any.scatter(g, window, lambda number: share)
    return made


def global_avg_pool2d(x: Array) -> Array:
    """Mean of each channel, (N, C, 1, 1): `adaptive_avg_pool2d` with output size 1."""
    return adaptive_avg_pool2d(x, 1)


def global_max_pool2d(x: Array) -> Array:
    """Maximum of each channel, (N, C, 1, 1): `adaptive_max_pool2d` with output size 1."""
    return adaptive_max_pool2d(x, 1)
