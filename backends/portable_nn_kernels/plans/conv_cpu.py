"""CPU-shaped plans of convolution: padded copy, packed filters, register tiles; see c/conv_cpu.c.

Over 250 lines because the three directions share their pieces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import gcd

from portable_nn.core import dtypes
from portable_nn.core.geometry import Axis, Window, is_channels_last
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import Arg, Const, Define, In, Launch, Out, Plan, Profile, Ref, Scratch

from . import conv_last, conv_lines, conv_winograd
from .conv_lines import items, lanes_of
from .gemm_parts import VECTOR_EPILOGUES

_FEW = 3  # output channels per group up to which vectors run along pixels instead of channels
_RUN, _SUMS = 5, 20  # neighbouring taps of a weight gradient that share a pointer; its rows of one vector in registers
_TURN_PIXELS = 256  # pixels of cotangent a weight gradient keeps in the first cache


def _i64(*values: int) -> tuple[Const, ...]:
    return tuple(Const("i64", value) for value in values)


def _up(a: int, b: int) -> int:
    return -(-a // b)


@dataclass(frozen=True, slots=True)
class Image:
    """An image as the kernels read it: strides of a padded copy or of the operand itself, and the launch that makes it."""

    ref: Ref
    n: int
    c: int
    h: int
    w: int
    launches: tuple[Launch, ...] = ()
    scratch: tuple[Spec, ...] = ()


@dataclass(frozen=True, slots=True)
class Phase:
    """One axis of one phase of an input gradient: results from `first` in steps of the stride."""

    first: int
    count: int
    tap: int
    tap_step: int
    taps: int
    base: int
    back: int


def _tags(kernel: str, spec: Spec, lanes: int, vectors: int = 1, **more: int) -> tuple[tuple[str, Define], ...]:
    whole = int(dtypes.accumulator(spec.dtype) == spec.dtype)
    named = ("T", dtypes.TAGS[spec.dtype]), ("VW", lanes), ("NV", vectors), ("WHOLE", whole)
    return (kernel.removeprefix("pnn_").upper(), 1), *named, *more.items()


def image(profile: Profile, x: Spec, ref: Ref, pads: tuple[int, int, int, int], scratch: int, *, rows: bool = False) -> Image:
    """Return `x` with (top, bottom, left, right) zeros around it: itself if there are none and its dtype computes.

    `rows` asks for rows contiguous in memory and room behind them for one vector.
    """
    n, c, h, w = x.shape
    compute = dtypes.accumulator(x.dtype)
    if pads == (0, 0, 0, 0) and compute == x.dtype and not rows:
        xn, xc, xh, xw = x.strides
        return Image(ref, xn, xc, xh, xw)
    top, bottom, left, right = pads
    high, wide = top + h + bottom, left + w + right
    last = is_channels_last(x) and not rows
    unit = c if last else 1
    planes = 1 if last else c
    lines = n * planes * high
    chunk = items(profile, lines, lines * wide * unit)
    numbers = (
        lines, planes, h, w * unit, high, wide * unit, top, left * unit, x.strides[0], 0 if last else x.strides[1], x.strides[2],
        1 if last else x.strides[3], chunk,
    )  # fmt: skip
    widest = 64 // compute.itemsize
    lanes = max(4, min(widest, 1 << ((w * unit).bit_length() - 1)))
    launch = Launch(
        "pnn_conv_pad", "conv_cpu.c", (max(1, _up(lines, chunk)),), (1,), (ref, Scratch(scratch), *_i64(*numbers)), _tags("pnn_conv_pad", x, lanes)
    )
    strides = (c * high * wide, 1, wide * c, c) if last else (c * high * wide, high * wide, wide, 1)
    return Image(Scratch(scratch), *strides, launches=(launch,), scratch=(Spec((n * c * high * wide + widest,), compute),))


def _panels(
    profile: Profile, source: Image, weight: Spec, w: tuple[int, ...], bias: tuple[Ref, int, int], y: Spec, *, n: int, groups: int,
    size: tuple[int, int], c: int, taps: tuple[int, int], o: int, places: tuple[int, ...], scratch: int, epilogue: str = "",
) -> tuple[tuple[Launch, ...], tuple[Spec, ...]]:  # fmt: skip
    """Return the launches of one stride-1-like convolution; `w` is start and strides (group, o, c, p, q) of the filters."""
    (oh, ow), (kh, kw) = size, taps
    pixels = n * oh * ow
    shift, has_bias, bias_step = bias
    tail = (Const("i32", has_bias), *_i64(bias_step))
    end: tuple[tuple[str, Define], ...] = (("VEPILOGUE(v)", VECTOR_EPILOGUES[epilogue]),) if epilogue else ()
    work = pixels * groups * o * c * kh * kw
    lanes = lanes_of(o, weight.dtype)
    vectors = 2 if o > lanes else 1
    width = lanes * vectors
    blocks = _up(o, width)
    count = groups * blocks * c
    compute = dtypes.accumulator(weight.dtype)
    packed = Spec((max(count * kh * kw * width, 1),), compute)
    launches = []
    if count * kh * kw:
        chunk = items(profile, count, count * kh * kw * width)
        launches.append(Launch(
            "pnn_conv_pack", "conv_cpu.c", (_up(count, chunk),), (1,),
            (In(1), Scratch(scratch), *_i64(count, blocks, c, kh, kw, o, *w, chunk)), _tags("pnn_conv_pack", weight, lanes, vectors), packs=True,
        ))  # fmt: skip
    head = (source.ref, Scratch(scratch), shift, Out(0))
    run, step = 1, places[5]
    if step in (1, 2):
        run = gcd(ow, 8)
    pixels_per_tile = 16 if vectors == 1 and run > 1 else 8
    tiles = _up(pixels, pixels_per_tile)
    per_item = items(profile, tiles, work // groups)
    block_step = blocks
    if _up(tiles, per_item) * groups < profile.units and work > 2 * profile.size("cpu.conv.work"):
        block_step = _up(blocks, profile.units)
    args: tuple[Arg, ...] = (
        *head, *_i64(pixels, groups, oh, ow, c, kh, kw, o, *places, blocks, per_item, block_step), *tail,
    )  # fmt: skip
    launches.append(Launch(
        "pnn_conv_panels", "conv_cpu.c", (_up(tiles, per_item) * groups, _up(blocks, block_step)), (1, 1), args,
        (*_tags("pnn_conv_panels", y, lanes, vectors, P=pixels_per_tile, RUN=run, XW=step if run > 1 else 0), *end),
    ))  # fmt: skip
    return tuple(launches), (packed,)


def _channels_last(profile: Profile, n: int, c: int, o: int, reach: tuple[conv_last.Reach, conv_last.Reach]) -> Callable[..., Plan]:
    return conv_winograd.convolution if conv_winograd.serves(profile, n, c, o, reach) else conv_last.convolution


def forward(
    profile: Profile, x: Spec, weight: Spec, y: Spec, bias: Spec | None, window: Window, groups: int, epilogue: str = ""
) -> Plan:
    """Plan the convolution; `epilogue` is one of `gemm_parts.EPILOGUES`."""
    h, w = window
    c, o = x.shape[1] // groups, y.shape[1] // groups
    shift = (In(1), 0, 0) if bias is None else (In(2), 1, bias.strides[0])
    wo, wc, wp, wq = weight.strides
    last = conv_last.serves(x, c, o)
    if last or conv_lines.serves(o, w.out, w.stride):
        reach = conv_last.reach_of(h), conv_last.reach_of(w)
        unpadded = _channels_last(profile, x.shape[0], c, o, reach) if last else conv_lines.convolution
        return unpadded(
            profile, x, weight, (0, o * wo, wo, wc, wp, wq), shift, y, (0, *y.strides), groups=groups, c=c, o=o, reach=reach, scratch=0,
            epilogue=epilogue,
        )  # fmt: skip
    source = image(profile, x, In(0), (h.before, h.after, w.before, w.after), 0)
    places = (
        0, source.n, c * source.c, source.c, h.stride * source.h, w.stride * source.w, h.dilation * source.h, w.dilation * source.w,
        0, *y.strides,
    )  # fmt: skip
    launches, scratch = _panels(
        profile, source, weight, (0, o * wo, wo, wc, wp, wq), shift, y,
        n=x.shape[0], groups=groups, size=(h.out, w.out), c=c, taps=(h.kernel, w.kernel), o=o, places=places, scratch=len(source.scratch),
        epilogue=epilogue,
    )  # fmt: skip
    return Plan((*source.launches, *launches), (*source.scratch, *scratch))


def phases(axis: Axis) -> list[Phase]:
    """Return the phases of an axis: input positions that agree modulo the stride read the same filter taps."""
    step = axis.stride // gcd(axis.stride, axis.dilation)
    back = step * axis.dilation // axis.stride
    found = []
    for first in range(min(axis.stride, axis.size)):
        count = _up(axis.size - first, axis.stride)
        mine = [p for p in range(min(step, axis.kernel)) if (first + axis.before - p * axis.dilation) % axis.stride == 0]
        if not mine:
            found.append(Phase(first, count, 0, step, 0, 0, back))
            continue
        tap = mine[0]
        base = (first + axis.before - tap * axis.dilation) // axis.stride
        found.append(Phase(first, count, tap, step, _up(axis.kernel - tap, step), base, back))
    return found


def _phase_pads(axis: Axis, found: list[Phase]) -> tuple[int, int]:
    """Return the zeros that all phases need before and after the cotangent."""
    lows = [f.base - (f.taps - 1) * f.back for f in found if f.taps]
    highs = [f.base + f.count - 1 for f in found if f.taps]
    return max(0, -min(lows, default=0)), max(0, max(highs, default=0) - (axis.out - 1))


def input_grad(profile: Profile, y: Spec, weight: Spec, x: Spec, window: Window, groups: int, bias: Spec | None = None) -> Plan:
    """Plan the gradient of the images, or a transposed convolution with its bias: a convolution of the cotangent per phase."""
    h, w = window
    c, o = x.shape[1] // groups, y.shape[1] // groups
    rows, cols = phases(h), phases(w)
    last = conv_last.serves(y, o, c)
    if last or conv_lines.serves(c, _up(w.size, w.stride), 1):
        return _unpadded_input_grad(profile, y, weight, x, window, groups, bias, last)
    (top, bottom), (left, right) = _phase_pads(h, rows), _phase_pads(w, cols)
    source = image(profile, y, In(0), (top, bottom, left, right), 0)
    wo, wc, wp, wq = weight.strides
    launches, scratch = list(source.launches), list(source.scratch)
    for row in rows:
        for col in cols:
            empty = not (row.taps and col.taps)
            start = 0 if empty else (row.base + top) * source.h + (col.base + left) * source.w
            places = (
                start, source.n, o * source.c, source.c, source.h, source.w, -row.back * source.h, -col.back * source.w,
                row.first * x.strides[2] + col.first * x.strides[3], x.strides[0], x.strides[1], h.stride * x.strides[2], w.stride * x.strides[3],
            )  # fmt: skip
            filters = (row.tap * wp + col.tap * wq, o * wo, wc, wo, row.tap_step * wp, col.tap_step * wq)
            made, packed = _panels(
                profile, source, weight, filters, (In(1), 0, 0) if bias is None else (In(2), 1, bias.strides[0]), x, n=x.shape[0], groups=groups, size=(row.count, col.count), c=o,
                taps=(0, 0) if empty else (row.taps, col.taps), o=c, places=places, scratch=len(scratch),
            )  # fmt: skip
            launches += made
            scratch += packed
    return Plan(tuple(launches), tuple(scratch))


def _unpadded_input_grad(
    profile: Profile, y: Spec, weight: Spec, x: Spec, window: Window, groups: int, bias: Spec | None, last: bool
) -> Plan:
    """Plan an input gradient whose cotangent is channels-last, or that makes few channels."""
    h, w = window
    c, o = x.shape[1] // groups, y.shape[1] // groups
    wo, wc, wp, wq = weight.strides
    launches: list[Launch] = []
    scratch: list[Spec] = []
    for row in phases(h):
        for col in phases(w):
            empty = not (row.taps and col.taps)
            # Taps are counted from the last: then positions grow with the taps, and the kernels need not care.
            p, q = row.tap + (row.taps - 1) * row.tap_step, col.tap + (col.taps - 1) * col.tap_step
            reach = tuple(
                conv_last.Reach(axis.out, f.base - (f.taps - 1) * f.back, 1, f.back, 0 if empty else f.taps, f.count)
                for axis, f in ((h, row), (w, col))
            )  # fmt: skip
            unpadded = _channels_last(profile, x.shape[0], o, c, (reach[0], reach[1])) if last else conv_lines.convolution
            filters = (0 if empty else p * wp + q * wq, o * wo, wc, wo, -row.tap_step * wp, -col.tap_step * wq)
            places = (row.first * x.strides[2] + col.first * x.strides[3], *x.strides[:2], h.stride * x.strides[2], w.stride * x.strides[3])
            made = unpadded(
                profile, y, weight, filters, (In(1), 0, 0) if bias is None else (In(2), 1, bias.strides[0]), x, places, groups=groups, c=o, o=c,
                reach=(reach[0], reach[1]), scratch=len(scratch),
            )  # fmt: skip
            launches += made.launches
            scratch += made.scratch
    return Plan(tuple(launches), tuple(scratch))


def weight_grad(profile: Profile, x: Spec, y: Spec, weight: Spec, window: Window, groups: int) -> tuple[Plan, Ref, int, int]:
    """Plan the partial sums of the gradient of the filters; return also where they are, how many, and the channel block."""
    h, w = window
    c, o = x.shape[1] // groups, y.shape[1] // groups
    if conv_lines.serves_weight(o, window):
        return conv_lines.weight_grad(profile, x, y, weight, window, groups)
    taps = c * h.kernel * w.kernel
    compute = dtypes.accumulator(weight.dtype)
    lines = y.shape[0] * h.out
    work = lines * w.out * weight.size
    few = o <= _FEW
    source = image(profile, x, In(0), (h.before, h.after, w.before, w.after), 0, rows=few)
    launches, scratch = list(source.launches), list(source.scratch)
    places = (
        source.n, c * source.c, source.c, h.stride * source.h, w.stride * source.w, h.dilation * source.h, w.dilation * source.w
    )  # fmt: skip
    rows, run = (9 if taps % 9 == 0 or taps <= 27 else 8), 1
    wanted = max(1, min(4 * profile.units, work // profile.size("cpu.conv.work"), lines))
    if few:
        lanes = lanes_of(max(w.out, 8), weight.dtype)
        parts = max(1, min(_up(wanted, weight.shape[0]), lines))
        step = max(1, _up(lines, parts))
        parts = max(1, _up(lines, step))
        args: tuple[Arg, ...] = (
            source.ref, In(1), Scratch(len(scratch)),
            *_i64(lines, groups * o, h.out, w.out, c, h.kernel, w.kernel, o, *places, *y.strides, step),
        )  # fmt: skip
        launches.append(Launch(
            "pnn_conv_weight_lines", "conv_cpu.c", (groups * o, parts), (1, 1), args, _tags("pnn_conv_weight_lines", y, lanes, P=rows, UNIT=int(places[4] == 1))
        ))  # fmt: skip
        scratch.append(Spec((parts, weight.size), compute))
        return Plan(tuple(launches), tuple(scratch)), Scratch(len(scratch) - 1), parts, 0
    lanes = lanes_of(o, weight.dtype)
    vectors = 2 if o > lanes else 1
    width = lanes * vectors
    blocks = _up(o, width)
    if is_channels_last(y) and compute == y.dtype and o % width == 0:
        turned, panel, pixel = In(1), width, y.shape[1]  # blocks of one group and groups alike are `width` apart
    else:
        turned, panel, pixel = Scratch(len(scratch)), lines * w.out * width, width
        flat = y.strides[2] == w.out * y.strides[3]  # whole planes are runs of pixels
        high, wide = (1, h.out * w.out) if flat else (h.out, w.out)
        count = y.shape[0] * high
        chunk = items(profile, max(count, 1), lines * w.out * y.shape[1])
        if lines:
            launches.append(Launch(
                "pnn_conv_turn", "conv_cpu.c", (_up(count, chunk),), (1,),
                (In(1), turned, *_i64(count, groups, blocks, high, wide, o, *y.strides, chunk)), _tags("pnn_conv_turn", y, lanes, vectors),
            ))  # fmt: skip
        scratch.append(Spec((max(groups * blocks * panel, 1),), compute))
    if places[6] == 1 and 1 < w.kernel <= _RUN:  # the taps of a row are neighbours in memory too
        run = w.kernel
        most = _SUMS // vectors // run * run
        rows = min(range(run, most + 1, run), key=lambda p: (_up(taps, p) * (p + 1), -p))
    panels = groups * blocks
    parts = max(1, min(_up(wanted, panels), lines))
    step = max(1, _up(lines, parts))
    parts = max(1, _up(lines, step))
    block = max(1, _TURN_PIXELS // w.out)
    args = (
        source.ref, turned, Scratch(len(scratch)),
        *_i64(lines, groups, blocks, h.out, w.out, c, h.kernel, w.kernel, *places, panel, pixel, step, block, taps),
    )  # fmt: skip
    launches.append(Launch(
        "pnn_conv_weight_panels", "conv_cpu.c", (panels, parts), (1, 1), args, _tags("pnn_conv_weight_panels", y, lanes, vectors, P=rows, RUN=run)
    ))  # fmt: skip
    scratch.append(Spec((parts, panels * taps * width), compute))
    return Plan(tuple(launches), tuple(scratch)), Scratch(len(scratch) - 1), parts, width

