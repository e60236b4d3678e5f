"""Twin of `c/gather.c`: gathering by index arrays, and the deterministic gradients by sorted runs. A factory per WHAT."""

from collections.abc import Callable
from typing import Any

from portable_nn_numba.dialect import (
    ERROR_WORD,
    GLOBAL_ID,
    GROUP_ID,
    IN,
    LIT,
    LOAD,
    LOCAL_ID,
    NUM_GROUPS,
    OUT,
    REPORT,
    STORE,
    ZERO,
    i64,
)
from portable_nn_numba.registry import Defines, kernel
from portable_nn_numba.shim import device

SORT_BLOCK = 64


@device
def clamped(value: Any, place: Any, size: Any, err: Any, err_code: Any) -> Any:
    """Return INDEX: an index, reported and clamped where it is outside [0, size)."""
    at = i64(value)
    if at < 0 or at >= size:
        REPORT(err, err_code, place, at)
        at = i64(0) if at < 0 else size - 1
    return at


@device
def bound(keys: Any, low: Any, high: Any, key: Any, below: Any) -> Any:
    """Return the first place of [low, high) whose key is not below, or (without `below`) above, `key`."""
    while low < high:
        middle = (low + high) // 2
        found = keys[middle]
        if found < key or (not below and found == key):
            low = middle + 1
        else:
            high = middle
    return low


@kernel("pnn_take", "gather.c", ignores=("WHAT",))
def take(d: Defines) -> Callable[..., Any]:
    T, L, G, ROWS = d["T"], d["L"], d["G"], "ROWS" in d
    load_k = LOAD[L]

    def pnn_take(
        x: IN(T), x_offset, k: IN(L), k_offset, y: OUT(T), y_offset, rows, size, taken, inner, err: ERROR_WORD, err_code: "i32"
    ):  # fmt: skip
        if ROWS:  # a group copies whole rows
            for row in range(GROUP_ID(0), rows, NUM_GROUPS(0)):
                o = row // taken
                j = row - o * taken
                at = clamped(load_k(k, k_offset + j), j, size, err, err_code)
                source = x_offset + (o * size + at) * inner
                to = y_offset + row * inner
                for i in range(LOCAL_ID(0), inner, G):
                    y[to + i] = x[source + i]
        else:
            for e in range(GLOBAL_ID(0), rows * inner, NUM_GROUPS(0) * G):
                row = e // inner
                i = e - row * inner
                o = row // taken
                j = row - o * taken
                at = clamped(load_k(k, k_offset + j), j, size, err, err_code)
                y[y_offset + e] = x[x_offset + (o * size + at) * inner + i]

    return pnn_take


