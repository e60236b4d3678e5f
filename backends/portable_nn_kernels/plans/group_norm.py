"""Plans of group norm, instance norm, RMS norm and their gradients: rows in C order, a work-group or a work-item each."""

from __future__ import annotations

from math import prod

from portable_nn.core import dtypes
from portable_nn.core.call import Call
from portable_nn.core.dtypes import TAGS
from portable_nn.core.spec import Spec, Weak
from portable_nn_kernels.launch import Arg, Const, Define, In, Launch, Out, Plan, Profile, Ref, Scratch

from . import norm_rows_cpu, plans
from .copies import fill_launch
from .index_width import fits
from .lines import SHORT
from .norm import contiguous, flat_step, merge, row_columns, row_groups, stat_operand

Defines = tuple[tuple[str, Define], ...]


def _tag(spec: Spec | Weak | None, like: Spec) -> str:
    return TAGS[spec.dtype if isinstance(spec, Spec) else like.dtype]


def _walk(rows: int, length: int, profile: Profile) -> tuple[int, int, Defines]:
    """Return (group size, groups, defines): who takes a row."""
    if length >= SHORT:
        group, groups = row_groups(rows, length, profile)
        return group, groups, (("G", group), ("LANES", 1))
    group = profile.vector if profile.shape == "cpu" else 64
    tiles = -(-rows // group)
    if profile.shape == "cpu":
        tiles = min(tiles, max(1, min(8 * profile.units, rows * length // profile.size("cpu.norm.work"))))
    return group, min(tiles, 1 << 20), (("G", group),)


def _weight(call: Call, index: int, instead: Ref, scratch: list[Spec], launches: list[Launch], profile: Profile) -> tuple[Ref, int]:
    """Return where an optional weight or bias is, and its stride."""
    return (instead, 0) if call.inputs[index] is None else flat_step(call.inputs[index], In(index), scratch, launches, profile)


def _split(span: int, group: int, channels: int) -> int:
    return int(span < 2 * group and fits(channels * span))


@plans("group_norm", "instance_norm")
def group_norm(call: Call, profile: Profile) -> Plan:
    """Plan one launch over the rows."""
    x = call.spec(0)
    if x.size == 0:
        return Plan(())
    weight, bias = call.inputs[1], call.inputs[2]
    groups = call.settings.get("num_groups", x.shape[1])
    channels, span, rows = x.shape[1] // groups, prod(x.shape[2:]), x.shape[0] * groups
    launches: list[Launch] = []
    scratch: list[Spec] = []
    x_ref = contiguous(x, In(0), scratch, launches, profile)
    w_ref, w_step = _weight(call, 1, x_ref, scratch, launches, profile)
    b_ref, b_step = _weight(call, 2, x_ref, scratch, launches, profile)
    stat = dtypes.accumulator(x.dtype)
    stats: tuple[Ref, Ref] = (Out(1), Out(2))
    if not call.residuals:
        scratch += [Spec((rows,), stat)] * 2
        stats = (Scratch(len(scratch) - 2), Scratch(len(scratch) - 1))
    group, count, walk = _walk(rows, channels * span, profile)
    defines: Defines = (
        ("T", TAGS[x.dtype]), ("TW", _tag(weight, x)), ("TB", _tag(bias, x)), ("R", TAGS[stat]), ("WEIGHT", int(weight is not None)),
        ("BIAS", int(bias is not None)), ("SPLIT", _split(span, group, channels)), ("KIND", 0), *walk,
    )  # fmt: skip
    numbers = tuple(Const("i64", v) for v in (rows, groups, channels, span, w_step, b_step))
    args: tuple[Arg, ...] = (x_ref, w_ref, b_ref, Out(0), *stats, *numbers, Const(TAGS[stat], call.settings["eps"]))
    launches.append(Launch("pnn_group_norm", "group_norm.c", (count,), (group,), args, defines))
    return Plan(tuple(launches), tuple(scratch))


@plans("group_norm_grad")
def group_norm_grad(call: Call, profile: Profile) -> Plan:
    """Plan the channels' sums per example, their merge over examples, and the launch that makes gx."""
    g, x, weight, stat = call.spec(0), call.spec(1), call.inputs[2], call.outputs[1]
    n, c = x.shape[:2]
    if c == 0:
        return Plan(())
    groups = call.settings["num_groups"]
    channels, span = c // groups, prod(x.shape[2:])
    launches: list[Launch] = []
    scratch: list[Spec] = [Spec((c * n,), stat.dtype)] * 2
    gbs, gws = Scratch(0), Scratch(1)
    g_ref = contiguous(g, In(0), scratch, launches, profile)
    x_ref = contiguous(x, In(1), scratch, launches, profile)
    w_ref, w_step = _weight(call, 2, x_ref, scratch, launches, profile)
    stats = [stat_operand(call.spec(i), stat.dtype, In(i), scratch, launches, profile) for i in (3, 4)]
    args: tuple[Arg, ...]
    tags: Defines = (("T", TAGS[x.dtype]), ("TG", TAGS[g.dtype]), ("TW", _tag(weight, x)), ("R", TAGS[stat.dtype]), ("WEIGHT", int(weight is not None)))
    if x.size:
        group, count, walk = _walk(n * c, span, profile)
        args = (g_ref, x_ref, *stats, gbs, gws, *(Const("i64", v) for v in (n, c, channels, span)))
        launches.append(Launch("pnn_group_norm_sums", "group_norm.c", (count,), (group,), args, (*tags, ("SPLIT", 0), ("KIND", 1), *walk)))
    launches.append(merge(gbs, gws, Out(2), Out(1), c, n, (("TX", TAGS[x.dtype]), ("TS", TAGS[stat.dtype]))))
    if x.size:
        group, count, walk = _walk(n * groups, channels * span, profile)
        args = (g_ref, x_ref, w_ref, *stats, gbs, gws, Out(0), *(Const("i64", v) for v in (n, groups, channels, span, w_step)))
        defines = (*tags, ("SPLIT", _split(span, group, channels)), ("KIND", 2), *walk)
        launches.append(Launch("pnn_group_norm_grad", "group_norm.c", (count,), (group,), args, defines))
    return Plan(tuple(launches), tuple(scratch))


def _rows(call: Call, x: Spec) -> tuple[int, int]:
    wanted = call.settings["normalized_shape"]
    length = wanted if isinstance(wanted, int) else prod(wanted)
    return x.size // length, length


@plans("rms_norm")
def rms_norm(call: Call, profile: Profile) -> Plan:
    """Plan one launch over the rows."""
    x, weight = call.spec(0), call.inputs[1]
    if x.size == 0:
        return Plan(())
    rows, length = _rows(call, x)
    launches: list[Launch] = []
    scratch: list[Spec] = []
    x_ref = contiguous(x, In(0), scratch, launches, profile)
    w_ref, w_step = _weight(call, 1, x_ref, scratch, launches, profile)
    stat = dtypes.accumulator(x.dtype)
    rstd: Ref = Out(1)
    if not call.residuals:
        scratch.append(Spec((rows,), stat))
        rstd = Scratch(len(scratch) - 1)
    eps_value = 2.0**-23 if call.settings["eps"] is None else call.settings["eps"]
    given = (w_ref, weight.dtype) if isinstance(weight, Spec) else None
    if norm_rows_cpu.serves(profile, length, (w_step,) if given else (), (x.dtype, *((given[1],) if given else ()))):
        launches.append(norm_rows_cpu.forward((rows, length), (x_ref, x.dtype), given, None, (Out(0), None, rstd), eps_value, profile))
        return Plan(tuple(launches), tuple(scratch))
    group, count, walk = _walk(rows, length, profile)
    defines: Defines = (("T", TAGS[x.dtype]), ("TW", _tag(weight, x)), ("R", TAGS[stat]), ("WEIGHT", int(weight is not None)), ("GRAD", 0), *walk)
    eps = Const(TAGS[stat], eps_value)
    args: tuple[Arg, ...] = (x_ref, w_ref, Out(0), rstd, *(Const("i64", v) for v in (rows, length, w_step)), eps)
    launches.append(Launch("pnn_rms_norm", "rms_norm.c", (count,), (group,), args, defines))
    return Plan(tuple(launches), tuple(scratch))


@plans("rms_norm_grad")
def rms_norm_grad(call: Call, profile: Profile) -> Plan:
    """Plan one launch over the rows."""
    g, x, weight = call.spec(0), call.spec(1), call.inputs[2]
    if x.size == 0:
        return Plan(())
    rows, length = _rows(call, x)
    launches: list[Launch] = []
    scratch: list[Spec] = []
    g_ref = contiguous(g, In(0), scratch, launches, profile)
    x_ref = contiguous(x, In(1), scratch, launches, profile)
    w_ref, w_step = _weight(call, 2, x_ref, scratch, launches, profile)
    stat = dtypes.accumulator(x.dtype)
    rstd = stat_operand(call.spec(3), stat, In(3), scratch, launches, profile)
    given = (w_ref, weight.dtype) if isinstance(weight, Spec) else None
    if norm_rows_cpu.serves(profile, length, (w_step,) if given else (), (g.dtype, x.dtype, *((given[1],) if given else ()))):
        launches.append(norm_rows_cpu.gradient((rows, length), (g_ref, g.dtype), (x_ref, x.dtype), given, (None, rstd), Out(0), profile))
        return Plan(tuple(launches), tuple(scratch))
    group, count, walk = _walk(rows, length, profile)
    defines: Defines = (
        ("T", TAGS[x.dtype]), ("TG", TAGS[g.dtype]), ("TW", _tag(weight, x)), ("R", TAGS[stat]), ("WEIGHT", int(weight is not None)), ("GRAD", 1), *walk,
    )  # fmt: skip
    args: tuple[Arg, ...] = (g_ref, x_ref, w_ref, rstd, Out(0), *(Const("i64", v) for v in (rows, length, w_step)))
    launches.append(Launch("pnn_rms_norm_grad", "rms_norm.c", (count,), (group,), args, defines))
    return Plan(tuple(launches), tuple(scratch))


@plans("rms_norm_weight_grad")
def rms_norm_weight_grad(call: Call, profile: Profile) -> Plan:
    """Plan the sums down the rows: layer norm's kernel with a mean of zero, whose sum of g alone is not kept."""
    g, x, out = call.spec(0), call.spec(1), call.outputs[0]
    rows, length = _rows(call, x)
    launches: list[Launch] = []
    scratch: list[Spec] = [Spec((max(rows, 1),), out.dtype), Spec((length,), out.dtype)]
    launches.append(fill_launch(scratch[0], Scratch(0), 0.0, profile))
    g_ref = contiguous(g, In(0), scratch, launches, profile)
    x_ref = contiguous(x, In(1), scratch, launches, profile)
    rstd = stat_operand(call.spec(2), out.dtype, In(2), scratch, launches, profile)
    row_columns((g, g_ref), (x, x_ref), (Scratch(0), rstd), (Scratch(1), Out(0)), (rows, length), out.dtype, scratch, launches, profile)
    return Plan(tuple(launches), tuple(scratch))
