"""Plans of conv1d, conv3d and the transposed convolutions.

One axis: conv2d's kernels on images one pixel high. Three axes: an implicit GEMM of its own for GPUs; on CPUs the depth
taps are laid out as channels of one image per output slice, and conv2d's kernels do the rest.
"""

from __future__ import annotations

from typing import Any

from portable_nn.core import dtypes
from portable_nn.core.call import Call
from portable_nn.core.geometry import Axis, conv_axes
from portable_nn.core.spec import Spec, Weak
from portable_nn_kernels.launch import Arg, Const, Define, In, Launch, Out, Plan, Profile, Ref, Scratch

from . import plans
from .conv import bias_args, defines, tile, tiles, transposed, weight_sum
from .copies import copy_launch, fill_launch
from .delegate import embedded, view_of, with_unit_axis

Axes = tuple[Axis, ...]


def axes_of(call: Call) -> Axes:
    """Return the axes of the convolution that a call is, differentiates or transposes."""
    made = call.outputs[0].shape[2:]
    backward = call.op.endswith("input_grad") or call.op.startswith("conv_transpose")
    size = made if backward else call.spec(0).shape[2:]
    kernel = made if call.op.endswith("weight_grad") else call.spec(1).shape[2:]
    return conv_axes(call.op, size, kernel, *(call.settings[name] for name in ("stride", "padding", "dilation")))


def _settings(axes: Axes, call: Call) -> dict[str, Any]:
    """Return conv2d's settings for two axes."""
    return {
        "stride": tuple(a.stride for a in axes), "padding": tuple((a.before, a.after) for a in axes),
        "dilation": tuple(a.dilation for a in axes), "groups": call.settings["groups"],
    }  # fmt: skip


def _bias(call: Call) -> Spec | None:
    bias = call.inputs[2] if len(call.inputs) > 2 else None
    return bias if isinstance(bias, Spec) else None


# -- one axis: images one pixel high ----------------------------------------------------------------------------------

_FLAT = Axis(1, 1, 1, 0, 0, 1, 1)


@plans("conv1d", "conv1d_input_grad", "conv1d_weight_grad")
def conv1d(call: Call, profile: Profile) -> Plan:
    """Plan conv2d's kernels on views."""
    axes = (_FLAT, *axes_of(call))
    settings = _settings(axes, call)
    inputs: list[Spec | Weak | None] = [with_unit_axis(call.spec(i), 2) for i in range(2)]
    if call.op == "conv1d":
        inputs.append(call.inputs[2])
    elif call.op == "conv1d_input_grad":
        settings["input_size"] = tuple(a.size for a in axes)
    else:
        settings["kernel_size"] = tuple(a.kernel for a in axes)
    return view_of(call.op.replace("1d", "2d"), inputs, [with_unit_axis(call.outputs[0], 2)], settings, profile)


@plans("conv_transpose1d", "conv_transpose2d")
def conv_transpose2d(call: Call, profile: Profile) -> Plan:
    """Plan conv2d's input gradient, with a bias."""
    axes, specs = axes_of(call), [call.spec(0), call.spec(1), call.outputs[0]]
    if len(axes) == 1:
        axes, specs = (_FLAT, *axes), [with_unit_axis(spec, 2) for spec in specs]
    y, weight, x = specs
    return transposed(profile, y, weight, _bias(call), x, (axes[0], axes[1]), call.settings["groups"])


# -- three axes -------------------------------------------------------------------------------------------------------


