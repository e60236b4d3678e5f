"""Plans of interpolate and its gradient, one launch each; pixel_shuffle and pixel_unshuffle, one copy each."""

from __future__ import annotations

from collections.abc import Sequence

from portable_nn.core import dtypes
from portable_nn.core.call import Call
from portable_nn.core.geometry import is_channels_last
from portable_nn.core.sampling import Sampling, sampled
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import Arg, Const, Define, In, Launch, Out, Plan, Profile, Scratch

from . import plans
from .copies import copy_launch
from .index_width import index_tag
from .pool import walk


@plans("interpolate", "interpolate_grad")
def interpolate(call: Call, profile: Profile) -> Plan:
    """Plan one launch over the pixels of the result."""
    made, settings, backward = call.outputs[0], call.settings, call.op == "interpolate_grad"
    if made.size == 0:
        return Plan(())
    x, y = (made, call.spec(0)) if backward else (call.spec(0), made)
    size = y.shape[2:] if settings["scale_factor"] is None else None
    axes = sampled(call.op, x.shape[2:], size, settings["scale_factor"], settings["mode"], settings["align_corners"])
    if profile.shape == "cpu" and (planes := _planes(call, axes, profile)):
        return planes
    furthest = max((a.step * a.out + abs(a.shift) for a in axes), default=0)
    count, group = walk(profile, made)
    numbers = [*x.shape, *y.shape[2:], *x.strides, *y.strides]
    for axis in axes:
        numbers += [axis.step, axis.shift, axis.unit]
    defines: tuple[tuple[str, Define], ...] = (
        ("T", dtypes.TAGS[made.dtype]), ("SIZE", group), ("ROWS", int(profile.shape == "cpu")), ("LAST", int(is_channels_last(made))),
        ("IX", index_tag(max(made.size, furthest))), ("LINEAR", int(axes[0].linear)), ("GRAD", int(backward)),
    )  # fmt: skip
    kernel = "pnn_resize_grad" if backward else "pnn_resize"
    return Plan((Launch(kernel, "resize.c", (count,), (group,), (In(0), Out(0), *(Const("i64", v) for v in numbers)), defines),))


def _planes(call: Call, axes: Sequence[Sampling], profile: Profile) -> Plan | None:
    """Return the plan for CPUs: a few planes per work-item, which keeps what each column reads in scratch."""
    made, backward = call.outputs[0], call.op == "interpolate_grad"
    x, y = (made, call.spec(0)) if backward else (call.spec(0), made)
    real = dtypes.accumulator(made.dtype)
    planes = made.shape[0] * made.shape[1]
    if is_channels_last(made) or planes < profile.units or (backward and {x.dtype, y.dtype} != {real}) or max(x.shape[3], y.shape[3]) >= 2**31:
        return None
    groups = max(1, min(planes, 4 * profile.units, y.size // 2048))
    scratch = [Spec((groups, y.shape[3]), dtypes.int32), Spec((groups, y.shape[3]), real)] + [Spec((groups, x.shape[3]), real)] * backward
    numbers = [planes, x.shape[1], *x.shape[2:], *y.shape[2:], *x.strides, *y.strides]
    for axis in axes:
        numbers += [axis.step, axis.shift, axis.unit]
    arguments: tuple[Arg, ...] = (In(0), Out(0), *(Scratch(i) for i in range(len(scratch))), *(Const("i64", v) for v in numbers))
    defines: tuple[tuple[str, Define], ...] = (("T", dtypes.TAGS[made.dtype]), ("LINEAR", int(axes[0].linear)), ("GRAD", int(backward)))
    kernel = "pnn_resize_grad_planes" if backward else "pnn_resize_planes"
    return Plan((Launch(kernel, "resize_cpu.c", (groups,), (1,), arguments, defines),), tuple(scratch))


@plans("pixel_shuffle", "pixel_unshuffle")
def pixel_shuffle(call: Call, profile: Profile) -> Plan:
    """Plan a copy between two views of six axes."""
    x, y = call.spec(0), call.outputs[0]
    if y.size == 0:
        return Plan(())
    small, large = (x, y) if call.op == "pixel_shuffle" else (y, x)
    r = large.shape[-1] // small.shape[-1] if small.shape[-1] else 1
    lead, (c, h, w) = large.shape[:-3], (large.shape[-3], *small.shape[-2:])
    ls, ss = large.strides, small.strides
    shape = (*lead, c, r, r, h, w)
    few = Spec(shape, x.dtype, (*ss[:-3], ss[-3] * r * r, ss[-3] * r, ss[-3], ss[-2], ss[-1]))
    wide = Spec(shape, x.dtype, (*ls[:-3], ls[-3], ls[-2], ls[-1], ls[-2] * r, ls[-1] * r))
    source, target = (few, wide) if call.op == "pixel_shuffle" else (wide, few)
    return Plan((copy_launch(source, In(0), target, Out(0), profile),))
