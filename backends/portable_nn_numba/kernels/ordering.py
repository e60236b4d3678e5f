"""Twin of `c/ordering.c`: sorting along one axis, and the scatter that is its gradient.

Without pnn_order_runs, which is for CPUs; parameters that C leaves out by #ifdef are left out by `without`.
"""

from collections.abc import Callable
from typing import Any

from portable_nn_numba.dialect import (
    AS_U32,
    AS_U64,
    ERROR_WORD,
    GLOBAL_ID,
    GROUP_ID,
    IN,
    LOAD,
    LOCAL_ID,
    NUM_GROUPS,
    OUT,
    REPORT,
    TYPE,
    i32,
    i64,
)
from portable_nn_numba.registry import Defines, kernel, without
from portable_nn_numba.shim import cuda, device

from .line import place


def _key(d: Defines) -> Any:
    """Return pnn_order_key: an unsigned number whose order is the one asked for; NaN is the largest."""
    REAL, SIGNED, DESCENDING = "REAL" in d, "SIGNED" in d, "DESCENDING" in d
    K, wide = TYPE[d["K"]], d["K"] == "u64"
    zero, one, every = K(0), K(1), K(0xFFFFFFFFFFFFFFFF if wide else 0xFFFFFFFF)
    top = K(1 << 63 if wide else 1 << 31)
    others, infinity = K(every ^ top), K(0x7FF0000000000000 if wide else 0x7F800000)
    bits_of = AS_U64 if wide else AS_U32

    @device
    def order_key(value: Any) -> Any:
        if REAL:  # on bits, not values: a device may flush subnormal numbers when it compares
            bits = bits_of(value)
            if K(bits << one) == zero:
                bits = zero  # -0.0
            if K(bits & others) > infinity:
                return every
            bits = K(bits ^ every) if K(bits & top) != zero else K(bits | top)
        elif SIGNED:
            bits = K(K(value) ^ top)
        else:
            bits = K(value)
        if DESCENDING:
            return K(bits ^ every)
        return bits

    return order_key


def _absent(**there: bool) -> tuple[str, ...]:
    return tuple(name for name, present in there.items() if not present)