def _args(x: Spec, weight: Spec, y: Spec, axes: Axes, groups: int) -> tuple[Arg, ...]:
    """Return VOLUME_ARGS of c/conv3d.c."""
    fields = ("size", "out", "kernel", "stride", "before", "dilation")
    numbers = [x.shape[0], groups, x.shape[1] // groups, weight.shape[0] // groups]
    numbers += [getattr(a, name) for name in fields for a in axes]
    return tuple(Const("i64", v) for v in (*numbers, *x.strides, *weight.strides, *y.strides))


def _kind(spec: Spec, largest: int, rm: int, rn: int, kind: int) -> tuple[tuple[str, Define], ...]:
    return (*defines(spec, largest, rm, rn), ("KIND", kind))


@plans("conv3d")
def conv3d(call: Call, profile: Profile) -> Plan:
    """Plan the forward convolution."""
    x, weight, y = call.spec(0), call.spec(1), call.outputs[0]
    if y.size == 0:
        return Plan(())
    axes, groups = axes_of(call), call.settings["groups"]
    if profile.shape == "cpu" and x.size:
        return _forward_by_slices(call, profile, axes)
    rows, cols = y.size // y.shape[1], y.shape[1] // groups
    rm, rn = tile(profile, rows, cols, groups)
    place, *shift = bias_args(call.inputs[2])
    args = (In(0), In(1), place, Out(0), *_args(x, weight, y, axes, groups), *shift)
    kinds = _kind(y, max(rows, weight.size), rm, rn, 0)
    return Plan((Launch("pnn_conv3d_forward", "conv3d.c", (tiles(rows, cols, rm, rn) * groups,), (256,), args, kinds),))


@plans("conv3d_input_grad", "conv_transpose3d")
def conv3d_input_grad(call: Call, profile: Profile) -> Plan:
    """Plan the gradient by x, or the transposed convolution with its bias."""
    y, weight, x = call.spec(0), call.spec(1), call.outputs[0]
    if x.size == 0:
        return Plan(())
    axes, groups = axes_of(call), call.settings["groups"]
    bias = _bias(call) if call.op == "conv_transpose3d" else None
    if profile.shape == "cpu" and y.size:
        return _input_by_slices(call, profile, axes, bias)
    rows, cols = x.size // x.shape[1], x.shape[1] // groups
    rm, rn = tile(profile, rows, cols, groups)
    place, *shift = bias_args(bias)
    args = (In(0), In(1), place, Out(0), *_args(x, weight, y, axes, groups), *shift)
    kinds = _kind(x, max(rows, weight.size), rm, rn, 1)
    return Plan((Launch("pnn_conv3d_input_grad", "conv3d.c", (tiles(rows, cols, rm, rn) * groups,), (256,), args, kinds),))


@plans("conv3d_weight_grad")
def conv3d_weight_grad(call: Call, profile: Profile) -> Plan:
    """Plan the gradient of the filters: parts of the voxels, then their sum."""
    x, y, weight = call.spec(0), call.spec(1), call.outputs[0]
    if weight.size == 0:
        return Plan(())
    axes, groups = axes_of(call), call.settings["groups"]
    if profile.shape == "cpu" and x.size and y.size:
        return _weight_by_slices(call, profile, axes)
    rows, cols, voxels = weight.shape[0] // groups, weight.size // weight.shape[0], y.size // y.shape[1]
    rm, rn = tile(profile, rows, cols, groups)
    count = tiles(rows, cols, rm, rn) * groups
    parts = max(1, min(-(-2 * profile.units // count) * 2, voxels // 256, 256))
    step = max(16, -(-voxels // parts // 16) * 16)
    parts = max(1, -(-voxels // step))
    args = (In(0), In(1), Scratch(0), *_args(x, weight, y, axes, groups), Const("i64", step))
    launch = Launch("pnn_conv3d_weight_grad", "conv3d.c", (count, parts), (256, 1), args, _kind(y, max(voxels, weight.size), rm, rn, 2))
    scratch = Spec((parts, weight.size), dtypes.accumulator(weight.dtype))
    return Plan((launch, weight_sum(profile, weight, Scratch(0), parts, groups)), (scratch,))


# -- three axes on CPUs: one image per output slice, its channels (c, r) what depth tap r reads --------------------------


def _slices(x: Spec, axis: Axis, target: Ref, profile: Profile) -> tuple[Spec, list[Launch]]:
    """Return (N OD, C KD, H, W) and the launches that fill it from In(0), with zeros where a tap is outside."""
    n, c, _, h, w = x.shape
    made = Spec((n * axis.out, c * axis.kernel, h, w), x.dtype)
    tap, channel, image = h * w, axis.kernel * h * w, c * axis.kernel * h * w
    fills: list[Launch] = []
    launches: list[Launch] = []
    for r in range(axis.kernel):
        low = max(0, -(-(axis.before - r * axis.dilation) // axis.stride))
        high = min(axis.out, (axis.size - 1 + axis.before - r * axis.dilation) // axis.stride + 1)
        if low > 0 or high < axis.out:
            fills = [fill_launch(made, target, 0.0, profile)]
        if low >= high:
            continue
        shape = (n, high - low, c, h, w)
        source = Spec(shape, x.dtype, (x.strides[0], axis.stride * x.strides[2], x.strides[1], *x.strides[3:]))
        sink = Spec(shape, x.dtype, (axis.out * image, image, channel, w, 1))
        start = (low * axis.stride + r * axis.dilation - axis.before) * x.strides[2]
        launches.append(copy_launch(source, In(0), sink, target, profile, start, low * image + r * tap))
    return made, [*fills, *launches]


def _turned(spec: Spec) -> tuple[Spec, Spec]:
    """Return (N, C, D, H, W) read as (N, D, C, H, W), and the spec (N D, C, H, W) of such an array in C order."""
    n, c, d, h, w = spec.shape
    s = spec.strides
    return Spec((n, d, c, h, w), spec.dtype, (s[0], s[2], s[1], s[3], s[4])), Spec((n * d, c, h, w), spec.dtype)


def _filters(weight: Spec, ref: Ref, scratch: list[Spec], launches: list[Launch], profile: Profile) -> tuple[Spec, Ref]:
    """Return the filters as (O, C KD, KH, KW), copied first if they are not in C order."""
    o, c, kd, kh, kw = weight.shape
    if not weight.contiguous:
        scratch.append(Spec(weight.shape, weight.dtype))
        launches.append(copy_launch(weight, ref, scratch[-1], Scratch(len(scratch) - 1), profile))
        ref = Scratch(len(scratch) - 1)
    return Spec((o, c * kd, kh, kw), weight.dtype), ref


def _forward_by_slices(call: Call, profile: Profile, axes: Axes) -> Plan:
    x, y = call.spec(0), call.outputs[0]
    images, launches = _slices(x, axes[0], Scratch(0), profile)
    read, flat = _turned(y)
    scratch = [images, flat]
    filters, w_ref = _filters(call.spec(1), In(1), scratch, launches, profile)
    inner = view_of("conv2d", [images, filters, call.inputs[2]], [flat], _settings(axes[1:], call), profile)
    inner = embedded(inner, {In(0): Scratch(0), In(1): w_ref, Out(0): Scratch(1)}, len(scratch))
    back = copy_launch(Spec(read.shape, y.dtype), Scratch(1), read, Out(0), profile)
    return Plan((*launches, *inner.launches, back), (*scratch, *inner.scratch))


def _weight_by_slices(call: Call, profile: Profile, axes: Axes) -> Plan:
    x, y, weight = call.spec(0), call.spec(1), call.outputs[0]
    images, launches = _slices(x, axes[0], Scratch(0), profile)
    read, flat = _turned(y)
    launches.append(copy_launch(read, In(1), Spec(read.shape, y.dtype), Scratch(1), profile))
    o, c, kd, kh, kw = weight.shape
    settings = {**_settings(axes[1:], call), "kernel_size": (kh, kw)}
    inner = view_of("conv2d_weight_grad", [images, flat], [Spec((o, c * kd, kh, kw), weight.dtype)], settings, profile)
    inner = embedded(inner, {In(0): Scratch(0), In(1): Scratch(1)}, 2)
    return Plan((*launches, *inner.launches), (images, flat, *inner.scratch))


def _input_by_slices(call: Call, profile: Profile, axes: Axes, bias: Spec | None) -> Plan:
    y, x = call.spec(0), call.outputs[0]
    compute = dtypes.accumulator(x.dtype)
    n, c, d, h, w = x.shape
    depth = axes[0]
    read, flat = _turned(y)
    # Halves are widened here already, so that what the slices give back is rounded once, after the last sum.
    parts, wide = Spec((n * depth.out, c * depth.kernel, h, w), compute), Spec(flat.shape, compute)
    scratch = [wide, parts]
    launches = [copy_launch(read, In(0), Spec(read.shape, compute), Scratch(0), profile)]
    weight = call.spec(1)
    w_ref: Ref = In(1)
    if weight.dtype != compute:
        scratch.append(Spec(weight.shape, compute))
        launches.append(copy_launch(weight, In(1), scratch[-1], Scratch(2), profile))
        weight, w_ref = scratch[-1], Scratch(2)
    filters, w_ref = _filters(weight, w_ref, scratch, launches, profile)
    settings = {**_settings(axes[1:], call), "input_size": (h, w)}
    inner = view_of("conv2d_input_grad", [wide, filters], [parts], settings, profile)
    inner = embedded(inner, {In(0): Scratch(0), In(1): w_ref, Out(0): Scratch(1)}, len(scratch))
    place, *shift = bias_args(bias)
    numbers = (n, c, d, depth.out, depth.kernel, depth.stride, depth.before, depth.dilation, h * w)
    count = max(1, min(n * c * d, 4 * profile.units, parts.size // 4096))
    last = Launch(
        "pnn_conv3d_slices", "conv3d_cpu.c", (count,), (profile.vector,), (Scratch(1), place, Out(0), *(Const("i64", v) for v in numbers), *shift),
        (("T", dtypes.TAGS[x.dtype]), ("G", profile.vector)),
    )  # fmt: skip
    return Plan((*launches, *inner.launches, last), (*scratch, *inner.scratch))
