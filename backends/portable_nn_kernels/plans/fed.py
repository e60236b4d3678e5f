"""The plan of a convolution that makes an image itself, or does more with its result: its own, with its kernel told so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from portable_nn.core import dtypes
from portable_nn.core.call import Call
from portable_nn.core.fused import Fed
from portable_nn.core.fused import Feed as Wanted
from portable_nn_kernels.launch import Arg, Define, In, Plan, Profile

from . import RULES
from .conv import weight_grad
from .conv_last import Feed, ending, feed

_KERNELS = ("pnn_conv_last", "pnn_conv_last_weight", "pnn_conv_winograd", "pnn_conv_winograd_weight")
_KINDS = {"norm_relu": 1, "norm_grad": 2, "norm_relu_grad": 3}  # as the kernels' text says
_ORDER = ("x", "mean", "rstd", "weight", "bias", "gw", "gb")


def plan_fed(op: Fed, profile: Profile) -> Plan | None:
    """Return the launches; None where a kernel cannot do what is wanted, or more than one would have to."""
    call = op.call
    dtype = call.spec(0).dtype
    if profile.shape != "cpu" or call.settings["groups"] != 1 or dtypes.accumulator(dtype) != dtype:
        return None
    of_weight = op.op.name == "conv2d_weight_grad"
    copied = any(wanted.position == 1 for wanted in op.feeds)
    plan = weight_grad(call, profile, copied) if of_weight else RULES[op.op.name](call, profile)
    readers = [i for i, launch in enumerate(plan.launches) if launch.kernel in _KERNELS]
    if not readers or (op.feeds and len(readers) > 1):  # each would make the images
        return None
    defines = plan.launches[readers[0]].defines  # the same for all
    tag = dtypes.TAGS[dtype]
    own = [feed(In(i), tag=tag) for i in range(1 + of_weight)]
    for wanted in op.feeds:
        if not _fits(defines, call.spec(wanted.position).shape[1], wanted.position):
            return None
        own[wanted.position] = feed(In(wanted.position), _feed(wanted, call), tag)
    if op.ending is not None and not _ends(op, defines):
        return None
    last = [*own] if of_weight else [*own, _ending(op)]
    more = tuple(arg for args in last for arg in args)
    fed = {i: replace(plan.launches[i], args=(*plan.launches[i].args[: -len(more)], *more)) for i in readers}
    return Plan(tuple(fed.get(i, launch) for i, launch in enumerate(plan.launches)), plan.scratch)


def _fits(defines: Sequence[tuple[str, Define]], channels: int, position: int) -> bool:
    """Tell whether so many channels are whole vectors of the kernel, and whole blocks of what it copies."""
    sizes = {name: value for name, value in defines if isinstance(value, int)}
    lanes, block = sizes["VW"], sizes["OB"] if position else sizes["CB"]
    return channels % lanes == 0 and channels % block == 0 and (position == 1 or block % lanes == 0)


def _ends(op: Fed, defines: Sequence[tuple[str, Define]]) -> bool:
    """Tell whether the kernel stores whole vectors of channels side by side."""
    sizes = {name: value for name, value in defines if isinstance(value, int)}
    made = op.call.outputs[0]
    return op.op.name == "conv2d_input_grad" and made.strides[1] == 1 and made.shape[1] % (sizes["VW"] * sizes["NV"]) == 0


def _ending(op: Fed) -> tuple[Arg, ...]:
    if op.ending is None:
        return ending()
    return ending(In(op.ending.more), None if op.ending.gate is None else In(op.ending.gate))


def _feed(wanted: Wanted, call: Call) -> Feed:
    """Return what the kernel is told."""
    image = call.spec(wanted.position)
    arrays = tuple(In(wanted.operands.get(name, wanted.position)) for name in _ORDER)
    return Feed(_KINDS[wanted.kind], arrays, image.shape[1] / image.size)
