"""Plans of creation ops and of `astype`: one mapping launch each."""

from __future__ import annotations

from portable_nn.core.call import Call
from portable_nn.core.dtypes import TAGS, kind
from portable_nn.core.errors import NoKernel
from portable_nn.core.expression import compute_tag
from portable_nn.core.spec import Spec, Weak
from portable_nn_kernels.launch import In, Out, Plan, Profile, Value

from . import plans
from .copies import converted, copy_launch, fill_launch
from .mapping import Operand, ScalarArg, map_launch


@plans("astype")
def astype(call: Call, profile: Profile) -> Plan:
    """Load, convert, store; a copy of bits where the dtype stays."""
    y = call.outputs[0]
    return Plan((copy_launch(call.spec(0), In(0), y, Out(0), profile),) if y.size else ())


def _constant(call: Call, profile: Profile, number: int) -> Plan:
    y = call.outputs[0]
    return Plan((fill_launch(y, Out(0), number, profile),) if y.size else ())


@plans("zeros_like", "zeros", "empty")
def zeros(call: Call, profile: Profile) -> Plan:
    """Store 0."""
    return _constant(call, profile, 0)


@plans("ones_like", "ones")
def ones(call: Call, profile: Profile) -> Plan:
    """Store 1."""
    return _constant(call, profile, 1)


@plans("full_like", "full")
def full(call: Call, profile: Profile) -> Plan:
    """Store one number, which is passed by value or read from a 0-d array."""
    y = call.outputs[0]
    if y.size == 0:
        return Plan(())
    index = len(call.inputs) - 1
    fill = call.inputs[index]
    out = [Operand("y", y, Out(0))]
    if isinstance(fill, Spec):
        statements, value = converted("v_fill_value", fill.dtype, y.dtype)
        return Plan((map_launch(y.shape, [Operand("fill_value", fill, In(index))], out, statements, [value], profile),))
    assert isinstance(fill, Weak)
    if fill.kind == "complex":
        raise NoKernel(f"{call.op}: a complex Python scalar is not passed to kernels; give it as a 0-d array")
    tag = compute_tag(TAGS[y.dtype])
    if kind(y.dtype) == "complex":
        tag = "f32" if TAGS[y.dtype] == "c64" else "f64"
    statements, value = ([], "v_fill_value")
    if kind(y.dtype) == "complex":
        statements, value = [f"{TAGS[y.dtype]} v_pair; v_pair.x = v_fill_value; v_pair.y = 0;"], "v_pair"
    scalar = ScalarArg("fill_value", tag, Value(tag, index))
    return Plan((map_launch(y.shape, [], out, statements, [value], profile, [scalar], includes=()),))
