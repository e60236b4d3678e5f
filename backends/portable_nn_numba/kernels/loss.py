"""Twin of `c/loss.c`: cross entropy and negative log-likelihood. Parameters that C leaves out by #ifdef are left out by `without`.

One file, as there: the kernels share what `terms` makes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from portable_nn_numba.dialect import (
    ERROR_WORD,
    FMA,
    GROUP_ID,
    IN,
    INF,
    LIT,
    LOAD,
    LOCAL_ID,
    NUM_GROUPS,
    OUT,
    REPORT,
    STORE,
    TYPE,
    i64,
)
from portable_nn_numba.registry import Defines, kernel, without
from portable_nn_numba.scalar import pnn
from portable_nn_numba.shim import cuda, device

from .line import LINE_BLOCK, lines


@dataclass(frozen=True)
class Terms:
    """The device functions that the macros of `loss.c` are.

    Parameters
    ----------
    w_at : device function
        ``w_at(w, at)``: a class's weight, 1 where there are none.
    walked : device function
        ``walked(t, at, w, w_at, kept, each)``: the part of q[c] that every class has.
    label : device function
        ``label(t, at, ignore, n, k, tells, err, err_code)``: the label of row k, clamped, and whether it counts; the
        work-item that `tells` reports one outside the classes.
    """

    w_at: Any
    walked: Any
    label: Any


def terms(d: Defines) -> Terms:
    """Return the device functions for a launch's defines."""
    SOFT, HAS_W = "SOFT" in d, "HAS_W" in d
    real, one = TYPE[d["R"]], LIT(d["R"], 1)
    load_w, load_t = LOAD[d["T"]], LOAD[d["L"]]

    @device
    def w_at(w: Any, at: Any) -> Any:
        if HAS_W:
            return load_w(w, at)
        return one

    @device
    def walked(t: Any, t_at: Any, w: Any, at: Any, kept: Any, each: Any) -> Any:
        if SOFT:
            return w_at(w, at) * FMA(kept, real(load_t(t, t_at)), each)
        return each * w_at(w, at)

    @device
    def label(t: Any, at: Any, ignore: Any, n: Any, k: Any, tells: Any, err: Any, err_code: Any) -> Any:
        found = i64(load_t(t, at))
        counts = found != ignore
        if counts and (found < 0 or found >= n):
            if tells:
                REPORT(err, err_code, k, found)
            found = i64(0) if found < 0 else n - 1
        return found if counts else i64(0), counts

    return Terms(w_at, walked, label)


def _absent(d: Defines, **present: bool) -> tuple[str, ...]:
    """Return the parameters that `d` leaves out: those said not to be there, and the class weights without HAS_W."""
    weights = () if "HAS_W" in d else ("w", "ws")
    return (*weights, *(name for name, there in present.items() if not there))


