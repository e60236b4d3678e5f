"""Images that only convolutions read are made where they are read, if a batch norm makes them: they never lie in memory.

A batch norm with the ReLU behind it, and the gradient of one, end in a pass over an image: two or three reads, a write. If
convolutions alone read the result, each of them makes it again while it copies rows into its nearest cache, and the pass is gone. What the
passes before it made (statistics, gradients of weight and bias) stays. The operations are the same, so the results are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ..core.backend import Backend
from ..core.call import Call
from ..core.fused import Fed, Feed, Fused, Member
from ..core.program import Operand, Program, Step
from ..core.spec import Spec
from .graph import readers

# Operands of convolutions that may be fed.
_IMAGES = {"conv2d": (0,), "conv2d_act": (0,), "conv2d_input_grad": (0,), "conv2d_weight_grad": (0, 1)}
_MOST = 2  # readers: each makes the image anew
# Where the operands of a gradient are, after the cotangent.
_GRADIENTS: dict[str, tuple[Literal["norm_grad", "norm_relu_grad"], dict[str, int]]] = {
    "batch_norm_train_grad": ("norm_grad", {"x": 1, "weight": 2, "mean": 3, "rstd": 4}),
    "batch_norm_train_relu_grad": ("norm_relu_grad", {"x": 1, "weight": 2, "bias": 3, "mean": 4, "rstd": 5}),
}


@dataclass(frozen=True, slots=True)
class _Made:
    """An image that could be fed: its output's number, kind, what stands in its place, and the other operands by name."""

    output: int
    kind: Literal["norm_relu", "norm_grad", "norm_relu_grad"]
    source: int
    operands: dict[str, int]


def feed_convolutions(program: Program, target: Backend) -> None:
    """Let convolutions make the images that batch norms make for them alone."""
    for at, step in enumerate(program.steps):
        made = _made(step)
        if made is None:
            continue
        image = step.outputs[made.output]
        if program.base(image) != image:  # a piece of what others read
            continue
        users = readers(program).get(image, [])
        if not users or len(users) > _MOST or users[-1] == len(program.steps) or not _alike(program, image, made):
            continue
        fed = [_fed(program, program.steps[user], image, made, target) for user in users]
        if any(new is None for new in fed):
            continue
        for user, new in zip(users, fed, strict=True):
            assert new is not None
            program.steps[user] = new
        program.steps[at] = _rest(step, made.output)


def _made(step: Step) -> _Made | None:
    """Return what a step makes for convolutions, if it is one of these."""
    op = step.op
    if step.view:
        return None
    if isinstance(op, Fused) and [m.op.name for m in op.members] == ["batch_norm_train", "relu"]:
        norm = op.members[0]
        if (0, 0) in op.stored or not {(0, 1), (0, 3), (1, 0)} <= set(op.stored):
            return None
        given = [step.inputs[i] if isinstance(i, int) else None for i in norm.sources]
        mean, rstd, output = (op.stored.index(place) for place in ((0, 1), (0, 3), (1, 0)))
        found = {"weight": given[1], "bias": given[2], "mean": step.outputs[mean], "rstd": step.outputs[rstd]}
        return _complete(output, "norm_relu", given[0], found)
    if op.name in _GRADIENTS and len(step.outputs) == 3:
        kind, places = _GRADIENTS[op.name]
        found = {name: step.inputs[i] for name, i in places.items()}
        return _complete(0, kind, step.inputs[0], {**found, "gw": step.outputs[1], "gb": step.outputs[2]})
    return None


def _complete(output: int, kind: Any, source: Operand, operands: dict[str, Operand]) -> _Made | None:
    """Return the description if every operand is an array."""
    arrays = {name: x for name, x in operands.items() if type(x) is int}
    return _Made(output, kind, source, arrays) if type(source) is int and len(arrays) == len(operands) else None


def _alike(program: Program, image: int, made: _Made) -> bool:
    """Tell whether what is read lies as the image would, and the rest are plain vectors of its type."""
    spec = program.slots[image].spec
    images = {made.source, *(x for name, x in made.operands.items() if name == "x")}
    vectors = [program.slots[x].spec for name, x in made.operands.items() if name != "x"]
    return all(program.slots[x].spec is spec for x in images) and all(v.contiguous and v.ndim == 1 and v.dtype == spec.dtype for v in vectors)


def _fed(program: Program, user: Step, image: int, made: _Made, target: Backend) -> Step | None:
    """Return `user` reading what the image is made of; None if it cannot."""
    places = [i for i, x in enumerate(user.inputs) if type(x) is int and x == image]
    op, call, before = (user.op.op, user.op.call, user.op.feeds) if isinstance(user.op, Fed) else (user.op, user.call, ())
    if len(places) != 1 or places[0] not in _IMAGES.get(op.name, ()):
        return None
    inputs: list[Operand] = list(user.inputs)
    specs: list[Any] = list(user.call.inputs)
    inputs[places[0]] = made.source
    numbers = {}
    for name, x in made.operands.items():
        numbers[name] = len(inputs)
        inputs.append(x)
        specs.append(program.slots[x].spec)
    fed = Fed(op, call, (*before, Feed(places[0], made.kind, numbers)))
    whole = Call(fed.name, tuple(specs), user.call.outputs)
    return Step(fed, whole, tuple(inputs), user.outputs) if target.feeds(fed, whole) else None


def _rest(step: Step, output: int) -> Step:
    """Return the step without one of its outputs, which a mapping at its end made."""
    op = step.op
    if isinstance(op, Fused):
        members, stored = op.members, op.stored
    else:
        sources = tuple(i if isinstance(s, Spec) else None for i, s in enumerate(step.call.inputs))
        members, stored = (Member(op, step.call, sources),), tuple((0, i) for i in range(len(step.outputs)))
    fused = Fused(members, tuple(place for i, place in enumerate(stored) if i != output))
    outputs = tuple(s for i, s in enumerate(step.call.outputs) if i != output)
    return Step(fused, Call(fused.name, step.call.inputs, outputs), step.inputs, tuple(y for i, y in enumerate(step.outputs) if i != output))
