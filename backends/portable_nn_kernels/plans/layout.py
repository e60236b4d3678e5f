"""Plans of layout ops that copy: reshape, concat, pad and the gradient of indexing. Each part of the output is one launch."""

from __future__ import annotations

from collections.abc import Sequence

from portable_nn.core.call import Call
from portable_nn.core.spec import Spec, contiguous_strides
from portable_nn_kernels.launch import In, Launch, Out, Plan, Profile

from . import plans
from .copies import copy_launch, fill_launch

_SMALL = 1 << 20  # bytes below which filling everything first costs less than a launch per border


def part(whole: Spec, starts: Sequence[int], sizes: Sequence[int]) -> tuple[Spec, int]:
    """Return the spec and first element of a box inside `whole`."""
    start = sum(i * step for i, step in zip(starts, whole.strides, strict=True))
    return Spec(tuple(sizes), whole.dtype, whole.strides), start


@plans("reshape", "flatten")
def reshape(call: Call, profile: Profile) -> Plan:
    """Copy in C order: the output is dense, and is written through a view of the input's shape."""
    x, y = call.spec(0), call.outputs[0]
    return Plan((copy_launch(x, In(0), Spec(x.shape, y.dtype), Out(0), profile),) if y.size else ())


@plans("concat")
def concat(call: Call, profile: Profile) -> Plan:
    """Copy each operand to its part of the output."""
    y, axis = call.outputs[0], call.settings["axis"]
    launches = []
    start = 0
    for number in range(len(call.inputs)):
        x = call.spec(number)
        if axis is None:
            target, step = Spec(x.shape, y.dtype, contiguous_strides(x.shape)), x.size
        else:
            target, step = Spec(x.shape, y.dtype, y.strides), x.shape[axis] * y.strides[axis]
        if x.size:
            launches.append(copy_launch(x, In(number), target, Out(0), profile, 0, start))
        start += step
    return Plan(tuple(launches))


def placed(x: Spec, y: Spec, low: Sequence[int], value: float, profile: Profile) -> tuple[Launch, ...]:
    """Return launches that write operand 0 into output 0 with its first element at index `low`, and `value` around it.

    What falls outside is cropped. Small outputs are filled first; of larger ones every element is written once.
    """
    first = [max(at, 0) for at in low]
    stop = [max(min(at + n, m), f) for at, n, m, f in zip(low, x.shape, y.shape, first, strict=True)]
    sizes = [b - a for a, b in zip(first, stop, strict=True)]
    launches: list[Launch] = []
    inside = 0 not in sizes
    if not inside or y.nbytes < _SMALL:
        if y.size and tuple(sizes) != y.shape:
            launches.append(fill_launch(y, Out(0), value, profile))
    else:
        starts, box = [0] * y.ndim, list(y.shape)
        for axis, (a, b, m) in enumerate(zip(first, stop, y.shape, strict=True)):
            for at, n in ((0, a), (b, m - b)):
                if n:
                    border, start = part(y, [*starts[:axis], at, *starts[axis + 1 :]], [*box[:axis], n, *box[axis + 1 :]])
                    launches.append(fill_launch(border, Out(0), value, profile, start))
            starts[axis], box[axis] = a, b - a
    if inside:
        source, source_start = part(x, [a - at for a, at in zip(first, low, strict=True)], sizes)
        target, target_start = part(y, first, sizes)
        launches.append(copy_launch(source, In(0), target, Out(0), profile, source_start, target_start))
    return tuple(launches)


@plans("pad")
def pad(call: Call, profile: Profile) -> Plan:
    """Copy the inside; then fill the borders, or copy them from the output, axis after axis, so that corners come out right."""
    x, y = call.spec(0), call.outputs[0]
    given, mode = call.settings["pad"], call.settings["mode"]
    if y.size == 0:
        return Plan(())
    low = [0] * x.ndim
    high = [0] * x.ndim
    for number in range(len(given) // 2):
        low[-1 - number], high[-1 - number] = given[2 * number], given[2 * number + 1]
    if mode == "constant":
        return Plan(placed(x, y, low, call.settings["value"], profile))
    target, start = part(y, low, x.shape)
    launches = [copy_launch(x, In(0), target, Out(0), profile, 0, start)]
    starts, box = list(low), list(x.shape)
    for axis, (before, after) in enumerate(zip(low, high, strict=True)):
        n, step = x.shape[axis], y.strides[axis]
        # (first index written, how many, first index read, how the reading goes)
        borders = {
            "reflect": ((0, before, 2 * before, -1), (before + n, after, before + n - 2, -1)),
            "replicate": ((0, before, before, 0), (before + n, after, before + n - 1, 0)),
            "circular": ((0, before, n, 1), (before + n, after, before, 1)),
        }[mode]
        for write, count, read, direction in borders:
            if count:
                size = [*box[:axis], count, *box[axis + 1 :]]
                target, start = part(y, [*starts[:axis], write, *starts[axis + 1 :]], size)
                source, source_start = part(y, [*starts[:axis], read, *starts[axis + 1 :]], size)
                strides = [*source.strides[:axis], direction * step, *source.strides[axis + 1 :]]
                source = Spec(source.shape, source.dtype, tuple(strides))
                launches.append(copy_launch(source, Out(0), target, Out(0), profile, source_start, start))
        starts[axis], box[axis] = 0, y.shape[axis]
    return Plan(tuple(launches))


@plans("getitem_grad")
def getitem_grad(call: Call, profile: Profile) -> Plan:
    """Write g into its place: a padding where every step is 1, else zeros first."""
    g, y = call.spec(0), call.outputs[0]
    if y.size == 0:
        return Plan(())
    items = [item for item in call.settings["index"] if item is not None]
    at = items.index(Ellipsis) if Ellipsis in items else len(items)
    items[at : at + 1] = [(None, None, None)] * (y.ndim - len(items) + (Ellipsis in items))
    # One entry per axis of y: first index, how many, step; then g is read with as many axes as y.
    taken = [range(item % n, item % n + 1) if isinstance(item, int) else range(*slice(*item).indices(n)) for item, n in zip(items, y.shape, strict=True)]
    shape = tuple(len(r) for r in taken)
    steps = iter([s for s, n in zip(g.strides, g.shape, strict=True) if n != 1])
    source = Spec(shape, g.dtype, tuple(next(steps) if n != 1 else 1 for n in shape))
    if g.size == 0:
        return Plan((fill_launch(y, Out(0), 0, profile),))
    if all(r.step == 1 or len(r) == 1 for r in taken):
        return Plan(placed(source, y, [r[0] for r in taken], 0, profile))
    target, start = part(y, [r[0] for r in taken], shape)
    target = Spec(shape, y.dtype, tuple(s * r.step for s, r in zip(y.strides, taken, strict=True)))
    fill = () if g.size == y.size else (fill_launch(y, Out(0), 0, profile),)
    return Plan((*fill, copy_launch(source, In(0), target, Out(0), profile, 0, start)))
