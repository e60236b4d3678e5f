"""CPU-shaped plans of 3x3 convolution of channels-last images with fewer multiplications; see c/conv_winograd.c."""

from __future__ import annotations

from dataclasses import dataclass

from portable_nn.core import dtypes
from portable_nn.core.geometry import Window
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import Arg, Const, Define, In, Launch, Out, Plan, Profile, Ref, Scratch

from .conv_last import Reach, chunk_of, ending, feed, reach_of
from .gemm_parts import VECTOR_EPILOGUES

_SOURCE = "conv_winograd.c"
_CHANNELS = 16  # that lie together in a patch
_TILES = {1: 16, 2: 8}  # in registers beside so many vectors of output channels
_SUMS = {1: 16, 2: 8}  # channels of a cotangent in registers beside so many vectors of an image's
_POINTS = 16  # of a transformed tile


def _i64(*values: int) -> tuple[Const, ...]:
    return tuple(Const("i64", value) for value in values)


def _up(a: int, b: int) -> int:
    return -(-a // b)


def serves(profile: Profile, n: int, c: int, o: int, reach: tuple[Reach, Reach], least: str = "cpu.winograd.channels") -> bool:
    """Tell whether these plans take a convolution that `conv_last` could, n images of c channels per group to o.

    Three neighbouring taps in both directions, enough channels, and enough work to make up for the transforms of the filters.
    """
    if min(c, o) < profile.size(least) or any((axis.step, axis.dilation, axis.taps) != (1, 1, 3) for axis in reach):
        return False
    enough: int = profile.size("cpu.winograd.work")
    return n * reach[0].out * reach[1].out * c * o * 9 >= enough


def serves_weight(profile: Profile, n: int, c: int, o: int, window: Window) -> bool:
    """Tell the same of its weight gradient."""
    return serves(profile, n, c, o, (reach_of(window[0]), reach_of(window[1])), "cpu.winograd.weight_channels")


@dataclass(frozen=True, slots=True)
class _Bands:
    """Rows of tiles of a band, its tiles, bands of an image, and the columns that are computed.

    Tiles of one point of the transform lie together, up to an odd number of them: 16 places at even distances would meet in a few sets
    of the first cache.
    """

    rows: int
    tiles: int
    count: int
    wide: int


def _bands(profile: Profile, n: int, h: int, w: int, most: int) -> _Bands:
    high, wide = _up(h, 2), _up(w, 2)
    rows = max(1, min(high, most // wide, n * high // (2 * profile.units)))
    count = _up(high, rows)
    rows = _up(high, count)
    return _Bands(rows, rows * wide, _up(high, rows), 2 * wide)


def _blocks(channels: int, most: int) -> int:
    """Return how many channels a block has: up to `most`, as many in each as can be."""
    return _up(_up(channels, _up(channels, most)), _CHANNELS) * _CHANNELS


def convolution(
    profile: Profile, source: Spec, weight: Spec, filters: tuple[int, ...], bias: tuple[Ref, int, int], made: Spec, places: tuple[int, ...],
    *, groups: int, c: int, o: int, reach: tuple[Reach, Reach], scratch: int, epilogue: str = "",
) -> Plan:  # fmt: skip
    """Return the launches that read In(0) as `source` and write Out(0): arguments of `conv_last.convolution`."""
    h, w = reach
    n = source.shape[0]
    compute = dtypes.accumulator(made.dtype)
    lanes = 64 // compute.itemsize
    lanes = min(lanes, 1 << (o.bit_length() - 1))
    vectors = 2 if o > lanes else 1
    width = lanes * vectors
    tiles = _TILES[vectors]
    blocks, all_channels = _up(o, width), _up(c, _CHANNELS) * _CHANNELS
    real = dtypes.TAGS[compute]
    common: tuple[tuple[str, Define], ...] = (("R", real), ("VW", lanes), ("CB", _CHANNELS))
    count = groups * blocks * all_channels
    chunk = chunk_of(profile, count, count * _POINTS * width)
    pack = Launch(
        "pnn_conv_winograd_pack", _SOURCE, (_up(count, chunk),), (1,),
        (In(1), Scratch(scratch), *_i64(count, blocks, c, o, width, *filters, chunk)),
        (("CONV_WINOGRAD_PACK", 1), ("T", dtypes.TAGS[weight.dtype]), *common, ("NV", 1)), packs=True,
    )  # fmt: skip
    most = profile.size("cpu.winograd.tiles")
    bands = _bands(profile, n, h.out, w.out, most)
    patch = all_channels * (2 * bands.rows + 2) * (bands.wide + 2)
    work = n * h.out * w.out * groups * o * c * 4
    units = n * bands.count
    chunk = max(chunk_of(profile, units, work // groups), min(most // bands.tiles, _up(units, profile.units)))
    batch = 1 if bands.count > 1 else max(1, min(chunk, most // bands.tiles))
    room = _up(bands.tiles * batch, tiles) * tiles | 1
    items = _up(units, chunk) * groups
    block_step = _up(blocks, profile.units) if items < profile.units and work > 2 * profile.size("cpu.conv.work") else blocks
    parts = _up(blocks, block_step)
    where, has_bias, bias_step = bias
    args: tuple[Arg, ...] = (
        In(0), Scratch(scratch), In(1), where, Out(0), Scratch(scratch + 1),
        *_i64(n, groups, c, o, h.out, w.out, *h.numbers(2 * bands.rows), *w.numbers(bands.wide), *source.strides, *places, *filters),
        *_i64(blocks, bands.rows, chunk, batch, block_step, room, patch), Const("i32", has_bias), *_i64(bias_step),
        *feed(In(0), tag=real), *ending(),
    )  # fmt: skip
    end: tuple[tuple[str, Define], ...] = (("VEPILOGUE(v)", VECTOR_EPILOGUES[epilogue]),) if epilogue else ()
    tags: tuple[tuple[str, Define], ...] = (
        ("CONV_WINOGRAD", 1), ("T", dtypes.TAGS[made.dtype]), *common, ("NV", vectors), ("P", tiles), ("AHEAD", int(profile.prefetch)), *end,
    )  # fmt: skip
    launch = Launch("pnn_conv_winograd", _SOURCE, (items, parts), (1, 1), args, tags)
    packed = Spec((max(count * _POINTS * width, 1),), compute)
    return Plan((pack, launch), (packed, Spec((items * parts * (batch * patch + _POINTS * room * (all_channels + width)),), compute)))


def weight_grad(profile: Profile, x: Spec, y: Spec, window: Window, groups: int) -> tuple[Plan, Ref, int, int]:
    """Plan the partial sums of the gradient of the filters; return also where they are, how many, and the block of c."""
    h, w = (reach_of(axis) for axis in window)
    n, c, o = x.shape[0], x.shape[1] // groups, y.shape[1] // groups
    compute = dtypes.accumulator(y.dtype)
    real = dtypes.TAGS[compute]
    lanes = 64 // compute.itemsize
    most = profile.size("cpu.winograd.block")
    c_block, o_block = _blocks(c, most), _blocks(o, most)
    squares = groups * _up(c, c_block) * _up(o, o_block)
    last = _up(c - (_up(c, c_block) - 1) * c_block, _CHANNELS) * _CHANNELS
    vectors = 2 if c_block % (2 * lanes) == last % (2 * lanes) == 0 else 1
    most = profile.size("cpu.winograd.weight_tiles")
    bands = _bands(profile, n, h.out, w.out, most)
    units = n * bands.count
    work = n * h.out * w.out * c_block * o_block * 4
    wanted = max(1, min(units, _up(profile.size("cpu.winograd.parts") * profile.units, squares), work // profile.size("cpu.conv.work")))
    chunk = _up(units, wanted)
    parts = _up(units, chunk)
    batch = max(1, min(chunk, most // bands.tiles))
    room = bands.tiles * batch | 1
    patch, copy = c_block * (2 * bands.rows + 2) * (bands.wide + 2), o_block * 2 * bands.rows * bands.wide
    args: tuple[Arg, ...] = (
        In(0), In(1), Scratch(0), Scratch(1),
        *_i64(n, groups, c, o, h.out, w.out, *h.numbers(2 * bands.rows), *w.numbers(bands.wide), *x.strides, *y.strides),
        *_i64(bands.rows, chunk, batch, room, patch, copy, c_block, o_block), *feed(In(0), tag=real), *feed(In(1), tag=real),
    )  # fmt: skip
    tags: tuple[tuple[str, Define], ...] = (
        ("CONV_WINOGRAD_WEIGHT", 1), ("T", dtypes.TAGS[y.dtype]), ("R", real), ("VW", lanes), ("NV", vectors), ("CB", _CHANNELS), ("OB", _SUMS[vectors]),
        ("AHEAD", int(profile.prefetch)),
    )  # fmt: skip
    launch = Launch("pnn_conv_winograd_weight", "conv_winograd_weight.c", (squares, parts), (1, 1), args, tags)
    own = patch + copy + _POINTS * (room * (c_block + o_block) + c_block * o_block)
    sums = Spec((parts, groups * o * _up(c, _CHANNELS) * _CHANNELS * 9), compute)
    return Plan((launch,), (sums, Spec((parts * squares * own,), compute))), Scratch(0), parts, _CHANNELS
