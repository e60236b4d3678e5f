"""Sums of gradients join the convolution before them: where an image was read twice, as around a block of a ResNet.

The cotangent of such an image is a sum, of which an input gradient is a part, and often the gradient of a ReLU follows. If nothing else
reads the part, the convolution adds and masks in registers, and a pass over an image is gone. The same operations, so the same bits.
"""

from __future__ import annotations

from typing import Any

from ..core.backend import Backend
from ..core.call import Call
from ..core.fused import Ending, Fed, Fused
from ..core.program import Operand, Program, Step
from .graph import readers

_CONVOLUTION = "conv2d_input_grad"


def end_gradients(program: Program, target: Backend) -> None:
    """Let input gradients of convolutions add what would be added to them next, and mask the sum."""
    made = program.producers()
    reads = readers(program)
    gone: set[int] = set()
    for at, step in enumerate(program.steps):
        for part, more, gate in _sums(step):
            head = made.get(part)
            if head is None or head in gone or reads[part] != [at]:
                continue
            joined = _joined(program, program.steps[head], step, more, gate, target)
            if joined is not None:
                program.steps[at] = joined  # here everything is there that either of them reads
                gone.add(head)
                break
    program.steps = [s for i, s in enumerate(program.steps) if i not in gone]


def _sums(step: Step) -> list[tuple[int, int, int | None]]:
    """Return the ways to see a step as a sum: what a convolution may have made, what is added, the result of a ReLU whose gradient follows."""
    op = step.op
    gate: int | None = None
    if isinstance(op, Fused):
        if [m.op.name for m in op.members] != ["add", "relu_grad"] or op.stored != ((1, 0),):
            return []
        source = op.members[1].sources[1]
        masked = step.inputs[source] if isinstance(source, int) else None
        if type(masked) is not int:
            return []  # the sum is the mask of something else
        gate = masked
        terms = [step.inputs[i] if isinstance(i, int) else None for i in op.members[0].sources]
    elif op.name == "add":
        terms = list(step.inputs)
    else:
        return []
    a, b = terms
    if type(a) is not int or type(b) is not int or a == b:
        return []
    return [(a, b, gate), (b, a, gate)]


def _joined(program: Program, conv: Step, step: Step, more: int, gate: int | None, target: Backend) -> Step | None:
    """Return one step for the convolution and what follows; None if it cannot be."""
    op, call, feeds = (conv.op.op, conv.op.call, conv.op.feeds) if isinstance(conv.op, Fed) else (conv.op, conv.call, ())
    spec = step.call.outputs[0]
    others = (more,) if gate is None else (more, gate)
    if op.name != _CONVOLUTION or call.outputs[0] is not spec or any(program.slots[x].spec is not spec for x in others):
        return None
    inputs: tuple[Operand, ...] = (*conv.inputs, *others)
    specs: tuple[Any, ...] = (*conv.call.inputs, *(program.slots[x].spec for x in others))
    first = len(conv.inputs)
    fed = Fed(op, call, feeds, Ending(first, None if gate is None else first + 1))
    whole = Call(fed.name, specs, (spec,))
    return Step(fed, whole, inputs, step.outputs) if target.feeds(fed, whole) else None
