"""Convolution of images: `conv2d` and its two gradients, which differentiate into each other.

All three are one trilinear form, sum over n, o, c, i, j, p, q of g[n,o,i,j] w[o,c,p,q] x[n,c,i s + p d - b, j s + q d - b],
read with one of g, w, x left out. Over 250 lines because the three records read best side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import geometry
from ..core.array import Array
from ..core.call import Call
from ..core.errors import DTypeError, SettingError, ShapeError
from ..core.geometry import Window, conv_window
from ..core.op import op
from ..core.registry import find
from ..core.samples import A, bad, bench, s
from ..core.spec import Shape, Spec
from ..core.tape import Saved
from .conv_any import check_floats, check_groups, settings_of


def _four(name: str, operand: str, spec: Spec, axes: str) -> None:
    if spec.ndim != 4:
        raise ShapeError(f"{name}: {operand} has shape {spec.shape} but four axes {axes} are needed; reshape it")


def _layout(shape: Shape, like: Spec, weight: Spec) -> Spec:
    """Channels-last if the image or the weight is, as in PyTorch."""
    if geometry.is_channels_last(like) or geometry.is_channels_last(weight):
        return geometry.channels_last(shape, like.dtype)
    return Spec(shape, like.dtype)


def taps(xp: np.ndarray[Any, Any], window: Window) -> Callable[[int, int], np.ndarray[Any, Any]]:
    """Return a function that gives, for kernel position (p, q), what the padded image `xp` shows to every output."""
    h, w = window

    def at(p: int, q: int) -> np.ndarray[Any, Any]:
        top, left = p * h.dilation, q * w.dilation
        return xp[..., top : top + (h.out - 1) * h.stride + 1 : h.stride, left : left + (w.out - 1) * w.stride + 1 : w.stride]

    return at


def padded(x: np.ndarray[Any, Any], window: Window, groups: int) -> np.ndarray[Any, Any]:
    """Return (N, G, C / G, H, W) with the window's zeros around it."""
    h, w = window
    n, c = x.shape[:2]
    wide = np.pad(x, ((0, 0), (0, 0), (h.before, h.after), (w.before, w.after)))
    return wide.reshape(n, groups, c // groups, *wide.shape[2:])


def conv2d_out(
    x: Spec, weight: Spec, bias: Spec | None, stride: Any, padding: Any, dilation: Any, groups: Any, name: str = "conv2d"
) -> Spec:
    """Return the spec of a convolution; `name` is the op's, for messages."""
    _four(name, "x", x, "(N, C, H, W)")
    _four(name, "weight", weight, "(O, C / groups, KH, KW)")
    check_floats(name, x=x, weight=weight, bias=bias)
    outputs = weight.shape[0]
    n_groups = check_groups(name, groups, x.shape[1], outputs)
    if x.shape[1] != weight.shape[1] * n_groups:
        raise ShapeError(
            f"{name}: x has {x.shape[1]} channels (shape {x.shape}) but weight of shape {weight.shape} with groups={n_groups} "
            f"expects {weight.shape[1] * n_groups}; pass x as (N, C, H, W) and weight as (O, C / groups, KH, KW)"
        )
    if bias is not None and bias.shape != (outputs,):
        raise ShapeError(f"{name}: bias has shape {bias.shape} but weight of shape {weight.shape} needs ({outputs},)")
    h, w = conv_window(name, x.shape[2:], weight.shape[2:], stride, padding, dilation)
    return _layout((x.shape[0], outputs, h.out, w.out), x, weight)


def conv2d_vjp(c: Saved, g: Array) -> dict[str, Any]:
    """Return the gradients of a convolution whose saved values and settings are c's; `g` is its result's cotangent."""
    settings = settings_of(c)
    return {
        "x": lambda: conv2d_input_grad(g, c.weight, c.spec_of("x").shape[2:], **settings),
        "weight": lambda: conv2d_weight_grad(c.x, g, c.spec_of("weight").shape[2:], **settings),
        "bias": lambda: find("sum")(g, axis=(0, 2, 3)),
    }


def conv2d_flops(call: Call) -> int:
    """Return the multiplications and additions of a convolution or of one of its gradients."""
    h, w = geometry.conv_window_of(call)
    weight = call.outputs[0] if call.op == "conv2d_weight_grad" else call.spec(1)
    images = call.spec(0).shape[0]
    bias = len(call.inputs) > 2 and call.inputs[2] is not None
    return 2 * images * weight.size * h.out * w.out + (call.outputs[0].size if bias else 0)


def conv2d_terms(call: Call) -> int:
    """Return the number of products of one result, and its bias."""
    return call.spec(1).size // max(call.spec(1).shape[0], 1) + 1


def correlated(x: Array, weight: Array, bias: Array | None, window: Window, groups: int) -> Array:
    """Return the convolution: the body of the ops that begin with one."""
    at = taps(padded(x, window, groups), window)
    filters = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    y = np.zeros((x.shape[0], groups, filters.shape[1], window[0].out, window[1].out), x.dtype)
    for p in range(weight.shape[2]):
        for q in range(weight.shape[3]):
            y += np.einsum("ngchw,goc->ngohw", at(p, q), filters[..., p, q])
    y = y.reshape(x.shape[0], weight.shape[0], window[0].out, window[1].out)
    return y if bias is None else y + bias[:, None, None]


_SAMPLES = (
    s("3x3", A((2, 3, 5, 6)), A((4, 3, 3, 3)), A((4,)), padding=1),
    s("no bias", A((2, 3, 5, 5)), A((4, 3, 3, 3))),
    s("one of everything", A((1, 1, 1, 1)), A((1, 1, 1, 1)), A((1,))),
    s("kernel covers the input", A((2, 2, 3, 4)), A((5, 2, 3, 4)), A((5,))),
    s("pointwise strided", A((2, 5, 7, 6)), A((3, 5, 1, 1)), stride=2),
    s("stride 2", A((2, 3, 9, 8)), A((5, 3, 3, 3)), A((5,)), stride=2, padding=1),
    s("stride wider than kernel", A((1, 2, 9, 8)), A((3, 2, 2, 1)), stride=(3, 4)),
    s("dilation", A((2, 2, 9, 8)), A((3, 2, 3, 2)), stride=(1, 2), padding=(2, 1), dilation=(2, 3)),
    s("asymmetric padding", A((1, 2, 4, 5)), A((3, 2, 3, 3)), A((3,)), padding=((0, 2), (3, 1))),
    s("padding beyond the kernel", A((1, 2, 3, 3)), A((2, 2, 2, 2)), padding=3),
    s("same", A((1, 2, 5, 6)), A((3, 2, 4, 3)), padding="same", dilation=(1, 2)),
    s("valid", A((1, 2, 5, 6)), A((3, 2, 5, 5)), padding="valid"),
    s("groups", A((2, 6, 5, 4)), A((8, 3, 3, 3)), A((8,)), padding=1, groups=2),
    s("depthwise", A((2, 5, 6, 18)), A((5, 1, 3, 3)), A((5,)), padding=1, groups=5),
    s("depthwise, multiplier 2, strided", A((2, 3, 7, 8)), A((6, 1, 3, 3)), stride=2, padding=1, groups=3),
    s("tile edges", A((3, 7, 6, 7)), A((37, 7, 3, 3)), A((37,)), padding=1),
    s("several channel blocks", A((1, 18, 4, 5)), A((70, 18, 2, 2))),
    s("rows of 16", A((2, 3, 4, 16)), A((16, 3, 3, 3)), A((16,)), padding=1),
    s("rows of 16, more channels", A((2, 3, 3, 16)), A((40, 3, 3, 3)), A((40,)), padding=1),
    s("rows of 12", A((1, 3, 3, 12)), A((12, 3, 3, 3)), padding=1),
    s("rows of 8, stride 2", A((2, 3, 5, 16)), A((20, 3, 3, 3)), A((20,)), padding=1, stride=2),
    s("few channels, long rows", A((2, 3, 5, 21)), A((6, 3, 5, 5)), A((6,)), padding=2),
    s("few channels, rows of 33, a taller stride", A((1, 2, 7, 33)), A((5, 2, 3, 4)), A((5,)), stride=(2, 1), padding=(2, 1)),
    s("few channels in several patches", A((1, 16, 40, 20)), A((1, 16, 3, 1)), padding=(1, 0)),
    s("rows of 10", A((2, 3, 5, 12)), A((16, 3, 3, 3)), A((16,)), padding=(1, 0)),
    s("x channels last", A((2, 4, 5, 6), view="channels_last"), A((17, 4, 3, 3)), A((17,)), padding=1),
    s("all channels last", A((2, 16, 4, 6), view="channels_last"), A((16, 16, 3, 3), view="channels_last"), padding=1),
    s("bands of channels last", A((2, 19, 9, 11), view="channels_last"), A((37, 19, 3, 2)), A((37,)), stride=(1, 2), padding=(2, 1), dilation=(2, 1)),
    s("5x5 of channels last", A((2, 18, 5, 7), view="channels_last"), A((12, 18, 5, 5)), A((12,)), padding=2),
    s("2x2 of channels last", A((1, 18, 4, 18), view="channels_last"), A((40, 18, 2, 2))),
    s("depthwise, channels last", A((2, 21, 6, 7), view="channels_last"), A((21, 1, 3, 3)), A((21,)), padding=1, groups=21),
    s("depthwise, channels last, stride 2", A((2, 70, 5, 12), view="channels_last"), A((70, 1, 3, 3)), A((70,)), stride=2, padding=1, groups=70),
    s("x transposed", A((3, 2, 5, 4), view="transposed"), A((4, 2, 3, 3)), padding=1),
    s("x reversed", A((3, 2, 5, 4), view="reversed"), A((4, 2, 3, 3), view="reversed"), A((4,), view="reversed")),
    s("strided views", A((2, 2, 5, 4), view="strided"), A((4, 2, 3, 3), view="strided"), A((4,), view="strided"), padding=1),
    s("x expanded", A((3, 2, 5, 4), view="expanded"), A((4, 2, 3, 3), view="transposed")),
    s("no images", A((0, 2, 5, 4)), A((4, 2, 3, 3)), A((4,)), padding=1),
    s("NaN stays in its windows", A((1, 1, 4, 4), values=(*range(5), float("nan"), *range(10))), A((1, 1, 2, 2)),
      gradient=False, why="holds NaN"),
)  # fmt: skip
_BENCH = (
    bench("LeNet, digits, first", A((64, 1, 8, 8)), A((16, 1, 3, 3)), A((16,)), padding=1),
    bench("LeNet, digits, second", A((64, 16, 8, 8)), A((32, 16, 3, 3)), A((32,)), padding=1),
    bench("LeNet, MNIST, first", A((64, 1, 28, 28)), A((6, 1, 5, 5)), A((6,)), padding=2),
    bench("ResNet-20, first stage", A((32, 16, 32, 32)), A((16, 16, 3, 3)), padding=1),
    bench("64 to 64", A((32, 64, 32, 32)), A((64, 64, 3, 3)), padding=1),
    bench("MobileNet depthwise", A((8, 64, 56, 56)), A((64, 1, 3, 3)), padding=1, groups=64),
)


@op(
    out=conv2d_out, vjp=conv2d_vjp, saves=("x", "weight"), flops=conv2d_flops, samples=_SAMPLES, bench=_BENCH, reduces=conv2d_terms,
    bad=(
        bad("channels", ShapeError, ("x has 2 channels", "expects 3"), A((1, 2, 3, 3)), A((4, 3, 3, 3))),
        bad("axes", ShapeError, ("x has shape (3, 3)", "(N, C, H, W)"), A((3, 3)), A((4, 3, 3, 3))),
        bad("bias", ShapeError, ("bias has shape (3,)", "(4,)"), A((1, 3, 3, 3)), A((4, 3, 3, 3)), A((3,))),
        bad("kernel too large", ShapeError, ("(4, 3)", "only 3"), A((1, 1, 3, 3)), A((1, 1, 4, 3))),
        bad("stride 0", SettingError, "stride is 0", A((1, 1, 3, 3)), A((1, 1, 3, 3)), stride=0),
        bad("stride float", SettingError, "stride is 1.5", A((1, 1, 3, 3)), A((1, 1, 3, 3)), stride=1.5),
        bad("padding negative", SettingError, "padding is -1", A((1, 1, 3, 3)), A((1, 1, 3, 3)), padding=-1),
        bad("padding word", SettingError, "'full'", A((1, 1, 3, 3)), A((1, 1, 3, 3)), padding="full"),
        bad("same strided", SettingError, "needs stride 1", A((1, 1, 3, 3)), A((1, 1, 3, 3)), padding="same", stride=2),
        bad("groups", SettingError, "groups is 2", A((1, 3, 3, 3)), A((4, 3, 3, 3)), groups=2),
        bad("dtypes", DTypeError, "different dtypes", A((1, 1, 3, 3), dtype="float32"), A((1, 1, 3, 3), dtype="float64")),
        bad("integers", DTypeError, "int32", A((1, 1, 3, 3), dtype="int32"), A((1, 1, 3, 3), dtype="int32")),
    ),
)  # fmt: skip
def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: int | tuple[int, int] = 1,
    padding: Any = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> Array:
    """Convolve images with filters (cross-correlation: the filter is not flipped), as `torch.nn.functional.conv2d`.

    ``y[n, o, i, j] = bias[o] + sum over c, p, q of weight[o, c, p, q] *
    x[n, g C/G + c, i stride + p dilation - top, j stride + q dilation - left]``, where ``g`` is the group of output
    channel ``o`` and ``x`` is zero outside.

    Parameters
    ----------
    x : Array
        (N, C, H, W), floating.
    weight : Array
        (O, C / G, KH, KW), of x's dtype.
    bias : Array, optional
        (O,), of x's dtype.
    stride, dilation : int or (int, int)
        At least 1.
    padding : int, (int, int), ((top, bottom), (left, right)), 'same' or 'valid'
        Zeros around x. 'same' keeps H and W, needs stride 1, and puts an odd zero at the end.
    groups : int
        G. ``groups=C`` is a depthwise convolution.

    Returns
    -------
    Array
        (N, O, OH, OW) with ``OH = floor((H + top + bottom - dilation (KH - 1) - 1) / stride) + 1``. Channels-last
        in memory if x or weight is.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        Channels that do not match, a kernel larger than the padded input, mixed dtypes, settings out of range.

    Notes
    -----
    2 N O OH OW (C / G) KH KW flop. Sums are kept in float32 for float16 and bfloat16. A NaN reaches the outputs whose
    window holds it. What an infinite or NaN weight makes of padding is left open: kernels may skip taps outside the image.
    """
    return correlated(x, weight, bias, conv_window("conv2d", x.shape[2:], weight.shape[2:], stride, padding, dilation), groups)


def _input_grad_out(
    g: Spec, weight: Spec, input_size: Any, stride: Any, padding: Any, dilation: Any, groups: Any
) -> Spec:
    name = "conv2d_input_grad"
    _four(name, "g", g, "(N, O, OH, OW)")
    _four(name, "weight", weight, "(O, C / groups, KH, KW)")
    check_floats(name, g=g, weight=weight)
    size = geometry.pair(name, "input_size", input_size, 0)
    outputs, per_group = weight.shape[:2]
    n_groups = check_groups(name, groups, outputs, outputs)
    h, w = conv_window(name, size, weight.shape[2:], stride, padding, dilation)
    if g.shape[1:] != (outputs, h.out, w.out):
        raise ShapeError(
            f"{name}: g has shape {g.shape} but a convolution of a {size} image with weight of shape {weight.shape} "
            f"gives (N, {outputs}, {h.out}, {w.out}); pass the settings of the forward call"
        )
    return _layout((g.shape[0], per_group * n_groups, *size), g, weight)


def _input_grad_vjp(c: Saved, ct: Array) -> dict[str, Any]:
    settings = settings_of(c)
    return {
        "g": lambda: conv2d(ct, c.weight, None, **settings),
        "weight": lambda: conv2d_weight_grad(ct, c.g, c.spec_of("weight").shape[2:], **settings),
    }


@op(
    out=_input_grad_out, vjp=_input_grad_vjp, saves=("g", "weight"), flops=conv2d_flops,
    reduces=lambda call: call.spec(1).size // max(call.spec(1).shape[1], 1) // call.settings["groups"],
    samples=(
        s("3x3", A((2, 4, 5, 6)), A((4, 3, 3, 3)), (5, 6), padding=1),
        s("one of everything", A((1, 1, 1, 1)), A((1, 1, 1, 1)), 1),
        s("pointwise strided", A((2, 3, 4, 3)), A((3, 5, 1, 1)), (7, 6), stride=2),
        s("stride 2", A((2, 5, 5, 4)), A((5, 3, 3, 3)), (9, 8), stride=2, padding=1),
        s("stride leaves rows out", A((1, 3, 3, 2)), A((3, 2, 2, 1)), (9, 8), stride=(3, 4)),
        s("dilation and stride", A((2, 3, 5, 4)), A((3, 2, 3, 2)), (9, 8), stride=(2, 2), padding=(2, 1), dilation=(2, 3)),
        s("asymmetric padding", A((1, 3, 4, 7)), A((3, 2, 3, 3)), (4, 5), padding=((0, 2), (3, 1))),
        s("padding beyond the kernel", A((1, 2, 8, 8)), A((2, 2, 2, 2)), 3, padding=3),
        s("rows of 16", A((2, 9, 4, 16)), A((9, 17, 3, 3)), (4, 16), padding=1),
        s("rows of 16, stride 2", A((2, 9, 4, 8)), A((9, 16, 3, 3)), (8, 16), stride=2, padding=1),
        s("few channels, rows of 14", A((3, 9, 5, 10)), A((9, 6, 5, 5)), (9, 14)),
        s("few channels, rows of 37, dilation", A((1, 3, 4, 33)), A((3, 8, 3, 3)), (10, 37), dilation=(3, 2)),
        s("groups", A((2, 8, 5, 4)), A((8, 3, 3, 3)), (5, 4), padding=1, groups=2),
        s("depthwise, multiplier 2, strided", A((2, 6, 4, 4)), A((6, 1, 3, 3)), (7, 8), stride=2, padding=1, groups=3),
        s("tile edges", A((3, 7, 6, 7)), A((7, 37, 3, 3)), (6, 7), padding=1),
        s("g channels last", A((2, 17, 5, 6), view="channels_last"), A((17, 4, 3, 3)), (5, 6), padding=1),
        s("bands of channels last, stride 2", A((2, 17, 4, 8), view="channels_last"), A((17, 20, 3, 3)), (8, 16), stride=2, padding=1),
        s("depthwise, channels last", A((2, 70, 4, 4), view="channels_last"), A((70, 1, 3, 3), view="channels_last"), (7, 8), stride=2, padding=1, groups=70),
        s("depthwise, channels last, stride 1", A((2, 21, 5, 9), view="channels_last"), A((21, 1, 3, 3)), (6, 7), padding=((1, 0), (2, 2)), groups=21),
        s("g expanded", A((3, 4, 5, 4), view="expanded"), A((4, 2, 3, 3), view="transposed"), (7, 6)),
        s("no images", A((0, 4, 5, 4)), A((4, 2, 3, 3)), (5, 4), padding=1),
    ),
    bad=(bad("size", ShapeError, ("g has shape (1, 4, 3, 3)", "(N, 4, 5, 5)"), A((1, 4, 3, 3)), A((4, 2, 3, 3)), 7),),
    bench=(
        bench("LeNet, digits, second", A((64, 32, 8, 8)), A((32, 16, 3, 3)), 8, padding=1),
        bench("64 to 64", A((32, 64, 32, 32)), A((64, 64, 3, 3)), 32, padding=1),
        bench("ResNet-20, strided", A((32, 32, 16, 16)), A((32, 16, 3, 3)), 32, stride=2, padding=1),
    ),
)  # fmt: skip
def conv2d_input_grad(
    g: Array,
    weight: Array,
    input_size: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: Any = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> Array:
    """Gradient of `conv2d` with respect to its images: a transposed convolution, `torch.nn.grad.conv2d_input`.

    ``dx[n, c, h, w] = sum over o, i, j, p, q of g[n, o, i, j] weight[o, c, p, q]`` over those with
    ``i stride + p dilation - top = h`` and ``j stride + q dilation - left = w``.

    Parameters
    ----------
    g : Array
        (N, O, OH, OW), the cotangent of the convolution's result.
    weight : Array
        (O, C / G, KH, KW), of g's dtype.
    input_size : int or (int, int)
        (H, W) of the images.
    stride, padding, dilation, groups
        Those of the convolution.

    Returns
    -------
    Array
        (N, C, H, W). Channels-last in memory if g or weight is.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        When g is not what such a convolution gives, and as `conv2d`.

    Notes
    -----
    2 N O OH OW (C / G) KH KW flop. Linear in g and in weight. Input positions no window reads get zero.
    """
    size = geometry.pair("conv2d_input_grad", "input_size", input_size, 0)
    h, w = window = conv_window("conv2d_input_grad", size, weight.shape[2:], stride, padding, dilation)
    n, outputs = g.shape[0], weight.shape[0]
    per_group = weight.shape[1]
    filters = weight.reshape(groups, outputs // groups, *weight.shape[1:])
    cotangent = g.reshape(n, groups, outputs // groups, h.out, w.out)
    dxp = np.zeros((n, groups, per_group, h.before + size[0] + h.after, w.before + size[1] + w.after), g.dtype)
    at = taps(dxp, window)
    for p in range(weight.shape[2]):
        for q in range(weight.shape[3]):
            shown = at(p, q)
            shown += np.einsum("ngohw,goc->ngchw", cotangent, filters[..., p, q])
    dx = dxp[..., h.before : h.before + size[0], w.before : w.before + size[1]]
    return dx.reshape(n, groups * per_group, *size)


def _weight_grad_out(
    x: Spec, g: Spec, kernel_size: Any, stride: Any, padding: Any, dilation: Any, groups: Any
) -> Spec:
    name = "conv2d_weight_grad"
    _four(name, "x", x, "(N, C, H, W)")
    _four(name, "g", g, "(N, O, OH, OW)")
    check_floats(name, x=x, g=g)
    kernel = geometry.pair(name, "kernel_size", kernel_size)
    n_groups = check_groups(name, groups, x.shape[1], g.shape[1])
    h, w = conv_window(name, x.shape[2:], kernel, stride, padding, dilation)
    if (g.shape[0], *g.shape[2:]) != (x.shape[0], h.out, w.out):
        raise ShapeError(
            f"{name}: g has shape {g.shape} but a convolution of x of shape {x.shape} with a {kernel} kernel gives "
            f"({x.shape[0]}, O, {h.out}, {w.out}); pass the settings of the forward call"
        )
    return Spec((g.shape[1], x.shape[1] // n_groups, *kernel), x.dtype)


def _weight_grad_vjp(c: Saved, ct: Array) -> dict[str, Any]:
    settings = settings_of(c)
    return {
        "x": lambda: conv2d_input_grad(c.g, ct, c.spec_of("x").shape[2:], **settings),
        "g": lambda: conv2d(c.x, ct, None, **settings),
    }


@op(
    out=_weight_grad_out, vjp=_weight_grad_vjp, saves=("x", "g"), flops=conv2d_flops,
    reduces=lambda call: max(call.spec(1).size // max(call.spec(1).shape[1], 1), 1),
    samples=(
        s("3x3", A((2, 3, 5, 6)), A((2, 4, 5, 6)), 3, padding=1),
        s("one of everything", A((1, 1, 1, 1)), A((1, 1, 1, 1)), 1),
        s("pointwise strided", A((2, 5, 7, 6)), A((2, 3, 4, 3)), 1, stride=2),
        s("stride 2", A((2, 3, 9, 8)), A((2, 5, 5, 4)), 3, stride=2, padding=1),
        s("dilation and stride", A((2, 2, 9, 8)), A((2, 3, 5, 4)), (3, 2), stride=(2, 2), padding=(2, 1), dilation=(2, 3)),
        s("asymmetric padding", A((1, 2, 4, 5)), A((1, 3, 4, 7)), 3, padding=((0, 2), (3, 1))),
        s("padding beyond the kernel", A((1, 2, 3, 3)), A((1, 2, 8, 8)), 2, padding=3),
        s("rows of 19", A((2, 3, 4, 19)), A((2, 17, 4, 19)), 3, padding=1),
        s("depthwise, rows of 19", A((2, 3, 4, 19)), A((2, 3, 4, 19)), 3, padding=1, groups=3),
        s("few channels, rows of 28", A((3, 1, 6, 28)), A((3, 6, 6, 28)), 5, padding=2),
        s("few channels of groups, strided, dilation", A((2, 4, 9, 21)), A((2, 10, 4, 16)), (3, 4), stride=(2, 1), padding=((0, 1), (1, 0)), dilation=(1, 2), groups=2),
        s("few channels, rows of 70", A((1, 2, 3, 70)), A((1, 8, 3, 70)), 3, padding=1),
        s("few channels, views", A((2, 3, 5, 11), view="transposed"), A((2, 4, 3, 9), view="channels_last"), 3),
        s("rows of taps, many channels", A((2, 3, 5, 7)), A((2, 20, 5, 7)), (3, 4), padding=((1, 1), (1, 2))),
        s("groups", A((2, 6, 5, 4)), A((2, 8, 5, 4)), 3, padding=1, groups=2),
        s("depthwise, multiplier 2, strided", A((2, 3, 7, 8)), A((2, 6, 4, 4)), 3, stride=2, padding=1, groups=3),
        s("tile edges", A((3, 7, 6, 7)), A((3, 37, 6, 7)), 3, padding=1),
        s("many images", A((70, 2, 4, 4)), A((70, 3, 4, 4)), 3, padding=1),
        s("channels last", A((2, 4, 5, 6), view="channels_last"), A((2, 16, 5, 6), view="channels_last"), 3, padding=1),
        s("bands of channels last", A((2, 16, 5, 6), view="channels_last"), A((2, 32, 5, 6), view="channels_last"), 3, padding=1),
        s("1x1 of channels last", A((3, 40, 3, 4), view="channels_last"), A((3, 12, 3, 4), view="channels_last"), 1),
        s("1x1 to many channels", A((2, 20, 2, 3), view="channels_last"), A((2, 72, 2, 3), view="channels_last"), 1),
        s("7x7 of channels last", A((2, 18, 4, 9), view="channels_last"), A((2, 11, 4, 9), view="channels_last"), 7, padding=3),
        s("groups of channels last", A((5, 18, 4, 5), view="channels_last"), A((5, 20, 4, 5), view="channels_last"), 3, padding=1, groups=2),
        s("bands, odd", A((3, 7, 9, 8), view="channels_last"), A((3, 19, 5, 4)), 3, stride=2, padding=1),
        s("depthwise, channels last", A((2, 21, 6, 7), view="channels_last"), A((2, 21, 3, 4), view="channels_last"), 3, stride=2, padding=1, groups=21),
        s("depthwise, channels last, stride 1", A((3, 37, 6, 9), view="channels_last"), A((3, 37, 6, 9), view="channels_last"), 3, padding=1, groups=37),
        s("depthwise, channels last, few columns", A((2, 16, 3, 4), view="channels_last"), A((2, 16, 8, 3), view="channels_last"), (2, 5), padding=((3, 3), (1, 2)), groups=16),
        s("views", A((3, 2, 5, 4), view="reversed"), A((3, 4, 3, 2), view="expanded"), 3),
        s("no images", A((0, 2, 5, 4)), A((0, 4, 5, 4)), 3, padding=1),
    ),
    bad=(bad("size", ShapeError, ("g has shape (1, 4, 3, 3)", "(1, O, 5, 5)"), A((1, 2, 7, 7)), A((1, 4, 3, 3)), 3),),
    bench=(
        bench("LeNet, digits, second", A((64, 16, 8, 8)), A((64, 32, 8, 8)), 3, padding=1),
        bench("64 to 64", A((32, 64, 32, 32)), A((32, 64, 32, 32)), 3, padding=1),
    ),
)  # fmt: skip
def conv2d_weight_grad(
    x: Array,
    g: Array,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: Any = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> Array:
    """Gradient of `conv2d` with respect to its filters, `torch.nn.grad.conv2d_weight`.

    ``dw[o, c, p, q] = sum over n, i, j of g[n, o, i, j] x[n, c, i stride + p dilation - top, j stride + q dilation - left]``.

    Parameters
    ----------
    x : Array
        (N, C, H, W).
    g : Array
        (N, O, OH, OW), the cotangent of the convolution's result, of x's dtype.
    kernel_size : int or (int, int)
        (KH, KW).
    stride, padding, dilation, groups
        Those of the convolution.

    Returns
    -------
    Array
        (O, C / G, KH, KW), in C order.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        When g is not what such a convolution gives, and as `conv2d`.

    Notes
    -----
    2 N O OH OW (C / G) KH KW flop. Linear in x and in g. Device kernels sum in blocks, always in the same order.
    """
    kernel = geometry.pair("conv2d_weight_grad", "kernel_size", kernel_size)
    h, w = window = conv_window("conv2d_weight_grad", x.shape[2:], kernel, stride, padding, dilation)
    n, outputs = g.shape[:2]
    at = taps(padded(x, window, groups), window)
    cotangent = g.reshape(n, groups, outputs // groups, h.out, w.out)
    dw = np.zeros((groups, outputs // groups, x.shape[1] // groups, *kernel), x.dtype)
    for p in range(kernel[0]):
        for q in range(kernel[1]):
            dw[..., p, q] = np.einsum("ngohw,ngchw->goc", cotangent, at(p, q))
    return dw.reshape(outputs, x.shape[1] // groups, *kernel)
