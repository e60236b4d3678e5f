"""Plans of creation ops and of `astype`: one mapping launch each."""

from __future__ import annotations

from portable_nn.core.call import Call
from portable_nn.core.dtypes import TAGS, DType, is_float, kind
from portable_nn.core.errors import NoKernel
from portable_nn.core.expression import compute_tag
from portable_nn.core.spec import Spec, Weak
from portable_nn_kernels.launch import In, Out, Plan, Profile, Value

from . import plans
from .layout import copy_launch
from .mapping import Operand, ScalarArg, map_launch


def converted(value: str, source: DType, target: DType) -> tuple[list[str], str]:
    """Return C statements and the value of type `source`, `value`, ready to be stored as `target`."""
    real = f"{value}.x" if kind(source) == "complex" else value
    if kind(target) == "complex":
        tag = TAGS[target]
        part = "f32" if tag == "c64" else "f64"
        imaginary = f"({part}){value}.y" if kind(source) == "complex" else "0"
        return [f"{tag} v_pair; v_pair.x = ({part}){real}; v_pair.y = {imaginary};"], "v_pair"
    if kind(target) == "bool":
        return [], f"({real} != 0)"
    if TAGS[source] == "f64" and TAGS[target] in ("f16", "bf16"):
        return [], f"pnn_narrow_f64({value})"
    if is_float(source) and kind(target) == "int" and target.itemsize < 4:
        return [], f"((i32){value})"  # a float straight to a narrow integer is undefined for more values
    if is_float(source) and TAGS[target] == "u32":
        return [], f"((i64){value})"
    return [], value


@plans("astype")
def astype(call: Call, profile: Profile) -> Plan:
    """Load, convert, store; a copy of bits where the dtype stays."""
    x, y = call.spec(0), call.outputs[0]
    if y.size == 0:
        return Plan(())
    if x.dtype == y.dtype:
        return Plan((copy_launch(x, In(0), y, Out(0), profile),))
    statements, value = converted("v_x", x.dtype, y.dtype)
    return Plan((map_launch(y.shape, [Operand("x", x, In(0))], [Operand("y", y, Out(0))], statements, [value], profile),))


def _constant(call: Call, profile: Profile, number: int) -> Plan:
    y = call.outputs[0]
    if y.size == 0:
        return Plan(())
    tag = TAGS[y.dtype]
    complex_ = kind(y.dtype) == "complex"
    statements = [f"{tag} v_pair; v_pair.x = {number}; v_pair.y = 0;"] if complex_ else []
    value = "v_pair" if complex_ else f"(({compute_tag(tag)}){number})"
    return Plan((map_launch(y.shape, [], [Operand("y", y, Out(0))], statements, [value], profile, includes=()),))


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
