"""Convolution of volumes: `conv3d` and its two gradients, which differentiate into each other."""

from __future__ import annotations

from typing import Any

from ..core import geometry
from ..core.array import Array
from ..core.errors import DTypeError, SettingError, ShapeError
from ..core.op import op
from ..core.registry import find
from ..core.samples import A, bad, bench, s
from ..core.tape import Saved
from . import conv_any


def _vjp(c: Saved, g: Array) -> dict[str, Any]:
    settings = conv_any.settings_of(c)
    return {
        "x": lambda: conv3d_input_grad(g, c.weight, c.spec_of("x").shape[2:], **settings),
        "weight": lambda: conv3d_weight_grad(c.x, g, c.spec_of("weight").shape[2:], **settings),
        "bias": lambda: find("sum")(g, axis=(0, 2, 3, 4)),
    }


@op(
    out=conv_any.forward_out("conv3d", 3), vjp=_vjp, saves=("x", "weight"), flops=conv_any.flops, reduces=conv_any.forward_terms,
    samples=(
        s("3x3x3", A((2, 3, 4, 5, 6)), A((4, 3, 3, 3, 3)), A((4,)), padding=1),
        s("no bias", A((2, 2, 3, 4, 5)), A((3, 2, 2, 3, 1))),
        s("one of everything", A((1, 1, 1, 1, 1)), A((1, 1, 1, 1, 1)), A((1,))),
        s("stride", A((1, 3, 5, 6, 7)), A((4, 3, 3, 3, 3)), A((4,)), stride=(1, 2, 3), padding=(1, 0, 2)),
        s("dilation", A((1, 2, 7, 6, 9)), A((3, 2, 2, 3, 2)), padding=1, dilation=(3, 1, 2)),
        s("asymmetric padding", A((1, 1, 3, 3, 4)), A((2, 1, 3, 2, 3)), A((2,)), padding=((0, 1), (2, 0), (1, 1))),
        s("same", A((1, 2, 3, 4, 5)), A((3, 2, 2, 3, 4)), padding="same"),
        s("groups", A((1, 4, 3, 4, 3)), A((6, 2, 2, 2, 2)), A((6,)), groups=2),
        s("depthwise", A((2, 3, 3, 4, 18)), A((3, 1, 3, 3, 3)), A((3,)), padding=1, groups=3),
        s("tile edges", A((2, 5, 3, 4, 7)), A((37, 5, 2, 2, 2)), A((37,)), padding=1),
        s("x channels last", A((2, 4, 3, 3, 4), view="channels_last"), A((5, 4, 2, 2, 2)), A((5,))),
        s("views", A((2, 2, 4, 3, 4), view="transposed"), A((3, 2, 2, 2, 2), view="reversed"), A((3,), view="strided")),
        s("no volumes", A((0, 2, 3, 3, 3)), A((4, 2, 3, 3, 3)), A((4,)), padding=1),
    ),
    bad=(
        bad("channels", ShapeError, ("x has 2 channels", "expects 3"), A((1, 2, 3, 3, 3)), A((4, 3, 3, 3, 3))),
        bad("axes", ShapeError, ("x has shape (1, 3, 3, 3)", "(N, C, D, H, W)"), A((1, 3, 3, 3)), A((4, 3, 3, 3, 3))),
        bad("kernel too large", ShapeError, ("(4, 1, 1)", "only 3"), A((1, 1, 3, 3, 3)), A((1, 1, 4, 1, 1))),
        bad("stride pair", SettingError, ("stride is (1, 2)", "3 integers"), A((1, 1, 3, 3, 3)), A((1, 1, 3, 3, 3)), stride=(1, 2)),
        bad("padding word", SettingError, "'full'", A((1, 1, 3, 3, 3)), A((1, 1, 3, 3, 3)), padding="full"),
        bad("groups", SettingError, "groups is 2", A((1, 3, 3, 3, 3)), A((4, 3, 3, 3, 3)), groups=2),
        bad("dtypes", DTypeError, "different dtypes", A((1, 1, 1, 1, 1), dtype="float32"), A((1, 1, 1, 1, 1), dtype="float64")),
    ),
    bench=(
        bench("video stem", A((2, 3, 16, 56, 56)), A((64, 3, 3, 7, 7)), A((64,)), stride=(1, 2, 2), padding=(1, 3, 3)),
        bench("U-Net stage", A((1, 32, 32, 32, 32)), A((32, 32, 3, 3, 3)), A((32,)), padding=1),
    ),
)  # fmt: skip
def conv3d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: int | tuple[int, int, int] = 1,
    padding: Any = 0,
    dilation: int | tuple[int, int, int] = 1,
    groups: int = 1,
) -> Array:
    """Convolve volumes with filters (cross-correlation: the filter is not flipped), as `torch.nn.functional.conv3d`.

    ``y[n, o, i] = bias[o] + sum over c, p of weight[o, c, p] x[n, g C/G + c, i stride + p dilation - before]``, where i and p are
    triples (depth, height, width), ``g`` is the group of output channel ``o`` and ``x`` is zero outside.

    Parameters
    ----------
    x : Array
        (N, C, D, H, W), floating.
    weight : Array
        (O, C / G, KD, KH, KW), of x's dtype.
    bias : Array, optional
        (O,), of x's dtype.
    stride, dilation : int or (int, int, int)
        At least 1.
    padding : int, (int, int, int), three (before, after), 'same' or 'valid'
        Zeros around x. 'same' keeps the size, needs stride 1, and puts an odd zero at the end.
    groups : int
        G. ``groups=C`` is a depthwise convolution.

    Returns
    -------
    Array
        (N, O, OD, OH, OW) in C order, with ``OL = floor((L + before + after - dilation (KL - 1) - 1) / stride) + 1`` for
        an axis of length L.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        Channels that do not match, a kernel larger than the padded input, mixed dtypes, settings out of range.

    Notes
    -----
    2 N O OD OH OW (C / G) KD KH KW flop. Sums are kept in float32 for float16 and bfloat16. A NaN reaches the outputs whose window
    holds it.
    """
    axes = geometry.conv_axes("conv3d", x.shape[2:], weight.shape[2:], stride, padding, dilation)
    made: Array = conv_any.forward(x, weight, bias, axes, groups)
    return made


