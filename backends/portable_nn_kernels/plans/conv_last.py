"""CPU-shaped plans of convolution for channels-last images: bands of rows, each from a patch of its own; see c/conv_last.c."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from portable_nn.core import dtypes
from portable_nn.core.geometry import Axis, Window
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import Arg, Const, Define, In, Launch, Out, Plan, Profile, Ref, Scratch

from .gemm_parts import VECTOR_EPILOGUES

_SOURCE = "conv_last.c"
_FEWEST = 5  # channels from which on an image's neighbours in memory are worth a vector
_NARROW = 8  # channels made up to which vectors run along pixels
_TILE_TURNED, _TILE = 16, 8  # accumulators of one vector, and of two
_SUMS = 24  # of the weight gradient, in registers
_FEW = 2  # taps of a row that are taken one by one: these are strided gradients, and a program more takes a third of a second to compile
_MANY = 64  # output channels
_TAPS = 5  # neighbouring taps of a row up to which their filters are in registers beside them


def _i64(*values: int) -> tuple[Const, ...]:
    return tuple(Const("i64", value) for value in values)


def _up(a: int, b: int) -> int:
    return -(-a // b)


def feed(x: Ref, how: Feed | None = None, tag: str = "f32") -> tuple[Arg, ...]:
    """Return FED_IN of the kernels, whose last arguments it is: what In or Out `x` is made of; by default it is there itself."""
    if how is None:
        return (*[x] * 7, Const("i32", 0), Const(tag, 0.0))
    return (*how.arrays, Const("i32", how.kind), Const(tag, how.share))


def ending(more: Ref | None = None, gate: Ref | None = None) -> tuple[Arg, ...]:
    """Return the last arguments of the kernel of images: what is added to the sums, and where they pass."""
    return (more or In(0), gate or more or In(0), Const("i32", (more is not None) + (gate is not None)))


@dataclass(frozen=True, slots=True)
class Feed:
    """How a kernel computes an image that is not in memory.

    Parameters
    ----------
    kind : int
        NORM_RELU and so on in the kernel's text.
    arrays : tuple of Ref
        z, mean, rstd, weight, bias, gw, gb; where one is not used, any.
    share : float
        One part in the elements that a channel's mean is of.
    """

    kind: int
    arrays: tuple[Ref, ...]
    share: float


def serves(image: Spec, channels: int, made: int) -> bool:
    """Tell whether these plans take a convolution that reads `image`, so many of its channels per group, and makes `made`."""
    return image.strides[1] == 1 and channels >= _FEWEST and made > _NARROW and image.shape[1] > 1


@dataclass(frozen=True, slots=True)
class Reach:
    """One axis: output i, tap t reads source position ``first + i step + t dilation``.

    Parameters
    ----------
    size, first, step, dilation, taps, out : int
        `size` of the source, `out` positions made.
    """

    size: int
    first: int
    step: int
    dilation: int
    taps: int
    out: int

    @property
    def period(self) -> int:
        """Taps so many apart read the same phase."""
        return self.step // gcd(self.step, self.dilation)

    @property
    def shift(self) -> int:
        """By how many entries."""
        return self.dilation // gcd(self.step, self.dilation)

    @property
    def phases(self) -> int:
        """Phases that are read."""
        return max(1, min(self.taps, self.period))

    def entries(self, outputs: int) -> int:
        """Return the entries of a phase for so many outputs."""
        return outputs + max(0, self.taps - 1) // self.period * self.shift

    def numbers(self, outputs: int) -> tuple[int, ...]:
        """Return AXIS of the kernels."""
        return (self.size, self.first, self.step, self.dilation, self.period, self.phases, self.shift, self.entries(outputs))


@dataclass(frozen=True, slots=True)
class _Tile:
    """Vectors of a tile, its pixels, the channels that lie together in a patch, and the rows of a band."""

    lanes: int
    vectors: int
    pixels: int
    channels: int
    band: int
    wide: int  # columns computed: whole tiles
    patch: int  # elements


def _channel_block(c: int) -> int:
    return 16 if c > 8 else 8


def _pixels(columns: int, most: int) -> int:
    """Return the tile's pixels: those that waste the least, the most of them."""
    return min(range(min(most, max(columns, 1)), 0, -1), key=lambda p: (_up(columns, p) * p * (p + 2) / p, -p)) if columns > 4 else max(1, columns)


