"""Twin of `c/scatter.c`: combining at indices along one axis, deterministic; the parameter x is there with HAS_X."""

from collections.abc import Callable
from typing import Any

from portable_nn_numba.dialect import (
    ADD,
    ERROR_WORD,
    GLOBAL_ID,
    IN,
    LOAD,
    NUM_GROUPS,
    OUT,
    REPORT,
    STORE,
    TYPE,
    ZERO,
    i64,
)
from portable_nn_numba.registry import Defines, kernel, without
from portable_nn_numba.scalar import pnn
from portable_nn_numba.shim import device


@kernel("pnn_scatter", "scatter.c")
def scatter(d: Defines) -> Callable[..., Any]:
    T, R, K, P, G, REDUCE = d["T"], d["R"], d["K"], d["P"], d["G"], d["REDUCE"]
    SIGNED, HAS_X, OWN = "SIGNED" in d, "HAS_X" in d, "OWN" in d
    COMBINES, MEAN = REDUCE >= 2, REDUCE == 1
    key_type, real, zero, add, load, store = TYPE[K], TYPE[R], ZERO(R), ADD(R), LOAD[T], STORE[T]
    top = key_type(0 if not SIGNED else 1 << 63 if K == "u64" else 1 << 31)
    half = int(top)
    better = pnn("max" if REDUCE == 2 else "min", R)

    @device
    def rank(keys: Any, start: Any, n: Any, key: Any, or_equal: Any) -> Any:
        low = i64(0)
        high = n
        while low < high:
            middle = (low + high) // 2
            found = keys[start + middle]
            if found < key or (or_equal and found == key):
                low = middle + 1
            else:
                high = middle
        return low

    @device
    def index_of(key: Any) -> Any:
        return i64(key) - i64(half) if K == "u32" else i64(key_type(key ^ top))

    def pnn_scatter(
        x: IN(T), x_offset, s: IN(T), s_offset, keys: IN(K), keys_offset, places: IN(P), places_offset, y: OUT(T), y_offset, count, size, n,
        inner, key_step, alpha: R, err: ERROR_WORD, err_code: "i32",
    ):  # fmt: skip
        for e in range(GLOBAL_ID(0), count, NUM_GROUPS(0) * G):
            row = e // inner
            i = e - row * inner
            o = row // size
            v = row - o * size
            line = (o * inner + i) * key_step
            key = key_type(key_type(v) ^ top)
            first = rank(keys, keys_offset + line, n, key, False)
            last = first + rank(keys, keys_offset + line + first, n - first, key, True)
            k_at = keys_offset + line
            p_at = places_offset + line
            if v == 0 and first > 0:
                at = i64(places[p_at])
                REPORT(err, err_code, (o * n + at) * inner + i if key_step > 0 else at, index_of(keys[k_at]))
            if v == size - 1 and last < n:
                at = i64(places[p_at + last])
                REPORT(err, err_code, (o * n + at) * inner + i if key_step > 0 else at, index_of(keys[k_at + last]))
            untouched = False
            if HAS_X:
                untouched = first == last
                if untouched:
                    y[y_offset + e] = x[x_offset + e]
            if not untouched:
                if COMBINES:
                    found = load(s, s_offset + (o * n + i64(places[p_at + first])) * inner + i)
                    for j in range(first + 1, last):
                        found = better(found, load(s, s_offset + (o * n + i64(places[p_at + j])) * inner + i))
                    if OWN:
                        found = better(found, load(x, x_offset + e))
                    store(y, y_offset + e, found)
                else:
                    total = zero
                    for block in range(first, last, 64):
                        part = zero
                        for j in range(block, min(block + 64, last)):
                            part = add(part, load(s, s_offset + (o * n + i64(places[p_at + j])) * inner + i))
                        total = add(total, part)
                    total = real(alpha * total)
                    if OWN:
                        total = add(load(x, x_offset + e), total)
                        if MEAN:
                            total = real(total / real(last - first + 1))
                    elif MEAN:
                        total = real(total / real(last - first))
                    store(y, y_offset + e, total)

    return without(pnn_scatter, *(() if HAS_X else ("x",)))
