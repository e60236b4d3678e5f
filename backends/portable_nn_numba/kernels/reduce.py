"""Twin of `c/reduce.c`."""

import re
from collections.abc import Callable
from typing import Any

from portable_nn.core.errors import NoKernel
from portable_nn_kernels.launch import Term
from portable_nn_numba.dialect import ACC, ADD, GROUP_ID, IN, LIT, LOAD, LOCAL_ID, NUM_GROUPS, OUT, STORE, TYPE, i64
from portable_nn_numba.registry import Defines, kernel
from portable_nn_numba.rendered import macro
from portable_nn_numba.scalar import pnn
from portable_nn_numba.shim import cuda, device

BLOCK = 64


def constant(text: str, tag: str) -> Any:
    """Return the value of a C constant: a number with or without suffix, a difference of two, or an infinity."""
    if "INF" in text:
        return TYPE[tag](-float("inf") if "-" in text else float("inf"))
    numbers = re.findall(r"([+-]?)\s*(\d+)[ulUL]*", text)
    return TYPE[tag](sum(int(sign + digits) for sign, digits in numbers))


def mapping(d: Defines) -> Callable[..., Any]:
    """Return the macro MAP of the defines as a device function of v, m, j."""
    for name, value in d.items():
        if name.startswith(f"{d['MAP']}(") and isinstance(value, Term):
            return macro(name, value, d["A"])
    A, X = TYPE[d["A"]], ACC(d["X"])
    zero, one, none, init = A(0), A(1), X(0), constant(d["INIT"], d["A"])
    absolute = pnn("abs", d["A"])
    return device(
        {
            "MAP_VALUE": lambda v, m, j: A(v),
            "MAP_TRUE": lambda v, m, j: one if v != none else zero,
            "MAP_ZERO": lambda v, m, j: one if v == none else zero,
            "MAP_NOT_ZERO": lambda v, m, j: one if v == none else A(v),
            "MAP_SQUARE": lambda v, m, j: A((v - m) * (v - m)),
            "MAP_DISTANCE": lambda v, m, j: absolute(A(A(v) - A(m))),
            "MAP_SAME": lambda v, m, j: one if v == m or (v != v and m != m) else zero,
            "MAP_PLACE": lambda v, m, j: A(j) if v == m or (v != v and m != m) else init,
        }[d["MAP"]]
    )


def combining(d: Defines) -> Callable[..., Any]:
    """Return the macro COMBINE."""
    A = TYPE[d["A"]]
    return {
        "COMBINE_SUM": ADD(d["A"]),
        "COMBINE_PRODUCT": device(lambda a, b: A(a * b)),
        "COMBINE_MAX": pnn("max", d["A"]),
        "COMBINE_MIN": pnn("min", d["A"]),
    }[d["COMBINE"]]


def finishing(d: Defines) -> Callable[..., Any]:
    """Return the macro FINISH as a device function of the sum and the divisor."""
    A = TYPE[d["A"]]
    if d["FINISH"] == "FINISH_SAME":
        return device(lambda a, divisor: a)
    if d["FINISH"] == "FINISH_DIVIDE":
        return device(lambda a, divisor: A(a / divisor))
    root = pnn("sqrt", d["A"])
    return device(lambda a, divisor: root(A(a / divisor)))


def reading(d: Defines) -> Callable[..., Any]:
    """Return the macro PNN_AT: element i of a line, mapped."""
    UNIT, HAS_M = "UNIT" in d, "HAS_M" in d
    load, mapped = LOAD[d["X"]], mapping(d)
    load_m, none = LOAD[d["M"]] if HAS_M else load, LIT(d["X"], 0)

    @device
    def at(x: Any, m: Any, line: Any, m_line: Any, i: Any, xr0: Any, mr0: Any, place: Any) -> Any:
        v = load(x, line + i) if UNIT else load(x, line + i * xr0)
        if HAS_M:
            return mapped(v, load_m(m, m_line + i * mr0), place)
        return mapped(v, none, place)

    return at


