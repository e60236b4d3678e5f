"""Transposed convolutions of sequences, images and volumes: the input gradient of a convolution, with a bias.

Their gradients are that convolution and its weight gradient, so this file holds no backward op. Weights are laid out as
those of the convolution that is transposed, (C, O / G, *kernel) from its output to its input, as in PyTorch.
Over 250 lines because the three records read best side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core import geometry
from ..core.array import Array
from ..core.errors import DTypeError, SettingError, ShapeError
from ..core.op import op
from ..core.registry import find
from ..core.samples import A, bad, bench, s
from ..core.spec import Spec
from ..core.tape import Saved
from . import conv_any


def _rule(name: str, rank: int) -> Callable[..., Spec]:
    def out(
        x: Spec, weight: Spec, bias: Spec | None, stride: Any, padding: Any, output_padding: Any, groups: Any, dilation: Any
    ) -> Spec:
        conv_any.check_operand(name, "x", x, conv_any.form("N, C", rank), rank)
        conv_any.check_operand(name, "weight", weight, conv_any.form("C, O / groups", rank, "K"), rank)
        conv_any.check_floats(name, x=x, weight=weight, bias=bias)
        channels, per_group = weight.shape[:2]
        outputs = per_group * conv_any.check_groups(name, groups, channels, channels)
        if x.shape[1] != channels:
            raise ShapeError(
                f"{name}: x has {x.shape[1]} channels (shape {x.shape}) but weight of shape {weight.shape} expects {channels}; "
                f"pass x as {conv_any.form('N, C', rank)} and weight as {conv_any.form('C, O / groups', rank, 'K')}"
            )
        if bias is not None and bias.shape != (outputs,):
            raise ShapeError(f"{name}: bias has shape {bias.shape} but weight of shape {weight.shape} with groups={groups} needs ({outputs},)")
        size = geometry.transposed_size(name, x.shape[2:], weight.shape[2:], stride, padding, output_padding, dilation)
        geometry.conv_axes(name, size, weight.shape[2:], stride, padding, dilation)
        return Spec((x.shape[0], outputs, *size), x.dtype)

    return out


def _vjp(c: Saved, g: Array) -> dict[str, Any]:
    rank = len(g.shape) - 2
    settings = conv_any.settings_of(c)
    return {
        "x": lambda: find(f"conv{rank}d")(g, c.weight, None, **settings),
        "weight": lambda: find(f"conv{rank}d_weight_grad")(g, c.x, c.spec_of("weight").shape[2:], **settings),
        "bias": lambda: find("sum")(g, axis=(0, *range(2, rank + 2))),
    }


def _body(name: str, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, output_padding: Any, groups: int, dilation: Any) -> Any:
    size = geometry.transposed_size(name, x.shape[2:], weight.shape[2:], stride, padding, output_padding, dilation)
    y = conv_any.input_grad(x, weight, geometry.conv_axes(name, size, weight.shape[2:], stride, padding, dilation), groups)
    return y if bias is None else y + bias.reshape(-1, *(1,) * len(size))


def _bads(rank: int) -> tuple[Any, ...]:
    one, three = (1,) * rank, (3,) * rank
    return (
        bad("channels", ShapeError, ("x has 2 channels", "expects 3"), A((1, 2, *three)), A((3, 4, *three))),
        bad("axes", ShapeError, ("x has shape (3, 3)", "are needed"), A((3, 3)), A((4, 3, *three))),
        bad("bias", ShapeError, ("bias has shape (3,)", "(4,)"), A((1, 3, *three)), A((3, 4, *three)), A((3,))),
        bad("output padding", SettingError, ("output_padding is 2", "stride 2"), A((1, 1, *three)), A((1, 1, *three)), stride=2, output_padding=2),
        bad("padding word", SettingError, "'same'", A((1, 1, *three)), A((1, 1, *three)), padding="same"),
        bad("nothing left", ShapeError, ("size of -1", "pad less"), A((1, 1, *one)), A((1, 1, *three)), padding=2),
        bad("groups", SettingError, "groups is 2", A((1, 3, *three)), A((3, 4, *three)), groups=2),
        bad("dtypes", DTypeError, "different dtypes", A((1, 1, *one), dtype="float32"), A((1, 1, *one), dtype="float64")),
    )


@op(
    out=_rule("conv_transpose1d", 1), vjp=_vjp, saves=("x", "weight"), flops=conv_any.flops, reduces=conv_any.input_terms,
    samples=(
        s("3", A((2, 4, 9)), A((4, 3, 3)), A((3,))),
        s("no bias", A((2, 4, 9)), A((4, 3, 4)), padding=1),
        s("one of everything", A((1, 1, 1)), A((1, 1, 1)), A((1,))),
        s("stride 2", A((2, 4, 9)), A((4, 3, 3)), A((3,)), stride=2, padding=1, output_padding=1),
        s("gaps", A((1, 3, 4)), A((3, 2, 2)), A((2,)), stride=(4,), output_padding=(3,)),
        s("dilation", A((2, 3, 8)), A((3, 2, 3)), stride=2, padding=((2, 0),), dilation=3),
        s("groups", A((2, 8, 9)), A((8, 3, 3)), A((6,)), groups=2),
        s("long", A((2, 5, 70)), A((5, 20, 4)), A((20,)), stride=2, padding=1),
        s("views", A((3, 4, 6), view="transposed"), A((4, 2, 3), view="reversed"), A((2,), view="strided")),
        s("no sequences", A((0, 4, 5)), A((4, 2, 3)), A((2,))),
    ),
    bad=_bads(1),
    bench=(bench("vocoder", A((4, 256, 256)), A((256, 128, 16)), A((128,)), stride=8, padding=4),),
)  # fmt: skip
def conv_transpose1d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: int | tuple[int] = 1,
    padding: Any = 0,
    output_padding: int | tuple[int] = 0,
    groups: int = 1,
    dilation: int | tuple[int] = 1,
) -> Array:
    """Transposed convolution of sequences, as `torch.nn.functional.conv_transpose1d`; see `conv_transpose2d`.

    ``y[n, o, l] = bias[o] + sum of x[n, c, i] weight[c, o, p]`` over the c of o's group and those i, p with
    ``i stride + p dilation - before = l``.

    Parameters
    ----------
    x : Array
        (N, C, L), floating.
    weight : Array
        (C, O / G, K), of x's dtype.
    bias : Array, optional
        (O,), of x's dtype.
    stride, dilation : int or (int,)
        At least 1.
    padding : int, (int,) or ((before, after),)
        What is cut off the result's ends.
    output_padding : int or (int,)
        Adds to the result's size; less than the stride.
    groups : int
        G.

    Returns
    -------
    Array
        (N, O, (L - 1) stride - before - after + dilation (K - 1) + output_padding + 1).

    Raises
    ------
    ShapeError, DTypeError, SettingError
        As `conv_transpose2d`.

    Notes
    -----
    2 N C L (O / G) K flop.
    """
    made: Array = _body("conv_transpose1d", x, weight, bias, stride, padding, output_padding, groups, dilation)
    return made


@op(
    out=_rule("conv_transpose2d", 2), vjp=_vjp, saves=("x", "weight"), flops=conv_any.flops, reduces=conv_any.input_terms,
    samples=(
        s("3x3", A((2, 4, 5, 6)), A((4, 3, 3, 3)), A((3,))),
        s("no bias", A((2, 4, 5, 6)), A((4, 3, 3, 2)), padding=1),
        s("one of everything", A((1, 1, 1, 1)), A((1, 1, 1, 1)), A((1,))),
        s("double", A((2, 4, 5, 4)), A((4, 3, 4, 4)), A((3,)), stride=2, padding=1),
        s("output padding", A((2, 4, 5, 4)), A((4, 3, 3, 3)), A((3,)), stride=(2, 3), padding=1, output_padding=(1, 2)),
        s("gaps keep the bias", A((1, 3, 3, 2)), A((3, 2, 2, 1)), A((2,)), stride=(3, 4)),
        s("dilation", A((2, 3, 5, 4)), A((3, 2, 3, 2)), A((2,)), stride=2, padding=((2, 1), (1, 0)), dilation=(2, 3)),
        s("groups", A((2, 8, 5, 4)), A((8, 3, 3, 3)), A((6,)), padding=1, groups=2),
        s("depthwise", A((2, 3, 5, 4)), A((3, 1, 4, 4)), A((3,)), stride=2, padding=1, groups=3),
        s("tile edges", A((3, 7, 6, 7)), A((7, 37, 3, 3)), A((37,)), padding=1),
        s("rows of 16", A((2, 9, 4, 16)), A((9, 17, 3, 3)), A((17,)), padding=1),
        s("channels last", A((2, 4, 5, 6), view="channels_last"), A((4, 17, 3, 3)), A((17,))),
        s("views", A((3, 4, 5, 4), view="expanded"), A((4, 2, 3, 3), view="transposed"), A((2,), view="reversed")),
        s("no images", A((0, 4, 5, 4)), A((4, 2, 3, 3)), A((2,))),
        s("NaN", A((1, 1, 3, 3), values=(0, 1, 2, 3, float("nan"), 5, 6, 7, 8)), A((1, 1, 2, 2)), gradient=False, why="holds NaN"),
    ),
    bad=_bads(2),
    bench=(
        bench("U-Net up", A((4, 128, 32, 32)), A((128, 64, 2, 2)), A((64,)), stride=2),
        bench("DCGAN", A((16, 256, 8, 8)), A((256, 128, 4, 4)), A((128,)), stride=2, padding=1),
    ),
)  # fmt: skip
def conv_transpose2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: int | tuple[int, int] = 1,
    padding: Any = 0,
    output_padding: int | tuple[int, int] = 0,
    groups: int = 1,
    dilation: int | tuple[int, int] = 1,
) -> Array:
    """Transposed convolution of images, as `torch.nn.functional.conv_transpose2d`: `conv2d_input_grad` with a bias.

    ``y[n, o, h, w] = bias[o] + sum of x[n, c, i, j] weight[c, o, p, q]`` over the c of o's group and those i, j, p, q with
    ``i stride + p dilation - top = h`` and ``j stride + q dilation - left = w``.

    Parameters
    ----------
    x : Array
        (N, C, H, W), floating.
    weight : Array
        (C, O / G, KH, KW), of x's dtype.
    bias : Array, optional
        (O,), of x's dtype.
    stride, dilation : int or (int, int)
        At least 1.
    padding : int, (int, int) or ((top, bottom), (left, right))
        What is cut off the result's borders: the padding of the convolution that is transposed.
    output_padding : int or (int, int)
        Adds to the result's size at its end; less than the stride, so that the convolution of the result gives x's size.
    groups : int
        G.

    Returns
    -------
    Array
        (N, O, OH, OW) in C order, with ``OH = (H - 1) stride - top - bottom + dilation (KH - 1) + output_padding + 1``.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        Channels that do not match, an empty x or a result without size, mixed dtypes, settings out of range.

    Notes
    -----
    2 N C H W (O / G) KH KW flop. Sums are kept in float32 for float16 and bfloat16. Positions no tap reaches get the bias.
    """
    made: Array = _body("conv_transpose2d", x, weight, bias, stride, padding, output_padding, groups, dilation)
    return made


@op(
    out=_rule("conv_transpose3d", 3), vjp=_vjp, saves=("x", "weight"), flops=conv_any.flops, reduces=conv_any.input_terms,
    samples=(
        s("3x3x3", A((2, 4, 3, 4, 5)), A((4, 3, 3, 3, 3)), A((3,)), padding=1),
        s("no bias", A((1, 3, 2, 3, 2)), A((3, 2, 2, 1, 3))),
        s("one of everything", A((1, 1, 1, 1, 1)), A((1, 1, 1, 1, 1)), A((1,))),
        s("double", A((1, 3, 3, 2, 4)), A((3, 2, 4, 4, 4)), A((2,)), stride=2, padding=1),
        s("output padding", A((1, 3, 3, 2, 2)), A((3, 2, 3, 2, 3)), A((2,)), stride=(2, 1, 3), padding=(1, 0, 1), output_padding=(1, 0, 2)),
        s("dilation", A((1, 2, 3, 3, 2)), A((2, 2, 2, 2, 3)), A((2,)), dilation=(2, 3, 1), padding=((1, 0), (0, 2), (1, 1))),
        s("groups", A((1, 4, 2, 3, 3)), A((4, 2, 2, 2, 2)), A((4,)), groups=2),
        s("views", A((2, 3, 3, 2, 3), view="channels_last"), A((3, 2, 2, 2, 2), view="transposed"), A((2,), view="strided")),
        s("no volumes", A((0, 4, 3, 3, 3)), A((4, 2, 3, 3, 3)), A((2,))),
    ),
    bad=_bads(3),
    bench=(bench("U-Net up", A((1, 64, 16, 16, 16)), A((64, 32, 2, 2, 2)), A((32,)), stride=2),),
)  # fmt: skip
def conv_transpose3d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: int | tuple[int, int, int] = 1,
    padding: Any = 0,
    output_padding: int | tuple[int, int, int] = 0,
    groups: int = 1,
    dilation: int | tuple[int, int, int] = 1,
) -> Array:
    """Transposed convolution of volumes, as `torch.nn.functional.conv_transpose3d`; see `conv_transpose2d`.

    Parameters
    ----------
    x : Array
        (N, C, D, H, W), floating.
    weight : Array
        (C, O / G, KD, KH, KW), of x's dtype.
    bias : Array, optional
        (O,), of x's dtype.
    stride, dilation : int or (int, int, int)
        At least 1.
    padding : int, (int, int, int) or three (before, after)
        What is cut off the result's borders.
    output_padding : int or (int, int, int)
        Adds to the result's size; less than the stride.
    groups : int
        G.

    Returns
    -------
    Array
        (N, O, OD, OH, OW) in C order.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        As `conv_transpose2d`.

    Notes
    -----
    2 N C D H W (O / G) KD KH KW flop.
    """
    made: Array = _body("conv_transpose3d", x, weight, bias, stride, padding, output_padding, groups, dilation)
    return made
