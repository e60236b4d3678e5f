"""Twin of `c/line.h`: lines of arrays along one axis, one per work-group (LANES) or one per work-item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from portable_nn_numba.dialect import GLOBAL_ID, GROUP_ID, LOCAL_ID, NUM_GROUPS, TYPE, i64
from portable_nn_numba.registry import Defines
from portable_nn_numba.scalar import pnn
from portable_nn_numba.shim import cuda, device

LINE_BLOCK = 64  # terms a lane adds up before it adds the sum to another: error grows with the depth


@dataclass(frozen=True)
class Lines:
    """What `lines` makes of a launch's defines.

    Parameters
    ----------
    LANES : bool
        The work-items of a group share a line.
    G, STEP, SLOTS : int
        Work-items of a group; distance of one work-item's elements; length of the shared array (``lanes``).
    lane, first, stride : device functions
        This work-item's first element; its first line; the distance of its lines.
    line, item : device functions
        ``line(k, k0s, tk1, tk0)``: where line k starts; ``item(start, c, tc)``: where its element c is.
    join_max, join_sum : device functions
        ``join(lanes, lane, value)``: what the work-items of the line hold, combined.
    """

    LANES: bool
    G: int
    STEP: int
    SLOTS: int
    lane: Any
    first: Any
    stride: Any
    line: Any
    item: Any
    join_max: Any
    join_sum: Any


def place(d: Defines) -> tuple[Any, Any]:
    """Return `line` and `item` of `Lines`, all that some kernels need."""
    UNIT, DENSE, FLAT = ("UNIT" in d), ("DENSE" in d), ("FLAT" in d)

    @device
    def line(k: Any, k0s: Any, tk1: Any, tk0: Any) -> Any:
        k1 = i64(0) if FLAT else k // k0s
        k0 = k - k1 * k0s
        return k1 * tk1 + k0 if DENSE else k1 * tk1 + k0 * tk0

    @device
    def item(start: Any, c: Any, tc: Any) -> Any:
        return start + c if UNIT else start + c * tc

    return line, item


def lines(d: Defines) -> Lines:
    """Return the constants and device functions that `line.h` would define."""
    G = d["G"]
    LANES = "LANES" in d
    line, item = place(d)
    STEP = G if LANES else 1
    R = TYPE[d["R"]]
    larger = pnn("max", d["R"])

    @device
    def lane() -> Any:
        return LOCAL_ID(0) if LANES else i64(0)

    @device
    def first() -> Any:
        return GROUP_ID(0) if LANES else GLOBAL_ID(0)

    @device
    def stride() -> Any:
        return NUM_GROUPS(0) if LANES else NUM_GROUPS(0) * G

    @device
    def join_max(lanes: Any, lane: Any, value: Any) -> Any:
        if LANES:
            lanes[lane] = value
            cuda.syncthreads()
            span = G // 2
            while span > 0:
                if lane < span:
                    lanes[lane] = larger(lanes[lane], lanes[lane + span])
                cuda.syncthreads()
                span //= 2
            value = lanes[0]
            cuda.syncthreads()
        return value

    @device
    def join_sum(lanes: Any, lane: Any, value: Any) -> Any:
        if LANES:
            lanes[lane] = value
            cuda.syncthreads()
            span = G // 2
            while span > 0:
                if lane < span:
                    lanes[lane] = R(lanes[lane] + lanes[lane + span])
                cuda.syncthreads()
                span //= 2
            value = lanes[0]
            cuda.syncthreads()
        return value

    return Lines(LANES, G, STEP, G if LANES else 1, lane, first, stride, line, item, join_max, join_sum)
