"""Plans of pooling and its gradients: one launch each, rows of vectors on CPUs, flat on GPUs."""

from __future__ import annotations

from portable_nn.core import dtypes
from portable_nn.core.call import Call
from portable_nn.core.geometry import is_channels_last, pool_window_of
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import Const, Define, In, Launch, Out, Plan, Profile, Ref

from . import plans

_CPU_LANES = 16  # one float32 vector: a group is one vector of neighbouring results
_UNROLL = 9  # positions up to which a window's sizes are compile-time constants
_CPU_CHUNK = 2048  # results below which another group costs more than it helps


def _groups(profile: Profile, made: Spec) -> tuple[int, int]:
    """Return the number of groups and their size for `made` results."""
    if profile.shape == "gpu":
        size = min(256, profile.group_limit)
        return min(-(-made.size // size), 2**16), size
    return max(1, min(4 * profile.units, made.size // _CPU_CHUNK)), _CPU_LANES


def _plan(call: Call, profile: Profile, kernel: str, refs: tuple[Ref, ...], x: Spec, y: Spec, *extra: tuple[str, Define]) -> Plan:
    """Return the launch; x is the image side and y the pooled side, whichever is the result."""
    made = call.outputs[0]
    if made.size == 0:
        return Plan(())
    h, w = pool_window_of(call)
    adaptive = h.stride == 0
    inside = adaptive or all(a.before == 0 and (a.out - 1) * a.stride + (a.kernel - 1) * a.dilation < a.size for a in (h, w))
    count, size = _groups(profile, made)
    fixed = () if adaptive or h.kernel * w.kernel > _UNROLL else tuple(
        (name, value) for name, value in
        zip(("KH", "KW", "SH", "SW", "DH", "DW"), (h.kernel, w.kernel, h.stride, w.stride, h.dilation, w.dilation), strict=True)
    )  # fmt: skip
    real = dtypes.accumulator(made.dtype)
    defines: tuple[tuple[str, Define], ...] = (
        (kernel.removeprefix("pnn_").upper(), 1), ("T", dtypes.TAGS[made.dtype]), ("REAL_NAME", dtypes.TAGS[real].upper()), ("SIZE", size), ("ROWS", int(profile.shape == "cpu")),
        ("IX", "u32" if made.size < 2**31 else "i64"), ("LAST", int(is_channels_last(made))), ("ADAPTIVE", int(adaptive)),
        ("INSIDE", int(inside)), *fixed, *({"I": "u8", "WITH_INDEX": 0, "PAD_COUNTS": 0} | dict(extra)).items(),
    )  # fmt: skip
    n, c = made.shape[:2]
    numbers = [n, c, h.size, w.size, h.out, w.out, h.kernel, w.kernel, h.before, h.after, w.before, w.after, *x.strides, *y.strides]
    numbers += (h.stride, w.stride, h.dilation, w.dilation)
    if kernel == "pnn_max_pool_grad":
        numbers += call.spec(1).strides
    args = (*refs, *(Const("i64", v) for v in numbers))
    return Plan((Launch(kernel, "pool.c", (count,), (size,), args, defines),))


@plans("max_pool2d", "adaptive_max_pool2d")
def max_pool2d(call: Call, profile: Profile) -> Plan:
    """Plan the maximum, with the winners' numbers if the tape asks."""
    index: tuple[tuple[str, Define], ...] = ()
    if call.residuals:
        index = (("I", dtypes.TAGS[call.outputs[1].dtype]), ("WITH_INDEX", 1))
    refs = (In(0), Out(0), Out(1 if call.residuals else 0))
    return _plan(call, profile, "pnn_max_pool", refs, call.spec(0), call.outputs[0], *index)


@plans("max_pool2d_grad", "adaptive_max_pool2d_grad")
def max_pool2d_grad(call: Call, profile: Profile) -> Plan:
    """Plan the gather of cotangents to their winners."""
    tag = ("I", dtypes.TAGS[call.spec(1).dtype])
    return _plan(call, profile, "pnn_max_pool_grad", (In(0), In(1), Out(0)), call.outputs[0], call.spec(0), tag)


@plans("avg_pool2d", "adaptive_avg_pool2d")
def avg_pool2d(call: Call, profile: Profile) -> Plan:
    """Plan the mean; whole planes get a group each."""
    x, y = call.spec(0), call.outputs[0]
    if y.size and y.shape[2:] == (1, 1) and call.op.startswith("adaptive") and not is_channels_last(x):
        count, size = min(y.size, 2**16) if profile.shape == "gpu" else max(1, min(4 * profile.units, x.size // _CPU_CHUNK)), 64
        size = _CPU_LANES if profile.shape == "cpu" else min(size, profile.group_limit)
        args = (In(0), Out(0), *(Const("i64", v) for v in (*x.shape, *x.strides, *y.strides[:2])))
        defines = (("T", dtypes.TAGS[x.dtype]), ("SIZE", size))
        return Plan((Launch("pnn_pool_global_avg", "pool_global.c", (count,), (size,), args, defines),))
    counts = ("PAD_COUNTS", int(call.settings.get("count_include_pad", False)))
    return _plan(call, profile, "pnn_avg_pool", (In(0), Out(0)), x, y, counts)


@plans("avg_pool2d_grad", "adaptive_avg_pool2d_grad")
def avg_pool2d_grad(call: Call, profile: Profile) -> Plan:
    """Plan the gather of shares from every window that covers a position."""
    counts = ("PAD_COUNTS", int(call.settings.get("count_include_pad", False)))
    return _plan(call, profile, "pnn_avg_pool_grad", (In(0), Out(0)), call.outputs[0], call.spec(0), counts)