@kernel("pnn_loss", "loss.c", ignores=("PART",))
def loss(d: Defines) -> Callable[..., Any]:
    T, R, L = d["T"], d["R"], d["L"]
    SOFT, NLL, EACH_ROW, KEEP_LSE, PARTIALS = (name in d for name in ("SOFT", "NLL", "EACH_ROW", "KEEP_LSE", "PARTIALS"))
    WALKS = SOFT or "SMOOTH" in d
    w_ = lines(d)
    LANES, G, STEP, BLOCK = w_.LANES, w_.G, w_.STEP, w_.STEP * LINE_BLOCK
    my_lane, first, stride, line, item, join_max, join_sum = w_.lane, w_.first, w_.stride, w_.line, w_.item, w_.join_max, w_.join_sum
    q_ = terms(d)
    w_at, walked, label_of = q_.w_at, q_.walked, q_.label
    real, zero, one, low = TYPE[R], LIT(R, 0), LIT(R, 1), -INF(R)
    load, store, store_real, exp, log, larger = LOAD[T], STORE[T], STORE[R], pnn("exp", R), pnn("log", R), pnn("max", R)

    @device
    def add_up(lanes: Any, me: Any, value: Any) -> Any:
        if not LANES:  # every work-item has rows of its own
            lanes[me] = value
            cuda.syncthreads()
            span = G // 2
            while span > 0:
                if me < span:
                    lanes[me] = real(lanes[me] + lanes[me + span])
                cuda.syncthreads()
                span //= 2
            value = lanes[0]
            cuda.syncthreads()
        return value

    def pnn_loss(
        x: IN(T), x_offset, t: IN(L), t_offset, w: IN(T), w_offset, ws, loss: OUT(T), loss_offset, lse: OUT(R), lse_offset, partial: OUT(R),
        partial_offset, lines, k0s, n, xk1, xk0, xc, tk1, tk0, tc, kept: R, each: R, ignore, err: ERROR_WORD, err_code: "i32",
    ):  # fmt: skip
        lanes = cuda.shared.array(G, real)
        me = LOCAL_ID(0)
        lane = my_lane()
        tells = lane == 0 or not LANES
        losses = zero
        shares = zero
        some_losses = zero
        some_shares = zero
        rows = 0
        for k in range(first(), lines, stride()):
            x_line = x_offset + line(k, k0s, xk1, xk0)
            t_line = t_offset + line(k, k0s, tk1, tk0)
            value = zero
            share = one
            if NLL:
                label, counts = label_of(t, t_line, ignore, n, k, tells, err, err_code)
                share = w_at(w, w_offset + label * ws) if counts else zero
                value = zero if share == zero else -share * load(x, item(x_line, label, xc))
            else:
                m = low
                for c in range(lane, n, STEP):
                    m = larger(m, load(x, item(x_line, c, xc)))
                m = join_max(lanes, lane, m)
                total = zero
                if WALKS:
                    q = zero
                    qx = zero
                    for c in range(lane, n, STEP):
                        below = load(x, item(x_line, c, xc)) - m
                        part = walked(t, item(t_line, c, tc), w, w_offset + c * ws, kept, each)
                        total += exp(below)
                        q += part
                        qx += zero if part == zero else part * below
                    total = join_sum(lanes, lane, total)
                    q = join_sum(lanes, lane, q)
                    qx = join_sum(lanes, lane, qx)
                    shift = log(total)
                    value = FMA(q, shift, -qx)
                else:
                    for block in range(0, n, BLOCK):
                        part = zero
                        for c in range(block + lane, min(block + BLOCK, n), STEP):
                            part += exp(load(x, item(x_line, c, xc)) - m)
                        total += part
                    total = join_sum(lanes, lane, total)
                    shift = log(total)
                if not SOFT:
                    label, counts = label_of(t, t_line, ignore, n, k, tells, err, err_code)
                    share = w_at(w, w_offset + label * ws) if counts else zero
                    own = kept * share
                    if counts:
                        if own != zero:
                            value = value + own * (m - load(x, item(x_line, label, xc)) + shift)
                    else:
                        value = zero
                if KEEP_LSE:
                    if tells:
                        store_real(lse, lse_offset + k, m + shift)
            if EACH_ROW:
                if tells:
                    store(loss, loss_offset + k, value)
            some_losses += value
            some_shares += share
            rows += 1
            if rows % 64 == 0:
                losses += some_losses
                shares += some_shares
                some_losses = zero
                some_shares = zero
        if PARTIALS:
            losses = add_up(lanes, me, losses + some_losses)
            shares = add_up(lanes, me, shares + some_shares)
            if me == 0:
                store_real(partial, partial_offset + GROUP_ID(0), losses)
                store_real(partial, partial_offset + NUM_GROUPS(0) + GROUP_ID(0), shares)

    return without(pnn_loss, *_absent(d, loss=EACH_ROW, lse=KEEP_LSE, partial=PARTIALS))


@kernel("pnn_loss_finish", "loss.c", ignores=("PART",))
def loss_finish(d: Defines) -> Callable[..., Any]:
    T, R = d["T"], d["R"]
    EACH_ROW, KEEP_TOTAL, MEAN = (name in d for name in ("EACH_ROW", "KEEP_TOTAL", "MEAN"))
    w_ = lines(d)
    G, BLOCK, join_sum = w_.G, w_.STEP * LINE_BLOCK, w_.join_sum
    real, zero, store, store_real = TYPE[R], LIT(R, 0), STORE[T], STORE[R]

    def pnn_loss_finish(partial: IN(R), partial_offset, loss: OUT(T), loss_offset, total: OUT(R), total_offset, n):
        lanes = cuda.shared.array(G, real)
        lane = LOCAL_ID(0)
        losses = zero
        shares = zero
        for block in range(0, n, BLOCK):
            some_losses = zero
            some_shares = zero
            for c in range(block + lane, min(block + BLOCK, n), G):
                some_losses += partial[partial_offset + c]
                some_shares += partial[partial_offset + n + c]
            losses += some_losses
            shares += some_shares
        losses = join_sum(lanes, lane, losses)
        shares = join_sum(lanes, lane, shares)
        if lane == 0:
            if not EACH_ROW:
                store(loss, loss_offset, losses / shares if MEAN else losses)
            if KEEP_TOTAL:
                store_real(total, total_offset, shares)

    absent = [name for name, there in (("loss", not EACH_ROW), ("total", KEEP_TOTAL)) if not there]
    return without(pnn_loss_finish, *absent)


