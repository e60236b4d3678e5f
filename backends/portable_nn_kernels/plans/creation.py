"""Plans of creation ops and of `astype`: one mapping launch each."""

from __future__ import annotations

from portable_nn.core.call import Call
from portable_nn.core.dtypes import TAGS, complex128, float32, float64, int32, int64, kind
from portable_nn.core.errors import NoKernel
from portable_nn.core.expression import compute_tag
from portable_nn.core.spec import Spec, Weak
from portable_nn_kernels.launch import Const, In, Out, Plan, Profile, Term, Value

from . import plans
from .copies import bits, converted, copy_launch, fill_launch, part_tag
from .mapping import Operand, ScalarArg, map_launch


@plans("astype")
def astype(call: Call, profile: Profile) -> Plan:
    """Load, convert, store; a copy of bits where the dtype stays."""
    y = call.outputs[0]
    return Plan((copy_launch(call.spec(0), In(0), y, Out(0), profile),) if y.size else ())


def _constant(call: Call, profile: Profile, number: int) -> Plan:
    y = call.outputs[0]
    return Plan((fill_launch(y, Out(0), number, profile),) if y.size else ())


@plans("zeros_like", "zeros")
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
        value = converted("fill_value", fill.dtype, y.dtype)
        return Plan((map_launch(y.shape, [Operand("fill_value", fill, In(index))], out, [], [value], profile),))
    assert isinstance(fill, Weak)
    if fill.kind == "complex":
        raise NoKernel(f"{call.op}: a complex Python scalar is not passed to kernels; give it as a 0-d array")
    tag = part_tag(y.dtype)
    value = Term(tag, "fill_value" if kind(y.dtype) != "complex" else f"{TAGS[y.dtype]}(fill_value, 0)")
    scalar = ScalarArg("fill_value", tag, Value(tag, index))
    return Plan((map_launch(y.shape, [], out, [], [value], profile, [scalar]),))


def _counted(y: Spec, start: float, step: float, profile: Profile, last: float | None = None) -> Plan:
    """Return the launch of ``y[i] = start + i step``, whose last element is `last` if given."""
    if y.size == 0:
        return Plan(())
    whole = kind(y.dtype) == "int" and isinstance(start, int) and isinstance(step, int)
    counted = int64 if whole else float64 if profile.float64 else float32
    tag = TAGS[counted]
    scalars = [ScalarArg("start", tag, Const(tag, start)), ScalarArg("step", tag, Const(tag, step))]
    value = f"start + {tag}(at_0) * step"
    if last is not None:
        scalars += [ScalarArg("last", tag, Const(tag, last)), ScalarArg("end", "i64", Const("i64", y.size - 1))]
        value = f"where(at_0 == end, last, {value})"
    stored = converted("made", counted, y.dtype)
    return Plan((map_launch(y.shape, [], [Operand("y", y, Out(0))], [Term(tag, value, "made")], [stored], profile, scalars, indexed=True),))


@plans("arange")
def arange(call: Call, profile: Profile) -> Plan:
    """Count in 64 bits where the device has them."""
    start, stop, step = (call.settings[name] for name in ("start", "stop", "step"))
    return _counted(call.outputs[0], 0 if stop is None else start, step, profile)


@plans("linspace")
def linspace(call: Call, profile: Profile) -> Plan:
    """Count, and put the end in exactly."""
    y = call.outputs[0]
    start, stop, endpoint = (call.settings[name] for name in ("start", "stop", "endpoint"))
    parts = y.size - 1 if endpoint else y.size
    return _counted(y, start, (stop - start) / parts if parts > 0 else 0, profile, stop if endpoint and parts > 0 else None)


@plans("eye")
def eye(call: Call, profile: Profile) -> Plan:
    """Compare the indices."""
    y = call.outputs[0]
    if y.size == 0:
        return Plan(())
    offset = ScalarArg("k", "i64", Const("i64", call.settings["k"]))
    steps = [Term("i64", "at_1 - at_0", "distance"), Term("i32", "distance == k", "one")]
    value = converted("one", int32, y.dtype)
    return Plan((map_launch(y.shape, [], [Operand("y", y, Out(0))], steps, [value], profile, [offset], indexed=True),))


@plans("tril", "triu")
def triangle(call: Call, profile: Profile) -> Plan:
    """Move the bits that are kept, and 0 elsewhere."""
    x, y = call.spec(0), call.outputs[0]
    if y.size == 0:
        return Plan(())
    if y.dtype == complex128:
        raise NoKernel(f"{call.op}: device kernels have no {y.dtype.name} here; use complex64")
    raw = bits(y.dtype)
    read, write = Operand("x", Spec(x.shape, raw, x.strides), In(0)), Operand("y", Spec(y.shape, raw), Out(0))
    offset = ScalarArg("k", "i64", Const("i64", call.settings["k"]))
    steps = [Term("i64", f"at_{y.ndim - 1} - at_{y.ndim - 2}", "distance")]
    value = Term(compute_tag(TAGS[raw]), f"where(distance {'<=' if call.op == 'tril' else '>='} k, x, 0)")
    return Plan((map_launch(y.shape, [read], [write], steps, [value], profile, [offset], indexed=True),))
