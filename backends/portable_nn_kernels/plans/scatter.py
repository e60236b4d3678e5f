"""Plans of gather, scatter_add, scatter_reduce and index_add: sort the indices, then let every place take its run."""

from __future__ import annotations

from math import prod

from portable_nn.core.axes import axis_of
from portable_nn.core.call import Call
from portable_nn.core.dtypes import TAGS, int32, int64, uint32, uint64
from portable_nn.core.expression import compute_tag
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import Arg, Const, Define, In, Launch, Out, Plan, Profile, Ref

from . import plans
from .copies import copy_launch, fill_launch
from .extremum import Steps
from .gather import dense, index_error
from .index_width import fits
from .ordering import Targets, order_launches

_REDUCE = {"sum": 0, "mean": 1, "amax": 2, "amin": 3}


def scatter_plan(
    call: Call, profile: Profile, x: Ref | None, index: tuple[Spec, Ref], source: tuple[Spec, Ref], axis: int, reduce: str = "sum",
    own: bool = True, alpha: float = 1, once: bool = False,
) -> Plan:  # fmt: skip
    """Return the plan that combines `source` at `index` with `x`, or with zeros.

    Parameters
    ----------
    once : bool
        One line of indices serves all lines.
    """
    y, (spec, ref) = call.outputs[0], index
    if y.size == 0:
        return Plan(())
    steps = Steps(profile)
    if spec.size == 0:
        launch = fill_launch(y, Out(0), 0, profile) if x is None else copy_launch(call.spec(0), x, y, Out(0), profile)
        return Plan((launch,))
    made = order_launches(steps, spec, ref, 0 if once else axis, Targets(Spec(spec.shape, spec.dtype), None, None, spec.size), False)
    assert made is not None
    keys, places = made
    n, inner = source[0].shape[axis], prod(y.shape[axis + 1 :])
    wide = spec.dtype.itemsize == 8
    tag = compute_tag(TAGS[y.dtype])
    defines: list[tuple[str, Define]] = [
        ("T", TAGS[y.dtype]), ("R", tag), ("K", TAGS[uint64 if wide else uint32]), ("P", TAGS[int32 if fits(n) else int64]),
        ("REDUCE", _REDUCE[reduce]),
    ]  # fmt: skip
    if spec.dtype.kind == "i":
        defines.append(("SIGNED", 1))
    args: list[Arg] = []
    if x is not None:
        defines.append(("HAS_X", 1))
        args.append(dense(steps, call.spec(0), x))
        if own:
            defines.append(("OWN", 1))
    args += [dense(steps, *source), keys, places, Out(0)]
    args += [Const("i64", v) for v in (y.size, y.shape[axis], n, inner, 0 if once else n)]
    args += [Const(tag, alpha), index_error(call.op, y.shape[axis])]
    cpu = profile.shape == "cpu"
    group = profile.vector if cpu else min(profile.size("gpu.scatter.group"), profile.group_limit)
    tiles = -(-y.size // group)
    groups = min(tiles, max(1, min(4 * profile.units, -(-(y.size + source[0].size) // profile.size("cpu.scatter.work"))))) if cpu else min(tiles, 2**31 - 1)
    steps.launches.append(Launch("pnn_scatter", "scatter.c", (groups,), (group,), tuple(args), (("G", group), *defines)))
    return steps.plan()


@plans("gather_grad")
def gather_grad(call: Call, profile: Profile) -> Plan:
    """Add to zeros."""
    axis = axis_of(call.op, call.settings["dim"], call.spec(0).ndim)
    return scatter_plan(call, profile, None, (call.spec(1), In(1)), (call.spec(0), In(0)), axis)


@plans("scatter_add", "scatter_reduce", "index_add")
def scatter(call: Call, profile: Profile) -> Plan:
    """Combine with the input."""
    axis = axis_of(call.op, call.settings["dim"], call.spec(0).ndim)
    reduce, own = call.settings.get("reduce", "sum"), bool(call.settings.get("include_self", True))
    index, source = (call.spec(1), In(1)), (call.spec(2), In(2))
    return scatter_plan(call, profile, In(0), index, source, axis, reduce, own, call.settings.get("alpha", 1), call.op == "index_add")
