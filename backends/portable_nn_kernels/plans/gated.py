"""Plans of glu, prelu and their gradients: mappings over parts and broadcasts, and one reduction of an expression."""

from __future__ import annotations

from portable_nn.core.axes import axis_of
from portable_nn.core.call import Call
from portable_nn.core.dtypes import TAGS
from portable_nn.core.expression import compute_tag
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import In, Out, Plan, Profile, Ref, Term

from . import plans
from .mapping import Operand, map_launch
from .pair_loss import term
from .reduction import Source, reduce_launches, summing


def _halves(spec: Spec, axis: int, ref: Ref, names: tuple[str, str]) -> list[Operand]:
    """Return the two parts of an array along `axis`."""
    n = spec.shape[axis] // 2
    half = Spec(tuple(n if i == axis else size for i, size in enumerate(spec.shape)), spec.dtype, spec.strides)
    return [Operand(names[0], half, ref), Operand(names[1], half, ref, n * spec.strides[axis])]


@plans("glu", "glu_grad")
def glu(call: Call, profile: Profile) -> Plan:
    """Plan one mapping over half of x."""
    backward = call.op == "glu_grad"
    x, made = call.spec(int(backward)), call.outputs[0]
    if made.size == 0:
        return Plan(())
    axis, tag = axis_of(call.op, call.settings["dim"], x.ndim), compute_tag(TAGS[x.dtype])
    inputs = _halves(x, axis, In(int(backward)), ("a", "b"))
    steps = [Term(tag, "1 / (1 + exp(-b))", "share")]
    if not backward:
        return Plan((map_launch(made.shape, inputs, [Operand("y", made, Out(0))], steps, [Term(tag, "a * share")], profile),))
    inputs.append(Operand("g", call.spec(0), In(0)))
    values = [Term(tag, "g * share"), Term(tag, "g * a * share * (1 - share)")]
    return Plan((map_launch(call.spec(0).shape, inputs, _halves(made, axis, Out(0), ("ga", "gb")), steps, values, profile),))


@plans("prelu", "prelu_grad")
def prelu(call: Call, profile: Profile) -> Plan:
    """Plan one mapping with the slopes broadcast over the channels."""
    *arrays, weight = (call.spec(i) for i in range(len(call.inputs)))
    y = call.outputs[0]
    if y.size == 0:
        return Plan(())
    many = weight.size > 1
    slope = Spec((weight.size, *(1,) * (y.ndim - 2)), weight.dtype, (weight.strides[0], *(0,) * (y.ndim - 2))) if many else Spec((), weight.dtype)
    names = ("g", "x") if call.op == "prelu_grad" else ("x",)
    inputs = [Operand(name, spec, In(i)) for i, (name, spec) in enumerate(zip(names, arrays, strict=True))]
    inputs.append(Operand("weight", slope, In(len(arrays))))
    value = Term(compute_tag(TAGS[y.dtype]), f"where(x > 0, {names[0]}, weight * {names[0]})")
    return Plan((map_launch(y.shape, inputs, [Operand("y", y, Out(0))], [], [value], profile),))


@plans("prelu_weight_grad")
def prelu_weight_grad(call: Call, profile: Profile) -> Plan:
    """Plan one reduction of an expression of x and g."""
    g, x, weight = call.spec(0), call.spec(1), call.outputs[0]
    every = tuple(i for i in range(x.ndim) if i != 1 or weight.ndim == 0 or weight.shape != x.shape[1:2])
    kind = term(Term(compute_tag(TAGS[x.dtype]), "where(x > 0, 0, x * t)"), summing(x.dtype))
    made = reduce_launches(Source(x, In(1)), every, Out(0), weight.dtype, kind, profile, Source(g, In(0)))
    return Plan(made.launches, made.scratch)
