"""Twin of `c/row.h`: reductions over a work-group, whose result every work-item receives."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from portable_nn_numba.dialect import ADD
from portable_nn_numba.scalar import pnn
from portable_nn_numba.shim import cuda, device


@lru_cache(maxsize=64)
def row_reduction(name: str, tag: str, size: int) -> Callable[..., Any]:
    """Return the device function pnn_row_<name>_<tag> for groups of `size`: ``reduced = f(value, lanes, lane)``.

    Parameters
    ----------
    name : "sum", "max" or "min"
    tag : "f32", "f64", "i32" or "i64"
        Type of the values.
    size : int
        Work-items of the group, a power of two. All of them must come here.
    """
    combine = ADD(tag) if name == "sum" else pnn(name, tag)

    @device
    def reduced(value: Any, lanes: Any, lane: Any) -> Any:
        lanes[lane] = value
        cuda.syncthreads()
        span = size // 2
        while span > 0:
            if lane < span:
                lanes[lane] = combine(lanes[lane], lanes[lane + span])
            cuda.syncthreads()
            span //= 2
        value = lanes[0]
        cuda.syncthreads()
        return value

    return reduced
