"""Plans of layout ops that copy, and `copy_launch`, with which other plans bring an operand into another layout."""

from __future__ import annotations

from portable_nn.core import dtypes
from portable_nn.core.call import Call
from portable_nn.core.dtypes import DType
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import In, Launch, Out, Plan, Profile, Ref

from . import plans
from .mapping import Operand, map_launch

# Copies move bits: a NaN keeps its payload, and a float16 is not widened on its way.
_BITS = {1: dtypes.uint8, 2: dtypes.uint16, 4: dtypes.uint32, 8: dtypes.uint64}


def bits(dtype: DType) -> DType:
    """Return the unsigned integer as wide as `dtype` (complex128, wider than any, stays what it is)."""
    return _BITS.get(dtype.itemsize, dtype)


def copy_launch(source: Spec, source_ref: Ref, target: Spec, target_ref: Ref, profile: Profile) -> Launch:
    """Return the launch that copies `source` to `target`: equal shapes and dtypes, any strides, not empty.

    Parameters
    ----------
    source, target : Spec
    source_ref, target_ref : Ref
    """
    raw = bits(source.dtype)
    read = Operand("x", Spec(source.shape, raw, source.strides), source_ref)
    write = Operand("y", Spec(target.shape, raw, target.strides), target_ref)
    return map_launch(target.shape, [read], [write], [], ["v_x"], profile, includes=())


@plans("reshape")
def reshape(call: Call, profile: Profile) -> Plan:
    """Copy in C order: the output is dense, and is written through a view of the input's shape."""
    x, y = call.spec(0), call.outputs[0]
    if y.size == 0:
        return Plan(())
    return Plan((copy_launch(x, In(0), Spec(x.shape, y.dtype), Out(0), profile),))
