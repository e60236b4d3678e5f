"""A ReLU's gradient moves to where it costs less: into the gradient of the batch norm before it, or before that of a maximum pooling.

The batch norm's finds the mask again from what it reads anyway, which saves writing and reading the masked cotangent where kernels of
channels-last images mask what they read. Only where the type in registers is the type in memory: there the recomputed result has the same
sign, bit for bit. Pooling hands a cotangent to the window's largest value, so whether that one passes the ReLU shows in the maximum: masked
before it is spread it is a fraction of the size, and the ReLU's result need not be kept.
"""

from __future__ import annotations

from ..core import dtypes
from ..core.call import Call
from ..core.program import Program, Step
from ..core.registry import find
from ..core.spec import Spec
from .graph import readers

_EXACT = (dtypes.float32, dtypes.float64)
_GRADIENT = "batch_norm_train_grad"


def join_relu_gradients(program: Program) -> None:
    """Make the gradients of a ReLU and of the batch norm before it one call, where nothing else reads what passes between them."""
    made = program.producers()
    reads = readers(program)
    gone: set[int] = set()
    for at, step in enumerate(program.steps):
        if step.op.name != _GRADIENT:
            continue
        g, x, weight, mean, rstd = step.inputs
        mask = made.get(g) if type(g) is int else None
        if type(g) is not int or mask is None or program.steps[mask].op.name != "relu_grad" or reads[program.steps[mask].outputs[0]] != [at]:
            continue
        given, y = program.steps[mask].inputs
        norm = _normalised(program, made, y)
        if norm is None or type(given) is not int or program.slots[given].spec != program.slots[g].spec:
            continue
        if (norm.inputs[0], norm.inputs[1], norm.outputs[1], norm.outputs[3]) != (x, weight, mean, rstd):
            continue
        op = find("batch_norm_train_relu_grad")
        specs = (step.call.inputs[0], *step.call.inputs[1:3], norm.call.inputs[2], *step.call.inputs[3:])
        call = Call(op.name, specs, step.call.outputs)
        program.steps[at] = Step(op, call, (given, x, weight, norm.inputs[2], mean, rstd), step.outputs)
        gone.add(mask)
    program.steps = [s for i, s in enumerate(program.steps) if i not in gone]


def mask_before_pooling(program: Program) -> None:
    """Mask the cotangent of a maximum pooling by its result, in place of what its gradient makes by what it read."""
    made = program.producers()
    reads = readers(program)
    steps = list[Step | None](program.steps)
    before: dict[int, Step] = {}  # by position of a pooling's gradient
    for at, step in enumerate(program.steps):
        if step.op.name != "relu_grad":
            continue
        spread, y = step.inputs
        back = made.get(spread) if type(spread) is int else None
        if back is None or type(spread) is not int or reads[spread] != [at]:
            continue
        gradient = program.steps[back]
        pool = _pooling(program, made, gradient, y)
        outs = step.call.outputs
        if pool is None or gradient.call.outputs != outs:
            continue
        given, winners = gradient.inputs
        if type(given) is not int:
            continue
        spec, largest = program.slots[given].spec, program.slots[pool.outputs[0]].spec
        masked = Spec(spec.shape, spec.dtype)
        if largest is not masked or not outs[0].contiguous:  # other layouts would follow what is masked
            continue
        slot = program.new_slot(masked)
        before[back] = Step(step.op, Call(step.op.name, (spec, largest), (masked,)), (given, pool.outputs[0]), (slot,))
        call = Call(gradient.op.name, (masked, *gradient.call.inputs[1:]), outs, gradient.call.settings)
        steps[back], steps[at] = Step(gradient.op, call, (slot, winners), step.outputs), None
    program.steps = [s for i, kept in enumerate(steps) for s in (before.get(i), kept) if s is not None]


def _pooling(program: Program, made: dict[int, int], gradient: Step, read: object) -> Step | None:
    """Return the maximum pooling that `gradient` is of, if it is of one that reads `read`."""
    if not gradient.op.name.endswith("max_pool2d_grad"):
        return None
    winners = gradient.inputs[1]
    pool = program.steps[made[winners]] if type(winners) is int and winners in made else None
    if pool is None or gradient.op.name != f"{pool.op.name}_grad" or pool.inputs[0] != read:
        return None
    return pool  # of the same windows: winners are handed to nobody but the pooling's own gradient


def _normalised(program: Program, made: dict[int, int], y: object) -> Step | None:
    """Return the batch norm of channels-last images whose ReLU is `y`, if it is one and keeps what its gradient needs."""
    relu = program.steps[made[y]] if type(y) is int and y in made else None
    if relu is None or relu.op.name != "relu":
        return None
    (z,) = relu.inputs
    norm = program.steps[made[z]] if type(z) is int and z in made else None
    if norm is None or norm.op.name != "batch_norm_train" or z != norm.outputs[0] or len(norm.outputs) < 4:
        return None
    spec = program.slots[z].spec
    return norm if spec.dtype in _EXACT and spec.ndim == 4 and spec.strides[1] == 1 and not spec.contiguous else None
