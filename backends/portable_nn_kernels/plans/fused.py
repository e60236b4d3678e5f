"""The plan of calls that a capture joined: elementwise ones in one mapping kernel, behind another call's last one if it is a mapping.

Only values whose type in registers is their type in memory pass between calls, so that nothing would be rounded on the way
through memory: the results are those of the calls one by one, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from portable_nn.core import dtypes
from portable_nn.core.call import Call
from portable_nn.core.elementwise import Elementwise
from portable_nn.core.expression import KernelExpression, compute_tag
from portable_nn.core.fused import Fused, Member
from portable_nn.core.op import Op
from portable_nn.core.spec import Spec, Weak
from portable_nn_kernels.launch import Const, In, Launch, Out, Plan, Profile, Ref, Term, Value

from .mapping import Operand, Recipe, ScalarArg, map_launch

Planner = Callable[[Op, Call], Plan]


@dataclass(slots=True)
class _Kernel:
    """A mapping kernel under construction. `made`: (member, output) -> name and tag of its value."""

    inputs: dict[str, Operand] = field(default_factory=dict)
    scalars: dict[str, ScalarArg] = field(default_factory=dict)
    steps: list[Term] = field(default_factory=list)
    made: dict[tuple[int, int], tuple[str, str]] = field(default_factory=dict)


def ends_in_mapping(plan: Plan, made: Spec) -> Recipe | None:
    """Return how the last launch makes the first output, if more may be computed there before it is stored.

    A copy is none: it moves bits, as integers, and may see the output in another shape than `made`, which is what the others read.
    """
    if not plan.launches:
        return None
    recipe = plan.launches[-1].recipe
    alone = isinstance(recipe, Recipe) and [(o.ref, o.spec) for o in recipe.outputs] == [(Out(0), made)]
    return recipe if alone and not any(Out(0) in launch.args for launch in plan.launches[:-1]) else None


def plan_fused(op: Fused, call: Call, profile: Profile, planned: Planner) -> Plan:
    """Return the launches of joined calls; `planned` plans an ordinary one."""
    kernel = _Kernel()
    before: tuple[Launch, ...] = ()
    scratch: tuple[Spec, ...] = ()
    for number, member in enumerate(op.members):
        if member.op.expression is None:
            plan = planned(member.op, member.call)
            before, scratch = _head(kernel, op, member, plan), plan.scratch
        else:
            _member(kernel, number, member)
    values, outputs = [], []
    for i, (at, spec) in enumerate(zip(op.stored, call.outputs, strict=True)):
        if at in kernel.made:
            name, tag = kernel.made[at]
            values.append(Term(tag, name))
            outputs.append(Operand(f"out{i}", spec, Out(i)))
    if not values:  # what the mapping would have made is made by those who read it
        return Plan(before, scratch)
    last = map_launch(
        outputs[0].spec.shape, list(kernel.inputs.values()), outputs, kernel.steps, values, profile, list(kernel.scalars.values())
    )
    return Plan((*before, last), scratch)


def _head(kernel: _Kernel, op: Fused, member: Member, plan: Plan) -> tuple[Launch, ...]:
    """Begin the kernel with the mapping in which `member` ends; return the launches before it."""
    recipe = ends_in_mapping(plan, member.call.outputs[0])
    assert recipe is not None, f"{member.op.name} does not end in a mapping"
    outputs = {output: i for i, (number, output) in enumerate(op.stored) if number == 0}

    def moved(ref: Ref) -> Ref:
        if ref.role == "in":
            source = member.sources[ref.index]
            assert isinstance(source, int)
            return In(source)
        return Out(outputs[ref.index]) if ref.role == "out" else ref

    def value(x: Value) -> Value:
        source = member.sources[x.index]
        assert isinstance(source, int)
        return Value(x.tag, source)

    names = {name: f"h_{name}" for name in (*(o.name for o in recipe.inputs), *(s.name for s in recipe.scalars), *(t.name for t in recipe.steps))}

    def text(term: Term) -> str:
        return KernelExpression(term.text).renamed(names).split()[1]

    for o in recipe.inputs:
        kernel.inputs[names[o.name]] = Operand(names[o.name], o.spec, moved(o.ref))
    for s in recipe.scalars:
        kernel.scalars[names[s.name]] = ScalarArg(names[s.name], s.tag, value(s.arg) if isinstance(s.arg, Value) else s.arg)
    kernel.steps += [Term(t.tag, text(t), names[t.name]) for t in recipe.steps]
    (last,) = recipe.values
    kernel.steps.append(Term(last.tag, text(last), "y0_0"))
    kernel.made[0, 0] = "y0_0", last.tag
    return tuple(
        replace(launch, args=tuple(moved(a) if isinstance(a, Ref) else value(a) if isinstance(a, Value) else a for a in launch.args))
        for launch in plan.launches[:-1]
    )


def _member(kernel: _Kernel, number: int, member: Member) -> None:
    """Add an elementwise call to the kernel."""
    rule: Elementwise = member.op.expression
    by_name = dict(zip(member.op.operands, member.call.inputs, strict=True))
    dtype = rule.promoted(member.op, by_name)
    tag = compute_tag(dtypes.TAGS[dtype])
    expressions = rule.expressions(member.op, member.call)
    read = {name for _, e in expressions for name in e.names}
    names: dict[str, str] = {}
    for (name, spec), source in zip(by_name.items(), member.sources, strict=True):
        if spec is None or source is None or name not in read:
            continue
        if isinstance(spec, Weak):
            assert isinstance(source, int)
            names[name] = f"n{source}_{tag}"
            kernel.scalars[names[name]] = ScalarArg(names[name], tag, Value(tag, source))
            continue
        if isinstance(source, tuple):
            value, own = kernel.made[source]
        else:
            value, own = f"x{source}", compute_tag(dtypes.TAGS[spec.dtype])
            kernel.inputs[value] = Operand(value, spec, In(source))
        wanted = compute_tag(dtypes.TAGS[spec.dtype]) if name in rule.apart else tag
        if own != wanted:
            kernel.steps.append(Term(wanted, f"{wanted}({value})", f"{value}_{number}{name}"))
            value = f"{value}_{number}{name}"
        names[name] = value
    for name, value in member.call.settings.items():
        if name in read:
            names[name] = f"s{number}_{name}"
            kernel.scalars[names[name]] = ScalarArg(names[name], tag, Const(tag, value))
    for output, (_, expression) in enumerate(expressions):
        local = {name: f"t{number}_{output}{name}" for name, _ in expression.steps}
        assigned, value = expression.renamed(names | local).split()
        kernel.steps += [Term(tag, text, name) for name, text in assigned]
        if dtype == dtypes.bool_ or member.call.outputs[output].dtype == dtypes.bool_:
            value = f"({value}) != 0"
        kernel.made[number, output] = f"y{number}_{output}", tag
        kernel.steps.append(Term(tag, value, f"y{number}_{output}"))