def _input_grad_vjp(c: Saved, ct: Array) -> dict[str, Any]:
    settings = conv_any.settings_of(c)
    return {
        "g": lambda: conv3d(ct, c.weight, None, **settings),
        "weight": lambda: conv3d_weight_grad(ct, c.g, c.spec_of("weight").shape[2:], **settings),
    }


@op(
    out=conv_any.input_grad_out("conv3d_input_grad", 3), vjp=_input_grad_vjp, saves=("g", "weight"), flops=conv_any.flops,
    reduces=conv_any.input_terms,
    samples=(
        s("3x3x3", A((2, 4, 4, 5, 6)), A((4, 3, 3, 3, 3)), (4, 5, 6), padding=1),
        s("one of everything", A((1, 1, 1, 1, 1)), A((1, 1, 1, 1, 1)), 1),
        s("stride", A((1, 4, 5, 2, 3)), A((4, 3, 3, 3, 3)), (5, 6, 7), stride=(1, 2, 3), padding=(1, 0, 2)),
        s("dilation and stride", A((1, 3, 3, 3, 5)), A((3, 2, 2, 3, 2)), (7, 6, 9), stride=2, padding=1, dilation=(3, 1, 2)),
        s("groups", A((1, 6, 2, 3, 2)), A((6, 2, 2, 2, 2)), (3, 4, 3), groups=2),
        s("tile edges", A((2, 5, 4, 5, 8)), A((5, 37, 2, 2, 2)), (3, 4, 7), padding=1),
        s("views", A((2, 3, 3, 2, 3), view="expanded"), A((3, 2, 2, 2, 2), view="transposed"), (4, 3, 4)),
        s("no volumes", A((0, 4, 3, 3, 3)), A((4, 2, 3, 3, 3)), 3, padding=1),
    ),
    bad=(bad("size", ShapeError, ("g has shape (1, 4, 3, 3, 3)", "(N, 4, 5, 5, 5)"), A((1, 4, 3, 3, 3)), A((4, 2, 3, 3, 3)), 7),),
    bench=(bench("U-Net stage", A((1, 32, 32, 32, 32)), A((32, 32, 3, 3, 3)), 32, padding=1),),
)  # fmt: skip
def conv3d_input_grad(
    g: Array,
    weight: Array,
    input_size: int | tuple[int, int, int],
    stride: int | tuple[int, int, int] = 1,
    padding: Any = 0,
    dilation: int | tuple[int, int, int] = 1,
    groups: int = 1,
) -> Array:
    """Gradient of `conv3d` with respect to x: a transposed convolution, `torch.nn.grad.conv3d_input`.

    ``dx[n, c, h]`` = sum over o, i, p of ``g[n, o, i] weight[o, c, p]`` over those with ``i stride + p dilation - before = h``
    along each of the three axes.

    Parameters
    ----------
    g : Array
        (N, O, OD, OH, OW), the cotangent of the convolution's result.
    weight : Array
        (O, C / G, KD, KH, KW), of g's dtype.
    input_size : int or (int, int, int)
        (D, H, W) of x.
    stride, padding, dilation, groups
        Those of the convolution.

    Returns
    -------
    Array
        (N, C, D, H, W) in C order.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        When g is not what such a convolution gives, and as `conv3d`.

    Notes
    -----
    2 N O OD OH OW (C / G) KD KH KW flop. Linear in g and in weight. Positions no window reads get zero.
    """
    size = geometry.ints("conv3d_input_grad", "input_size", input_size, 3, 0)
    axes = geometry.conv_axes("conv3d_input_grad", size, weight.shape[2:], stride, padding, dilation)
    made: Array = conv_any.input_grad(g, weight, axes, groups)
    return made


