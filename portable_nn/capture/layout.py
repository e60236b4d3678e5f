"""Layouts: images inside a step are kept channels-last where the backend's convolutions want it; the user sees what it asked for.

Images that elementwise calls and batch normalisations pass on belong together; such a family is laid out anew if convolutions
read or make more of it than would have to be converted back. Convolutions and pooling read one layout and write another, so families end there, and so
need no conversion. What other calls read, and what is handed out, is converted back.
"""

from __future__ import annotations

from collections import Counter

from ..core.call import Call
from ..core.elementwise import Elementwise
from ..core.geometry import channels_last
from ..core.op import Op
from ..core.program import Program, Slot, Step
from ..core.registry import find
from ..core.spec import Spec

_ROW = 4  # pooled columns from which on pooling in C order has vectors
_FEWEST = 9  # channels from which on a family pays: fewer fill no vector
# Operands and outputs that are images, by op: convolutions ask for the layout, the others go along with their neighbours.
_CONVOLUTIONS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "conv2d": ((0,), (0,)),
    "conv2d_act": ((0,), (0,)),
    "conv2d_input_grad": ((0,), (0,)),
    "conv2d_weight_grad": ((0, 1), ()),
}
_POOLS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    name + grad: ((0, 1) if grad and kind == "max" else (0,), (0,) if grad or kind == "avg" else (0, 1))
    for kind in ("max", "avg")
    for name in (f"{kind}_pool2d", f"adaptive_{kind}_pool2d")
    for grad in ("", "_grad")
}
_PASSING: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "batch_norm": ((0,), (0,)),
    "batch_norm_train": ((0,), (0,)),
    "batch_norm_train_grad": ((0, 1), (0,)),
}
_READING = frozenset({"sum", "mean"})  # the layout of what they read shows in no result


def keep_channels_last(program: Program) -> None:
    """Lay families of images out anew, and convert where they end."""
    families = _families(program)
    moved = {slot for family in families for slot in family}
    if not moved:
        return
    program.slots = [Slot(_last(s.spec), s.base, s.offset) if i in moved else s for i, s in enumerate(program.slots)]
    steps: list[Step] = []
    plain: dict[int, int] = {}  # slot: its copy in C order
    last: dict[int, int] = {}  # slot: its channels-last copy

    def converted(slot: int, wanted: Spec, known: dict[int, int]) -> int:
        if slot not in known:
            known[slot] = program.new_slot(wanted)
            call = Call("astype", (program.slots[slot].spec,), (wanted,), {"dtype": wanted.dtype, "copy": True})
            steps.append(Step(find("astype"), call, (slot,), (known[slot],)))
        return known[slot]

    for step in program.steps:
        images = _images(program, step)
        whole = step.op.name in _CONVOLUTIONS or (images is not None and not moved.isdisjoint(images[1]))
        inputs = list(step.inputs)
        for at, x in enumerate(inputs):
            if type(x) is not int:
                continue
            spec = program.slots[x].spec
            if program.base(x) in moved and (images is None or x not in images[0]) and step.op.name not in _READING:
                whole_base = program.base(x)
                copy = converted(whole_base, Spec(program.slots[whole_base].spec.shape, spec.dtype), plain)
                if whole_base == x:
                    inputs[at] = copy
                else:  # a view of what moved: of its copy from now on
                    program.slots[x] = Slot(spec, copy, program.slots[x].offset)
            elif images is not None and whole and x in images[0] and x not in moved and _fits(spec) and _asks(step, at, spec):
                inputs[at] = converted(x, _last(spec), last)
        specs = tuple(program.slots[x].spec if type(x) is int else s for x, s in zip(inputs, step.call.inputs, strict=True))
        outputs = step.outputs
        if step.view and program.base(step.outputs[0]) in moved:
            base = program.base(step.outputs[0])
            s = program.slots[step.outputs[0]]
            program.slots[step.outputs[0]] = Slot(s.spec, plain[base], s.offset)
        made = tuple(program.slots[y].spec for y in outputs)
        call = Call(step.call.op, specs, made, step.call.settings, step.call.residuals)
        steps.append(Step(step.op, call, tuple(inputs), outputs, step.view))
    program.results = [
        converted(slot, Spec(program.slots[slot].spec.shape, program.slots[slot].spec.dtype), plain) if slot in moved else slot
        for slot in program.results
    ]
    program.steps = steps