@kernel("pnn_take_along", "gather.c", ignores=("WHAT",))
def take_along(d: Defines) -> Callable[..., Any]:
    T, L, G = d["T"], d["L"], d["G"]
    load_k = LOAD[L]

    def pnn_take_along(x: IN(T), x_offset, k: IN(L), k_offset, y: OUT(T), y_offset, n, size, taken, inner, err: ERROR_WORD, err_code: "i32"):
        for e in range(GLOBAL_ID(0), n, NUM_GROUPS(0) * G):
            row = e // inner
            i = e - row * inner
            at = clamped(load_k(k, k_offset + e), e, size, err, err_code)
            y[y_offset + e] = x[x_offset + (row // taken * size + at) * inner + i]

    return pnn_take_along


@kernel("pnn_take_along_grad", "gather.c", ignores=("WHAT",))
def take_along_grad(d: Defines) -> Callable[..., Any]:
    T, R, L, G = d["T"], d["R"], d["L"], d["G"]
    zero, load, load_k, store = LIT(R, 0), LOAD[T], LOAD[L], STORE[T]

    def pnn_take_along_grad(
        g: IN(T), g_offset, k: IN(L), k_offset, z: OUT(T), z_offset, n, size, taken, inner, err: ERROR_WORD, err_code: "i32"
    ):  # fmt: skip
        for e in range(GLOBAL_ID(0), n, NUM_GROUPS(0) * G):
            row = e // inner
            i = e - row * inner
            o = row // size
            v = row - o * size
            total = zero
            for j in range(taken):
                source = (o * taken + j) * inner + i
                if clamped(load_k(k, k_offset + source), source, size, err, err_code) == v:
                    total += load(g, g_offset + source)
            store(z, z_offset + e, total)

    return pnn_take_along_grad


@kernel("pnn_sort_blocks", "gather.c", ignores=("WHAT",))
def sort_blocks(d: Defines) -> Callable[..., Any]:
    L, G = d["L"], d["G"]
    load_k = LOAD[L]

    def pnn_sort_blocks(
        k: IN(L), k_offset, keys: OUT("i64"), keys_offset, places: OUT("i64"), places_offset, n, size, err: ERROR_WORD, err_code: "i32"
    ):  # fmt: skip
        for e in range(GLOBAL_ID(0), n, NUM_GROUPS(0) * G):
            start = e // SORT_BLOCK * SORT_BLOCK
            raw = i64(load_k(k, k_offset + e))
            rank = 0
            for j in range(start, min(start + SORT_BLOCK, n)):
                other = i64(load_k(k, k_offset + j))
                if other < raw or (other == raw and j < e):
                    rank += 1
            keys[keys_offset + start + rank] = clamped(raw, e, size, err, err_code)
            places[places_offset + start + rank] = e

    return pnn_sort_blocks


@kernel("pnn_sort_merge", "gather.c", ignores=("WHAT",))
def sort_merge(d: Defines) -> Callable[..., Any]:
    G = d["G"]

    def pnn_sort_merge(
        keys: IN("i64"), keys_offset, places: IN("i64"), places_offset, new_keys: OUT("i64"), new_keys_offset, new_places: OUT("i64"),
        new_places_offset, n, width,
    ):  # fmt: skip
        for e in range(GLOBAL_ID(0), n, NUM_GROUPS(0) * G):
            run = e // width
            pair = run // 2 * 2
            low = (pair + 1 if run == pair else pair) * width
            first = min(low, n)
            last = min(low + width, n)
            key = keys[keys_offset + e]
            before = bound(keys, keys_offset + first, keys_offset + last, key, run == pair) - keys_offset - first
            place = pair * width + (e - run * width) + before
            new_keys[new_keys_offset + place] = key
            new_places[new_places_offset + place] = places[places_offset + e]

    return pnn_sort_merge


@kernel("pnn_one_hot", "gather.c", ignores=("WHAT",))
def one_hot(d: Defines) -> Callable[..., Any]:
    T, L, G = d["T"], d["L"], d["G"]
    zero, one, load_k, store = ZERO(T), LIT(T, 1), LOAD[L], STORE[T]

    def pnn_one_hot(k: IN(L), k_offset, y: OUT(T), y_offset, n, size, err: ERROR_WORD, err_code: "i32"):
        for e in range(GLOBAL_ID(0), n, NUM_GROUPS(0) * G):
            row = e // size
            c = e - row * size
            label = i64(load_k(k, k_offset + row))
            clamped(label, row, size, err, err_code)
            store(y, y_offset + e, one if c == label else zero)

    return pnn_one_hot


@kernel("pnn_sort_starts", "gather.c", ignores=("WHAT",))
def sort_starts(d: Defines) -> Callable[..., Any]:
    G = d["G"]

    def pnn_sort_starts(keys: IN("i64"), keys_offset, starts: OUT("i64"), starts_offset, n, size):
        for v in range(GLOBAL_ID(0), size + 1, NUM_GROUPS(0) * G):
            starts[starts_offset + v] = bound(keys, keys_offset, keys_offset + n, v, True) - keys_offset

    return pnn_sort_starts


@kernel("pnn_sort_sum", "gather.c", ignores=("WHAT",))
def sort_sum(d: Defines) -> Callable[..., Any]:
    T, R, G = d["T"], d["R"], d["G"]
    zero, load, store = LIT(R, 0), LOAD[T], STORE[T]

    def pnn_sort_sum(
        g: IN(T), g_offset, starts: IN("i64"), starts_offset, places: IN("i64"), places_offset, z: OUT(T), z_offset, rows, size, n, inner, skip
    ):  # fmt: skip
        for row in range(GROUP_ID(0), rows, NUM_GROUPS(0)):
            o = row // size
            v = row - o * size
            first = starts[starts_offset + v]
            last = first if v == skip else starts[starts_offset + v + 1]
            for i in range(LOCAL_ID(0), inner, G):
                total = zero
                for block in range(first, last, 64):  # blocked: the error grows with the depth
                    part = zero
                    for j in range(block, min(block + 64, last)):
                        part += load(g, g_offset + (o * n + places[places_offset + j]) * inner + i)
                    total += part
                store(z, z_offset + row * inner + i, total)

    return pnn_sort_sum
