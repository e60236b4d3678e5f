"""CPU-shaped plans of convolutions with few output channels per group, and of their weight gradient; see c/conv_lines.c."""

from __future__ import annotations

from portable_nn.core import dtypes
from portable_nn.core.geometry import Window
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import Arg, Const, Define, In, Launch, Out, Plan, Profile, Ref, Scratch

from .conv_last import Reach, reach_of
from .gemm_parts import VECTOR_EPILOGUES, i64, up

_SOURCE = "conv_lines.c"
_FEW = 3  # output channels per group up to which vectors always run along pixels
_MANY = 8  # and up to which they do where rows are long and adjacent
_LONG = 8  # columns from which on a row is long
_VECTORS = 4  # of a row of cotangents, up to which its loop is unrolled
_TAPS = 5  # of a row, up to which they are unrolled, or a weight gradient has sums for all of them in registers


def serves(channels: int, columns: int, step: int) -> bool:
    """Tell whether vectors run along pixels: so many output channels per group, columns, source columns apart."""
    return channels <= _FEW or (channels <= _MANY and step == 1 and columns >= _LONG)


def serves_weight(channels: int, window: Window) -> bool:
    """Tell whether the weight gradient is taken along rows, for so many output channels per group."""
    _, w = window
    return _FEW < channels <= _MANY and w.stride == 1 and w.out >= _LONG and 1 < w.kernel <= _TAPS


def lanes_of(channels: int, dtype: dtypes.DType) -> int:
    """Return the vector length for so many neighbours."""
    widest = 64 // dtypes.accumulator(dtype).itemsize
    return min(widest, max(4, 1 << max(channels - 1, 0).bit_length()))


