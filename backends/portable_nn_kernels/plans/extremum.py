"""Plans of max, min, argmax, argmin, any, all, prod, var, std and their gradients, over the launches of `reduction`."""

from __future__ import annotations

from math import prod

from portable_nn.core import dtypes
from portable_nn.core.axes import reduced_axes, reduced_shape, sum_to_axes
from portable_nn.core.call import Call
from portable_nn.core.dtypes import TAGS, DType, accumulator, int32, int64
from portable_nn.core.expression import compute_tag
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import In, Launch, Out, Plan, Profile, Ref, Scratch, Term

from . import plans
from .mapping import Operand, map_launch
from .reduction import Kind, Source, averaging, extremum, reduce_launches


def _axes(call: Call) -> tuple[int, ...]:
    return reduced_axes(call.op, call.settings["axis"], call.spec(0).ndim)


def _one(call: Call, kind: Kind, profile: Profile) -> Plan:
    made = reduce_launches(Source(call.spec(0), In(0)), _axes(call), Out(0), call.outputs[0].dtype, kind, profile)
    return Plan(made.launches, made.scratch)


@plans("max", "min")
def max_plan(call: Call, profile: Profile) -> Plan:
    """Return a reduction like any other."""
    return _one(call, extremum(call.spec(0).dtype, call.op == "max"), profile)


@plans("any", "all")
def any_plan(call: Call, profile: Profile) -> Plan:
    """Return the largest or smallest of the truths."""
    largest = call.op == "any"
    return _one(call, Kind("COMBINE_MAX" if largest else "COMBINE_MIN", "i32", "0" if largest else "1", "MAP_TRUE"), profile)


def product(dtype: DType, mapped: str = "MAP_VALUE") -> Kind:
    """Return the product; integers in unsigned 64 bits, which wrap as signed ones would."""
    return Kind("COMBINE_PRODUCT", compute_tag(TAGS[dtype]) if dtypes.is_float(dtype) else "u64", "1", mapped)


@plans("prod")
def prod_plan(call: Call, profile: Profile) -> Plan:
    """Return a reduction like any other."""
    return _one(call, product(call.outputs[0].dtype), profile)


class Steps:
    """Launches and scratch, one reduction after the other."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.launches: list[Launch] = []
        self.scratch: list[Spec] = []

    def reserve(self, spec: Spec) -> Ref:
        """Return a new scratch array."""
        self.scratch.append(spec)
        return Scratch(len(self.scratch) - 1)

    def reduce(self, x: Source, axes: tuple[int, ...], y: Ref, dtype: DType, kind: Kind, m: Source | None = None) -> None:
        """Add the launches of one reduction."""
        made = reduce_launches(x, axes, y, dtype, kind, self.profile, m, len(self.scratch))
        self.launches += made.launches
        self.scratch += made.scratch

    def plan(self) -> Plan:
        """Return what was collected."""
        return Plan(tuple(self.launches), tuple(self.scratch))


@plans("argmax", "argmin")
def argmax_plan(call: Call, profile: Profile) -> Plan:
    """Find the extremum, then the smallest place that holds it."""
    x, axes = call.spec(0), _axes(call)
    steps = Steps(profile)
    found = Spec(reduced_shape(x.shape, axes, True), x.dtype)
    ref = steps.reserve(found)
    steps.reduce(Source(x, In(0)), axes, ref, x.dtype, extremum(x.dtype, call.op == "argmax"))
    place = Kind("COMBINE_MIN", "i64", "9223372036854775807l", "MAP_PLACE")
    steps.reduce(Source(x, In(0)), axes, Out(0), int64, place, Source(found, ref))
    return steps.plan()


@plans("var", "std")
def var_plan(call: Call, profile: Profile) -> Plan:
    """Take the mean, then the mean square distance from it."""
    x, y, axes = call.spec(0), call.outputs[0], _axes(call)
    terms = prod(x.shape[i] for i in axes)
    steps = Steps(profile)
    mean = Spec(reduced_shape(x.shape, axes, True), accumulator(x.dtype))
    ref = Out(1) if call.residuals else steps.reserve(mean)
    steps.reduce(Source(x, In(0)), axes, ref, mean.dtype, averaging(x.dtype, terms))
    freedom = max(terms - call.settings["correction"], 0)
    steps.reduce(Source(x, In(0)), axes, Out(0), y.dtype, averaging(x.dtype, freedom, "MAP_SQUARE", call.op == "std"), Source(mean, ref))
    return steps.plan()


@plans("extremum_grad")
def extremum_grad(call: Call, profile: Profile) -> Plan:
    """Count the ties, then write everybody's share."""
    g, x, y = (call.spec(i) for i in range(3))
    if x.size == 0:
        return Plan(())
    steps = Steps(profile)
    counts = Spec(y.shape, int32)
    ref = steps.reserve(counts)
    axes = tuple(i for i, n in enumerate(y.shape) if n == 1)
    steps.reduce(Source(x, In(1)), axes, ref, int32, Kind("COMBINE_SUM", "i32", "0", "MAP_SAME"), Source(y, In(2)))
    operands = [Operand("g", g, In(0)), Operand("x", x, In(1)), Operand("y", y, In(2)), Operand("n", counts, ref)]
    tag = compute_tag(TAGS[x.dtype])
    value = Term(tag, f"where(x == y or (x != x and y != y), g / {tag}(n), 0)")
    steps.launches.append(map_launch(x.shape, operands, [Operand("out", call.outputs[0], Out(0))], [], [value], profile))
    return steps.plan()


@plans("prod_grad")
def prod_grad(call: Call, profile: Profile) -> Plan:
    """Count the zeros, multiply the others, then write."""
    g, x = call.spec(0), call.spec(1)
    if x.size == 0:
        return Plan(())
    steps = Steps(profile)
    wide = accumulator(x.dtype)
    zeros, others = Spec(g.shape, int32), Spec(g.shape, wide)
    zeros_ref, others_ref = steps.reserve(zeros), steps.reserve(others)
    axes = sum_to_axes(x.shape, g.shape)
    steps.reduce(Source(x, In(1)), axes, zeros_ref, int32, Kind("COMBINE_SUM", "i32", "0", "MAP_ZERO"))
    steps.reduce(Source(x, In(1)), axes, others_ref, wide, product(x.dtype, "MAP_NOT_ZERO"))
    operands = [Operand("g", g, In(0)), Operand("x", x, In(1)), Operand("n", zeros, zeros_ref), Operand("p", others, others_ref)]
    value = Term(compute_tag(TAGS[x.dtype]), "g * where(x == 0, where(n == 1, p, 0), where(n == 0, p / x, 0))")
    steps.launches.append(map_launch(x.shape, operands, [Operand("out", call.outputs[0], Out(0))], [], [value], profile))
    return steps.plan()
