"""Plans of pooling along one axis, the kernels of images on views, and along three, kernels of their own."""

from __future__ import annotations

from typing import Any

from portable_nn.core import dtypes
from portable_nn.core.call import Call
from portable_nn.core.geometry import pool_axes_of
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import Arg, Const, Define, In, Launch, Out, Plan, Profile

from . import plans
from .delegate import view_of, with_unit_axis
from .index_width import index_tag
from .pool import walk


@plans("max_pool1d", "max_pool1d_grad", "avg_pool1d", "avg_pool1d_grad")
def pool1d(call: Call, profile: Profile) -> Plan:
    """Plan the kernels of images one pixel high."""
    (axis,) = pool_axes_of(call)
    settings: dict[str, Any] = {name: call.settings[name] for name in ("ceil_mode", "count_include_pad") if name in call.settings}
    settings |= {"kernel_size": (1, axis.kernel), "stride": (1, axis.stride), "padding": ((0, 0), (axis.before, axis.after))}
    if "max" in call.op:
        settings["dilation"] = (1, axis.dilation)
    if call.op.endswith("_grad"):
        settings["input_size"] = (1, axis.size)
    inputs = [with_unit_axis(call.spec(i), 2) for i in range(len(call.inputs))]
    outputs = [with_unit_axis(spec, 2) for spec in call.outputs]
    return view_of(call.op.replace("1d", "2d"), inputs, outputs, settings, profile, call.residuals)


_KINDS = {"max_pool3d": 0, "avg_pool3d": 1, "max_pool3d_grad": 2, "avg_pool3d_grad": 3}


@plans(*_KINDS)
def pool3d(call: Call, profile: Profile) -> Plan:
    """Plan one launch over the voxels of the result."""
    made, kind = call.outputs[0], _KINDS[call.op]
    if made.size == 0:
        return Plan(())
    axes, backward = pool_axes_of(call), kind > 1
    x, y = (made, call.spec(0)) if backward else (call.spec(0), made)
    index: Spec | None = call.spec(1) if kind == 2 else call.outputs[1] if call.residuals else None
    count, group = walk(profile, made)
    numbers = [*x.shape[:2]]
    for name in ("size", "out", "kernel", "stride", "before", "after", "dilation"):
        numbers += [getattr(a, name) for a in axes]
    numbers += [*x.strides, *y.strides, *(call.spec(1).strides if kind == 2 else ())]
    refs: tuple[Arg, ...] = (In(0), Out(0))
    if kind == 0:
        refs = (In(0), Out(0), Out(1 if call.residuals else 0))
    elif kind == 2:
        refs = (In(0), In(1), Out(0))
    defines: tuple[tuple[str, Define], ...] = (
        ("T", dtypes.TAGS[made.dtype]), ("REAL_NAME", dtypes.TAGS[dtypes.accumulator(made.dtype)].upper()), ("I", "u8" if index is None else dtypes.TAGS[index.dtype]),
        ("SIZE", group), ("ROWS", int(profile.shape == "cpu")), ("IX", index_tag(made.size)), ("WITH_INDEX", int(call.residuals)),
        ("PAD_COUNTS", int(call.settings.get("count_include_pad", False))), ("KIND", kind),
    )  # fmt: skip
    return Plan((Launch(f"pnn_{call.op}", "pool3d.c", (count,), (group,), (*refs, *(Const("i64", v) for v in numbers)), defines),))
