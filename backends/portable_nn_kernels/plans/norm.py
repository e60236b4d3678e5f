"""Plans of batch norm and layer norm: sums per channel in parts, a merge, and one mapping that applies them."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from portable_nn.core import dtypes
from portable_nn.core.call import Call
from portable_nn.core.dtypes import TAGS
from portable_nn.core.expression import compute_tag
from portable_nn.core.spec import Spec, Weak
from portable_nn_kernels.launch import Const, Define, In, Launch, Out, Plan, Profile, Ref, Scratch, Term

from . import norm_last_cpu, norm_rows_cpu, plans
from .copies import copy_launch
from .lines import compute
from .mapping import Operand, ScalarArg, map_launch

_SHORT = 16  # below this length of the inner axis, work-items run over channels instead
_PART = 16384  # elements a part should have at least


@dataclass(frozen=True, slots=True)
class Block:
    """A tensor seen as N x C x L with one stride each."""

    n: int
    c: int
    length: int
    s_n: int
    s_c: int
    s_l: int

    @property
    def columns(self) -> bool:
        """Whether N and L run as one axis of rows and channels lie side by side (or L is too short for a vector)."""
        return (self.n == 1 or self.length == 1 or self.s_n == self.length * self.s_l) and (self.s_c == 1 or self.length < _SHORT)

    @property
    def row_stride(self) -> int:
        """Distance of two rows when N and L are one axis."""
        return self.s_n if self.length == 1 else self.s_l


def block(x: Spec) -> Block | None:
    """Return x as N x C x L; None if its trailing axes do not lie together."""
    length, step = 1, 1
    for n, stride in reversed(list(zip(x.shape[2:], x.strides[2:], strict=True))):
        if n == 1:
            continue
        if length > 1 and stride != step * length:
            return None
        step = step if length > 1 else stride
        length *= n
    return Block(x.shape[0], x.shape[1], length, x.strides[0], x.strides[1], step)


def _readable(spec: Spec, ref: Ref, scratch: list[Spec], launches: list[Launch], profile: Profile) -> tuple[Spec, Ref, Block]:
    """Return the operand as a block, copied first when its axes do not lie together."""
    found = block(spec)
    if found is not None:
        return spec, ref, found
    plain = Spec(spec.shape, spec.dtype)
    scratch.append(plain)
    target = Scratch(len(scratch) - 1)
    launches.append(copy_launch(spec, ref, plain, target, profile))
    made = block(plain)
    assert made is not None
    return plain, target, made


def _parts(view: Block, columns: bool, group: int, profile: Profile) -> int:
    """Return into how many parts a channel's elements are divided: enough groups for the device, not too small a part."""
    units = view.n * view.length if columns else view.n
    groups = -(-view.c // group) if columns else view.c
    wanted = -(-profile.units * (8 if profile.shape == "gpu" else 2) // groups)
    by_size = max(1, view.n * view.length * (group if columns else 1) // _PART)
    return max(1, min(units, wanted, by_size))


def _unit(columns: bool, *strides: int) -> tuple[tuple[str, int], ...]:
    return () if columns or any(s != 1 for s in strides) else (("UNIT", 1),)


def _group(columns: bool, profile: Profile) -> int:
    if profile.shape == "cpu":
        return profile.vector
    return min(64 if columns else 256, profile.group_limit)


def _per_channel(spec: Spec, ndim: int) -> Spec:
    """Return a (C,) operand as (C, 1, ...), to be broadcast against (N, C, ...)."""
    return Spec((*spec.shape, *(1,) * (ndim - 2)), spec.dtype, (*spec.strides, *(0,) * (ndim - 2)))


def _operand(name: str, spec: Spec | Weak | None, ref: Ref, ndim: int) -> list[Operand]:
    return [Operand(name, _per_channel(spec, ndim), ref)] if isinstance(spec, Spec) else []


@plans("batch_norm")
def batch_norm(call: Call, profile: Profile) -> Plan:
    """Plan one mapping with the statistics broadcast over the channels."""
    x, mean, var, weight, bias = call.inputs
    out = call.outputs[0]
    if out.size == 0:
        return Plan(())
    tag = compute_tag(TAGS[out.dtype])
    assert isinstance(x, Spec)
    inputs = [Operand("x", x, In(0))]
    for index, (name, spec) in enumerate((("mean", mean), ("var", var), ("weight", weight), ("bias", bias)), 1):
        inputs += _operand(name, spec, In(index), x.ndim)
    value = f"((x - {tag}(mean)) * (1 / sqrt({tag}(var) + eps)))"
    value = value if weight is None else f"({value} * {tag}(weight))"
    value = value if bias is None else f"({value} + {tag}(bias))"
    eps = ScalarArg("eps", tag, Const(tag, call.settings["eps"]))
    return Plan((map_launch(out.shape, inputs, [Operand("y", out, Out(0))], [], [Term(tag, value)], profile, [eps]),))


@plans("batch_norm_train")
def batch_norm_train(call: Call, profile: Profile) -> Plan:
    """Plan statistics in parts, their merge, and the mapping that normalises."""
    x, out = call.spec(0), call.outputs[0]
    channels, stat = x.shape[1], call.outputs[1]
    if channels == 0:
        return Plan(())
    launches: list[Launch] = []
    scratch: list[Spec] = []
    x, x_ref, view = _readable(x, In(0), scratch, launches, profile)
    columns = view.columns
    group = _group(columns, profile)
    by_last = norm_last_cpu.serves(profile, columns, view.s_c)
    parts = _parts(view, columns, group, profile) if not by_last else norm_last_cpu.parts(profile, view.n * view.length, channels)
    tags = (("TX", TAGS[x.dtype]), ("TS", TAGS[stat.dtype]))
    first = len(scratch)
    scratch += [Spec((channels * parts,), stat.dtype)] * 2
    means, m2s = Scratch(first), Scratch(first + 1)
    if call.residuals:
        rstd: Ref = Out(3)
    else:
        scratch.append(stat)
        rstd = Scratch(first + 2)
    if by_last:
        units, length = view.n * view.length, 1
        launches.append(norm_last_cpu.stats(x, x_ref, (units, channels, view.row_stride), parts, means, m2s))
    elif columns:
        units, length = view.n * view.length, 1
        sizes: tuple[int, ...] = (units, channels, view.row_stride, view.s_c, parts)
        name, groups = "columns", -(-channels // group) * parts
    else:
        units, length = view.n, view.length
        sizes = (units, length, view.s_n, view.s_c, view.s_l, parts)
        name, groups = "rows", channels * parts
    if not by_last:
        launches.append(
            Launch(
                f"pnn_norm_stats_{name}", "norm.c", (groups,), (group,), (x_ref, means, m2s, *(Const("i64", v) for v in sizes)),
                (("WG", group), *tags, (f"STATS_{name.upper()}", 1), *_unit(columns, view.s_l)),
            )
        )
    eps = Const(compute_tag(TAGS[x.dtype]), call.settings["eps"])
    launches.append(
        Launch(
            "pnn_norm_merge", "norm.c", (-(-channels // 16),), (16,),
            (means, m2s, Out(1), Out(2), rstd, *(Const("i64", v) for v in (channels, units, length, parts)), eps),
            (("WG", 16), *tags, ("STATS_MERGE", 1), *norm_last_cpu.outside(by_last)),
        )
    )
    tag = compute_tag(TAGS[out.dtype])
    inputs = [Operand("x", x, x_ref), *_operand("mean", stat, Out(1), x.ndim), *_operand("rstd", stat, rstd, x.ndim)]
    inputs += _operand("weight", call.inputs[1], In(1), x.ndim) + _operand("bias", call.inputs[2], In(2), x.ndim)
    value = "((x - mean) * rstd)"
    value = value if call.inputs[1] is None else f"({value} * {tag}(weight))"
    value = value if call.inputs[2] is None else f"({value} + {tag}(bias))"
    launches.append(map_launch(out.shape, inputs, [Operand("y", out, Out(0))], [], [Term(tag, value)], profile))
    return Plan(tuple(launches), tuple(scratch))


@plans("batch_norm_train_grad")
def batch_norm_train_grad(call: Call, profile: Profile) -> Plan:
    """Plan the two sums in parts, their merge, and the mapping that makes gx."""
    return _train_grad(call, profile, (3, 4))


@plans("batch_norm_train_relu_grad")
def batch_norm_train_relu_grad(call: Call, profile: Profile) -> Plan:
    """Plan the same for the cotangents that a ReLU lets through: masked where they are read, or first where kernels do not."""
    return _train_grad(call, profile, (4, 5), relu=True)


def _relu_terms(g: str, tag: str, weight: Any, bias: Any) -> list[Term]:
    """Return `g` where batch_norm_train's result is over 0: its operations, in its order, as `masked`."""
    value = "(x - mean) * rstd"
    value = value if weight is None else f"({value}) * {tag}(weight)"
    value = value if bias is None else f"({value}) + {tag}(bias)"
    return [Term(tag, value, "y"), Term(tag, f"where(y > 0, {g}, 0)", "masked")]


def _train_grad(call: Call, profile: Profile, at: tuple[int, int], relu: bool = False) -> Plan:
    """Plan the gradient; `at` are the positions of mean and rstd, a bias stands before them if there was a ReLU."""
    g, x, weight, bias = call.spec(0), call.spec(1), call.inputs[2], call.inputs[3] if relu else None
    mean, rstd = (call.spec(i) for i in at)
    gx, stat = call.outputs[0], call.outputs[1]
    channels = x.shape[1]
    if channels == 0:
        return Plan(())
    launches: list[Launch] = []
    scratch: list[Spec] = []
    g, g_ref, g_view = _readable(g, In(0), scratch, launches, profile)
    x, x_ref, x_view = _readable(x, In(1), scratch, launches, profile)
    stats = []
    for index, spec in zip(at, (mean, rstd), strict=True):
        stats.append(stat_operand(spec, stat.dtype, In(index), scratch, launches, profile))
    by_last = norm_last_cpu.serves(profile, g_view.columns and x_view.columns, x_view.s_c, g_view.s_c)
    tag = compute_tag(TAGS[x.dtype])
    shifts = _operand("mean", stat, stats[0], x.ndim) + _operand("rstd", stat, stats[1], x.ndim)
    shifts += _operand("weight", weight, In(2), x.ndim) + _operand("bias", bias, In(3), x.ndim)
    masks: tuple[Ref | None, Ref | None] | None = None
    if relu and by_last:
        given = (stat_operand(s, stat.dtype, In(i), scratch, launches, profile) if isinstance(s, Spec) else None for i, s in ((2, weight), (3, bias)))
        masks = next(given), next(given)
    elif relu and gx.size:
        terms = _relu_terms("g", tag, weight, bias)
        scratch.append(Spec(g.shape, g.dtype))
        masked = Operand("masked", scratch[-1], Scratch(len(scratch) - 1))
        inputs = [Operand("g", g, g_ref), Operand("x", x, x_ref), *shifts]
        launches.append(map_launch(g.shape, inputs, [masked], terms[:1], [Term(tag, terms[1].text)], profile))
        g, g_ref, g_view = _readable(scratch[-1], masked.ref, scratch, launches, profile)
        by_last = norm_last_cpu.serves(profile, g_view.columns and x_view.columns, x_view.s_c, g_view.s_c)
    columns = g_view.columns and x_view.columns
    group = _group(columns, profile)
    parts = _parts(x_view, columns, group, profile) if not by_last else norm_last_cpu.parts(profile, x_view.n * x_view.length, channels)
    tags = (("TX", TAGS[x.dtype]), ("TS", TAGS[stat.dtype]), ("TG", TAGS[g.dtype]))
    first = len(scratch)
    if parts > 1:
        scratch += [Spec((channels * parts,), stat.dtype)] * 2
    gbs, gws = (Scratch(first), Scratch(first + 1)) if parts > 1 else (Out(2), Out(1))
    if by_last:
        rows = x_view.n * x_view.length
        launches.append(norm_last_cpu.grad(g, x, (g_ref, x_ref, *stats), (rows, channels, g_view.row_stride, x_view.row_stride), parts, gbs, gws, masks))
    elif columns:
        sizes: tuple[int, ...] = (x_view.n * x_view.length, channels, g_view.row_stride, g_view.s_c, x_view.row_stride, x_view.s_c, parts)
        name, groups = "columns", -(-channels // group) * parts
    else:
        strides = (g_view.s_n, g_view.s_c, g_view.s_l, x_view.s_n, x_view.s_c, x_view.s_l)
        sizes = (x_view.n, x_view.length, *strides, parts)
        name, groups = "rows", channels * parts
    if not by_last:
        launches.append(
            Launch(
                f"pnn_norm_grad_{name}", "norm.c", (groups,), (group,),
                (g_ref, x_ref, *stats, gbs, gws, *(Const("i64", v) for v in sizes)),
                (("WG", group), ("PER_ROW", 0), *tags, (f"GRAD_{name.upper()}", 1), *_unit(columns, g_view.s_l, x_view.s_l)),
            )
        )
    if parts > 1:
        launches.append(merge(gbs, gws, Out(2), Out(1), channels, parts, (*tags[:2], *norm_last_cpu.outside(by_last))))
    if gx.size == 0:
        return Plan(tuple(launches), tuple(scratch))
    inputs = [Operand("g", g, g_ref), Operand("x", x, x_ref), *(s for s in shifts if s.name != "bias" or masks)]
    inputs += _operand("gw", stat, Out(1), x.ndim) + _operand("gb", stat, Out(2), x.ndim)
    terms = _relu_terms("g", tag, weight, bias) if masks else []
    value = f"({'masked' if masks else 'g'} - gb * share - (x - mean) * rstd * (gw * share)) * rstd"
    value = value if weight is None else f"{value} * {tag}(weight)"
    share = ScalarArg("share", tag, Const(tag, channels / x.size))
    launches.append(map_launch(gx.shape, inputs, [Operand("gx", gx, Out(0))], terms, [Term(tag, value)], profile, [share]))
    return Plan(tuple(launches), tuple(scratch))


def stat_operand(spec: Spec, dtype: dtypes.DType, ref: Ref, scratch: list[Spec], launches: list[Launch], profile: Profile) -> Ref:
    """Return a statistic as a contiguous array of `dtype`, converted or copied first if it is not one."""
    if spec.contiguous and spec.dtype == dtype:
        return ref
    scratch.append(Spec(spec.shape, dtype))
    target = Scratch(len(scratch) - 1)
    if spec.size:
        launches.append(map_launch(spec.shape, [Operand("x", spec, ref)], [Operand("y", scratch[-1], target)], [], [Term(compute_tag(TAGS[dtype]), "x")], profile))
    return target


def merge(gbs: Ref, gws: Ref, gb: Ref, gw: Ref, channels: int, parts: int, tags: tuple[tuple[str, Define], ...]) -> Launch:
    """Return the launch that adds up the parts of the sums of g and of g xhat: (channels, parts) each."""
    return Launch(
        "pnn_norm_grad_merge", "norm.c", (-(-channels // 16),), (16,),
        (gbs, gws, gb, gw, Const("i64", channels), Const("i64", parts)), (("WG", 16), *tags, ("GRAD_MERGE", 1)),
    )  # fmt: skip


def contiguous(spec: Spec, ref: Ref, scratch: list[Spec], launches: list[Launch], profile: Profile) -> Ref:
    """Return the operand in C order, copied first if it is not."""
    if spec.contiguous:
        return ref
    plain = Spec(spec.shape, spec.dtype)
    scratch.append(plain)
    launches.append(copy_launch(spec, ref, plain, Scratch(len(scratch) - 1), profile))
    return Scratch(len(scratch) - 1)


def flat_step(spec: Spec | Weak | None, ref: Ref, scratch: list[Spec], launches: list[Launch], profile: Profile) -> tuple[Ref, int]:
    """Return a weight or bias as one axis: where it is, and its stride."""
    assert isinstance(spec, Spec)
    if spec.ndim == 1:
        return ref, spec.strides[0]
    return contiguous(spec, ref, scratch, launches, profile), 1


@plans("layer_norm")
def layer_norm(call: Call, profile: Profile) -> Plan:
    """Plan one launch over the rows."""
    x, weight, bias = call.spec(0), call.inputs[1], call.inputs[2]
    rows, length = row_size(x, call)
    if x.size == 0:
        return Plan(())
    launches: list[Launch] = []
    scratch: list[Spec] = []
    x_ref = contiguous(x, In(0), scratch, launches, profile)
    w_ref, w_step = (x_ref, 0) if weight is None else flat_step(weight, In(1), scratch, launches, profile)
    b_ref, b_step = (x_ref, 0) if bias is None else flat_step(bias, In(2), scratch, launches, profile)
    stat = dtypes.accumulator(x.dtype)
    stats: tuple[Ref, Ref] = (Out(1), Out(2))
    if not call.residuals:
        scratch += [Spec((rows,), stat)] * 2
        stats = (Scratch(len(scratch) - 2), Scratch(len(scratch) - 1))
    given = [(ref, spec.dtype) if isinstance(spec, Spec) else None for ref, spec in ((w_ref, weight), (b_ref, bias))]
    steps = tuple(step for step, one in ((w_step, given[0]), (b_step, given[1])) if one)
    if norm_rows_cpu.serves(profile, length, steps, (x.dtype, *(one[1] for one in given if one))):
        eps = call.settings["eps"]
        launches.append(norm_rows_cpu.forward((rows, length), (x_ref, x.dtype), given[0], given[1], (Out(0), *stats), eps, profile))
        return Plan(tuple(launches), tuple(scratch))
    group, groups = row_groups(rows, length, profile)
    tag = TAGS[x.dtype]
    defines = (
        ("WG", group), ("TX", tag), ("TS", TAGS[stat]), ("TW", TAGS[weight.dtype] if isinstance(weight, Spec) else tag),
        ("TB", TAGS[bias.dtype] if isinstance(bias, Spec) else tag), ("WEIGHT", int(weight is not None)),
        ("BIAS", int(bias is not None)), ("LAYER", 1),
    )  # fmt: skip
    sizes = tuple(Const("i64", v) for v in (rows, length, w_step, b_step))
    eps = Const(compute_tag(tag), call.settings["eps"])
    launches.append(Launch("pnn_norm_layer", "norm.c", (groups,), (group,), (x_ref, w_ref, b_ref, Out(0), *stats, *sizes, eps), defines))
    return Plan(tuple(launches), tuple(scratch))


def row_size(x: Spec, call: Call) -> tuple[int, int]:
    """Return (rows, row length) for the setting `normalized_shape`, which the shape rule has checked."""
    wanted = call.settings["normalized_shape"]
    length = wanted if isinstance(wanted, int) else prod(wanted)
    return x.size // length, length


def row_groups(rows: int, length: int, profile: Profile) -> tuple[int, int]:
    """Return (group size, groups): a CPU gets a few groups per core that walk over rows, a GPU one per row."""
    if profile.shape == "cpu":
        return profile.vector, min(rows, max(1, min(8 * profile.units, rows * length // 8192)))
    size = 64
    while size < min(256, profile.group_limit) and size < length:
        size *= 2
    return size, min(rows, 1 << 20)


@plans("layer_norm_grad")
def layer_norm_grad(call: Call, profile: Profile) -> Plan:
    """Plan one launch over the rows."""
    g, x, weight = call.spec(0), call.spec(1), call.inputs[2]
    rows, length = row_size(x, call)
    if x.size == 0:
        return Plan(())
    launches: list[Launch] = []
    scratch: list[Spec] = []
    g_ref = contiguous(g, In(0), scratch, launches, profile)
    x_ref = contiguous(x, In(1), scratch, launches, profile)
    w_ref, w_step = (x_ref, 0) if weight is None else flat_step(weight, In(2), scratch, launches, profile)
    stat = dtypes.accumulator(x.dtype)
    stats = [stat_operand(call.spec(i), stat, In(i), scratch, launches, profile) for i in (3, 4)]
    given = (w_ref, weight.dtype) if isinstance(weight, Spec) else None
    if norm_rows_cpu.serves(profile, length, (w_step,) if given else (), (g.dtype, x.dtype, *((given[1],) if given else ()))):
        both = (stats[0], stats[1])
        launches.append(norm_rows_cpu.gradient((rows, length), (g_ref, g.dtype), (x_ref, x.dtype), given, both, Out(0), profile))
        return Plan(tuple(launches), tuple(scratch))
    group, groups = row_groups(rows, length, profile)
    defines = (
        ("WG", group), ("TX", TAGS[x.dtype]), ("TS", TAGS[stat]), ("TG", TAGS[g.dtype]),
        ("TW", TAGS[weight.dtype] if isinstance(weight, Spec) else TAGS[x.dtype]), ("WEIGHT", int(weight is not None)), ("LAYER_GRAD", 1),
    )  # fmt: skip
    sizes = tuple(Const("i64", v) for v in (rows, length, w_step))
    launches.append(Launch("pnn_norm_layer_grad", "norm.c", (groups,), (group,), (g_ref, x_ref, w_ref, *stats, Out(0), *sizes), defines))
    return Plan(tuple(launches), tuple(scratch))


@plans("layer_norm_weight_grad")
def layer_norm_weight_grad(call: Call, profile: Profile) -> Plan:
    """Plan the sums down the rows in parts, and their merge."""
    g, x, out = call.spec(0), call.spec(1), call.outputs[0]
    rows, length = row_size(x, call)
    launches: list[Launch] = []
    scratch: list[Spec] = []
    g_ref = contiguous(g, In(0), scratch, launches, profile)
    x_ref = contiguous(x, In(1), scratch, launches, profile)
    stats = [stat_operand(call.spec(i), out.dtype, In(i), scratch, launches, profile) for i in (2, 3)]
    row_columns((g, g_ref), (x, x_ref), (stats[0], stats[1]), (Out(1), Out(0)), (rows, length), out.dtype, scratch, launches, profile)
    return Plan(tuple(launches), tuple(scratch))


def row_columns(
    g: tuple[Spec, Ref], x: tuple[Spec, Ref], stats: tuple[Ref, Ref], sums: tuple[Ref, Ref], size: tuple[int, int],
    dtype: dtypes.DType, scratch: list[Spec], launches: list[Launch], profile: Profile,
) -> None:  # fmt: skip
    """Add the launches that sum g and ``g (x - mean) rstd`` down the rows, in parts; `stats` are mean and rstd per row."""
    rows, length = size
    if norm_rows_cpu.serves(profile, length, (), (g[0].dtype, x[0].dtype)) and dtype == compute(x[0].dtype):
        made, more = norm_rows_cpu.columns(size, (g[1], g[0].dtype), (x[1], x[0].dtype), stats, sums, len(scratch), profile)
        launches += made
        scratch += more
        return
    group = _group(True, profile)
    parts = _parts(Block(rows, length, 1, length, 1, 1), True, group, profile)
    tags = (("TX", TAGS[x[0].dtype]), ("TS", TAGS[dtype]), ("TG", TAGS[g[0].dtype]))
    first = len(scratch)
    if parts > 1:
        scratch += [Spec((length * parts,), dtype)] * 2
    gbs, gws = (Scratch(first), Scratch(first + 1)) if parts > 1 else sums
    sizes = tuple(Const("i64", v) for v in (rows, length, length, 1, length, 1, parts))
    launches.append(
        Launch(
            "pnn_norm_grad_columns", "norm.c", (-(-length // group) * parts,), (group,), (g[1], x[1], *stats, gbs, gws, *sizes),
            (("WG", group), ("PER_ROW", 1), *tags, ("GRAD_COLUMNS", 1)),
        )
    )
    if parts > 1:
        launches.append(merge(gbs, gws, *sums, length, parts, tags[:2]))
