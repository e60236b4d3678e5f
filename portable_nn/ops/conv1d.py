"""Convolution of sequences: `conv1d` and its two gradients, which differentiate into each other.

On devices these are `conv2d` and its gradients on images one pixel high: the same kernels on views, no copies.
"""

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
        "x": lambda: conv1d_input_grad(g, c.weight, c.spec_of("x").shape[2:], **settings),
        "weight": lambda: conv1d_weight_grad(c.x, g, c.spec_of("weight").shape[2:], **settings),
        "bias": lambda: find("sum")(g, axis=(0, 2)),
    }


@op(
    out=conv_any.forward_out("conv1d", 1), vjp=_vjp, saves=("x", "weight"), flops=conv_any.flops, reduces=conv_any.forward_terms,
    samples=(
        s("3", A((2, 3, 9)), A((4, 3, 3)), A((4,)), padding=1),
        s("no bias", A((2, 3, 7)), A((4, 3, 4))),
        s("one of everything", A((1, 1, 1)), A((1, 1, 1)), A((1,))),
        s("long", A((2, 3, 131)), A((20, 3, 5)), A((20,)), padding=2),
        s("stride 2", A((2, 5, 18)), A((6, 5, 3)), A((6,)), stride=2, padding=(1,)),
        s("dilation", A((2, 2, 17)), A((3, 2, 3)), stride=(2,), padding=2, dilation=3),
        s("asymmetric padding", A((1, 2, 6)), A((3, 2, 3)), A((3,)), padding=((2, 0),)),
        s("same", A((1, 2, 6)), A((3, 2, 4)), padding="same", dilation=2),
        s("groups", A((2, 6, 9)), A((8, 3, 3)), A((8,)), padding=1, groups=2),
        s("depthwise", A((2, 5, 21)), A((5, 1, 3)), A((5,)), padding=1, groups=5),
        s("x channels last", A((2, 4, 9), view="channels_last"), A((17, 4, 3)), A((17,)), padding=1),
        s("views", A((3, 2, 8), view="transposed"), A((4, 2, 3), view="reversed"), A((4,), view="strided")),
        s("no sequences", A((0, 2, 5)), A((4, 2, 3)), A((4,)), padding=1),
        s("NaN stays in its windows", A((1, 1, 6), values=(0, 1, float("nan"), 3, 4, 5)), A((1, 1, 2)), gradient=False, why="holds NaN"),
    ),
    bad=(
        bad("channels", ShapeError, ("x has 2 channels", "expects 3"), A((1, 2, 5)), A((4, 3, 3))),
        bad("axes", ShapeError, ("x has shape (3, 3)", "(N, C, L)"), A((3, 3)), A((4, 3, 3))),
        bad("kernel too large", ShapeError, ("(4,)", "only 3"), A((1, 1, 3)), A((1, 1, 4))),
        bad("stride pair", SettingError, ("stride is (1, 2)", "an integer"), A((1, 1, 3)), A((1, 1, 3)), stride=(1, 2)),
        bad("groups", SettingError, "groups is 2", A((1, 3, 3)), A((4, 3, 3)), groups=2),
        bad("dtypes", DTypeError, "different dtypes", A((1, 1, 3), dtype="float32"), A((1, 1, 3), dtype="float64")),
    ),
    bench=(
        bench("speech, first", A((8, 80, 3000)), A((512, 80, 3)), A((512,)), padding=1),
        bench("residual", A((32, 64, 1024)), A((64, 64, 3)), A((64,)), padding=1),
        bench("depthwise", A((8, 256, 1024)), A((256, 1, 31)), A((256,)), padding=15, groups=256),
    ),
)  # fmt: skip
def conv1d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: int | tuple[int] = 1,
    padding: Any = 0,
    dilation: int | tuple[int] = 1,
    groups: int = 1,
) -> Array:
    """Convolve sequences with filters (cross-correlation: the filter is not flipped), as `torch.nn.functional.conv1d`.

    ``y[n, o, i] = bias[o] + sum over c, p of weight[o, c, p] x[n, g C/G + c, i stride + p dilation - before]``, where ``g`` is
    the group of output channel ``o`` and ``x`` is zero outside.

    Parameters
    ----------
    x : Array
        (N, C, L), floating.
    weight : Array
        (O, C / G, K), of x's dtype.
    bias : Array, optional
        (O,), of x's dtype.
    stride, dilation : int or (int,)
        At least 1.
    padding : int, (int,), ((before, after),), 'same' or 'valid'
        Zeros around x. 'same' keeps the size, needs stride 1, and puts an odd zero at the end.
    groups : int
        G. ``groups=C`` is a depthwise convolution.

    Returns
    -------
    Array
        (N, O, OL) in C order, with ``OL = floor((L + before + after - dilation (KL - 1) - 1) / stride) + 1`` for
        an axis of length L.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        Channels that do not match, a kernel larger than the padded input, mixed dtypes, settings out of range.

    Notes
    -----
    2 N O OL (C / G) K flop. Sums are kept in float32 for float16 and bfloat16. A NaN reaches the outputs whose window
    holds it.
    """
    axes = geometry.conv_axes("conv1d", x.shape[2:], weight.shape[2:], stride, padding, dilation)
    made: Array = conv_any.forward(x, weight, bias, axes, groups)
    return made


def _input_grad_vjp(c: Saved, ct: Array) -> dict[str, Any]:
    settings = conv_any.settings_of(c)
    return {
        "g": lambda: conv1d(ct, c.weight, None, **settings),
        "weight": lambda: conv1d_weight_grad(ct, c.g, c.spec_of("weight").shape[2:], **settings),
    }


