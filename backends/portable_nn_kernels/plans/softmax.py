"""Plans of softmax, softmin, log_softmax, logsumexp and their gradients: one launch each."""

from __future__ import annotations

from math import prod

from portable_nn.core.axes import axis_of, reduced_axes, reduced_shape
from portable_nn.core.call import Call
from portable_nn.core.dtypes import TAGS
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import Arg, Define, In, Launch, Out, Plan, Profile

from . import plans
from .lines import Line, compute, lines, vector_defines

_KINDS = {"softmax": 0, "softmin": 0, "log_softmax": 1, "logsumexp": 2, "softmax_grad": 3, "log_softmax_grad": 4}
_REGISTERS = 16  # elements of a line a work-item of a GPU keeps


@plans(*_KINDS)
def softmax(call: Call, profile: Profile) -> Plan:
    """Walk the lines along `dim`."""
    x, z = call.spec(0), call.outputs[0]
    kind = _KINDS[call.op]
    if call.op == "logsumexp":
        (axis,) = reduced_axes(call.op, call.settings["dim"], x.ndim)
        out = Spec(reduced_shape(x.shape, (axis,), True), z.dtype)
    else:
        axis, out = axis_of(call.op, call.settings["dim"], x.ndim), z
    if prod(out.shape) == 0:
        return Plan(())
    grad = kind > 2
    read = [Line(call.spec(i), In(i)) for i in range(2 if grad else 1)]
    found = lines(x.shape, axis, [*read, Line(out, Out(0), per_line=call.op == "logsumexp")], profile)
    per = 0
    if profile.shape == "gpu" and not grad and ("LANES", 1) in found.defines:
        need = -(-found.length // found.group)
        per = next((p for p in (1, 2, 4, 8, 16) if need <= p <= _REGISTERS), 0)
    defines: list[tuple[str, Define]] = [("T", TAGS[z.dtype]), ("R", TAGS[compute(z.dtype)]), ("KIND", kind), ("PER", per), *found.defines]
    if kind == 0 and compute(z.dtype) == z.dtype and not per and ("LANES", 1) in found.defines:
        defines.append(("STORE_EXP", 1))
    if call.op == "softmin":
        defines.append(("NEGATE", 1))
    arguments: tuple[Arg, ...] = (*found.refs, *found.sizes, *(s for i in range(len(read) + 1) for s in found.steps(i)))
    name = "pnn_softmax_grad" if grad else "pnn_softmax"
    if vector := vector_defines(found, z.dtype, profile):
        kept = [d for d in defines if d[0] not in ("G", "LANES", "PER")]
        launch = Launch(f"{name}_cpu", "softmax_cpu.c", (found.groups,), (1,), arguments, (*kept, *vector))
    else:
        launch = Launch(name, "softmax.c", (found.groups,), (found.group,), arguments, tuple(defines))
    return Plan((*found.copies, launch), found.scratch)