def _tile(profile: Profile, dtype: dtypes.DType, n: int, c: int, o: int, h: Reach, w: Reach) -> _Tile:
    compute = dtypes.accumulator(dtype)
    widest = 64 // compute.itemsize
    lanes = min(widest, max(4, 1 << max(o - 1, 0).bit_length()))
    vectors = 2 if o > lanes else 1
    size = _pixels(w.out, _TILE_TURNED if vectors == 1 else _TILE)
    wide = _up(w.out, size) * size
    block = _channel_block(c)
    row = _up(c, block) * block * h.phases * w.phases * w.entries(wide)
    halo = h.entries(0)
    band = max(1, min(h.out, profile.size("cpu.conv.patch") // (row * compute.itemsize) - halo))
    band = min(band, max(1, n * h.out // (2 * profile.units)))
    band = _up(h.out, _up(h.out, band))
    return _Tile(lanes, vectors, size, block, band, wide, row * h.entries(band))


def _tags(kernel: str, spec: Spec, tile: _Tile, **more: int) -> tuple[tuple[str, Define], ...]:
    real = dtypes.TAGS[dtypes.accumulator(spec.dtype)]
    named = ("T", dtypes.TAGS[spec.dtype]), ("R", real), ("VW", tile.lanes), ("NV", tile.vectors), ("CB", tile.channels)
    return (kernel.removeprefix("pnn_").upper(), 1), *named, *more.items()


def chunk_of(profile: Profile, count: int, work: int) -> int:
    """Return how many of `count` units one work-item takes, when all are `work` multiply-adds."""
    items = max(1, min(count, profile.size("cpu.conv.groups") * profile.units, work // profile.size("cpu.conv.work")))
    if items > profile.units:
        items = items // profile.units * profile.units
    return max(1, _up(count, items))


def convolution(
    profile: Profile, source: Spec, weight: Spec, filters: tuple[int, ...], bias: tuple[Ref, int, int], made: Spec, places: tuple[int, ...],
    *, groups: int, c: int, o: int, reach: tuple[Reach, Reach], scratch: int, epilogue: str = "",
) -> Plan:  # fmt: skip
    """Return the launches that read In(0) as `source` and write Out(0).

    Parameters
    ----------
    filters : tuple of int
        Start and strides (group, o, c, p, q) in In(1).
    bias : (ref, int, int)
        Where it is, whether there is one, its stride.
    places : tuple of int
        Start and strides (n, o, h, w) of what is made in Out(0).
    scratch : int
        Number of the first scratch array.
    """
    h, w = reach
    n = source.shape[0]
    tile = _tile(profile, made.dtype, n, c, o, h, w)
    compute = dtypes.accumulator(made.dtype)
    width = tile.lanes * tile.vectors
    blocks = _up(o, width)
    launches = []
    count = groups * blocks * _up(c, tile.channels)
    if h.taps * w.taps:
        chunk = chunk_of(profile, count, count * tile.channels * h.taps * w.taps * width)
        launches.append(Launch(
            "pnn_conv_last_pack", _SOURCE, (_up(count, chunk),), (1,),
            (In(1), Scratch(scratch), *_i64(count, blocks, c, h.taps, w.taps, o, *filters, chunk)), _tags("pnn_conv_last_pack", weight, tile), packs=True,
        ))  # fmt: skip
    bands = n * _up(h.out, tile.band)
    work = n * h.out * w.out * groups * o * c * max(h.taps * w.taps, 1)
    chunk = chunk_of(profile, bands, work // groups)
    items = _up(bands, chunk) * groups
    block_step = _up(blocks, profile.units) if items < profile.units and work > 2 * profile.size("cpu.conv.work") else blocks
    end: tuple[tuple[str, Define], ...] = (("VEPILOGUE(v)", VECTOR_EPILOGUES[epilogue]),) if epilogue else ()
    xn, xc, xh, xw = source.strides
    where, has_bias, bias_step = bias
    args: tuple[Arg, ...] = (
        In(0), Scratch(scratch), where, Out(0), Scratch(scratch + 1),
        *_i64(n, groups, c, o, h.out, w.out, h.taps, w.taps, *h.numbers(tile.band), *w.numbers(tile.wide), xn, xc, xh, xw, *places, blocks, tile.band, chunk, block_step, tile.patch),
        Const("i32", has_bias), *_i64(bias_step), *feed(In(0), tag=dtypes.TAGS[compute]), *ending(),
    )  # fmt: skip
    taps = w.taps if w.step == w.dilation == 1 and _FEW < w.taps <= _TAPS else 1
    tags = (*_tags("pnn_conv_last", made, tile, P=tile.pixels, TAPS=taps, AHEAD=int(profile.prefetch)), *end)
    launches.append(Launch("pnn_conv_last", _SOURCE, (items, _up(blocks, block_step)), (1, 1), args, tags))
    packed = Spec((max(groups * blocks * c * h.taps * w.taps * width, 1),), compute)
    return Plan(tuple(launches), (packed, Spec((items * _up(blocks, block_step) * tile.patch,), compute)))


def reach_of(axis: Axis) -> Reach:
    """Return what a forward convolution reads along an axis."""
    return Reach(axis.size, -axis.before, axis.stride, axis.dilation, axis.kernel, axis.out)


def weight_grad(
    profile: Profile, x: Spec, y: Spec, weight: Spec, window: Window, groups: int, copied: bool = False
) -> tuple[Plan, Ref, int, int]:
    """Plan the partial sums of the gradient of the filters; return also where they are, how many, and the block of c.

    `copied` asks for a copy of the cotangents where none is needed: one can be fed, see `plans/fed.py`.
    """
    h, w = (reach_of(axis) for axis in window)
    c, o = x.shape[1] // groups, y.shape[1] // groups
    compute = dtypes.accumulator(y.dtype)
    taps = min(w.taps, _TAPS)
    lanes = min(64 // compute.itemsize, _channel_block(c))
    # Two vectors of channels read each cotangent half as often, 6 % of the time with 256 of them and nothing with 64: not worth another program there.
    block = 2 * lanes if taps == 1 and c > lanes and o > _MANY else max(lanes, _channel_block(c))
    made = 1 << (_SUMS * lanes // (taps * block)).bit_length() - 1
    made = min(made, 1 << max(o - 1, 0).bit_length())
    direct = y.strides[1] == 1 and compute == y.dtype and o % made == 0 and not copied and o <= max(made, lanes)
    # What is summed over stays in the first cache: rows of a block of channels, and as much again of the cotangents' cache lines.
    row = block * h.phases * w.phases * w.entries(w.out) * compute.itemsize
    beside = w.out * max(made * compute.itemsize, 64)
    room = profile.size("cpu.conv.patch")
    band = max(1, min(h.out, (room - row * h.entries(0)) // (row + beside), x.shape[0] * h.out // (2 * profile.units)))
    band = _up(h.out, _up(h.out, band))
    bands = x.shape[0] * _up(h.out, band)
    work = x.shape[0] * h.out * w.out * weight.size
    wanted = max(1, min(bands, _up(4 * profile.units, groups), work // groups // profile.size("cpu.conv.work")))
    chunk = max(1, _up(bands, wanted))
    parts = max(1, _up(bands, chunk))
    batch = max(1, min(chunk, room // (row * h.entries(band) + beside * band)))
    blocks = _up(c, block)
    patch = blocks * row // compute.itemsize * h.entries(band)
    together = max(made, lanes)
    copy = 0 if direct else band * w.out * _up(o, together) * together
    args: tuple[Arg, ...] = (
        In(0), In(1), Scratch(0), Scratch(1),
        *_i64(x.shape[0], groups, c, o, h.out, w.out, h.taps, w.taps, *h.numbers(band), *w.numbers(w.out), *x.strides, *y.strides, band, chunk, batch, patch, copy),
        *feed(In(0), tag=dtypes.TAGS[compute]), *feed(In(1), tag=dtypes.TAGS[compute]),
    )  # fmt: skip
    tags: tuple[tuple[str, Define], ...] = (
        ("CONV_LAST_WEIGHT", 1), ("T", dtypes.TAGS[y.dtype]), ("R", dtypes.TAGS[compute]), ("VW", lanes), ("NV", block // lanes), ("CB", block),
        ("OB", made), ("TAPS", taps), ("AHEAD", int(profile.prefetch)),
    )  # fmt: skip
    launch = Launch("pnn_conv_last_weight", _SOURCE, (groups, parts), (1, 1), args, tags)
    sums = Spec((parts, groups * o * blocks * h.taps * w.taps * block), compute)
    return Plan((launch,), (sums, Spec((parts * groups * batch * (patch + copy),), compute))), Scratch(0), parts, block
