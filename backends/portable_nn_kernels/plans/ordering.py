"""Plans of sort, argsort, topk and their gradient, and `sorted_places`, with which other plans sort."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from portable_nn.core import dtypes
from portable_nn.core.axes import axis_of
from portable_nn.core.call import Call
from portable_nn.core.dtypes import TAGS, DType, int32, int64, uint32, uint64
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import Arg, Const, Define, In, Launch, Out, Plan, Profile, Ref

from . import plans
from .copies import bits, fill_launch
from .extremum import Steps
from .gather import dense, index_error
from .index_width import fits
from .lines import Line, Lines, lines

_SELECT = 32, 128  # up to so many are kept in order while a CPU reads on: always; where they are few of many
_CPU_PART = 8192  # elements of a block below which a CPU does not cut a line


@dataclass(frozen=True, slots=True)
class Targets:
    """Where values and places go: refs, or None; dense arrays of one shape, `keep` long along the axis."""

    spec: Spec
    values: Ref | None
    places: Ref | None
    keep: int


def _numbers(*values: int) -> tuple[Const, ...]:
    return tuple(Const("i64", v) for v in values)


def _defines(dtype: DType, descending: bool) -> tuple[list[tuple[str, Define]], DType]:
    """Return what turns values into keys, and the dtype of the keys."""
    floating = dtypes.is_float(dtype)
    key = uint64 if dtype.itemsize == 8 else uint32
    found: list[tuple[str, Define]] = [("T", TAGS[dtype]), ("K", TAGS[key])]
    if floating:
        found.append(("REAL", 1))
    elif dtype.kind == "i":
        found.append(("SIGNED", 1))
    if descending:
        found.append(("DESCENDING", 1))
    return found, key


def _groups(count: int, group: int, work: int, profile: Profile) -> int:
    """Return how many groups share `count` items, which read or write `work` elements."""
    tiles = -(-count // group)
    return min(tiles, max(1, min(4 * profile.units, -(-work // profile.size("cpu.order.work"))))) if profile.shape == "cpu" else min(tiles, 2**31 - 1)


def _strides(found: Lines) -> list[tuple[str, Define]]:
    """Return the defines of line.h that hold for x and y."""
    return [("UNIT", 1)] if all(s[2] == 1 for s in found.strides) else []


def _width(found: Lines, keep: int, key: DType, profile: Profile) -> tuple[int, bool]:
    """Return the length of a block, and whether a CPU selects instead of sorting."""
    n = found.length
    if profile.shape == "gpu":
        block = profile.size("gpu.order.block")
        while block * (key.itemsize + 4) > profile.local_bytes:
            block //= 2
        return min(n, block), False
    if keep <= _SELECT[0] or (keep <= _SELECT[1] and keep * 64 <= n):
        cut = profile.units // found.count if n >= 4 * _CPU_PART else 1
        return -(-n // max(cut, 1)), True
    cut = min(-(-2 * profile.units // found.count), n // _CPU_PART)
    return -(-n // max(cut, 1)), False


def order_launches(steps: Steps, x: Spec, ref: Ref, axis: int, targets: Targets, descending: bool) -> tuple[Ref, Ref] | None:
    """Add the launches that sort `x`, not empty, along `axis`.

    Returns
    -------
    tuple of Ref or None
        Sorted keys and places in scratch, dense (lines, n), when nothing is written to `targets`; None otherwise. A key
        is the value itself for unsigned integers and, less half its range, for signed ones.
    """
    profile = steps.profile
    cpu = profile.shape == "cpu"
    found = lines(x.shape, axis, [Line(x, ref), Line(targets.spec, targets.values or targets.places or ref)], profile)
    if found.copies:
        base = len(steps.scratch)
        assert base == 0, "copies come first"
        steps.launches += found.copies
        steps.scratch += found.scratch
    source, n, count, keep = found.refs[0], found.length, found.count, targets.keep
    defines, key = _defines(x.dtype, descending)
    place = int32 if fits(n) else int64
    defines += [("P", TAGS[place]), *_strides(found)]
    width, select = _width(found, keep, key, profile)
    blocks = -(-n // width)
    inside = targets.values is None and targets.places is None
    final = blocks == 1 and not inside
    wanted: list[tuple[str, Define]] = []
    outs: list[Arg] = []
    for name, out in (("VALUES", targets.values), ("PLACES", targets.places)):
        if out is not None:
            wanted.append((name, 1))
            outs.append(out)
    keys, places = (ref, ref) if final else (steps.reserve(Spec((count, n), key)), steps.reserve(Spec((count, n), place)))
    first: list[Arg] = [source, *(outs if final else (keys, places)), *found.sizes, *found.steps(0), *found.steps(1)]
    first += _numbers(blocks, width, keep)
    defines += [("FINAL", 1), *wanted] if final else []
    if cpu:
        groups = _groups(count * blocks, 1, x.size * 16, profile)
        slots = groups if final else count * blocks
        room = steps.reserve(Spec((slots, 2, width), key)), steps.reserve(Spec((slots, 2, width), place))
        flags: list[tuple[str, Define]] = [("SELECT", 1)] if select else []
        steps.launches.append(Launch("pnn_order_runs", "ordering.c", (groups,), (1,), (*first, *room), (("WHAT", 1), ("G", 1), *defines, *flags)))
    else:
        block = 1 << max(width - 1, 0).bit_length()
        rows = max(1, 128 // block)
        group = min(256, profile.group_limit, max(rows * block // 2, 1))
        size: list[tuple[str, Define]] = [("BLOCK", block), ("ROWS", rows)]
        groups = min(-(-count * blocks // rows), 2**31 - 1)
        steps.launches.append(Launch("pnn_order_blocks", "ordering.c", (groups,), (group,), tuple(first), (("WHAT", 0), ("G", group), *size, *defines)))
    if final:
        return None
    group = 1 if cpu else 64
    chunk = profile.size("cpu.order.chunk" if cpu else "gpu.order.chunk")
    if blocks > 1:
        others = steps.reserve(Spec((count, n), key)), steps.reserve(Spec((count, n), place))
    while width < n:
        pairs, parts = -(-n // (2 * width)), -(-min(keep, 2 * width) // chunk)
        args: tuple[Arg, ...] = (keys, places, *others, *_numbers(count, n, width, keep, chunk, pairs, parts))
        merge: list[tuple[str, Define]] = [("WHAT", 2), ("G", group), ("K", TAGS[key]), ("P", TAGS[place])]
        groups = _groups(count * pairs * parts, group, x.size * 16, profile)
        steps.launches.append(Launch("pnn_order_merge", "ordering.c", (groups,), (group,), args, tuple(merge)))
        (keys, places), others = others, (keys, places)
        width *= 2
    if inside:
        return keys, places
    write: list[tuple[str, Define]] = [("WHAT", 3), ("G", group), ("T", TAGS[bits(x.dtype)]), ("P", TAGS[place]), *_strides(found), *wanted]
    last: list[Arg] = [source, places, *outs, *found.sizes, *found.steps(0), *found.steps(1), *_numbers(keep)]
    steps.launches.append(Launch("pnn_order_write", "ordering.c", (_groups(count * keep, group, count * keep, profile),), (group,), tuple(last), tuple(write)))
    return None


@plans("sort", "argsort", "topk")
def order(call: Call, profile: Profile) -> Plan:
    """Sort the lines, and write what is asked for."""
    x, y = call.spec(0), call.outputs[0]
    if y.size == 0:
        return Plan(())
    top = call.op == "topk"
    axis = axis_of(call.op, call.settings["dim" if top else "axis"], x.ndim)
    descending = bool(call.settings["largest" if top else "descending"])
    values = None if call.op == "argsort" else Out(0)
    places = Out(1) if top or (call.op == "sort" and call.residuals) else Out(0) if call.op == "argsort" else None
    steps = Steps(profile)
    order_launches(steps, x, In(0), axis, Targets(y, values, places, y.shape[axis] if x.ndim else 1), descending)
    return steps.plan()


@plans("sort_grad")
def sort_grad(call: Call, profile: Profile) -> Plan:
    """Fill with zeros, unless every place is written; then write."""
    g, k, z = call.spec(0), call.spec(1), call.outputs[0]
    if z.size == 0:
        return Plan(())
    axis = axis_of(call.op, call.settings["dim"], g.ndim)
    steps = Steps(profile)
    size, taken = z.shape[axis], g.shape[axis]
    if g.size:
        sources = dense(steps, g, In(0)), dense(steps, k, In(1))
    steps.launches.append(fill_launch(z, Out(0), 0, profile))
    if g.size:
        group = 16 if profile.shape == "cpu" else 256
        args: tuple[Arg, ...] = (*sources, Out(0), *_numbers(g.size, size, taken, prod(g.shape[axis + 1 :])), index_error(call.op, size))
        defines = (("WHAT", 4), ("G", group), ("T", TAGS[bits(g.dtype)]), ("L", TAGS[k.dtype]))
        groups = _groups(g.size, group, g.size, profile)
        steps.launches.append(Launch("pnn_order_scatter", "ordering.c", (groups,), (group,), args, defines))
    return steps.plan()
