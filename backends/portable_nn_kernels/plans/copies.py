"""Copies, fills and conversions: the launches with which plans bring an array, or a part of one, into another layout or dtype."""

from __future__ import annotations

from portable_nn.core import dtypes
from portable_nn.core.dtypes import TAGS, DType, is_float, kind
from portable_nn.core.expression import compute_tag
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import Const, Launch, Profile, Ref, Term

from .mapping import Operand, ScalarArg, map_launch
from .transposes import rows_launch, transpose_launch

# Copies move bits: a NaN keeps its payload, and a float16 is not widened on its way.
_BITS = {1: dtypes.uint8, 2: dtypes.uint16, 4: dtypes.uint32, 8: dtypes.uint64}


def bits(dtype: DType) -> DType:
    """Return the unsigned integer as wide as `dtype` (complex128, wider than any, stays what it is)."""
    return _BITS.get(dtype.itemsize, dtype)


def converted(value: str, source: DType, target: DType) -> Term:
    """Return the value called `value`, of type `source`, as it is stored to `target`."""
    tag = compute_tag(TAGS[source])
    wide = kind(source) == "complex"
    real = f"real({value})" if wide else value
    if kind(target) == "complex":
        part = "f32" if TAGS[target] == "c64" else "f64"
        imaginary = f"{part}(imag({value}))" if wide else "0"
        return Term(TAGS[target], f"{TAGS[target]}({part}({real}), {imaginary})")
    if kind(target) == "bool":
        return Term(part_tag(source), f"{real} != 0")
    if TAGS[source] == "f64" and TAGS[target] in ("f16", "bf16"):
        return Term("f32", f"narrow({value})")
    if is_float(source) and kind(target) == "int" and target.itemsize < 4:
        return Term("i32", f"i32({value})")  # a float straight to a narrow integer is undefined for more values
    if is_float(source) and TAGS[target] == "u32":
        return Term("i64", f"i64({value})")
    return Term(tag, value)


def part_tag(dtype: DType) -> str:
    """Return the compute tag of a dtype, or of a complex dtype's parts."""
    return {"c64": "f32", "c128": "f64"}.get(TAGS[dtype], compute_tag(TAGS[dtype]))


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
        value = Term(compute_tag(TAGS[raw]), "x")
    else:
        value = converted("x", source.dtype, target.dtype)
    read, write = Operand("x", source, source_ref, source_start), Operand("y", target, target_ref, target_start)
    return map_launch(target.shape, [read], [write], [], [value], profile)


def fill_launch(target: Spec, ref: Ref, number: float, profile: Profile, start: int = 0) -> Launch:
    """Return the launch that stores `number` everywhere in `target`, a part of an array from `start` on; not empty."""
    tag = part_tag(target.dtype)
    value = "number" if kind(target.dtype) != "complex" else f"{TAGS[target.dtype]}(number, 0)"
    scalar = ScalarArg("number", tag, Const(tag, number))
    return map_launch(target.shape, [], [Operand("y", target, ref, start)], [], [Term(tag, value)], profile, [scalar])