def _last(spec: Spec) -> Spec:
    return channels_last(spec.shape, spec.dtype)


def _fits(spec: Spec) -> bool:
    """Tell whether an array can be in either layout, and they differ."""
    return spec.ndim == 4 and spec.contiguous and spec.size > 0 and _last(spec) is not spec


def _asks(step: Step, at: int, spec: Spec) -> bool:
    """Tell whether a call's operand is to be converted: convolutions read images of few channels as they are."""
    if step.op.name in _CONVOLUTIONS:
        return spec.shape[1] >= _FEWEST
    return step.op.name not in _POOLS


def _images(program: Program, step: Step) -> tuple[list[int], list[int]] | None:
    """Return the slots of a call that are images it takes in any layout; None for calls that are not known."""
    if step.view:
        return None
    known = _CONVOLUTIONS.get(step.op.name) or _POOLS.get(step.op.name) or _PASSING.get(step.op.name)
    if known is not None:
        reads, makes = known
        if program.slots[step.outputs[0]].spec.ndim != 4 and step.op.name in _PASSING:
            return None
        found = [step.inputs[i] for i in reads if i < len(step.inputs)]
        return [x for x in found if type(x) is int], [step.outputs[i] for i in makes if i < len(step.outputs)]
    if isinstance(step.op, Op) and isinstance(step.op.expression, Elementwise):
        shape = step.call.outputs[0].shape
        if len(shape) == 4:
            # Operands that are broadcast are read at their strides, whatever the layout.
            return [x for x in step.reads() if program.slots[x].spec.shape == shape], list(step.outputs)
    return None


def _families(program: Program) -> list[list[int]]:
    """Return the families of slots to be laid out anew."""
    parent: dict[int, int] = {}

    def root(x: int) -> int:
        while parent[x] != x:
            parent[x] = parent[parent[x]]
            x = parent[x]
        return x

    def join(slots: list[int]) -> None:
        for x in slots[1:]:
            parent[root(x)] = root(slots[0])

    asked: list[int] = []  # a slot each time a convolution reads or makes it
    back = set(program.results)  # slots that would have to be converted back
    for step in program.steps:
        images = _images(program, step)
        if images is None:
            back.update(program.base(x) for x in step.reads() if step.op.name not in _READING)
            continue
        parent.update({y: y for y in images[1] if program.base(y) == y and _fits(program.slots[y].spec)})
        reads, makes = ([x for x in side if x in parent] for side in images)
        if step.op.name in _CONVOLUTIONS:
            if step.op.name == "conv2d_input_grad" and program.slots[step.outputs[0]].spec.shape[1] < _FEWEST:
                back.update(reads)  # its vectors run along pixels: it copies the cotangent in C order
                continue
            asked += [x for x in (*reads, *makes) if program.slots[x].spec.shape[1] >= _FEWEST]
        elif step.op.name not in _POOLS:
            join(reads + makes)
        elif len(makes) > 1:  # the winners' numbers lie as the maxima do
            join(makes)
    families: dict[int, list[int]] = {}
    for x in parent:
        families.setdefault(root(x), []).append(x)
    gain = Counter(root(x) for x in asked if x in parent)
    gain.subtract(root(x) for x in back if x in parent)
    ahead = {x for first, family in families.items() if gain[first] > 0 for x in family}
    for step in program.steps:  # pooling from one layout into another has no vectors, which rows in C order have
        images = _images(program, step) if step.op.name in _POOLS else None
        sides = [{x for x in side if program.slots[x].spec.shape[3] >= _ROW} for side in images or ()]
        if len(sides) == 2 and all(sides) and ahead.isdisjoint(sides[0]) != ahead.isdisjoint(sides[1]):
            gain.subtract({root(x) for side in sides for x in side if x in ahead})
    return [family for first, family in families.items() if gain[first] > 0]
