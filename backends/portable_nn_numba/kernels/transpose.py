"""Twin of `c/transpose.c`."""

from collections.abc import Callable
from typing import Any

from portable_nn_numba.dialect import GROUP_ID, IN, LOCAL_ID, OUT, TYPE
from portable_nn_numba.registry import Defines, kernel
from portable_nn_numba.shim import cuda

TILE, ROWS = 32, 8
PITCH = TILE + 1
SIZE = TILE * PITCH


@kernel("pnn_transpose", "transpose.c")
def transpose(d: Defines) -> Callable[..., Any]:
    T = d["T"]
    stored = TYPE[T]

    def pnn_transpose(
        x: IN(T), x_offset, y: OUT(T), y_offset, x_start, y_start, ni, nj, xj, yi, n1, n2, x0, x1, x2, y0, y1, y2
    ):
        t = cuda.shared.array(SIZE, stored)
        across = (ni + TILE - 1) // TILE
        down = (nj + TILE - 1) // TILE
        rest = GROUP_ID(0)
        j = (rest % down) * TILE
        rest = rest // down
        i = (rest % across) * TILE
        rest = rest // across
        a2 = rest % n2
        rest = rest // n2
        a1 = rest % n1
        a0 = rest // n1
        p = x_offset + x_start + a0 * x0 + a1 * x1 + a2 * x2 + j * xj + i
        q = y_offset + y_start + a0 * y0 + a1 * y1 + a2 * y2 + i * yi + j
        lane = LOCAL_ID(0)
        for b in range(LOCAL_ID(1), TILE, ROWS):
            if i + lane < ni and j + b < nj:
                t[b * PITCH + lane] = x[p + b * xj + lane]
        cuda.syncthreads()
        for a in range(LOCAL_ID(1), TILE, ROWS):
            if i + a < ni and j + lane < nj:
                y[q + a * yi + lane] = t[lane * PITCH + a]

    return pnn_transpose
