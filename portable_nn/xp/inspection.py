"""Dtypes and what can be asked about them, in the array API's spelling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from ..core import dtypes, selection
from ..core.dtypes import DType
from ..core.errors import DTypeError

_KINDS: dict[str, tuple[DType, ...]] = {
    "bool": (dtypes.bool_,),
    "signed integer": dtypes.SIGNED,
    "unsigned integer": dtypes.UNSIGNED,
    "integral": dtypes.INTEGERS,
    "real floating": dtypes.FLOATS,
    "complex floating": dtypes.COMPLEX,
    "numeric": (*dtypes.INTEGERS, *dtypes.FLOATS, *dtypes.COMPLEX),
}


@dataclass(frozen=True, slots=True)
class FloatInfo:
    """Limits of a floating dtype; of a complex one, those of its parts."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: DType


@dataclass(frozen=True, slots=True)
class IntInfo:
    """Limits of an integer dtype."""

    bits: int
    max: int
    min: int
    dtype: DType


def _dtype_of(item: Any) -> DType:
    return dtypes.canonical(item if isinstance(item, np.dtype | type | str) else item.dtype)


def finfo(type: Any, /) -> FloatInfo:
    """Return the limits of a floating or complex dtype, or of an array's."""
    dtype = dtypes.real(_dtype_of(type))
    if not dtypes.is_float(dtype):
        raise DTypeError(f"finfo: {dtype.name} is not a floating dtype; use iinfo for integers")
    found = ml_dtypes.finfo(dtype)
    return FloatInfo(
        found.bits, float(found.eps), float(found.max), float(found.min), float(found.smallest_normal), dtype
    )


def iinfo(type: Any, /) -> IntInfo:
    """Return the limits of an integer dtype, or of an array's."""
    dtype = _dtype_of(type)
    if not dtypes.is_integer(dtype):
        raise DTypeError(f"iinfo: {dtype.name} is not an integer dtype; use finfo for floats")
    found = np.iinfo(dtype)
    return IntInfo(found.bits, int(found.max), int(found.min), dtype)


def isdtype(dtype: Any, kind: Any) -> bool:
    """Tell whether `dtype` is of a kind ("real floating", "integral" ...), is that dtype, or is any of a tuple of these."""
    if isinstance(kind, tuple):
        return any(isdtype(dtype, one) for one in kind)
    if isinstance(kind, str) and kind in _KINDS:
        return dtypes.canonical(dtype) in _KINDS[kind]
    return dtypes.canonical(dtype) == dtypes.canonical(kind)


def result_type(*arrays_and_dtypes: Any) -> DType:
    """Return the dtype that arrays, dtypes and Python scalars promote to."""
    names = {bool: "bool", int: "int", float: "float", complex: "complex"}
    given = [names.get(type(item)) or _dtype_of(item) for item in arrays_and_dtypes]
    if not any(isinstance(item, np.dtype) for item in given):
        raise DTypeError("result_type: at least one array or dtype is needed")
    return dtypes.promote("result_type", *given)


def can_cast(from_: Any, to: Any, /) -> bool:
    """Tell whether `from_` (an array or dtype) promotes to `to` without going further."""
    try:
        return dtypes.promote("can_cast", _dtype_of(from_), dtypes.canonical(to)) == dtypes.canonical(to)
    except DTypeError:
        return False


class NamespaceInfo:
    """What `__array_namespace_info__` returns."""

    def capabilities(self) -> dict[str, Any]:
        """Return which optional parts there are: neither boolean indexing nor shapes that depend on values."""
        return {"boolean indexing": False, "data-dependent shapes": False, "max dimensions": None}

    def default_device(self) -> str:
        """Return the device on which new arrays are made."""
        return selection.default().device

    def devices(self) -> list[str]:
        """Return the devices of the chosen backend."""
        return [device.name for device in selection.default().devices()]

    def default_dtypes(self, *, device: Any = None) -> dict[str, DType]:
        """Return the dtypes that Python numbers get. float32, in which networks are trained, not float64."""
        del device
        return {
            "real floating": dtypes.float32, "complex floating": dtypes.complex64, "integral": dtypes.int64, "indexing": dtypes.int64,
        }  # fmt: skip

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, DType]:
        """Return the dtypes that the chosen backend computes with, by name."""
        del device
        known = [d for d in dtypes.ALL if selection.default().supports(d)]
        return {d.name: d for d in known if kind is None or isdtype(d, kind)}


def __array_namespace_info__() -> NamespaceInfo:  # noqa: N807 - the array API's name
    """Return what this namespace can do."""
    return NamespaceInfo()
