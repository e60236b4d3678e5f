"""CPU-shaped plans of depthwise convolution for channels-last images; see c/conv_depth.c and c/conv_depth_rows.c."""

from __future__ import annotations

from portable_nn.core import dtypes
from portable_nn.core.geometry import Axis, Window
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import Arg, Const, Define, In, Launch, Out, Plan, Profile, Ref, Scratch

from .copies import copy_launch

_TAPS = 49  # a list of taps a work-item keeps
_WIDEST = 7  # accumulators of the filters' gradient
_SMALL = 8192  # results a work-item should have at least
_ROWS = 4  # rows of cotangents at a time where strides and dilations are 1
_REGISTERS = 32  # of vectors; with 7x7 filters, more than there are, it took 1.5 times the time of a pass for each row of taps
_BAND = 64 * 1024  # bytes of cotangents that stay near while the rows of taps pass


def serves(profile: Profile, image: Spec, made: Spec, weight: Spec, groups: int) -> bool:
    """Tell whether these plans take the convolution between two images: one filter per channel, channels adjacent."""
    alike = image.shape[1] == made.shape[1] == weight.shape[0] == groups > 1 == weight.shape[1]
    taps = weight.shape[2] * weight.shape[3]
    return profile.shape == "cpu" and alike and image.strides[1] == made.strides[1] == 1 and taps <= _TAPS and weight.shape[3] <= _WIDEST


def _i64(*values: int) -> tuple[Const, ...]:
    return tuple(Const("i64", value) for value in values)


def _tags(kernel: str, spec: Spec, **more: int) -> tuple[tuple[str, Define], ...]:
    real = dtypes.accumulator(spec.dtype)
    lanes = min(64 // real.itemsize, max(4, 1 << max(spec.shape[1] - 1, 0).bit_length()))
    named = ("T", dtypes.TAGS[spec.dtype]), ("R", dtypes.TAGS[real]), ("VW", lanes)
    return (kernel.removeprefix("pnn_").upper(), 1), *named, *more.items()


def _steps(window: Window) -> tuple[int, ...]:
    h, w = window
    return (h.stride, w.stride, h.dilation, w.dilation, h.before, w.before)


def _by_rows(window: Window, rows: int) -> int:
    """Return how many rows of cotangents c/conv_depth_rows.c takes at a time, 0 if it does not take the convolution."""
    h, w = window
    many = min(_ROWS, rows)
    registers = h.kernel * w.kernel + many * w.kernel + 1  # sums, cotangents and one vector of x
    return many if registers <= _REGISTERS and all(axis.stride == axis.dilation == 1 for axis in window) else 0


def images(profile: Profile, x: Spec, weight: Spec, y: Spec, window: Window, bias: tuple[Ref, int, int], grad: bool) -> Plan:
    """Plan y from x: the convolution, or (`grad`) the gradient of its images from the cotangent x."""
    _, _, kh, kw = weight.shape
    compute = dtypes.accumulator(y.dtype)
    wo, _, wp, wq = weight.strides
    filters = Spec((kh, kw, weight.shape[0]), compute)
    packed = copy_launch(Spec(filters.shape, weight.dtype, (wp, wq, wo)), In(1), filters, Scratch(0), profile)
    lines = y.shape[0] * y.shape[2]
    chunk = -(-lines // max(1, min(lines, 8 * profile.units, y.size // _SMALL)))
    where, has_bias, bias_step = bias
    sides = (x.shape[2], x.shape[3], y.shape[2], y.shape[3])
    across = window[1]
    inner = _met(across) if grad and across.stride == 1 else (0, 0) if grad else _inner(across)
    args: tuple[Arg, ...] = (
        In(0), Scratch(0), where, Out(0),
        *_i64(*y.shape[:2], *sides, kh, kw, *_steps(window), *inner, across.stride * x.strides[3], x.strides[0], *x.strides[2:], y.strides[0], *y.strides[2:], chunk),
        Const("i32", has_bias), *_i64(bias_step),
    )  # fmt: skip
    launch = Launch("pnn_conv_depth", "conv_depth.c", (-(-lines // chunk),), (1,), args, _tags("pnn_conv_depth", y, GRAD=int(grad), TAPS=_TAPS))
    return Plan((packed, launch), (filters,))


def _inner(axis: Axis) -> tuple[int, int]:
    """Return the outputs [first, last) all of whose taps lie inside."""
    first = -(-axis.before // axis.stride)
    last = (axis.size + axis.before - (axis.kernel - 1) * axis.dilation - 1) // axis.stride + 1
    return min(first, axis.out), max(min(first, axis.out), min(last, axis.out))


def _met(axis: Axis) -> tuple[int, int]:
    """Return the inputs [first, last) that every tap pairs with an output; the stride is 1."""
    first = max(0, (axis.kernel - 1) * axis.dilation - axis.before)
    return first, max(first, min(axis.size, axis.out - axis.before))


def weight_grad(profile: Profile, x: Spec, g: Spec, weight: Spec, window: Window) -> tuple[Plan, Ref, int, int]:
    """Plan the partial sums of the gradient of the filters; return also where they are, how many, and the channel block."""
    rows = _by_rows(window, g.shape[2])
    bands = g.shape[0] * -(-g.shape[2] // max(1, rows))
    chunk = -(-bands // max(1, min(bands, 4 * profile.units, g.size // _SMALL)))
    parts = max(1, -(-bands // chunk))
    strides = (x.strides[0], *x.strides[2:], g.strides[0], *g.strides[2:])
    sizes = (*g.shape[:2], *x.shape[2:], *g.shape[2:])
    if rows:
        kernel, source = "pnn_conv_depth_weight_rows", "conv_depth_rows.c"
        h, w = window
        numbers: tuple[int, ...] = (*sizes, h.before, w.before, *_met(w), *strides, chunk)
        more = {"KH": h.kernel, "KW": w.kernel, "ROWS": rows, "AHEAD": int(profile.prefetch)}
    else:
        kernel, source = "pnn_conv_depth_weight", "conv_depth.c"
        band = max(1, _BAND // max(1, g.shape[1] * g.shape[3] * g.dtype.itemsize))
        numbers = (*sizes, weight.shape[2], *_steps(window), *_inner(window[1]), *strides, band, chunk)
        more = {"KW": weight.shape[3]}
    tags = _tags(kernel, g, **more)
    lanes = dict(tags)["VW"]
    assert isinstance(lanes, int)
    launch = Launch(kernel, source, (parts,), (1,), (In(0), In(1), Scratch(0), *_i64(*numbers)), tags)
    blocks = -(-g.shape[1] // lanes)
    scratch = Spec((parts, blocks * weight.shape[2] * weight.shape[3] * lanes), dtypes.accumulator(g.dtype))
    return Plan((launch,), (scratch,)), Scratch(0), parts, lanes