@kernel("pnn_loss_grad", "loss.c", ignores=("PART",))
def loss_grad(d: Defines) -> Callable[..., Any]:
    T, R, L, TOTAL, LSE = d["T"], d["R"], d["L"], d["TOTAL"], d.get("LSE", d["R"])
    SOFT, SMOOTH, NLL, MEAN = (name in d for name in ("SOFT", "SMOOTH", "NLL", "MEAN"))
    WALKS = SOFT or SMOOTH
    w_ = lines(d)
    LANES, SLOTS, STEP, BLOCK = w_.LANES, w_.SLOTS, w_.STEP, w_.STEP * LINE_BLOCK
    my_lane, first, stride, line, item, join_sum = w_.lane, w_.first, w_.stride, w_.line, w_.item, w_.join_sum
    q_ = terms(d)
    w_at, walked, label_of = q_.w_at, q_.walked, q_.label
    real, zero = TYPE[R], LIT(R, 0)
    load, load_total, load_lse, store, exp = LOAD[T], LOAD[TOTAL], LOAD[LSE], STORE[T], pnn("exp", R)

    def pnn_loss_grad(
        g: IN(T), g_offset, total: IN(TOTAL), total_offset, t: IN(L), t_offset, w: IN(T), w_offset, ws, x: IN(T), x_offset, lse: IN(LSE),
        lse_offset, z: OUT(T), z_offset, lines, k0s, n, gk1, gk0, gc, tk1, tk0, tc, xk1, xk0, xc, lsek1, lsek0, lsec, zk1, zk0, zc,
        kept: R, each: R, ignore, err: ERROR_WORD, err_code: "i32",
    ):  # fmt: skip
        lanes = cuda.shared.array(SLOTS, real)
        lane = my_lane()
        tells = lane == 0 or not LANES
        for k in range(first(), lines, stride()):
            t_line = t_offset + line(k, k0s, tk1, tk0)
            z_line = z_offset + line(k, k0s, zk1, zk0)
            h = load(g, g_offset + line(k, k0s, gk1, gk0))
            if MEAN:
                h = h / real(load_total(total, total_offset))
            if NLL:
                label, counts = label_of(t, t_line, ignore, n, k, tells, err, err_code)
                own = w_at(w, w_offset + label * ws) if counts else zero
                for c in range(lane, n, STEP):
                    store(z, item(z_line, c, zc), -h * own if c == label and counts else zero)
            else:
                x_line = x_offset + line(k, k0s, xk1, xk0)
                norm = real(load_lse(lse, lse_offset + line(k, k0s, lsek1, lsek0)))
                q = zero
                if WALKS:
                    for block in range(0, n, BLOCK):
                        part = zero
                        for c in range(block + lane, min(block + BLOCK, n), STEP):
                            part += walked(t, item(t_line, c, tc), w, w_offset + c * ws, kept, each)
                        q += part
                    q = join_sum(lanes, lane, q)
                if SOFT:
                    for c in range(lane, n, STEP):
                        one = walked(t, item(t_line, c, tc), w, w_offset + c * ws, kept, each)
                        store(z, item(z_line, c, zc), h * FMA(exp(load(x, item(x_line, c, xc)) - norm), q, -one))
                else:
                    label, counts = label_of(t, t_line, ignore, n, k, tells, err, err_code)
                    own = kept * w_at(w, w_offset + label * ws)
                    q += own
                    for c in range(lane, n, STEP):
                        one = own if c == label else zero
                        if SMOOTH:
                            one += walked(t, item(t_line, c, tc), w, w_offset + c * ws, kept, each)
                        value = h * FMA(exp(load(x, item(x_line, c, xc)) - norm), q, -one)
                        store(z, item(z_line, c, zc), value if counts else zero)

    scores = {} if not NLL else dict.fromkeys(("x", "lse", "xk1", "xk0", "xc", "lsek1", "lsek0", "lsec"), False)
    return without(pnn_loss_grad, *_absent(d, **scores))
