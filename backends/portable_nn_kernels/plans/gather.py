"""Plans of take, take_along_dim, embedding, one_hot and their gradients."""

from __future__ import annotations

from math import prod

from portable_nn.core.axes import axis_of
from portable_nn.core.call import Call
from portable_nn.core.device_errors import code
from portable_nn.core.dtypes import TAGS, DType, int64
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import Arg, Const, Define, ErrorWord, In, Launch, Out, Plan, Profile, Ref

from . import plans
from .copies import bits, copy_launch
from .extremum import Steps
from .lines import compute

_BLOCK = 64  # SORT_BLOCK of gather.c


def index_error(op: str, size: int) -> ErrorWord:
    """Return the error word of an index outside [0, size)."""
    return ErrorWord(code(op, f"index {{value}} at position {{index}} is not in [0, {size})"))


def dense(steps: Steps, spec: Spec, ref: Ref) -> Ref:
    """Return where `spec`'s elements lie in C order, adding a copy if they do not."""
    if spec.contiguous:
        return ref
    target = Spec(spec.shape, spec.dtype)
    made = steps.reserve(target)
    steps.launches.append(copy_launch(spec, ref, target, made, steps.profile))
    return made


def _launch(
    name: str, what: int, count: int, args: list[Arg], defines: list[tuple[str, Define]], profile: Profile, tiles: int | None = None
) -> Launch:
    """Return a launch of `gather.c` over `count` elements, one work-item each, or over `tiles` groups."""
    cpu = profile.shape == "cpu"
    group = 64 if cpu else min(profile.size("gpu.gather.group"), profile.group_limit)
    groups = -(-count // group) if tiles is None else tiles
    if cpu:
        groups = min(groups, max(1, min(4 * profile.units, -(-count // profile.size("cpu.gather.work")))))
    return Launch(name, "gather.c", (min(groups, 2**31 - 1),), (group,), tuple(args), (("WHAT", what), ("G", group), *defines))


def _numbers(*values: int) -> list[Arg]:
    return [Const("i64", v) for v in values]


def _take(call: Call, profile: Profile, x: Spec, x_ref: Ref, k: Spec, k_ref: Ref, axis: int) -> Plan:
    y = call.outputs[0]
    if y.size == 0:
        return Plan(())
    steps = Steps(profile)
    sources: list[Arg] = [dense(steps, x, x_ref), dense(steps, k, k_ref), Out(0)]
    size, taken = x.shape[axis], k.size
    inner = prod(x.shape[axis + 1 :])
    rows = y.size // inner
    defines: list[tuple[str, Define]] = [("T", TAGS[bits(x.dtype)]), ("L", TAGS[k.dtype])]
    whole = inner >= 32
    if whole:
        defines.append(("ROWS", 1))
    args = [*sources, *_numbers(rows, size, taken, inner), index_error(call.op, size)]
    steps.launches.append(_launch("pnn_take", 0, y.size, args, defines, profile, rows if whole else None))
    return steps.plan()


@plans("take")
def take(call: Call, profile: Profile) -> Plan:
    """Copy slices."""
    x = call.spec(0)
    return _take(call, profile, x, In(0), call.spec(1), In(1), axis_of(call.op, call.settings["axis"], x.ndim))


@plans("embedding")
def embedding(call: Call, profile: Profile) -> Plan:
    """Copy rows of the table."""
    return _take(call, profile, call.spec(1), In(1), call.spec(0), In(0), 0)


def _segments(call: Call, profile: Profile, outer: int, size: int, inner: int, skip: int) -> Plan:
    """Sort the indices, then let every row of the result add its run."""
    g, k, z = call.spec(0), call.spec(1), call.outputs[0]
    if z.size == 0:
        return Plan(())
    steps = Steps(profile)
    g_ref, k_ref = dense(steps, g, In(0)), dense(steps, k, In(1))
    n = k.size
    pair = Spec((n,), int64)
    keys, order = steps.reserve(pair), steps.reserve(pair)
    if n:
        sort: list[Arg] = [k_ref, keys, order, *_numbers(n, size), index_error(call.op, size)]
        steps.launches.append(_launch("pnn_sort_blocks", 3, n * _BLOCK, sort, [("L", TAGS[k.dtype])], profile, -(-n // _BLOCK)))
    if n > _BLOCK:
        other_keys, other_order = steps.reserve(pair), steps.reserve(pair)
        width = _BLOCK
        while width < n:
            merge: list[Arg] = [keys, order, other_keys, other_order, *_numbers(n, width)]
            steps.launches.append(_launch("pnn_sort_merge", 4, n, merge, [], profile))
            keys, order, other_keys, other_order = other_keys, other_order, keys, order
            width *= 2
    defines: list[tuple[str, Define]] = [("T", TAGS[g.dtype]), ("R", TAGS[compute(g.dtype)])]
    starts = steps.reserve(Spec((size + 1,), int64))
    steps.launches.append(_launch("pnn_sort_starts", 7, size + 1, [keys, starts, *_numbers(n, size)], [], profile))
    args: list[Arg] = [g_ref, starts, order, Out(0), *_numbers(outer * size, size, n, inner, skip)]
    steps.launches.append(_launch("pnn_sort_sum", 5, max(z.size, g.size), args, defines, profile, outer * size))
    return steps.plan()


@plans("take_grad")
def take_grad(call: Call, profile: Profile) -> Plan:
    """Add sorted runs."""
    g = call.spec(0)
    axis = axis_of(call.op, call.settings["axis"], g.ndim)
    return _segments(call, profile, prod(g.shape[:axis]), call.outputs[0].shape[axis], prod(g.shape[axis + 1 :]), -1)


@plans("embedding_grad")
def embedding_grad(call: Call, profile: Profile) -> Plan:
    """Add sorted runs; the padded row adds nothing."""
    rows, features = call.outputs[0].shape
    padding = call.settings["padding_idx"]
    return _segments(call, profile, 1, rows, features, -1 if padding is None else padding % rows)


@plans("take_along_dim", "gather", "take_along_dim_grad")
def along(call: Call, profile: Profile) -> Plan:
    """Gather, or compare places with indices."""
    x, k, y = call.spec(0), call.spec(1), call.outputs[0]
    if y.size == 0:
        return Plan(())
    axis = axis_of(call.op, call.settings["dim"], x.ndim)
    steps = Steps(profile)
    grad = call.op == "take_along_dim_grad"
    size = y.shape[axis] if grad else x.shape[axis]
    dtype: DType = x.dtype if grad else bits(x.dtype)
    defines: list[tuple[str, Define]] = [("T", TAGS[dtype]), ("L", TAGS[k.dtype])]
    if grad:
        defines.append(("R", TAGS[compute(x.dtype)]))
    args: list[Arg] = [dense(steps, x, In(0)), dense(steps, k, In(1)), Out(0)]
    args += [*_numbers(y.size, size, k.shape[axis], prod(x.shape[axis + 1 :])), index_error(call.op, size)]
    name = "pnn_take_along_grad" if grad else "pnn_take_along"
    steps.launches.append(_launch(name, 2 if grad else 1, y.size, args, defines, profile))
    return steps.plan()


@plans("one_hot")
def one_hot(call: Call, profile: Profile) -> Plan:
    """Compare every class with the label."""
    k, y = call.spec(0), call.outputs[0]
    if y.size == 0:
        return Plan(())
    steps = Steps(profile)
    args: list[Arg] = [dense(steps, k, In(0)), Out(0), *_numbers(y.size, y.shape[-1]), index_error(call.op, y.shape[-1])]
    steps.launches.append(_launch("pnn_one_hot", 6, y.size, args, [("T", TAGS[y.dtype]), ("L", TAGS[k.dtype])], profile))
    return steps.plan()