@op(
    out=conv_any.input_grad_out("conv1d_input_grad", 1), vjp=_input_grad_vjp, saves=("g", "weight"), flops=conv_any.flops,
    reduces=conv_any.input_terms,
    samples=(
        s("3", A((2, 4, 9)), A((4, 3, 3)), 9, padding=1),
        s("one of everything", A((1, 1, 1)), A((1, 1, 1)), 1),
        s("stride 2", A((2, 6, 9)), A((6, 5, 3)), (18,), stride=2, padding=1),
        s("dilation and stride", A((2, 3, 8)), A((3, 2, 3)), 17, stride=2, padding=2, dilation=3),
        s("stride leaves positions out", A((1, 3, 3)), A((3, 2, 2)), 12, stride=4),
        s("groups", A((2, 8, 9)), A((8, 3, 3)), 9, padding=1, groups=2),
        s("views", A((3, 4, 6), view="expanded"), A((4, 2, 3), view="transposed"), 8),
        s("no sequences", A((0, 4, 5)), A((4, 2, 3)), 5, padding=1),
    ),
    bad=(bad("size", ShapeError, ("g has shape (1, 4, 3)", "(N, 4, 5)"), A((1, 4, 3)), A((4, 2, 3)), 7),),
    bench=(bench("residual", A((32, 64, 1024)), A((64, 64, 3)), 1024, padding=1),),
)  # fmt: skip
def conv1d_input_grad(
    g: Array,
    weight: Array,
    input_size: int | tuple[int],
    stride: int | tuple[int] = 1,
    padding: Any = 0,
    dilation: int | tuple[int] = 1,
    groups: int = 1,
) -> Array:
    """Gradient of `conv1d` with respect to x: a transposed convolution, `torch.nn.grad.conv1d_input`.

    ``dx[n, c, h]`` = sum over o, i, p of ``g[n, o, i] weight[o, c, p]`` over those with ``i stride + p dilation - before = h``.

    Parameters
    ----------
    g : Array
        (N, O, OL), the cotangent of the convolution's result.
    weight : Array
        (O, C / G, K), of g's dtype.
    input_size : int or (int,)
        L of x.
    stride, padding, dilation, groups
        Those of the convolution.

    Returns
    -------
    Array
        (N, C, L) in C order.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        When g is not what such a convolution gives, and as `conv1d`.

    Notes
    -----
    2 N O OL (C / G) K flop. Linear in g and in weight. Positions no window reads get zero.
    """
    size = geometry.ints("conv1d_input_grad", "input_size", input_size, 1, 0)
    axes = geometry.conv_axes("conv1d_input_grad", size, weight.shape[2:], stride, padding, dilation)
    made: Array = conv_any.input_grad(g, weight, axes, groups)
    return made


def _weight_grad_vjp(c: Saved, ct: Array) -> dict[str, Any]:
    settings = conv_any.settings_of(c)
    return {
        "x": lambda: conv1d_input_grad(c.g, ct, c.spec_of("x").shape[2:], **settings),
        "g": lambda: conv1d(c.x, ct, None, **settings),
    }


@op(
    out=conv_any.weight_grad_out("conv1d_weight_grad", 1), vjp=_weight_grad_vjp, saves=("x", "g"), flops=conv_any.flops,
    reduces=conv_any.weight_terms,
    samples=(
        s("3", A((2, 3, 9)), A((2, 4, 9)), 3, padding=1),
        s("one of everything", A((1, 1, 1)), A((1, 1, 1)), 1),
        s("stride 2", A((2, 5, 18)), A((2, 6, 9)), (3,), stride=2, padding=1),
        s("dilation and stride", A((2, 2, 17)), A((2, 3, 8)), 3, stride=2, padding=2, dilation=3),
        s("groups", A((2, 6, 9)), A((2, 8, 9)), 3, padding=1, groups=2),
        s("many sequences", A((70, 2, 9)), A((70, 3, 9)), 3, padding=1),
        s("views", A((3, 2, 8), view="reversed"), A((3, 4, 6), view="expanded"), 3),
        s("no sequences", A((0, 2, 5)), A((0, 4, 5)), 3, padding=1),
    ),
    bad=(bad("size", ShapeError, ("g has shape (1, 4, 3)", "(1, O, 5)"), A((1, 2, 7)), A((1, 4, 3)), 3),),
    bench=(bench("residual", A((32, 64, 1024)), A((32, 64, 1024)), 3, padding=1),),
)  # fmt: skip
def conv1d_weight_grad(
    x: Array,
    g: Array,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] = 1,
    padding: Any = 0,
    dilation: int | tuple[int] = 1,
    groups: int = 1,
) -> Array:
    """Gradient of `conv1d` with respect to its filters, `torch.nn.grad.conv1d_weight`.

    ``dw[o, c, p] = sum over n, i of g[n, o, i] x[n, c, i stride + p dilation - before]``.

    Parameters
    ----------
    x : Array
        (N, C, L).
    g : Array
        (N, O, OL), the cotangent of the convolution's result, of x's dtype.
    kernel_size : int or (int,)
        K.
    stride, padding, dilation, groups
        Those of the convolution.

    Returns
    -------
    Array
        (O, C / G, K), in C order.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        When g is not what such a convolution gives, and as `conv1d`.

    Notes
    -----
    2 N O OL (C / G) K flop. Linear in x and in g. Device kernels sum in blocks, always in the same order.
    """
    kernel = geometry.ints("conv1d_weight_grad", "kernel_size", kernel_size, 1)
    axes = geometry.conv_axes("conv1d_weight_grad", x.shape[2:], kernel, stride, padding, dilation)
    made: Array = conv_any.weight_grad(x, g, axes, groups)
    return made
