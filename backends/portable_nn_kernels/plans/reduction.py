"""Plans of reductions, and `reduce_launches`, with which other plans reduce (losses, gradients, statistics)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from portable_nn.core import dtypes
from portable_nn.core.axes import reduced_axes, sum_to_axes
from portable_nn.core.call import Call
from portable_nn.core.dtypes import TAGS, DType
from portable_nn.core.expression import compute_tag
from portable_nn.core.spec import Spec, broadcast_strides, contiguous_strides
from portable_nn_kernels.launch import Arg, Const, Define, In, Launch, Out, Plan, Profile, Ref, Scratch

from . import plans
from .copies import copy_launch

_SHORT = 32  # an inner reduced axis below this leaves most of a work-group idle: one work-item per output then
_ONE_LAUNCH = 65536  # terms per core up to which another launch takes longer than cores that wait for each other
_LIMITS = {
    "i32": ("(-2147483647 - 1)", "2147483647"),
    "u32": ("0u", "4294967295u"),
    "i64": ("(-9223372036854775807l - 1)", "9223372036854775807l"),
    "u64": ("0ul", "18446744073709551615ul"),
}
DTYPE_OF = {tag: dtype for dtype, tag in TAGS.items()}


@dataclass(frozen=True, slots=True)
class Kind:
    """What is computed: macros of `reduce.c`, the tag it accumulates in, the value to start from."""

    combine: str
    acc: str
    init: str
    map: str = "MAP_VALUE"
    finish: str = "FINISH_SAME"
    divisor: float = 1.0
    more: tuple[tuple[str, Define], ...] = ()  # defines, among them that of a `map` which is not in reduce.c


@dataclass(frozen=True, slots=True)
class Source:
    """An operand: where it is, and its spec; broadcast to the shape reduced over."""

    spec: Spec
    ref: Ref


@dataclass(frozen=True, slots=True)
class Reduced:
    """Launches, and the scratch they need: `Scratch(first)`, `Scratch(first + 1)` ..."""

    launches: tuple[Launch, ...]
    scratch: tuple[Spec, ...] = ()


def acc_tag(dtype: DType) -> str:
    """Return the tag sums and products of `dtype` are kept in: 64 bits for integers, float32 for the halves."""
    if dtypes.is_float(dtype):
        return compute_tag(TAGS[dtype])
    return "u64" if dtype in dtypes.UNSIGNED else "i64"


def summing(dtype: DType, mapped: str = "MAP_VALUE") -> Kind:
    """Return the sum, accumulated as `dtype` is."""
    return Kind("COMBINE_SUM", acc_tag(dtype), "0", mapped)


def averaging(dtype: DType, divisor: float, mapped: str = "MAP_VALUE", root: bool = False) -> Kind:
    """Return the sum divided by `divisor`, and its root if asked."""
    return Kind("COMBINE_SUM", acc_tag(dtype), "0", mapped, "FINISH_ROOT" if root else "FINISH_DIVIDE", divisor)


def extremum(dtype: DType, largest: bool) -> Kind:
    """Return the maximum or minimum."""
    tag = compute_tag(TAGS[dtype])
    if dtypes.is_float(dtype):
        init = f"({'-' if largest else ''}INF_{tag.upper()})"
    else:
        low, high = _LIMITS[tag]
        init = low if largest else high
    return Kind("COMBINE_MAX" if largest else "COMBINE_MIN", tag, init)


@dataclass(frozen=True, slots=True)
class _Axes:
    """Kept and reduced axes after merging, at most two of each: sizes, and strides of x, m and of the place."""

    kept: list[tuple[int, list[int]]]
    reduced: list[tuple[int, list[int]]]


def _merge(axes: Sequence[tuple[int, list[int]]]) -> list[tuple[int, list[int]]]:
    found: list[tuple[int, list[int]]] = []
    for n, steps in axes:
        if n == 1:
            continue
        if found and all(a == b * n for a, b in zip(found[-1][1], steps, strict=True)):
            found[-1] = (found[-1][0] * n, steps)
        else:
            found.append((n, steps))
    return [(1, [0, 0, 0])] * (2 - len(found)) + found


def _axes(shape: Sequence[int], strides: Sequence[Sequence[int]], axes: Sequence[int], ordered: bool) -> _Axes:
    places = dict(zip(axes, contiguous_strides(tuple(shape[i] for i in axes)) if ordered else [0] * len(axes), strict=True))
    all_axes = [(shape[i], [strides[0][i], strides[1][i], places.get(i, 0)]) for i in range(len(shape))]
    reduced = [all_axes[i] for i in axes]
    if not ordered:
        reduced.sort(key=lambda axis: -abs(axis[1][0]))
    return _Axes(_merge([a for i, a in enumerate(all_axes) if i not in places]), _merge(reduced))


def reduce_launches(
    x: Source, axes: Sequence[int], y: Ref, y_dtype: DType, kind: Kind, profile: Profile, m: Source | None = None, first: int = 0,
    whole: bool = False,
) -> Reduced:  # fmt: skip
    """Return the launches that reduce `x` over `axes` into `y`, which is dense in C order of the kept axes.

    Parameters
    ----------
    m : Source, optional
        Second operand of the map, broadcast to the shape of `x`.
    first : int
        Number of the first scratch array.
    whole : bool
        Do not cut the reduced axes into parts (the second stage).
    """
    shape = x.spec.shape
    kept = prod(n for i, n in enumerate(shape) if i not in axes)
    if kept == 0:
        return Reduced(())
    if 0 in shape:  # nothing is read, so that axes which do not merge need no copy
        shape, axes = (kept, 0), (1,)
        x = replace(x, spec=Spec(shape, x.spec.dtype))
        m = m and replace(m, spec=Spec(shape, m.spec.dtype))
    m_strides = broadcast_strides(m.spec, shape) if m else (0,) * len(shape)
    found = _axes(shape, (x.spec.strides, m_strides), axes, kind.map == "MAP_PLACE")
    narrow = prod(n for n, _ in found.kept) < 16 and found.reduced[1][0] < 16 and prod(n for n, _ in found.reduced) > 4096
    if len(found.kept) > 2 or len(found.reduced) > 2 or narrow:
        return _copied(x, axes, y, y_dtype, kind, profile, m, first)
    (k1, k1_steps), (k0, k0_steps) = found.kept
    (r1, r1_steps), (r0, r0_steps) = found.reduced
    outputs, terms = k1 * k0, r1 * r0
    cpu = profile.shape == "cpu"
    rows = r0 >= _SHORT and (outputs < 4 or abs(r0_steps[0]) <= abs(k0_steps[0]))
    if rows:
        group, wide, tiles = (16, 0, outputs) if cpu else (profile.size("gpu.reduce.group") if r0 >= 256 else 64, 0, outputs)
    else:
        group = 16 if cpu else 64
        wide = 1
        if cpu and k0_steps[0] == 1 and k1 == 1:  # the longest that leaves every core something to do, so that one launch does
            widths = [w for w in (16, 8, 4) if k0 % (w * group) == 0]
            wide = next((w for w in widths if k0 >= w * group * profile.units), widths[-1] if widths else 1)
        tiles = -(-outputs // (group * wide))
    least = 512 if rows else 64  # terms of a part
    target = min(4 * profile.units, -(-outputs * terms // profile.size("cpu.reduce.work"))) if cpu else profile.size("gpu.reduce.fill") * profile.units
    if cpu and tiles >= profile.units and outputs * terms <= _ONE_LAUNCH * profile.units:
        whole = True
    parts = 1 if whole else max(1, min(-(-target // tiles), terms // least))
    parts_1 = min(parts, r1)
    parts_0 = max(1, min(-(-parts // parts_1), r0)) if parts_1 else 1
    parts_1 = max(parts_1, 1)
    parts = parts_1 * parts_0
    tiles *= parts
    this = kind if parts == 1 else replace(kind, finish="FINISH_SAME")
    target_dtype = y_dtype if parts == 1 else DTYPE_OF[kind.acc]
    divisor = kind.acc if kind.acc in ("f32", "f64") else "i32"
    defines: list[tuple[str, Define]] = [
        ("X", TAGS[x.spec.dtype]), ("Y", TAGS[target_dtype]), ("A", kind.acc), ("D", divisor), ("G", group), ("W", wide),
        ("MAP", kind.map), ("COMBINE", kind.combine), ("FINISH", this.finish), ("INIT", kind.init), *kind.more,
    ]  # fmt: skip
    args: list[Arg] = [x.ref]
    if m:
        defines += [("M", TAGS[m.spec.dtype]), ("HAS_M", 1)]
        args += [m.ref, *(Const("i64", steps[1]) for steps in (k1_steps, k0_steps, r1_steps, r0_steps))]
    if r0_steps[0] == 1:
        defines.append(("UNIT", 1))
    if k1 == 1 and not rows:
        defines.append(("FLAT", 1))
    if k0_steps[0] == 1 and not rows:
        defines.append(("DENSE", 1))
    numbers = [k1, k0, r1, r0, k1_steps[0], k0_steps[0], r1_steps[0], r0_steps[0], r1_steps[2], r0_steps[2], parts_1, parts_0, tiles]
    args += [y if parts == 1 else Scratch(first), *(Const("i64", n) for n in numbers), Const(divisor, kind.divisor if divisor != "i32" else 1)]
    groups = min(tiles, 4 * profile.units) if cpu else min(tiles, 2**31 - 1)
    launch = Launch("pnn_reduce_rows" if rows else "pnn_reduce_columns", "reduce.c", (groups,), (group,), tuple(args), tuple(defines))
    if parts == 1:
        return Reduced((launch,))
    partial = Spec((outputs, parts), target_dtype)
    rest = reduce_launches(
        Source(partial, Scratch(first)), (1,), y, y_dtype, replace(kind, map="MAP_VALUE", more=()), profile, None, first + 1, True
    )
    return Reduced((launch, *rest.launches), (partial, *rest.scratch))


def _copied(
    x: Source, axes: Sequence[int], y: Ref, y_dtype: DType, kind: Kind, profile: Profile, m: Source | None, first: int
) -> Reduced:
    """Bring the operands into the order kept axes, reduced axes; then one of each is left."""
    shape = x.spec.shape
    order = [*(i for i in range(len(shape)) if i not in axes), *axes]
    kept = prod(n for i, n in enumerate(shape) if i not in axes)
    launches: list[Launch] = []
    scratch: list[Spec] = []
    dense: list[Source] = []
    for source in (x, m):
        if source is not None:
            steps = broadcast_strides(source.spec, shape)
            read = Spec(tuple(shape[i] for i in order), source.spec.dtype, tuple(steps[i] for i in order))
            target = Spec(read.shape, read.dtype)
            ref = Scratch(first + len(scratch))
            launches.append(copy_launch(read, source.ref, target, ref, profile))
            scratch.append(target)
            dense.append(Source(Spec((kept, x.spec.size // kept), read.dtype), ref))
    rest = reduce_launches(
        dense[0], (1,), y, y_dtype, kind, profile, dense[1] if len(dense) > 1 else None, first + len(scratch)
    )
    return Reduced((*launches, *rest.launches), (*scratch, *rest.scratch))


def _plan(call: Call, kind: Kind, profile: Profile, axes: tuple[int, ...] | None = None) -> Plan:
    x = call.spec(0)
    over = reduced_axes(call.op, call.settings["axis"], x.ndim) if axes is None else axes
    made = reduce_launches(Source(x, In(0)), over, Out(0), call.outputs[0].dtype, kind, profile)
    return Plan(made.launches, made.scratch)


def _count(call: Call) -> int:
    x = call.spec(0)
    return prod(x.shape[i] for i in reduced_axes(call.op, call.settings["axis"], x.ndim))


@plans("sum")
def sum_plan(call: Call, profile: Profile) -> Plan:
    """One launch, or two when few outputs have many terms."""
    return _plan(call, summing(call.outputs[0].dtype), profile)


@plans("mean")
def mean_plan(call: Call, profile: Profile) -> Plan:
    """Return a sum, divided where it ends."""
    return _plan(call, averaging(call.spec(0).dtype, _count(call)), profile)


@plans("sum_to")
def sum_to_plan(call: Call, profile: Profile) -> Plan:
    """Return a sum."""
    x, y = call.spec(0), call.outputs[0]
    return _plan(call, summing(x.dtype), profile, sum_to_axes(x.shape, y.shape))
