"""Plans of pooling and its gradients: one launch each, rows of vectors on CPUs, flat on GPUs."""

from __future__ import annotations

from portable_nn.core import dtypes
from portable_nn.core.call import Call
from portable_nn.core.expression import compute_tag
from portable_nn.core.geometry import is_channels_last, pool_axes_of
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import Arg, Const, Define, In, Launch, Out, Plan, Profile, Ref, Term

from . import plans
from .index_width import index_tag
from .mapping import Operand, ScalarArg, map_launch

_CPU_LANES = 16  # one float32 vector: a group is one vector of neighbouring results
_UNROLL = 9  # positions up to which a window's sizes are compile-time constants


def walk(profile: Profile, made: Spec) -> tuple[int, int]:
    """Return the number of groups and their size for `made` results, as c/each_pixel.h walks over them."""
    if profile.shape == "gpu":
        size = min(profile.size("gpu.pool.group"), profile.group_limit)
        return min(-(-made.size // size), 2**16), size
    return max(1, min(4 * profile.units, made.size // profile.size("cpu.pool.work"))), _CPU_LANES


def _plan(call: Call, profile: Profile, kernel: str, refs: tuple[Ref, ...], x: Spec, y: Spec, *extra: tuple[str, Define]) -> Plan:
    """Return the launch; x is the image side and y the pooled side, whichever is the result."""
    made = call.outputs[0]
    if made.size == 0:
        return Plan(())
    h, w = pool_axes_of(call)
    adaptive = h.stride == 0
    inside = adaptive or all(a.before == 0 and (a.out - 1) * a.stride + (a.kernel - 1) * a.dilation < a.size for a in (h, w))
    count, size = walk(profile, made)
    fixed = () if adaptive or h.kernel * w.kernel > _UNROLL else tuple(
        (name, value) for name, value in
        zip(("KH", "KW", "SH", "SW", "DH", "DW"), (h.kernel, w.kernel, h.stride, w.stride, h.dilation, w.dilation), strict=True)
    )  # fmt: skip
    given: dict[str, Define] = {"I": "u8", "WITH_INDEX": 0, "PAD_COUNTS": 0}
    given.update(extra)
    real = dtypes.accumulator(made.dtype)
    last, units = is_channels_last(made), list[tuple[str, Define]]()
    if profile.shape == "cpu" and (is_channels_last(x) or is_channels_last(y)):  # vectors along the channels of the larger side
        last = True
        winners = call.spec(1) if kernel == "pnn_max_pool_grad" else y
        units = [(f"{side}_UNIT", 1) for side, spec in (("X", x), ("Y", y), ("J", winners)) if spec.strides[1] == 1]
    defines: tuple[tuple[str, Define], ...] = (
        (kernel.removeprefix("pnn_").upper(), 1), ("T", dtypes.TAGS[made.dtype]), ("REAL_NAME", dtypes.TAGS[real].upper()), ("SIZE", size), ("ROWS", int(profile.shape == "cpu")),
        ("IX", index_tag(made.size)), ("LAST", int(last)), ("ADAPTIVE", int(adaptive)),
        ("INSIDE", int(inside)), *fixed, *given.items(), *units,
    )  # fmt: skip
    n, c = made.shape[:2]
    numbers = [n, c, h.size, w.size, h.out, w.out, h.kernel, w.kernel, h.before, h.after, w.before, w.after, *x.strides, *y.strides]
    numbers += (h.stride, w.stride, h.dilation, w.dilation)
    if kernel == "pnn_max_pool_grad":
        numbers += call.spec(1).strides
    args: tuple[Arg, ...] = (*refs, *(Const("i64", v) for v in numbers))
    return Plan((Launch(kernel, "pool.c", (count,), (size,), args, defines),))


def _chunk(profile: Profile, lines: int, size: int) -> int:
    """Return how many rows a work-item takes."""
    return -(-lines // max(1, min(lines, 4 * profile.units, size // int(profile.size("cpu.pool.work")))))


def _vector(columns: int) -> int:
    """Return the vector length for rows of so many results."""
    return 16 if columns >= 16 else 8 if columns >= 8 else 4


def _lines(call: Call, profile: Profile) -> Plan | None:
    """Return the plan by vectors along rows, where the call has the form it needs."""
    x, y = call.spec(0), call.outputs[0]
    if profile.shape != "cpu" or call.op not in ("max_pool2d", "avg_pool2d") or x.dtype != dtypes.float32 or x.strides[3] != 1 or is_channels_last(y):
        return None
    h, w = pool_axes_of(call)
    first = -(-w.before // w.stride)
    last = min(w.out, (w.size + w.before - w.kernel) // w.stride + 1)
    lanes = _vector(last - first)
    if w.stride > 2 or h.dilation * w.dilation != 1 or h.kernel * w.kernel > 2 * _UNROLL or last - first < lanes:
        return None
    planes = y.shape[0] * y.shape[1]
    chunk = _chunk(profile, planes * h.out, y.size)
    mean = call.op == "avg_pool2d"
    padding = (h.before, h.after, w.before, w.after) if mean else (h.before, w.before)
    numbers = (planes, y.shape[1], h.size, w.size, h.out, w.out, *padding, first, last, *x.strides[:3], *y.strides[:3], chunk)
    kind = ("PAD_COUNTS", int(call.settings["count_include_pad"])) if mean else ("WITH_INDEX", int(call.residuals))
    defines: tuple[tuple[str, Define], ...] = (
        ("AVG_POOL_LINES" if mean else "MAX_POOL_LINES", 1), ("VW", lanes), ("KH", h.kernel), ("KW", w.kernel), ("SH", h.stride),
        ("SW", w.stride), kind,
    )  # fmt: skip
    refs: tuple[Ref, ...] = (In(0), Out(0)) if mean else (In(0), Out(0), Out(1 if call.residuals else 0))
    args: tuple[Arg, ...] = (*refs, *(Const("i64", v) for v in numbers))
    kernel = "pnn_avg_pool_lines" if mean else "pnn_max_pool_lines"
    return Plan((Launch(kernel, "pool_cpu.c", (-(-planes * h.out // chunk),), (1,), args, defines),))


def _grad_planes(call: Call, profile: Profile) -> Plan | None:
    """Return the plan of a gradient plane by plane, where sums can rest in the result and planes occupy the cores."""
    g, x = call.spec(0), call.outputs[0]
    planes = x.shape[0] * x.shape[1]
    if profile.shape != "cpu" or x.dtype not in (dtypes.float32, dtypes.float64) or g.dtype != x.dtype or planes < profile.units:
        return None
    if is_channels_last(x):
        return None  # there the gathering kernel has vectors
    h, w = pool_axes_of(call)
    most = call.op.endswith("max_pool2d_grad")
    index = call.spec(1) if most else g
    numbers = (
        planes, x.shape[1], h.size, w.size, h.out, w.out, h.kernel, w.kernel, h.stride, w.stride, h.dilation, w.dilation,
        h.before, h.after, w.before, w.after, *g.strides, *index.strides, *x.strides,
    )  # fmt: skip
    defines: tuple[tuple[str, Define], ...] = (
        ("POOL_GRAD_PLANES", 1), ("T", dtypes.TAGS[x.dtype]), ("ADAPTIVE", int(h.stride == 0)),
        *((("I", dtypes.TAGS[index.dtype]),) if most else (("PAD_COUNTS", int(call.settings.get("count_include_pad", False))),)),
    )  # fmt: skip
    refs: tuple[Ref, ...] = (In(0), In(1), Out(0)) if most else (In(0), Out(0))
    groups = max(1, min(planes, 4 * profile.units, x.size // profile.size("cpu.pool.work")))
    args: tuple[Arg, ...] = (*refs, *(Const("i64", v) for v in numbers))
    return Plan((Launch("pnn_pool_grad_planes", "pool_cpu.c", (groups,), (1,), args, defines),))


def _max_grad_pairs(call: Call, profile: Profile) -> Plan | None:
    """Return the plan for windows of 2 x 2 that do not overlap."""
    g, index, x = call.spec(0), call.spec(1), call.outputs[0]
    fits = g.dtype == dtypes.float32 and g.strides[3] == 1 and index.strides[3] == 1 and not is_channels_last(x)
    if profile.shape != "cpu" or call.op != "max_pool2d_grad" or not fits:
        return None
    h, w = pool_axes_of(call)
    if any((a.kernel, a.stride, a.before, a.after, a.dilation) != (2, 2, 0, 0, 1) or 2 * a.out > a.size for a in (h, w)):
        return None
    planes = x.shape[0] * x.shape[1]
    lines = planes * -(-h.size // 2)
    chunk = _chunk(profile, lines, x.size)
    numbers = (planes, x.shape[1], h.size, w.size, h.out, w.out, *g.strides[:3], *index.strides[:3], *x.strides[:3], chunk)
    defines: tuple[tuple[str, Define], ...] = (("MAX_POOL_GRAD_PAIRS", 1), ("VW", _vector(w.out)), ("SW", 2))
    args: tuple[Arg, ...] = (In(0), In(1), Out(0), *(Const("i64", v) for v in numbers))
    return Plan((Launch("pnn_max_pool_grad_pairs", "pool_cpu.c", (-(-lines // chunk),), (1,), args, defines),))


@plans("max_pool2d", "adaptive_max_pool2d")
def max_pool2d(call: Call, profile: Profile) -> Plan:
    """Plan the maximum, with the winners' numbers if the tape asks."""
    if call.outputs[0].size and (lines := _lines(call, profile)):
        return lines
    index: tuple[tuple[str, Define], ...] = ()
    if call.residuals:
        index = (("I", dtypes.TAGS[call.outputs[1].dtype]), ("WITH_INDEX", 1))
    refs = (In(0), Out(0), Out(1 if call.residuals else 0))
    return _plan(call, profile, "pnn_max_pool", refs, call.spec(0), call.outputs[0], *index)


@plans("max_pool2d_grad", "adaptive_max_pool2d_grad")
def max_pool2d_grad(call: Call, profile: Profile) -> Plan:
    """Plan the gather of cotangents to their winners."""
    if call.outputs[0].size and (fast := _max_grad_pairs(call, profile) or _grad_planes(call, profile)):
        return fast
    tag = ("I", dtypes.TAGS[call.spec(1).dtype])
    return _plan(call, profile, "pnn_max_pool_grad", (In(0), In(1), Out(0)), call.outputs[0], call.spec(0), tag)


@plans("avg_pool2d", "adaptive_avg_pool2d")
def avg_pool2d(call: Call, profile: Profile) -> Plan:
    """Plan the mean; whole planes get a group each."""
    x, y = call.spec(0), call.outputs[0]
    if y.size and y.shape[2:] == (1, 1) and call.op.startswith("adaptive") and not is_channels_last(x):
        count, size = min(y.size, 2**16) if profile.shape == "gpu" else max(1, min(4 * profile.units, x.size // profile.size("cpu.pool.work"))), 64
        size = _CPU_LANES if profile.shape == "cpu" else min(size, profile.group_limit)
        args: tuple[Arg, ...] = (In(0), Out(0), *(Const("i64", v) for v in (*x.shape, *x.strides, *y.strides[:2])))
        defines = (("T", dtypes.TAGS[x.dtype]), ("SIZE", size))
        return Plan((Launch("pnn_pool_global_avg", "pool_global.c", (count,), (size,), args, defines),))
    if y.size and (lines := _lines(call, profile)):
        return lines
    counts = ("PAD_COUNTS", int(call.settings.get("count_include_pad", False)))
    return _plan(call, profile, "pnn_avg_pool", (In(0), Out(0)), x, y, counts)


@plans("avg_pool2d_grad", "adaptive_avg_pool2d_grad")
def avg_pool2d_grad(call: Call, profile: Profile) -> Plan:
    """Plan the gather of shares from every window that covers a position; one window for all of them is a mapping on CPUs."""
    if call.outputs[0].size and (share := _share(call, profile)):
        return share
    if call.outputs[0].size and (planes := _grad_planes(call, profile)):
        return planes
    counts = ("PAD_COUNTS", int(call.settings.get("count_include_pad", False)))
    return _plan(call, profile, "pnn_avg_pool_grad", (In(0), Out(0)), call.outputs[0], call.spec(0), counts)


def _share(call: Call, profile: Profile) -> Plan | None:
    """Return the mapping that spreads a cotangent over its plane, which more can join; None where there are several windows."""
    made, g = call.outputs[0], call.spec(0)
    if profile.shape != "cpu" or g.shape[2:] != (1, 1) or not call.op.startswith("adaptive"):
        return None
    tag = compute_tag(dtypes.TAGS[made.dtype])
    count = ScalarArg("count", tag, Const(tag, float(made.shape[2] * made.shape[3])))
    return Plan((map_launch(made.shape, [Operand("g", g, In(0))], [Operand("x", made, Out(0))], [], [Term(tag, "g / count")], profile, [count]),))