def _weight_grad_vjp(c: Saved, ct: Array) -> dict[str, Any]:
    settings = conv_any.settings_of(c)
    return {
        "x": lambda: conv3d_input_grad(c.g, ct, c.spec_of("x").shape[2:], **settings),
        "g": lambda: conv3d(c.x, ct, None, **settings),
    }


@op(
    out=conv_any.weight_grad_out("conv3d_weight_grad", 3), vjp=_weight_grad_vjp, saves=("x", "g"), flops=conv_any.flops,
    reduces=conv_any.weight_terms,
    samples=(
        s("3x3x3", A((2, 3, 4, 5, 6)), A((2, 4, 4, 5, 6)), 3, padding=1),
        s("one of everything", A((1, 1, 1, 1, 1)), A((1, 1, 1, 1, 1)), 1),
        s("stride", A((1, 3, 5, 6, 7)), A((1, 4, 5, 2, 3)), 3, stride=(1, 2, 3), padding=(1, 0, 2)),
        s("dilation and stride", A((1, 2, 7, 6, 9)), A((1, 3, 3, 3, 5)), (2, 3, 2), stride=2, padding=1, dilation=(3, 1, 2)),
        s("groups", A((1, 4, 3, 4, 3)), A((1, 6, 2, 3, 2)), 2, groups=2),
        s("tile edges", A((3, 5, 4, 5, 6)), A((3, 37, 3, 4, 5)), 2),
        s("views", A((2, 2, 4, 3, 4), view="reversed"), A((2, 3, 3, 2, 3), view="expanded"), 2),
        s("no volumes", A((0, 2, 3, 3, 3)), A((0, 4, 3, 3, 3)), 3, padding=1),
    ),
    bad=(bad("size", ShapeError, ("g has shape (1, 4, 3, 3, 3)", "(1, O, 5, 5, 5)"), A((1, 2, 7, 7, 7)), A((1, 4, 3, 3, 3)), 3),),
    bench=(bench("U-Net stage", A((1, 32, 32, 32, 32)), A((1, 32, 32, 32, 32)), 3, padding=1),),
)  # fmt: skip
def conv3d_weight_grad(
    x: Array,
    g: Array,
    kernel_size: int | tuple[int, int, int],
    stride: int | tuple[int, int, int] = 1,
    padding: Any = 0,
    dilation: int | tuple[int, int, int] = 1,
    groups: int = 1,
) -> Array:
    """Gradient of `conv3d` with respect to its filters, `torch.nn.grad.conv3d_weight`.

    ``dw[o, c, p] = sum over n, i of g[n, o, i] x[n, c, i stride + p dilation - before]`` along each of the three axes.

    Parameters
    ----------
    x : Array
        (N, C, D, H, W).
    g : Array
        (N, O, OD, OH, OW), the cotangent of the convolution's result, of x's dtype.
    kernel_size : int or (int, int, int)
        (KD, KH, KW).
    stride, padding, dilation, groups
        Those of the convolution.

    Returns
    -------
    Array
        (O, C / G, KD, KH, KW), in C order.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        When g is not what such a convolution gives, and as `conv3d`.

    Notes
    -----
    2 N O OD OH OW (C / G) KD KH KW flop. Linear in x and in g. Device kernels sum in blocks, always in the same order.
    """
    kernel = geometry.ints("conv3d_weight_grad", "kernel_size", kernel_size, 3)
    axes = geometry.conv_axes("conv3d_weight_grad", x.shape[2:], kernel, stride, padding, dilation)
    made: Array = conv_any.weight_grad(x, g, axes, groups)
    return made