def items(profile: Profile, count: int, work: int) -> int:
    """Return how many of `count` units one work-item takes, when all are `work` multiply-adds."""
    most = max(1, min(count, profile.size("cpu.conv.groups") * profile.units, work // profile.size("cpu.conv.work")))
    if most > profile.units:
        most = most // profile.units * profile.units
    return max(1, up(count, most))


class _Patch:
    """The rows of the source that a work-item copies: `segment` bands of output rows at a time."""

    def __init__(self, profile: Profile, source: Spec, c: int, h: Reach, w: Reach, band: int, most: int, lanes: int) -> None:
        extent = max(h.taps - 1, 0) * h.dilation
        self.left = max(0, -w.first)
        self.wide = self.left + w.size + max(0, w.first + (w.out - 1) * w.step + max(w.taps - 1, 0) * w.dilation - (w.size - 1))
        fit = profile.size("cpu.conv.patch") // max(1, c * self.wide * dtypes.accumulator(source.dtype).itemsize)
        fit = most * band if fit >= h.size else (fit - 1 - extent) // h.step + 1
        # Rows that two segments read are copied twice: more than a quarter of them only where a segment is all there is.
        self.segment = max(1, min(most, max(fit // band, up(4 * extent, band * h.step))))
        self.rows = min(h.size, (self.segment * band - 1) * h.step + extent + 1)
        self.size = up(c * self.rows * self.wide + self.wide + lanes, 16) * 16
        self.first = self.left + w.first

    def numbers(self, source: Spec, c: int, h: Reach, w: Reach) -> tuple[int, ...]:
        """Return ROWS and REACH of the kernels."""
        xn, xc, xh, xw = source.strides
        return (
            xn, c * xc, xc, xh, xw, h.size, w.size, self.left, self.wide, self.rows, self.size, h.first, h.step, h.dilation, self.first, w.step, w.dilation
        )  # fmt: skip


def _tags(kernel: str, spec: Spec, lanes: int, **more: int) -> tuple[tuple[str, Define], ...]:
    named = ("T", dtypes.TAGS[spec.dtype]), ("R", dtypes.TAGS[dtypes.accumulator(spec.dtype)]), ("VW", lanes)
    return (kernel.removeprefix("pnn_").upper(), 1), *named, *more.items()


def convolution(
    profile: Profile, source: Spec, weight: Spec, filters: tuple[int, ...], bias: tuple[Ref, int, int], made: Spec, places: tuple[int, ...], *,
    groups: int, c: int, o: int, reach: tuple[Reach, Reach], scratch: int, epilogue: str = "",
) -> Plan:  # fmt: skip
    """Plan a convolution of In(0).

    Parameters
    ----------
    source, weight, made : Spec
    filters : tuple of int
        Start and strides (group, o, c, p, q) of the filters in In(1).
    bias : (Ref, int, int)
        Where it is, whether there is one, its stride.
    places : tuple of int
        Start and strides (n, o, h, w) of what is made in Out(0).
    c, o : int
        Channels per group.
    reach : (Reach, Reach)
    scratch : int
        Number of the first scratch array.
    """
    h, w = reach
    n, compute = source.shape[0], dtypes.accumulator(made.dtype)
    launches = list[Launch]()
    count = groups * c
    if h.taps * w.taps:
        chunk = items(profile, count, count * h.taps * w.taps * o)
        pack_tags: tuple[tuple[str, Define], ...] = (("CONV_PACK", 1), ("T", dtypes.TAGS[weight.dtype]), ("VW", o), ("NV", 1))
        launches.append(Launch(
            "pnn_conv_pack", "conv_cpu.c", (up(count, chunk),), (1,),
            (In(1), Scratch(scratch), *i64(count, 1, c, h.taps, w.taps, o, *filters, chunk)), pack_tags, packs=True,
        ))  # fmt: skip
    lanes = lanes_of(max(w.out, _LONG), made.dtype)
    band = 1 if h.out <= 2 else 4 if o <= 4 else 2
    per_plane = up(h.out, band)
    bands = n * groups * per_plane
    chunk = items(profile, bands, n * h.out * w.out * groups * o * c * h.taps * w.taps)
    if chunk > per_plane:  # whole planes: no rows are copied twice
        chunk = up(chunk, per_plane) * per_plane
    patch = _Patch(profile, source, c, h, w, band, min(chunk, per_plane), lanes)
    where, has_bias, bias_step = bias
    args: tuple[Arg, ...] = (
        In(0), Scratch(scratch), where, Out(0), Scratch(scratch + 1),
        *i64(n, groups, h.out, w.out, c, h.taps, w.taps, *patch.numbers(source, c, h, w), *places, chunk, patch.segment),
        Const("i32", has_bias), *i64(bias_step),
    )  # fmt: skip
    end: tuple[tuple[str, Define], ...] = (("VEPILOGUE(v)", VECTOR_EPILOGUES[epilogue]),) if epilogue else ()
    tags = (*_tags("pnn_conv_lines", made, lanes, RB=band, OB=o, UNIT=int(w.step == 1), TAPS=w.taps if w.taps <= _TAPS and w.dilation == 1 else 0), *end)
    launches.append(Launch("pnn_conv_lines", _SOURCE, (up(bands, chunk),), (1,), args, tags))
    packed = Spec((max(count * h.taps * w.taps * o, 1),), compute)
    return Plan(tuple(launches), (packed, Spec((up(bands, chunk) * patch.size,), compute)))


def weight_grad(profile: Profile, x: Spec, y: Spec, weight: Spec, window: Window, groups: int) -> tuple[Plan, Ref, int, int]:
    """Plan the partial sums of the gradient of the filters; return also where they are, how many, and 0: they lie as the filters do."""
    h, w = (reach_of(axis) for axis in window)
    c, o = x.shape[1] // groups, y.shape[1] // groups
    compute = dtypes.accumulator(weight.dtype)
    blocks = up(o, 4)
    block = up(o, blocks)
    lanes = lanes_of(w.out, weight.dtype)
    vectors = up(w.out, lanes)
    g_wide = vectors * lanes
    lines = y.shape[0] * h.out
    wanted = max(1, min(4 * profile.units, lines * w.out * weight.size // profile.size("cpu.conv.work"), lines))
    chunk = max(1, up(lines, up(wanted, groups * blocks)))
    if chunk > h.out:
        chunk = up(chunk, h.out) * h.out
    parts = max(1, up(lines, chunk))
    patch = _Patch(profile, x, c, h, w, 1, min(chunk, h.out), lanes)
    args: tuple[Arg, ...] = (
        In(0), In(1), Scratch(0), Scratch(1), Scratch(2),
        *i64(lines, groups, h.out, w.out, c, h.taps, o, *patch.numbers(x, c, h, w), *y.strides, g_wide, chunk, patch.segment),
    )  # fmt: skip
    launch = Launch(
        "pnn_conv_weight_rows", _SOURCE, (groups * blocks, parts), (1, 1), args, _tags("pnn_conv_weight_rows", y, lanes, OB=block, TAPS=w.taps, NV=vectors if vectors <= _VECTORS else 0)
    )
    count = groups * blocks * parts
    scratch = Spec((parts, weight.size), compute), Spec((count * (patch.size + block * patch.segment * g_wide),), compute), Spec((count * c * h.taps * block * w.taps * lanes,), compute)
    return Plan((launch,), scratch), Scratch(0), parts, 0
