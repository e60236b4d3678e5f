"""Twin of `c/each_pixel.h`: image, channel, row and column of result e; only the flat form for GPUs."""

from __future__ import annotations

from typing import Any

from portable_nn.core.errors import NoKernel
from portable_nn_numba.dialect import TYPE, i64
from portable_nn_numba.registry import Defines
from portable_nn_numba.shim import device


def pixel(d: Defines) -> Any:
    """Return the device function ``item(e, c, rows, cols)``."""
    if d["ROWS"]:
        raise NoKernel("numba has no kernels that walk by rows: those are for CPUs")
    LAST, IX = d["LAST"], TYPE[d["IX"]]

    @device
    def item(e: Any, c: Any, rows: Any, cols: Any) -> Any:
        n3 = IX(c if LAST else cols)
        n2 = IX(cols if LAST else rows)
        n1 = IX(rows if LAST else c)
        d3 = IX(IX(e) // n3)
        d2 = IX(d3 // n2)
        d1 = IX(d2 // n1)
        e3 = i64(IX(IX(e) - IX(d3 * n3)))
        e2 = i64(IX(d3 - IX(d2 * n2)))
        e1 = i64(IX(d2 - IX(d1 * n1)))
        if LAST:
            return i64(d1), e3, e1, e2
        return i64(d1), e1, e2, e3

    return item
