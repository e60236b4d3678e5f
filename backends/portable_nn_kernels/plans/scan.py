"""Plan of cumulative_sum: one launch, or three where lines are few and long."""

from __future__ import annotations

from portable_nn.core.axes import axis_of
from portable_nn.core.call import Call
from portable_nn.core.dtypes import TAGS
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import Arg, Const, Define, In, Launch, Out, Plan, Profile, Ref, Scratch

from . import plans
from .copies import fill_launch
from .lines import SHORT, Line, lines
from .reduction import DTYPE_OF, acc_tag

_CPU_UNITS = 4  # parts read x twice: fewer units gain nothing


@plans("cumulative_sum")
def cumulative_sum(call: Call, profile: Profile) -> Plan:
    """Choose who walks a line, and into how many parts it is cut."""
    x, y = call.spec(0), call.outputs[0]
    if y.size == 0:
        return Plan(())
    if x.size == 0:  # include_initial on an empty axis
        return Plan((fill_launch(y, Out(0), 0, profile),))
    axis = axis_of(call.op, call.settings["axis"] or 0, x.ndim)
    found = lines(x.shape, axis, [Line(x, In(0)), Line(y, Out(0))], profile)
    count, length = found.count, found.length
    strides = found.strides
    cpu = profile.shape == "cpu"
    unit, dense = all(s[2] == 1 for s in strides), all(s[1] == 1 for s in strides)
    shared = not cpu and length >= SHORT and (unit or count < 64)
    if shared:
        group = 64 if length < 1024 else min(256, profile.group_limit)
        workers, wanted, least = count, 4 * profile.units, profile.size("gpu.scan.part")
    elif cpu:
        group = profile.vector if dense and not unit else 1
        workers, wanted, least = -(-count // group), 2 * profile.units if profile.units >= _CPU_UNITS else 1, profile.size("cpu.scan.part")
    else:
        group = 64
        workers, wanted, least = count, 128 * profile.units, 512
    parts = max(1, min(-(-wanted // workers), length // least))
    part = -(-length // parts)
    parts = -(-length // part)
    tag = acc_tag(y.dtype)
    per = profile.size("gpu.scan.per") if shared else 0

    def launch(
        source: Ref, kinds: tuple[str, str], base: tuple[Ref, ...], target: Ref, sizes: tuple[int, int, int], steps: tuple[Const, ...],
        initial: int, cut: tuple[int, int], flags: tuple[tuple[str, Define], ...],
    ) -> Launch:  # fmt: skip
        defines: tuple[tuple[str, Define], ...] = (("T", kinds[0]), ("Y", kinds[1]), ("A", tag), ("G", group), ("PER", per), *flags)
        tiles = sizes[0] * cut[0] if shared else -(-sizes[0] * cut[0] // group)
        groups = min(tiles, max(1, min(4 * profile.units, -(-sizes[0] * sizes[2] // profile.size("cpu.scan.work"))))) if cpu else tiles
        args: list[Arg] = [source, *base, target, *(Const("i64", v) for v in sizes), *steps, *(Const("i64", v) for v in (initial, *cut))]
        return Launch("pnn_scan_groups" if shared else "pnn_scan_lines", "scan.c", (min(groups, 2**31 - 1),), (group,), tuple(args), defines)

    shape: tuple[tuple[str, Define], ...] = tuple(
        (name, 1) for name, holds in (("UNIT", unit), ("DENSE", dense and not unit), ("FLAT", all(s[0] == 0 for s in strides))) if holds
    )
    sizes = (count, found.inner, length)
    steps = (*found.steps(0), *found.steps(1))
    initial = int(bool(call.settings["include_initial"]))
    kinds = TAGS[x.dtype], TAGS[y.dtype]
    launches, scratch = list(found.copies), list(found.scratch)
    source = found.refs[0]
    if parts == 1:
        launches.append(launch(source, kinds, (), Out(0), sizes, steps, initial, (1, length), shape))
        return Plan(tuple(launches), tuple(scratch))
    totals, sums = Scratch(len(scratch)), Scratch(len(scratch) + 1)
    scratch += [Spec((count, parts), DTYPE_OF[tag])] * 2
    launches.append(launch(source, (kinds[0], tag), (), totals, sizes, steps, 0, (parts, part), (*shape, ("TOTALS", 1))))
    along = tuple(Const("i64", v) for v in (0, parts, 1)) * 2
    flags: tuple[tuple[str, Define], ...] = (("UNIT", 1), ("FLAT", 1))
    launches.append(launch(totals, (tag, tag), (), sums, (count, count, parts), along, 0, (1, parts), flags))
    launches.append(launch(source, kinds, (sums,), Out(0), sizes, steps, initial, (parts, part), (*shape, ("BASE", 1))))
    return Plan(tuple(launches), tuple(scratch))
