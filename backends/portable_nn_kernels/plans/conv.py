"""Plans of `conv2d` and its gradients: shapes and strides as arguments, and the choice between GPU- and CPU-shaped kernels."""

from __future__ import annotations

from portable_nn.core import dtypes
from portable_nn.core.call import Call
from portable_nn.core.geometry import Window, conv_window_of
from portable_nn.core.spec import Spec, Weak
from portable_nn_kernels.launch import Arg, Const, Define, In, Launch, Out, Plan, Profile, Ref, Scratch, Term

from . import conv_cpu, conv_depth, conv_last, conv_winograd, plans
from .gemm_parts import EPILOGUES
from .index_width import index_tag


def shape_args(x: Spec, weight: Spec, y: Spec, window: Window, groups: int) -> tuple[Arg, ...]:
    """Return CONV_ARGS of c/conv.h."""
    (h, w), (n, c) = window, x.shape[:2]
    numbers = (
        n, groups, c // groups, h.size, w.size, weight.shape[0] // groups, h.out, w.out, h.kernel, w.kernel, h.stride,
        w.stride, h.before, w.before, h.dilation, w.dilation, *x.strides, *weight.strides, *y.strides,
    )  # fmt: skip
    return tuple(Const("i64", value) for value in numbers)


def tile(profile: Profile, rows: int, cols: int, batch: int) -> tuple[int, int]:
    """Return results per work-item in both directions: large tiles reuse more, small ones fill more compute units."""
    for rm, rn in profile.size("gpu.conv.tiles"):
        tiles = -(-rows // (16 * rm)) * -(-cols // (16 * rn)) * batch
        if cols > 8 * rn and rows > 8 * rm and tiles >= profile.units:
            return rm, rn
    return 1, 1


def tiles(rows: int, cols: int, rm: int, rn: int) -> int:
    """Return how many tiles of 16 rm x 16 rn results there are."""
    return -(-rows // (16 * rm)) * -(-cols // (16 * rn))


def defines(spec: Spec, largest: int, rm: int, rn: int) -> tuple[tuple[str, Define], ...]:
    """Return the defines of c/conv_tile.h; `largest` decides about the width of indices."""
    return (("T", dtypes.TAGS[spec.dtype]), ("IX", index_tag(largest)), ("RM", rm), ("RN", rn), ("TK", 16))


def weight_sum(profile: Profile, dw: Spec, partial: Ref, parts: int, groups: int, lanes: int = 0) -> Launch:
    """Return the launch that adds the parts of a weight gradient; `lanes` is the block of output channels, 0 for none."""
    o, rows = dw.shape[0] // groups, dw.size // max(dw.shape[0], 1)
    blocks = -(-o // lanes) if lanes else 1
    count = groups * blocks * rows if lanes else dw.size
    part = count * max(lanes, 1)
    size = lanes or (64 if profile.shape == "cpu" else 256)
    unit = 1 if lanes else size
    limit = 4 * profile.units if profile.shape == "cpu" else 2**16
    if profile.shape == "cpu":
        limit = max(1, min(limit, part * parts // 16384))
    chunk = -(-count // (unit * limit)) * unit
    numbers = (parts, count, part, chunk, o, blocks, rows)
    return Launch(
        "pnn_conv_weight_sum", "conv_sum.c", (-(-count // chunk),), (size,),
        (partial, Out(0), *(Const("i64", v) for v in numbers)),
        (("T", dtypes.TAGS[dw.dtype]), ("SIZE", size), ("BLOCKED", int(lanes > 0))),
    )  # fmt: skip


@plans("conv2d", "conv2d_act")
def conv2d(call: Call, profile: Profile) -> Plan:
    """Plan the forward convolution, and an activation as its epilogue."""
    x, weight, y = call.spec(0), call.spec(1), call.outputs[0]
    if call.outputs[0].size == 0:
        return Plan(())
    window = conv_window_of(call)
    groups = call.settings["groups"]
    bias = call.inputs[2]
    epilogue = EPILOGUES[call.settings["activation"]] if call.op == "conv2d_act" else ""
    if not epilogue and conv_depth.serves(profile, x, y, weight, groups):
        shift = (In(2), 1, bias.strides[0]) if isinstance(bias, Spec) else (In(1), 0, 0)
        return conv_depth.images(profile, x, weight, y, window, shift, grad=False)
    if profile.shape == "cpu":
        return conv_cpu.forward(profile, x, weight, y, bias if isinstance(bias, Spec) else None, window, groups, epilogue)
    rows, cols = y.size // y.shape[1], y.shape[1] // groups
    rm, rn = tile(profile, rows, cols, groups)
    launch = Launch(
        "pnn_conv_forward", "conv.c", (tiles(rows, cols, rm, rn) * groups,), (256,),
        (In(0), In(1), *bias_args(bias)[:1], Out(0), *shape_args(x, weight, y, window, groups), *bias_args(bias)[1:]),
        (*defines(y, max(rows, weight.size), rm, rn), *ending(y, epilogue)),
    )  # fmt: skip
    return Plan((launch,))


def ending(y: Spec, epilogue: str) -> tuple[tuple[str, Define], ...]:
    """Return the define of c/epilogue.h, none without an epilogue."""
    return (("EPILOGUE(v_x)", Term(dtypes.TAGS[dtypes.accumulator(y.dtype)], epilogue)),) if epilogue else ()


@plans("conv2d_input_grad")
def conv2d_input_grad(call: Call, profile: Profile) -> Plan:
    """Plan the gradient of the images."""
    return transposed(profile, call.spec(0), call.spec(1), None, call.outputs[0], conv_window_of(call), call.settings["groups"])


def transposed(profile: Profile, y: Spec, weight: Spec, bias: Spec | None, x: Spec, window: Window, groups: int) -> Plan:
    """Plan what an input gradient and a transposed convolution have in common: x from y, the operands In(0), In(1), In(2)."""
    if x.size == 0:
        return Plan(())
    if conv_depth.serves(profile, y, x, weight, groups):
        shift = (In(2), 1, bias.strides[0]) if bias is not None else (In(1), 0, 0)
        return conv_depth.images(profile, y, weight, x, window, shift, grad=True)
    if profile.shape == "cpu":
        return conv_cpu.input_grad(profile, y, weight, x, window, groups, bias)
    rows, cols = x.size // x.shape[1], x.shape[1] // groups
    rm, rn = tile(profile, rows, cols, groups)
    launch = Launch(
        "pnn_conv_input_grad", "conv.c", (tiles(rows, cols, rm, rn) * groups,), (256,),
        (In(0), In(1), *bias_args(bias)[:1], Out(0), *shape_args(x, weight, y, window, groups), *bias_args(bias)[1:]),
        defines(y, max(rows, weight.size), rm, rn),
    )  # fmt: skip
    return Plan((launch,))


def bias_args(bias: Spec | Weak | None) -> tuple[Arg, Arg, Arg]:
    """Return where the bias is (the filters stand in for none), whether there is one, and its stride."""
    if not isinstance(bias, Spec):
        return In(1), Const("i32", 0), Const("i64", 0)
    return In(2), Const("i32", 1), Const("i64", bias.strides[0])


@plans("conv2d_weight_grad")
def conv2d_weight_grad(call: Call, profile: Profile) -> Plan:
    """Plan the gradient of the filters: parts of the pixels, then their sum."""
    return weight_grad(call, profile)


def weight_grad(call: Call, profile: Profile, copied: bool = False) -> Plan:
    """Return this plan; `copied`: see `conv_last.weight_grad`."""
    x, y, weight = call.spec(0), call.spec(1), call.outputs[0]
    if call.outputs[0].size == 0:
        return Plan(())
    window = conv_window_of(call)
    groups = call.settings["groups"]
    if y.size and conv_depth.serves(profile, x, y, weight, groups):
        plan, partial, parts, lanes = conv_depth.weight_grad(profile, x, y, weight, window)
        return Plan((*plan.launches, weight_sum(profile, weight, partial, parts, 1, lanes)), plan.scratch)
    if profile.shape == "cpu" and y.size and conv_last.serves(x, weight.shape[1], y.shape[1] // groups):
        if conv_winograd.serves_weight(profile, x.shape[0], weight.shape[1], y.shape[1] // groups, window):
            plan, partial, parts, lanes = conv_winograd.weight_grad(profile, x, y, window, groups)
        else:
            plan, partial, parts, lanes = conv_last.weight_grad(profile, x, y, weight, window, groups, copied)
        # The blocks are of input channels: sums of one output channel each, c of them with a row per tap.
        turned = Spec((weight.shape[0] * weight.shape[1], weight.shape[2] * weight.shape[3]), weight.dtype)
        return Plan((*plan.launches, weight_sum(profile, turned, partial, parts, weight.shape[0], lanes)), plan.scratch)
    if profile.shape == "cpu":
        plan, partial, parts, lanes = conv_cpu.weight_grad(profile, x, y, weight, window, groups)
        return Plan((*plan.launches, weight_sum(profile, weight, partial, parts, groups, lanes)), plan.scratch)
    rows, cols, pixels = weight.shape[0] // groups, weight.size // weight.shape[0], y.size // y.shape[1]
    rm, rn = tile(profile, rows, cols, groups)
    count = tiles(rows, cols, rm, rn) * groups
    parts = max(1, min(-(-2 * profile.units // count) * 2, pixels // 256, 256))
    step = -(-pixels // parts // 16) * 16 if pixels else 16
    parts = max(1, -(-pixels // step))
    launch = Launch(
        "pnn_conv_weight_grad", "conv.c", (count, parts), (256, 1),
        (In(0), In(1), Scratch(0), *shape_args(x, weight, y, window, groups), Const("i64", step)),
        defines(y, max(pixels, weight.size), rm, rn),
    )  # fmt: skip
    scratch = Spec((parts, weight.size), dtypes.accumulator(weight.dtype))
    return Plan((launch, weight_sum(profile, weight, Scratch(0), parts, groups)), (scratch,))
