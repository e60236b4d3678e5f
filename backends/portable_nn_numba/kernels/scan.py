"""Twin of `c/scan.c`: running sums along one axis, by a work-item or by a work-group through shared memory."""

from collections.abc import Callable
from typing import Any

from portable_nn_numba.dialect import ADD, GLOBAL_ID, GROUP_ID, IN, LOAD, LOCAL_ID, NUM_GROUPS, OUT, STORE, TYPE, ZERO
from portable_nn_numba.registry import Defines, kernel, without
from portable_nn_numba.shim import cuda, device

from .line import place


@kernel("pnn_scan_lines", "scan.c", ignores=("PER",))
def scan_lines(d: Defines) -> Callable[..., Any]:
    T, Y, A, G = d["T"], d["Y"], d["A"], d["G"]
    TOTALS, BASE = "TOTALS" in d, "BASE" in d
    line, item = place(d)
    real, zero, add, load, load_base, store = TYPE[A], ZERO(A), ADD(A), LOAD[T], LOAD[A], STORE[Y]

    def pnn_scan_lines(
        x: IN(T), x_offset, base: IN(A), base_offset, y: OUT(Y), y_offset, lines, k0s, n, xk1, xk0, xc, yk1, yk0, yc, initial, parts, length
    ):  # fmt: skip
        for e in range(GLOBAL_ID(0), lines * parts, NUM_GROUPS(0) * G):
            part = e // lines
            k = e - part * lines
            first = part * length
            last = min(first + length, n)
            x_line = x_offset + line(k, k0s, xk1, xk0)
            y_line = y_offset + line(k, k0s, yk1, yk0) + initial * yc
            before = zero
            if BASE:
                if part > 0:
                    before = load_base(base, base_offset + k * parts + part - 1)
            if not TOTALS:
                if initial and part == 0:
                    store(y, y_line - yc, zero)
            for large in range(first, last, 64 * 64):
                end = min(large + 64 * 64, last)
                middle = zero
                for block in range(large, end, 64):
                    total = zero
                    so_far = add(before, middle)
                    for c in range(block, min(block + 64, end)):
                        total = add(total, real(load(x, item(x_line, c, xc))))
                        if not TOTALS:
                            store(y, item(y_line, c, yc), add(so_far, total))
                    middle = add(middle, total)
                before = add(before, middle)
            if TOTALS:
                store(y, y_offset + k * parts + part, before)

    return without(pnn_scan_lines, *(() if BASE else ("base",)))


@kernel("pnn_scan_groups", "scan.c")
def scan_groups(d: Defines) -> Callable[..., Any]:
    T, Y, A, G, PER = d["T"], d["Y"], d["A"], d["G"], d["PER"]
    TOTALS, BASE = "TOTALS" in d, "BASE" in d
    TILE = G * PER
    SLOTS = TILE + TILE // 32
    line, item = place(d)
    real, zero, add, load, load_base, store = TYPE[A], ZERO(A), ADD(A), LOAD[T], LOAD[A], STORE[Y]

    @device
    def at(i: Any) -> Any:
        return i + i // 32  # work-items PER apart would meet in one bank

    def pnn_scan_groups(
        x: IN(T), x_offset, base: IN(A), base_offset, y: OUT(Y), y_offset, lines, k0s, n, xk1, xk0, xc, yk1, yk0, yc, initial, parts, length
    ):  # fmt: skip
        tile = cuda.shared.array(SLOTS, real)
        sums = cuda.shared.array(G, real)
        lane = LOCAL_ID(0)
        for e in range(GROUP_ID(0), lines * parts, NUM_GROUPS(0)):
            k = e // parts
            part = e - k * parts
            first = part * length
            last = min(first + length, n)
            x_line = x_offset + line(k, k0s, xk1, xk0)
            y_line = y_offset + line(k, k0s, yk1, yk0) + initial * yc
            before = zero
            if BASE:
                if part > 0:
                    before = load_base(base, base_offset + k * parts + part - 1)
            if not TOTALS:
                if initial and part == 0 and lane == 0:
                    store(y, y_line - yc, zero)
            for start in range(first, last, TILE):
                for i in range(lane, TILE, G):
                    v = zero
                    if start + i < last:
                        v = real(load(x, item(x_line, start + i, xc)))
                    tile[at(i)] = v
                cuda.syncthreads()
                total = zero
                for i in range(lane * PER, lane * PER + PER):
                    total = add(total, tile[at(i)])
                sums[lane] = total
                cuda.syncthreads()
                span = 1
                while span < G:
                    other = zero
                    if lane >= span:
                        other = sums[lane - span]
                    cuda.syncthreads()
                    sums[lane] = add(sums[lane], other)
                    cuda.syncthreads()
                    span *= 2
                if not TOTALS:
                    so_far = before
                    if lane > 0:
                        so_far = add(before, sums[lane - 1])
                    total = zero
                    for i in range(lane * PER, lane * PER + PER):
                        total = add(total, tile[at(i)])
                        tile[at(i)] = add(so_far, total)
                    cuda.syncthreads()
                    for i in range(lane, TILE, G):
                        if start + i < last:
                            store(y, item(y_line, start + i, yc), tile[at(i)])
                before = add(before, sums[G - 1])
                cuda.syncthreads()
            if TOTALS:
                if lane == 0:
                    store(y, y_offset + k * parts + part, before)

    return without(pnn_scan_groups, *(() if BASE else ("base",)))
