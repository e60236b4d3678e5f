"""The plan of every elementwise op: its expressions in one mapping kernel."""

from __future__ import annotations

from math import prod

from portable_nn.core import dtypes
from portable_nn.core.call import Call
from portable_nn.core.elementwise import Elementwise
from portable_nn.core.errors import NoKernel
from portable_nn.core.expression import compute_tag
from portable_nn.core.op import Op
from portable_nn.core.spec import Weak
from portable_nn_kernels.launch import Const, In, Out, Plan, Profile, Term, Value

from .mapping import Operand, ScalarArg, map_launch


def plan(op: Op, call: Call, profile: Profile) -> Plan:
    """Return one launch; none when there is nothing to compute."""
    rule: Elementwise = op.expression
    shape = call.outputs[0].shape
    if prod(shape) == 0:
        return Plan(())
    by_name = dict(zip(op.operands, call.inputs, strict=True))
    dtype = rule.promoted(op, by_name)
    if dtypes.kind(dtype) == "complex":
        raise NoKernel(f"{op.name}: device kernels have no {dtype.name} arithmetic here; matmul is the op that takes it")
    tag = compute_tag(dtypes.TAGS[dtype])
    expressions = rule.expressions(op, call)
    read = {name for _, e in expressions for name in e.names}
    inputs: list[Operand] = []
    scalars: list[ScalarArg] = []
    steps: list[Term] = []
    for index, (name, spec) in enumerate(by_name.items()):
        if spec is None or (name not in read and not isinstance(spec, Weak)):
            continue
        if isinstance(spec, Weak):
            if name in read:
                scalars.append(ScalarArg(name, tag, Value(tag, index)))
            continue
        own = compute_tag(dtypes.TAGS[spec.dtype])
        if own != tag and name not in rule.apart:  # promoted: load under another name, then convert
            inputs.append(Operand(f"{name}_own", spec, In(index)))
            steps.append(Term(tag, f"{tag}({name}_own)", name))
        else:
            inputs.append(Operand(name, spec, In(index)))
    for name, value in call.settings.items():
        if name in read:
            scalars.append(ScalarArg(name, tag, Const(tag, value)))
    values = []
    boolean = dtype == dtypes.bool_
    for number, (_, expression) in enumerate(expressions):
        assigned, value = expression.split(str(number) if len(expressions) > 1 else "")
        steps += [Term(tag, text, name) for name, text in assigned]
        values.append(Term(tag, f"({value}) != 0" if boolean or call.outputs[number].dtype == dtypes.bool_ else value))
    outputs = [Operand(f"out{i}", s, Out(i)) for i, s in enumerate(call.outputs)]
    return Plan((map_launch(shape, inputs, outputs, steps, values, profile, scalars),))
