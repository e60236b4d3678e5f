"""Copies, fills and conversions: the launches with which plans bring an array, or a part of one, into another layout or dtype."""

from __future__ import annotations

from portable_nn.core import dtypes
from portable_nn.core.dtypes import TAGS, DType, is_float, kind
from portable_nn.core.expression import compute_tag
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import Const, Launch, Profile, Ref

from .mapping import Operand, ScalarArg, map_launch
from .transposes import rows_launch, transpose_launch

# Copies move bits: a NaN keeps its payload, and a float16 is not widened on its way.
_BITS = {1: dtypes.uint8, 2: dtypes.uint16, 4: dtypes.uint32, 8: dtypes.uint64}


def bits(dtype: DType) -> DType:
    """Return the unsigned integer as wide as `dtype` (complex128, wider than any, stays what it is)."""
    return _BITS.get(dtype.itemsize, dtype)


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


def copy_launch(
    source: Spec, source_ref: Ref, target: Spec, target_ref: Ref, profile: Profile, source_start: int = 0, target_start: int = 0
) -> Launch:
    """Return the launch that copies `source` to `target`: equal shapes, any strides, not empty; converts the dtype.

    Parameters
    ----------
    source, target : Spec
        How the parts read and written are laid out.
    source_ref, target_ref : Ref
        The arrays they are parts of.
    source_start, target_start : int
        First element of each part, in elements from the array's first.
    """
    if source.dtype == target.dtype:
        raw = bits(source.dtype)
        source, target = Spec(source.shape, raw, source.strides), Spec(target.shape, raw, target.strides)
        for special in (transpose_launch, rows_launch):
            launch = special(source, source_ref, target, target_ref, profile, source_start, target_start)
            if launch is not None:
                return launch
        statements: list[str] = []
        value = "v_x"
        includes: tuple[str, ...] = ()
    else:
        statements, value = converted("v_x", source.dtype, target.dtype)
        includes = ("math.h",)
    read, write = Operand("x", source, source_ref, source_start), Operand("y", target, target_ref, target_start)
    return map_launch(target.shape, [read], [write], statements, [value], profile, includes=includes)


def fill_launch(target: Spec, ref: Ref, number: float, profile: Profile, start: int = 0) -> Launch:
    """Return the launch that stores `number` everywhere in `target`, a part of an array from `start` on; not empty."""
    if kind(target.dtype) == "complex":
        tag = "f32" if target.dtype == dtypes.complex64 else "f64"
        statements = [f"{TAGS[target.dtype]} v_pair; v_pair.x = v_number; v_pair.y = 0;"]
        value = "v_pair"
    else:
        tag, statements, value = compute_tag(TAGS[target.dtype]), [], "v_number"
    scalar = ScalarArg("number", tag, Const(tag, number))
    return map_launch(target.shape, [], [Operand("y", target, ref, start)], statements, [value], profile, [scalar], includes=())
