"""Python scalars as kernel arguments: NumPy scalars of the type the kernel declares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from portable_nn.core.errors import ArgumentError

SCALAR: dict[str, Callable[[Any], Any]] = {
    "i32": np.int32,
    "i64": np.int64,
    "u32": np.uint32,
    "u64": np.uint64,
    "f32": np.float32,
    "f64": np.float64,
}


_MAX_F32 = float(np.finfo(np.float32).max)


def scalar(tag: str, value: Any, kernel: str) -> Any:
    """Return a Python scalar as `tag`; floats round and overflow as in NumPy, integers that do not fit are an error."""
    try:
        if tag == "f32" and abs(value) > _MAX_F32:  # 1e300 as float32 is inf
            with np.errstate(over="ignore"):
                return np.float32(value)
        return SCALAR[tag](value)
    except OverflowError as error:
        raise ArgumentError(f"{kernel}: the scalar {value!r} does not fit {tag} ({error})") from None
