"""Plans of add_layer_norm and its gradient: one launch over the rows, after copies of operands that are not in C order."""

from __future__ import annotations

from portable_nn.core import dtypes
from portable_nn.core.call import Call
from portable_nn.core.dtypes import TAGS, DType
from portable_nn.core.expression import compute_tag
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import Arg, Const, Define, In, Launch, Out, Plan, Profile, Ref, Scratch

from . import norm_rows_cpu, plans
from .norm import contiguous, flat_step, row_groups, row_size, stat_operand

Given = tuple[Ref, DType] | None


def _given(call: Call, index: int, stand_in: Ref, scratch: list[Spec], launches: list[Launch], profile: Profile) -> tuple[Ref, int, Given]:
    """Return where a weight or bias is, its stride, and both with its dtype; `stand_in` and None if it was left out."""
    spec = call.inputs[index]
    if not isinstance(spec, Spec):
        return stand_in, 0, None
    ref, step = flat_step(spec, In(index), scratch, launches, profile)
    return ref, step, (ref, spec.dtype)


def _defines(x: Spec, group: int, weight: Given, **more: str | int) -> tuple[tuple[str, Define], ...]:
    tag = TAGS[x.dtype]
    return (
        ("WG", group), ("T", tag), ("TS", TAGS[dtypes.accumulator(x.dtype)]), ("TW", TAGS[weight[1]] if weight else tag),
        ("WEIGHT", int(weight is not None)), *more.items(),
    )  # fmt: skip


@plans("add_layer_norm")
def add_layer_norm(call: Call, profile: Profile) -> Plan:
    """Plan one launch over the rows."""
    x, residual = call.spec(0), call.spec(1)
    if x.size == 0:
        return Plan(())
    rows, length = row_size(x, call)
    launches: list[Launch] = []
    scratch: list[Spec] = []
    x_ref, residual_ref = (contiguous(spec, In(i), scratch, launches, profile) for i, spec in enumerate((x, residual)))
    w_ref, w_step, weight = _given(call, 2, x_ref, scratch, launches, profile)
    b_ref, b_step, bias = _given(call, 3, x_ref, scratch, launches, profile)
    stats: tuple[Ref, Ref] = (Out(2), Out(3))
    if not call.residuals:
        scratch += [Spec((rows,), dtypes.accumulator(x.dtype))] * 2
        stats = (Scratch(len(scratch) - 2), Scratch(len(scratch) - 1))
    eps = call.settings["eps"]
    steps = tuple(step for step, one in ((w_step, weight), (b_step, bias)) if one)
    if norm_rows_cpu.serves(profile, length, steps, (x.dtype, *(one[1] for one in (weight, bias) if one))):
        out, added = (Out(1), *stats), (residual_ref, Out(0))
        launches.append(norm_rows_cpu.forward((rows, length), (x_ref, x.dtype), weight, bias, out, eps, profile, added))
        return Plan(tuple(launches), tuple(scratch))
    group, groups = row_groups(rows, length, profile)
    defines = _defines(x, group, weight, TB=TAGS[bias[1] if bias else x.dtype], BIAS=int(bias is not None), GRAD=0)
    sizes = tuple(Const("i64", v) for v in (rows, length, w_step, b_step))
    args: tuple[Arg, ...] = (x_ref, residual_ref, w_ref, b_ref, Out(0), Out(1), *stats, *sizes, Const(compute_tag(TAGS[x.dtype]), eps))
    launches.append(Launch("pnn_add_layer_norm", "add_layer_norm.c", (groups,), (group,), args, defines))
    return Plan(tuple(launches), tuple(scratch))


@plans("add_layer_norm_grad")
def add_layer_norm_grad(call: Call, profile: Profile) -> Plan:
    """Plan one launch over the rows."""
    straight, g, total = call.spec(0), call.spec(1), call.spec(2)
    if total.size == 0:
        return Plan(())
    rows, length = row_size(total, call)
    launches: list[Launch] = []
    scratch: list[Spec] = []
    refs = [contiguous(spec, In(i), scratch, launches, profile) for i, spec in enumerate((straight, g, total))]
    w_ref, w_step, weight = _given(call, 3, refs[2], scratch, launches, profile)
    stat = dtypes.accumulator(total.dtype)
    mean, rstd = (stat_operand(call.spec(i), stat, In(i), scratch, launches, profile) for i in (4, 5))
    steps = (w_step,) if weight else ()
    if norm_rows_cpu.serves(profile, length, steps, (g.dtype, total.dtype, *((weight[1],) if weight else ()))):
        operands = (refs[1], g.dtype), (refs[2], total.dtype), weight
        launches.append(norm_rows_cpu.gradient((rows, length), *operands, (mean, rstd), Out(0), profile, refs[0]))
        return Plan(tuple(launches), tuple(scratch))
    group, groups = row_groups(rows, length, profile)
    defines = _defines(total, group, weight, TG=TAGS[g.dtype], GRAD=1)
    sizes = tuple(Const("i64", v) for v in (rows, length, w_step))
    launches.append(Launch("pnn_add_layer_norm_grad", "add_layer_norm.c", (groups,), (group,), (*refs, w_ref, mean, rstd, Out(0), *sizes), defines))
    return Plan(tuple(launches), tuple(scratch))
