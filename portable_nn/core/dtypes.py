"""Dtypes: which exist, their kinds, promotion (array API rules) and the type a kernel accumulates in."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from .errors import DTypeError

DType = np.dtype[Any]

bool_ = np.dtype(np.bool_)
int8, int16, int32, int64 = (np.dtype(f"int{bits}") for bits in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64))
float16, float32, float64 = (np.dtype(f"float{bits}") for bits in (16, 32, 64))
bfloat16 = np.dtype(ml_dtypes.bfloat16)
complex64, complex128 = np.dtype(np.complex64), np.dtype(np.complex128)

SIGNED = (int8, int16, int32, int64)
UNSIGNED = (uint8, uint16, uint32, uint64)
INTEGERS = SIGNED + UNSIGNED
FLOATS = (float16, bfloat16, float32, float64)
COMPLEX = (complex64, complex128)
ALL = (bool_, *INTEGERS, *FLOATS, *COMPLEX)

# The tag of a storage type in kernel text: LOAD(f32, x, i).
TAGS = {
    bool_: "b8", int8: "i8", int16: "i16", int32: "i32", int64: "i64",
    uint8: "u8", uint16: "u16", uint32: "u32", uint64: "u64",
    float16: "f16", bfloat16: "bf16", float32: "f32", float64: "f64",
    complex64: "c64", complex128: "c128",
}  # fmt: skip

_KIND: dict[DType, str] = dict.fromkeys(INTEGERS, "int") | dict.fromkeys(FLOATS, "float") | dict.fromkeys(COMPLEX, "complex")
_KIND[bool_] = "bool"
_WEAK_FITS = {
    "bool": ("bool",),
    "int": ("int", "float", "complex"),
    "float": ("float", "complex"),
    "complex": ("complex",),
}


def canonical(dtype: object) -> DType:
    """Return `dtype` (name, NumPy dtype or scalar type) as one of the dtypes above."""
    found: DType = dtype if isinstance(dtype, np.dtype) else bfloat16 if dtype == "bfloat16" else np.dtype(dtype)  # type: ignore[call-overload]
    if found not in _KIND:
        names = ", ".join(d.name for d in ALL)
        raise DTypeError(f"dtype {dtype!r} is not one portable_nn stores; use one of {names}")
    return found


def kind(dtype: DType) -> str:
    """Return "bool", "int", "float" or "complex"."""
    return _KIND[dtype]


def is_float(dtype: DType) -> bool:
    """Tell whether `dtype` is a real floating type."""
    return _KIND[dtype] == "float"


def is_integer(dtype: DType) -> bool:
    """Tell whether `dtype` is a signed or unsigned integer."""
    return _KIND[dtype] == "int"


def accumulator(dtype: DType) -> DType:
    """Return the dtype sums of `dtype` are kept in: never narrower than float32."""
    return float32 if dtype in (float16, bfloat16) else dtype


def real(dtype: DType) -> DType:
    """Return the dtype of the real part."""
    return {complex64: float32, complex128: float64}.get(dtype, dtype)


def default_index() -> DType:
    """Return the dtype of indices (argmax, arange of Python ints)."""
    return int64


def _promote_pair(op: str, a: DType, b: DType) -> DType:
    if a == b:
        return a
    ka, kb = _KIND[a], _KIND[b]
    floating = {"float", "complex"}
    if ka != kb and not {ka, kb} <= floating:
        raise DTypeError(
            f"{op}: cannot mix {a.name} and {b.name}: the array API does not promote between kinds; "
            f"convert one with astype"
        )
    if {a, b} == {float16, bfloat16}:
        return float32
    if ka == kb == "int" and uint64 in (a, b) and (a in SIGNED or b in SIGNED):
        raise DTypeError(f"{op}: cannot mix {a.name} and {b.name}: no integer type holds both; convert one with astype")
    return np.promote_types(a, b)


def promote(op: str, *operands: DType | str) -> DType:
    """Return the common dtype of arrays (given as dtypes) and Python scalars (given as their kind, weak).

    Raises
    ------
    DTypeError
        For kinds the array API does not mix, naming both dtypes.
    """
    result: DType | None = None
    for item in operands:
        if not isinstance(item, str):
            result = item if result is None else _promote_pair(op, result, item)
    weak = [item for item in operands if isinstance(item, str)]
    if result is None:
        order = ("bool", "int", "float", "complex")
        widest = max(weak, key=order.index)
        return {"bool": bool_, "int": int64, "float": float32, "complex": complex64}[widest]
    for item in weak:
        if _KIND[result] not in _WEAK_FITS[item]:
            raise DTypeError(
                f"{op}: a Python {item} does not fit an array of {result.name}; "
                f"convert the array with astype or pass a scalar of its kind"
            )
    return result