@kernel("pnn_reduce_rows", "reduce.c", ignores=("W", "FLAT", "DENSE"))
def reduce_rows(d: Defines) -> Callable[..., Any]:
    X, Y, D, G = d["X"], d["Y"], d["D"], d["G"]
    M = d.get("M", X)
    A, init, at, combine, finish, store = TYPE[d["A"]], constant(d["INIT"], d["A"]), reading(d), combining(d), finishing(d), STORE[Y]
    WALK = 4 * G

    @device
    def body(
        lanes, x, x_offset, m, m_offset, mk1, mk0, mr1, mr0, y, y_offset, k0s, r1s, r0s, xk1, xk0, xr1, xr0, w1, w0,
        parts_1, parts_0, tiles, divisor,
    ):  # fmt: skip
        lane = LOCAL_ID(0)
        parts = parts_1 * parts_0
        for tile in range(GROUP_ID(0), tiles, NUM_GROUPS(0)):
            k = tile // parts
            k1 = k // k0s
            k0 = k - k1 * k0s
            part = tile - k * parts
            part_1 = part // parts_0
            part_0 = part - part_1 * parts_0
            first_0 = r0s * part_0 // parts_0
            last_0 = r0s * (part_0 + 1) // parts_0
            total = init
            for r1 in range(r1s * part_1 // parts_1, r1s * (part_1 + 1) // parts_1):
                line = x_offset + k1 * xk1 + k0 * xk0 + r1 * xr1
                m_line = m_offset + k1 * mk1 + k0 * mk0 + r1 * mr1
                place = r1 * w1
                for start in range(first_0, last_0, WALK * BLOCK):
                    stop = min(start + WALK * BLOCK, last_0)
                    s0 = init
                    s1 = init
                    s2 = init
                    s3 = init
                    i = start + lane
                    while i + 3 * G < stop:
                        s0 = combine(s0, at(x, m, line, m_line, i, xr0, mr0, place + i * w0))
                        s1 = combine(s1, at(x, m, line, m_line, i + G, xr0, mr0, place + (i + G) * w0))
                        s2 = combine(s2, at(x, m, line, m_line, i + 2 * G, xr0, mr0, place + (i + 2 * G) * w0))
                        s3 = combine(s3, at(x, m, line, m_line, i + 3 * G, xr0, mr0, place + (i + 3 * G) * w0))
                        i += WALK
                    while i < stop:
                        s0 = combine(s0, at(x, m, line, m_line, i, xr0, mr0, place + i * w0))
                        i += G
                    total = combine(total, combine(combine(s0, s1), combine(s2, s3)))
            lanes[lane] = total
            cuda.syncthreads()
            span = G // 2
            while span > 0:
                if lane < span:
                    lanes[lane] = combine(lanes[lane], lanes[lane + span])
                cuda.syncthreads()
                span //= 2
            if lane == 0:
                store(y, y_offset + tile, finish(lanes[0], divisor))
            cuda.syncthreads()

    if "HAS_M" in d:

        def pnn_reduce_rows(
            x: IN(X), x_offset, m: IN(M), m_offset, mk1, mk0, mr1, mr0, y: OUT(Y), y_offset, k1s, k0s, r1s, r0s,
            xk1, xk0, xr1, xr0, w1, w0, parts_1, parts_0, tiles, divisor: D,
        ):  # fmt: skip
            lanes = cuda.shared.array(G, A)
            body(
                lanes, x, x_offset, m, m_offset, mk1, mk0, mr1, mr0, y, y_offset, k0s, r1s, r0s, xk1, xk0, xr1, xr0, w1, w0,
                parts_1, parts_0, tiles, divisor,
            )  # fmt: skip

    else:

        def pnn_reduce_rows(
            x: IN(X), x_offset, y: OUT(Y), y_offset, k1s, k0s, r1s, r0s, xk1, xk0, xr1, xr0, w1, w0, parts_1, parts_0, tiles, divisor: D
        ):
            lanes = cuda.shared.array(G, A)
            none = i64(0)
            body(
                lanes, x, x_offset, x, none, none, none, none, none, y, y_offset, k0s, r1s, r0s, xk1, xk0, xr1, xr0, w1, w0,
                parts_1, parts_0, tiles, divisor,
            )  # fmt: skip

    return pnn_reduce_rows


@kernel("pnn_reduce_columns", "reduce.c")
def reduce_columns(d: Defines) -> Callable[..., Any]:
    X, Y, D, G = d["X"], d["Y"], d["D"], d["G"]
    M = d.get("M", X)
    if d["W"] != 1:
        raise NoKernel("pnn_reduce_columns: several outputs per work-item are the shape of CPUs; numba has that of GPUs")
    FLAT, DENSE = "FLAT" in d, "DENSE" in d
    init, at, combine, finish, store = constant(d["INIT"], d["A"]), reading(d), combining(d), finishing(d), STORE[Y]

    @device
    def body(
        x, x_offset, m, m_offset, mk1, mk0, mr1, mr0, y, y_offset, k1s, k0s, r1s, r0s, xk1, xk0, xr1, xr0, w1, w0,
        parts_1, parts_0, tiles, divisor,
    ):  # fmt: skip
        parts = parts_1 * parts_0
        columns = tiles // parts
        for tile in range(GROUP_ID(0), tiles, NUM_GROUPS(0)):
            part = tile // columns
            k = (tile - part * columns) * G + LOCAL_ID(0)
            part_1 = part // parts_0
            part_0 = part - part_1 * parts_0
            first_0 = r0s * part_0 // parts_0
            last_0 = r0s * (part_0 + 1) // parts_0
            if k < k1s * k0s:
                k1 = i64(0) if FLAT else k // k0s
                k0 = k - k1 * k0s
                total = init
                for r1 in range(r1s * part_1 // parts_1, r1s * (part_1 + 1) // parts_1):
                    line = x_offset + k1 * xk1 + (k0 if DENSE else k0 * xk0) + r1 * xr1
                    m_line = m_offset + k1 * mk1 + k0 * mk0 + r1 * mr1
                    place = r1 * w1
                    for start in range(first_0, last_0, 4 * BLOCK):
                        stop = min(start + 4 * BLOCK, last_0)
                        s0 = init
                        s1 = init
                        s2 = init
                        s3 = init
                        i = start
                        while i + 4 <= stop:
                            s0 = combine(s0, at(x, m, line, m_line, i, xr0, mr0, place + i * w0))
                            s1 = combine(s1, at(x, m, line, m_line, i + 1, xr0, mr0, place + (i + 1) * w0))
                            s2 = combine(s2, at(x, m, line, m_line, i + 2, xr0, mr0, place + (i + 2) * w0))
                            s3 = combine(s3, at(x, m, line, m_line, i + 3, xr0, mr0, place + (i + 3) * w0))
                            i += 4
                        while i < stop:
                            s0 = combine(s0, at(x, m, line, m_line, i, xr0, mr0, place + i * w0))
                            i += 1
                        total = combine(total, combine(combine(s0, s1), combine(s2, s3)))
                store(y, y_offset + k * parts + part, finish(total, divisor))

    if "HAS_M" in d:

        def pnn_reduce_columns(
            x: IN(X), x_offset, m: IN(M), m_offset, mk1, mk0, mr1, mr0, y: OUT(Y), y_offset, k1s, k0s, r1s, r0s,
            xk1, xk0, xr1, xr0, w1, w0, parts_1, parts_0, tiles, divisor: D,
        ):  # fmt: skip
            body(
                x, x_offset, m, m_offset, mk1, mk0, mr1, mr0, y, y_offset, k1s, k0s, r1s, r0s, xk1, xk0, xr1, xr0, w1, w0,
                parts_1, parts_0, tiles, divisor,
            )  # fmt: skip

    else:

        def pnn_reduce_columns(
            x: IN(X), x_offset, y: OUT(Y), y_offset, k1s, k0s, r1s, r0s, xk1, xk0, xr1, xr0, w1, w0, parts_1, parts_0, tiles, divisor: D
        ):
            none = i64(0)
            body(
                x, x_offset, x, none, none, none, none, none, y, y_offset, k1s, k0s, r1s, r0s, xk1, xk0, xr1, xr0, w1, w0,
                parts_1, parts_0, tiles, divisor,
            )  # fmt: skip

    return pnn_reduce_columns
