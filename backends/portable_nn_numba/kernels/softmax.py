"""Twin of `c/softmax.c`."""

from collections.abc import Callable
from typing import Any

from portable_nn_numba.dialect import FMA, IN, INF, LIT, LOAD, OUT, STORE, TYPE
from portable_nn_numba.registry import Defines, kernel
from portable_nn_numba.scalar import pnn
from portable_nn_numba.shim import cuda, device

from .line import LINE_BLOCK, lines

SOFTMAX, LOG_SOFTMAX, LOGSUMEXP, SOFTMAX_GRAD = 0, 1, 2, 3


@kernel("pnn_softmax", "softmax.c")
def softmax(d: Defines) -> Callable[..., Any]:
    T, R, KIND, PER = d["T"], d["R"], d["KIND"], d["PER"]
    STORE_EXP, NEGATE = ("STORE_EXP" in d), ("NEGATE" in d)
    w = lines(d)
    LANES, STEP, SLOTS, BLOCK = w.LANES, w.STEP, w.SLOTS, w.STEP * LINE_BLOCK
    my_lane, first, stride, line, item, join_max, join_sum = w.lane, w.first, w.stride, w.line, w.item, w.join_max, w.join_sum
    real, zero, one, low = TYPE[R], LIT(R, 0), LIT(R, 1), -INF(R)
    stored, store, exp, log, larger, isinf = LOAD[T], STORE[T], pnn("exp", R), pnn("log", R), pnn("max", R), pnn("isinf", R)
    load = device(lambda x, i: -stored(x, i)) if NEGATE else stored
    load_z = stored
    KEPT = max(PER, 1)

    def pnn_softmax(x: IN(T), x_offset, z: OUT(T), z_offset, lines, k0s, n, xk1, xk0, xc, zk1, zk0, zc):
        lanes = cuda.shared.array(SLOTS, real)
        kept = cuda.local.array(KEPT, real)
        lane = my_lane()
        for k in range(first(), lines, stride()):
            x_line = x_offset + line(k, k0s, xk1, xk0)
            z_line = z_offset + line(k, k0s, zk1, zk0)
            m = low
            if PER:
                for slot in range(PER):
                    c = slot * STEP + lane
                    kept[slot] = load(x, item(x_line, c, xc)) if c < n else low
                    m = larger(m, kept[slot])
            else:
                for c in range(lane, n, STEP):
                    m = larger(m, load(x, item(x_line, c, xc)))
            m = join_max(lanes, lane, m)
            if KIND == LOGSUMEXP and isinf(m):
                m = zero
            total = zero
            if PER:
                for slot in range(PER):
                    if slot * STEP + lane < n:
                        total += exp(kept[slot] - m)
            else:
                for block in range(0, n, BLOCK):
                    part = zero
                    for c in range(block + lane, min(block + BLOCK, n), STEP):
                        e = exp(load(x, item(x_line, c, xc)) - m)
                        if STORE_EXP:
                            store(z, item(z_line, c, zc), e)
                        part += e
                    total += part
            total = join_sum(lanes, lane, total)
            if KIND == LOGSUMEXP:
                if lane == 0 or not LANES:
                    store(z, z_line, m + log(total))
            elif KIND == LOG_SOFTMAX:
                shift = log(total)
                if PER:
                    for slot in range(PER):
                        c = slot * STEP + lane
                        if c < n:
                            store(z, item(z_line, c, zc), kept[slot] - m - shift)
                else:
                    for c in range(lane, n, STEP):
                        store(z, item(z_line, c, zc), load(x, item(x_line, c, xc)) - m - shift)
            else:
                scale = one / total
                if PER:
                    for slot in range(PER):
                        c = slot * STEP + lane
                        if c < n:
                            store(z, item(z_line, c, zc), exp(kept[slot] - m) * scale)
                elif STORE_EXP:
                    for c in range(lane, n, STEP):
                        store(z, item(z_line, c, zc), load_z(z, item(z_line, c, zc)) * scale)
                else:
                    for c in range(lane, n, STEP):
                        store(z, item(z_line, c, zc), exp(load(x, item(x_line, c, xc)) - m) * scale)

    return pnn_softmax


@kernel("pnn_softmax_grad", "softmax.c", ignores=("PER",))
def softmax_grad(d: Defines) -> Callable[..., Any]:
    T, R, KIND = d["T"], d["R"], d["KIND"]
    w = lines(d)
    STEP, SLOTS, BLOCK = w.STEP, w.SLOTS, w.STEP * LINE_BLOCK
    my_lane, first, stride, line, item, join_sum = w.lane, w.first, w.stride, w.line, w.item, w.join_sum
    real, zero = TYPE[R], LIT(R, 0)
    load, store, exp = LOAD[T], STORE[T], pnn("exp", R)

    def pnn_softmax_grad(
        g: IN(T), g_offset, y: IN(T), y_offset, z: OUT(T), z_offset, lines, k0s, n, gk1, gk0, gc, yk1, yk0, yc, zk1, zk0, zc
    ):
        lanes = cuda.shared.array(SLOTS, real)
        lane = my_lane()
        for k in range(first(), lines, stride()):
            g_line = g_offset + line(k, k0s, gk1, gk0)
            y_line = y_offset + line(k, k0s, yk1, yk0)
            z_line = z_offset + line(k, k0s, zk1, zk0)
            total = zero
            for block in range(0, n, BLOCK):
                part = zero
                for c in range(block + lane, min(block + BLOCK, n), STEP):
                    if KIND == SOFTMAX_GRAD:
                        part = FMA(load(g, item(g_line, c, gc)), load(y, item(y_line, c, yc)), part)
                    else:
                        part += load(g, item(g_line, c, gc))
                total += part
            total = join_sum(lanes, lane, total)
            for c in range(lane, n, STEP):
                if KIND == SOFTMAX_GRAD:
                    store(z, item(z_line, c, zc), load(y, item(y_line, c, yc)) * (load(g, item(g_line, c, gc)) - total))
                else:
                    store(z, item(z_line, c, zc), FMA(-exp(load(y, item(y_line, c, yc))), total, load(g, item(g_line, c, gc))))

    return pnn_softmax_grad
