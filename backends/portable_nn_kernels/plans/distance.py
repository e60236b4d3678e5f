"""Plans of mse_loss and l1_loss: a reduction of differences, or the differences."""

from __future__ import annotations

from portable_nn.core.call import Call
from portable_nn.core.dtypes import TAGS
from portable_nn.core.expression import compute_tag
from portable_nn_kernels.launch import In, Out, Plan, Profile, Term

from . import plans
from .mapping import Operand, map_launch
from .reduction import Source, averaging, reduce_launches


@plans("mse_loss", "l1_loss")
def distance(call: Call, profile: Profile) -> Plan:
    """Read both operands once."""
    x, t, y = call.spec(0), call.spec(1), call.outputs[0]
    square = call.op == "mse_loss"
    if call.settings["reduction"] == "none":
        if y.size == 0:
            return Plan(())
        tag = compute_tag(TAGS[x.dtype])
        value = Term(tag, "d * d" if square else "abs(d)")
        operands = [Operand("x", x, In(0)), Operand("t", t, In(1))]
        return Plan((map_launch(x.shape, operands, [Operand("y", y, Out(0))], [Term(tag, "x - t", "d")], [value], profile),))
    divisor = x.size if call.settings["reduction"] == "mean" else 1
    kind = averaging(x.dtype, divisor, "MAP_SQUARE" if square else "MAP_DISTANCE")
    made = reduce_launches(Source(x, In(0)), tuple(range(x.ndim)), Out(0), y.dtype, kind, profile, Source(t, In(1)))
    return Plan(made.launches, made.scratch)
