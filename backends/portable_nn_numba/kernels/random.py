"""Twin of `c/random.c`."""

from collections.abc import Callable
from typing import Any

from portable_nn_numba.dialect import ACC, ACC_TAG, GROUP_ID, IN, LOAD, LOCAL_ID, OUT, STORE, i32, i64, u32
from portable_nn_numba.registry import Defines, kernel
from portable_nn_numba.shim import cuda, device

from .philox import pnn_block, pnn_fraction_f64, pnn_normal_pair_f32, pnn_normal_pair_f64

NO_MARK = u32(0)


def drawing(d: Defines) -> Callable[..., Any]:
    """Return what turns a block of words into PER values: ``draw(words, a, b, limit, all, i)`` is value number i."""
    DRAW, T = d["DRAW"], d["T"]
    V = ACC(T)
    if DRAW == "BITS":
        return device(lambda w, a, b, limit, every, i: w[i])
    if DRAW == "BERNOULLI":
        return device(lambda w, a, b, limit, every, i: i32(1) if w[i] < limit or every != 0 else i32(0))
    if DRAW == "DROPOUT":
        return device(lambda w, a, b, limit, every, i: V(a) if w[i] >= limit and every == 0 else V(0))
    if DRAW == "UNIFORM" and d["PER"] == 4:
        SCALE, SHIFT = V(2.0 ** -d["KEPT"]), u32(32 - d["KEPT"])
        return device(lambda w, a, b, limit, every, i: V(V(V(u32(w[i] >> SHIFT)) * SCALE) * a) + b)
    if DRAW == "UNIFORM":
        return device(lambda w, a, b, limit, every, i: pnn_fraction_f64(w[2 * i], w[2 * i + 1]) * a + b)
    if d["PER"] == 2:

        @device
        def pair(w: Any, a: Any, b: Any, limit: Any, every: Any, i: Any) -> Any:
            z = pnn_normal_pair_f64(w[0], w[1], w[2], w[3])
            return (z[0] if i == 0 else z[1]) * a + b

        return pair

    @device
    def normal(w: Any, a: Any, b: Any, limit: Any, every: Any, i: Any) -> Any:
        first = w[0] if i < 2 else w[2]
        second = w[1] if i < 2 else w[3]
        z = pnn_normal_pair_f32(first, second)
        return (z[0] if i % 2 == 0 else z[1]) * a + b

    return normal


@kernel("pnn_random", "random.c", ignores=("KEPT",))
def random(d: Defines) -> Callable[..., Any]:
    T, PER, GROUP = d["T"], d["PER"], d["GROUP"]
    DROPOUT = d["DRAW"] == "DROPOUT"
    N = ACC_TAG(T)
    V, load, store, draw = ACC(T), LOAD[T], STORE[T], drawing(d)
    SIZE, zero = GROUP * PER, V(0)

    @device
    def body(t, key, key_offset, x, x_offset, y, y_offset, key_step, n, chunk, a, b, limit, every):
        lane = LOCAL_ID(0)
        first = GROUP_ID(0) * chunk
        last = min(first + chunk, (n + PER - 1) // PER)
        for tile in range(first, last, GROUP):
            w = pnn_block(key, key_offset, key_step, NO_MARK, tile + lane)
            for i in range(PER):
                t[lane * PER + i] = draw(w, a, b, limit, every, i)
            cuda.syncthreads()
            start = tile * PER
            for e in range(lane, min(i64(SIZE), n - start), GROUP):
                if DROPOUT:
                    scale = t[e]
                    store(y, y_offset + start + e, zero if scale == zero else load(x, x_offset + start + e) * scale)
                else:
                    store(y, y_offset + start + e, t[e])
            cuda.syncthreads()

    if DROPOUT:

        def pnn_random(
            key: IN("u32"), key_offset, x: IN(T), x_offset, y: OUT(T), y_offset, key_step, n, chunk, a: N, b: N, limit: "u32", every: "i32"
        ):
            t = cuda.shared.array(SIZE, V)
            body(t, key, key_offset, x, x_offset, y, y_offset, key_step, n, chunk, a, b, limit, every)

    else:

        def pnn_random(
            key: IN("u32"), key_offset, y: OUT(T), y_offset, key_step, n, chunk, a: N, b: N, limit: "u32", every: "i32"
        ):
            t = cuda.shared.array(SIZE, V)
            body(t, key, key_offset, y, y_offset, y, y_offset, key_step, n, chunk, a, b, limit, every)

    return pnn_random
