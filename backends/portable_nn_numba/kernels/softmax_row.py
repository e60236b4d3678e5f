"""Twin of `c/softmax_row.h`: the softmax of a row that a work-group has in parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from portable_nn_numba.dialect import INF, TYPE
from portable_nn_numba.scalar import pnn
from portable_nn_numba.shim import device

from .row import row_reduction


@dataclass(frozen=True)
class SoftmaxRow:
    """What `softmax_row` makes: device functions over a pair (maximum, sum of exponentials).

    Parameters
    ----------
    empty : ``top, total = empty()``
    taken : ``top, total = taken(top, total, x)``, with one element more
    joined : ``top, total = joined(top, total, lanes, lane)``, that of the whole work-group; every work-item must come here
    share : ``share(top, total, x)``, the softmax of an element
    """

    empty: Callable[..., Any]
    taken: Callable[..., Any]
    joined: Callable[..., Any]
    share: Callable[..., Any]


@lru_cache(maxsize=64)
def softmax_row(tag: str, size: int) -> SoftmaxRow:
    """Return the functions for values of `tag` ("f32" or "f64") and work-groups of `size`, a power of two."""
    real, larger, exp = TYPE[tag], pnn("max", tag), pnn("exp", tag)
    row_max, row_sum = row_reduction("max", tag, size), row_reduction("sum", tag, size)
    lowest, zero, one = real(-INF(tag)), real(0), real(1)

    @device
    def part(total: Any, top: Any, of: Any) -> Any:
        return zero if top == lowest else real(total * exp(real(top - of)))

    @device
    def empty() -> Any:
        return lowest, zero

    @device
    def taken(top: Any, total: Any, x: Any) -> Any:
        of = larger(top, x)
        return of, real(part(total, top, of) + part(one, x, of))

    @device
    def joined(top: Any, total: Any, lanes: Any, lane: Any) -> Any:
        of = row_max(top, lanes, lane)
        return of, row_sum(part(total, top, of), lanes, lane)

    @device
    def share(top: Any, total: Any, x: Any) -> Any:
        return real(exp(real(x - top)) / total)

    return SoftmaxRow(empty, taken, joined, share)