@kernel("pnn_order_blocks", "ordering.c", ignores=("WHAT",))
def order_blocks(d: Defines) -> Callable[..., Any]:
    T, K, P, G, BLOCK, ROWS = d["T"], d["K"], d["P"], d["G"], d["BLOCK"], d["ROWS"]
    FINAL, VALUES, PLACES = "FINAL" in d, "VALUES" in d, "PLACES" in d
    TOTAL = ROWS * BLOCK
    line, item = place(d)
    key_type, place_type = TYPE[K], TYPE[P]
    every = key_type(0xFFFFFFFFFFFFFFFF if K == "u64" else 0xFFFFFFFF)
    load, order_key = LOAD[T], _key(d)

    def pnn_order_blocks(
        x: IN(T), x_offset, y: OUT(T), y_offset, to: OUT("i64"), to_offset, keys: OUT(K), keys_offset, places: OUT(P), places_offset, lines,
        k0s, n, xk1, xk0, xc, yk1, yk0, yc, blocks, width, keep,
    ):  # fmt: skip
        key = cuda.shared.array(TOTAL, key_type)
        source = cuda.shared.array(TOTAL, i32)
        segments = lines * blocks
        for tile in range(GROUP_ID(0), (segments + ROWS - 1) // ROWS, NUM_GROUPS(0)):
            for i in range(LOCAL_ID(0), TOTAL, G):
                segment = tile * ROWS + i // BLOCK
                c = i % BLOCK
                source[i] = i32(c)
                made = every  # past the end: after everything, since its place is
                if segment < segments:
                    k = segment // blocks
                    start = (segment - k * blocks) * width
                    if c < width and start + c < n:
                        made = order_key(load(x, item(x_offset + line(k, k0s, xk1, xk0), start + c, xc)))
                key[i] = made
            cuda.syncthreads()
            size = 2
            while size <= BLOCK:
                step = size // 2
                while step > 0:
                    for q in range(LOCAL_ID(0), TOTAL // 2, G):
                        a = 2 * q - (q & (step - 1))
                        b = a + step
                        key_a = key[a]
                        key_b = key[b]
                        from_a = source[a]
                        from_b = source[b]
                        after = key_a > key_b or (key_a == key_b and from_a > from_b)
                        if after == ((a & (BLOCK - 1) & size) == 0):
                            key[a] = key_b
                            key[b] = key_a
                            source[a] = from_b
                            source[b] = from_a
                    cuda.syncthreads()
                    step //= 2
                size *= 2
            for i in range(LOCAL_ID(0), TOTAL, G):
                segment = tile * ROWS + i // BLOCK
                c = i % BLOCK
                if segment < segments and c < keep:
                    k = segment // blocks
                    start = (segment - k * blocks) * width
                    if c < width and start + c < n:
                        at = start + i64(source[i])
                        if FINAL:
                            written = line(k, k0s, yk1, yk0)
                            if VALUES:
                                y[item(y_offset + written, c, yc)] = x[item(x_offset + line(k, k0s, xk1, xk0), at, xc)]
                            if PLACES:
                                to[item(to_offset + written, c, yc)] = at
                        else:
                            keys[keys_offset + k * n + start + c] = key[i]
                            places[places_offset + k * n + start + c] = place_type(at)
            cuda.syncthreads()

    absent = _absent(y=FINAL and VALUES, to=FINAL and PLACES, keys=not FINAL, places=not FINAL)
    return without(pnn_order_blocks, *absent)


@kernel("pnn_order_merge", "ordering.c", ignores=("WHAT",))
def order_merge(d: Defines) -> Callable[..., Any]:
    K, P, G = d["K"], d["P"], d["G"]

    def pnn_order_merge(
        keys: IN(K), keys_offset, places: IN(P), places_offset, new_keys: OUT(K), new_keys_offset, new_places: OUT(P), new_places_offset,
        lines, n, width, keep, chunk, pairs, parts,
    ):  # fmt: skip
        for e in range(GLOBAL_ID(0), lines * pairs * parts, NUM_GROUPS(0) * G):
            q = e // parts
            part = e - q * parts
            k = q // pairs
            first = (q - k * pairs) * 2 * width
            here = min(n - first, width)
            there = min(n - first - here, width)
            a_length = min(here, keep)
            b_length = min(there, keep)
            every = min(a_length + b_length, keep)
            start = part * chunk
            if start < every:
                a = k * n + first
                b = a + width
                a_keys = keys_offset + a
                b_keys = keys_offset + b
                low = max(start - b_length, 0)
                high = min(start, a_length)
                while low < high:  # the fewest of the first run that leave nothing smaller behind
                    middle = (low + high) // 2
                    if keys[a_keys + middle] <= keys[b_keys + start - 1 - middle]:
                        low = middle + 1
                    else:
                        high = middle
                i = low
                j = start - low
                for o in range(start, min(start + chunk, every)):
                    second = i == a_length
                    if not second and j < b_length:
                        second = keys[b_keys + j] < keys[a_keys + i]
                    at = b + j if second else a + i
                    new_keys[new_keys_offset + a + o] = keys[keys_offset + at]
                    new_places[new_places_offset + a + o] = places[places_offset + at]
                    if second:
                        j += 1
                    else:
                        i += 1

    return pnn_order_merge


@kernel("pnn_order_write", "ordering.c", ignores=("WHAT",))
def order_write(d: Defines) -> Callable[..., Any]:
    T, P, G, VALUES, PLACES = d["T"], d["P"], d["G"], "VALUES" in d, "PLACES" in d
    line, item = place(d)

    def pnn_order_write(
        x: IN(T), x_offset, places: IN(P), places_offset, y: OUT(T), y_offset, to: OUT("i64"), to_offset, lines, k0s, n, xk1, xk0, xc, yk1,
        yk0, yc, keep,
    ):  # fmt: skip
        for e in range(GLOBAL_ID(0), lines * keep, NUM_GROUPS(0) * G):
            k = e // keep
            c = e - k * keep
            at = i64(places[places_offset + k * n + c])
            written = line(k, k0s, yk1, yk0)
            if VALUES:
                y[item(y_offset + written, c, yc)] = x[item(x_offset + line(k, k0s, xk1, xk0), at, xc)]
            if PLACES:
                to[item(to_offset + written, c, yc)] = at

    return without(pnn_order_write, *_absent(y=VALUES, to=PLACES))


@kernel("pnn_order_scatter", "ordering.c", ignores=("WHAT",))
def order_scatter(d: Defines) -> Callable[..., Any]:
    T, L, G = d["T"], d["L"], d["G"]
    load_places = LOAD[L]

    def pnn_order_scatter(
        g: IN(T), g_offset, places: IN(L), places_offset, z: OUT(T), z_offset, count, size, taken, inner, err: ERROR_WORD, err_code: "i32"
    ):  # fmt: skip
        for e in range(GLOBAL_ID(0), count, NUM_GROUPS(0) * G):
            row = e // inner
            i = e - row * inner
            at = i64(load_places(places, places_offset + e))
            if at < 0 or at >= size:
                REPORT(err, err_code, e, at)
                at = i64(0) if at < 0 else size - 1
            z[z_offset + (row // taken * size + at) * inner + i] = g[g_offset + e]

    return pnn_order_scatter
