"""Fusion: calls that only pass a value on are dropped, activations join what they follow, elementwise calls join each other.

They also join a call before them that stores its result by a mapping kernel (batch normalisation).
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from math import prod
from typing import Any

from ..core import dtypes
from ..core.backend import Backend
from ..core.call import Call
from ..core.elementwise import Elementwise
from ..core.fused import Fused, Member
from ..core.op import Op
from ..core.program import Operand, Program, Step
from ..core.registry import find
from ..core.spec import Spec
from .graph import parts, readers, substitute

# A product or convolution followed by one of these is one op. Only those whose fused form gives the same bits: the
# maximum with 0 does not care whether the sum was rounded before.
_HEADS = {"linear": "linear_act", "conv2d": "conv2d_act"}
_TAILS = {"relu": "relu"}
_ARRAYS = 16  # arrays of one fused kernel: argument lists have limits, and so have registers
# Functions that compilers for CPUs call element by element: in one kernel with others, the others lose their vectors too (a
# batch norm, sum, relu and difference with a power behind them took 1049 us in one kernel, 719 us in five, on a Zen 4).
_ALONE = frozenset({"pow"})
# Types whose values are in registers what they are in memory.
_EXACT = (dtypes.float32, dtypes.float64, dtypes.int32, dtypes.int64, dtypes.uint32, dtypes.uint64, dtypes.bool_)


def skip_identities(program: Program) -> None:
    """Drop elementwise calls that give an operand back as it is: the gradient of a sum is the cotangent itself."""
    same: dict[int, int] = {}
    kept: list[Step] = []
    for step in program.steps:
        source = _identity(step)
        if source is None:
            kept.append(step)
        else:
            same[step.outputs[0]] = source
    program.steps = kept
    substitute(program, same)


def _identity(step: Step) -> int | None:
    rule = step.op.expression
    if not isinstance(rule, Elementwise) or len(step.outputs) != 1:
        return None
    ((_, expression),) = rule.expressions(step.op, step.call)  # type: ignore[arg-type]
    if expression.steps or not isinstance(expression.value, ast.Name):
        return None
    operands = step.op.operands  # type: ignore[union-attr]
    if expression.value.id not in operands:
        return None
    at = operands.index(expression.value.id)
    source = step.inputs[at]
    return source if type(source) is int and step.call.inputs[at] is step.call.outputs[0] else None


def join_activations(program: Program) -> None:
    """Make a product or a convolution, and the activation that alone reads it, one call."""
    reads = readers(program)
    producers = program.producers()
    bases = {s.base for i, s in enumerate(program.slots) if s.base != i}
    gone: set[int] = set()
    for at, step in enumerate(program.steps):
        if step.op.name not in _TAILS or step.call.settings:
            continue
        (source,) = step.reads()
        head = producers.get(source)
        if head is None or source in bases or reads[source] != [at]:
            continue
        first = program.steps[head]
        if first.op.name not in _HEADS or first.call.outputs[0] is not step.call.outputs[0]:
            continue
        made = find(_HEADS[first.op.name])
        settings = {**first.call.settings, "activation": _TAILS[step.op.name]}
        call = Call(made.name, first.call.inputs, step.call.outputs, settings)
        program.steps[head] = Step(made, call, first.inputs, step.outputs)
        producers[step.outputs[0]] = head
        gone.add(at)
    program.steps = [s for i, s in enumerate(program.steps) if i not in gone]


@dataclass(eq=False)
class _Node:
    """Steps that will be one: some elementwise ones of one shape, or any other single one."""

    shape: tuple[int, ...] | None
    steps: list[Step] = field(default_factory=list)
    outputs: set[int] = field(default_factory=set)
    reads: set[int] = field(default_factory=set)  # from outside, pieces of blocks included

    def add(self, step: Step, pieces: dict[int, set[int]]) -> None:
        """Append a step."""
        self.steps.append(step)
        self.reads.update(x for slot in step.reads() if slot not in self.outputs for x in (slot, *pieces.get(slot, ())))
        self.outputs.update(step.outputs)


def join_elementwise(program: Program, target: Backend) -> None:
    """Join elementwise calls of one shape that pass values to each other, also behind a call that ends like one."""
    nodes: list[_Node] = []
    maker: dict[int, _Node] = {}
    pieces = parts(program)
    for step in program.steps:
        shape = _joinable(step)
        node = _partner(nodes, maker, step, program) if shape is not None else None
        if node is None:
            node = _Node(shape or _open_end(step, target))
            nodes.append(node)
        node.add(step, pieces)
        maker.update(dict.fromkeys(step.outputs, node))
    wanted = {slot for node in nodes for slot in node.reads} | set(program.results)
    program.steps = [node.steps[0] if len(node.steps) == 1 else _fused(node.steps, wanted) for node in nodes]


def _joinable(step: Step) -> tuple[int, ...] | None:
    """Return the shape a call may be joined with others over; None if it may not."""
    if step.view or not isinstance(step.op.expression, Elementwise) or set(step.outputs).intersection(step.reads()):
        return None
    op = step.op
    assert isinstance(op, Op)  # nothing is fused yet
    if any(_ALONE & expression.functions for _, expression in step.op.expression.expressions(op, step.call)):
        return None
    arrays = [s for s in (*step.call.inputs, *step.call.outputs) if isinstance(s, Spec)]
    if any(dtypes.kind(s.dtype) == "complex" for s in arrays) or prod(step.call.outputs[0].shape) == 0:
        return None
    return step.call.outputs[0].shape


def _open_end(step: Step, target: Backend) -> tuple[int, ...] | None:
    """Return the shape of the calls that may follow in the same kernel, for a call that is not elementwise itself."""
    if step.view or step.op.expression is not None or not isinstance(step.op, Op) or not step.call.outputs[0].size:
        return None
    return step.call.outputs[0].shape if target.ends_in_mapping(step.op, step.call) else None


def _partner(nodes: list[_Node], maker: dict[int, _Node], step: Step, program: Program) -> _Node | None:
    """Return the node that `step` can join, moved to where it may run; None if there is none."""
    shape = step.call.outputs[0].shape
    for slot in step.reads():
        node = maker.get(slot)
        if node is None or node.shape != shape or program.slots[slot].spec.dtype not in _EXACT:
            continue
        first = node.steps[0]
        if first.op.expression is None and not set(first.outputs[1:]).isdisjoint(step.reads()):
            continue  # written by a launch of the same call
        arrays = {x for s in (*node.steps, step) for x in (*s.reads(), *s.outputs)}
        if len(arrays) > _ARRAYS:
            continue
        at = nodes.index(node)
        if all(maker.get(x) is node or x not in maker or nodes.index(maker[x]) < at for x in step.reads()):
            return node  # everything it reads is there when the node runs
        after = nodes[at + 1 :]
        written = {program.base(x) for n in after for x in n.outputs}
        idle = all(n.reads.isdisjoint(node.outputs) for n in after)
        if idle and written.isdisjoint(program.base(x) for x in node.reads):  # nobody needs the node before now: it can run here
            nodes.append(nodes.pop(at))
            return node
    return None


def _fused(steps: list[Step], wanted: set[int]) -> Step:
    """Return one step for several."""
    inputs: list[Operand] = []
    specs: list[Any] = []
    numbers: dict[Operand, int] = {}
    made: dict[int, tuple[int, int]] = {}
    members: list[Member] = []
    for at, step in enumerate(steps):
        sources: list[int | tuple[int, int] | None] = []
        for x, spec in zip(step.inputs, step.call.inputs, strict=True):
            if x is None:
                sources.append(None)
            elif type(x) is int and x in made:
                sources.append(made[x])
            else:
                if x not in numbers or type(x) is not int:
                    numbers[x] = len(inputs)
                    inputs.append(x)
                    specs.append(spec)
                sources.append(numbers[x])
        members.append(Member(step.op, step.call, tuple(sources)))
        made.update({slot: (at, i) for i, slot in enumerate(step.outputs)})
    head = steps[0].op.expression is None
    stored = {slot: place for slot, place in made.items() if slot in wanted or (head and place[0] == 0 and place[1])}
    outputs = tuple(steps[at].call.outputs[i] for at, i in stored.values())
    op = Fused(tuple(members), tuple(stored.values()))
    return Step(op, Call(op.name, tuple(specs), outputs), tuple(inputs), tuple(stored))

