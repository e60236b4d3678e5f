"""Convolution with any number of spatial axes: the shape rules and reference bodies that conv1d, conv3d and the transposed ones share.

As in `conv`, forward and both gradients are one trilinear form read with one of its three arrays left out, and an array's
axes are (N, C, *size), (O, C / G, *kernel), (N, O, *out).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import prod
from typing import Any

import numpy as np

from ..core import dtypes
from ..core.call import Call
from ..core.errors import DTypeError, SettingError, ShapeError
from ..core.geometry import Axis, conv_axes, ints
from ..core.spec import Spec
from ..core.tape import Saved

Axes = tuple[Axis, ...]
_LETTERS = {1: ("L",), 2: ("H", "W"), 3: ("D", "H", "W")}


def form(lead: str, rank: int, before: str = "") -> str:
    """Return how an array's axes are named in messages: (N, C, D, H, W)."""
    return f"({lead}, {', '.join(before + letter for letter in _LETTERS[rank])})"


def check_operand(name: str, operand: str, spec: Spec, wanted: str, rank: int) -> None:
    """Raise unless the operand has `rank` spatial axes after its first two."""
    if spec.ndim != rank + 2:
        raise ShapeError(f"{name}: {operand} has shape {spec.shape} but {rank + 2} axes {wanted} are needed; reshape it")


def check_floats(name: str, **given: Spec | None) -> None:
    """Raise unless all operands share one floating dtype."""
    first = next(iter(given.values()))
    assert first is not None
    for operand, spec in given.items():
        if spec is None:
            continue
        if not dtypes.is_float(spec.dtype):
            raise DTypeError(f"{name}: {operand} is {spec.dtype.name} but a floating dtype is needed; convert it with astype")
        if spec.dtype != first.dtype:
            listed = ", ".join(f"{n} {s.dtype.name}" for n, s in given.items() if s is not None)
            raise DTypeError(f"{name}: the operands have different dtypes ({listed}); convert them to one with astype")


def check_groups(name: str, groups: Any, channels: int, outputs: int) -> int:
    """Return the number of groups, or raise unless it divides input and output channels."""
    if isinstance(groups, bool) or not hasattr(groups, "__index__") or groups.__index__() < 1:
        raise SettingError(f"{name}: groups is {groups!r} but must be an integer of at least 1")
    n = int(groups.__index__())
    if channels % n or outputs % n:
        raise SettingError(
            f"{name}: groups is {n} but must divide both the {channels} input channels and the {outputs} output channels"
        )
    return n


def settings_of(c: Saved) -> dict[str, Any]:
    """Return the settings that forward and gradients share."""
    return {name: c.call.settings[name] for name in ("stride", "padding", "dilation", "groups")}


# -- shape rules ------------------------------------------------------------------------------------------------------


def forward_out(name: str, rank: int) -> Callable[..., Spec]:
    """Return the shape rule of a convolution."""

    def out(x: Spec, weight: Spec, bias: Spec | None, stride: Any, padding: Any, dilation: Any, groups: Any) -> Spec:
        check_operand(name, "x", x, form("N, C", rank), rank)
        check_operand(name, "weight", weight, form("O, C / groups", rank, "K"), rank)
        check_floats(name, x=x, weight=weight, bias=bias)
        outputs = weight.shape[0]
        n_groups = check_groups(name, groups, x.shape[1], outputs)
        if x.shape[1] != weight.shape[1] * n_groups:
            raise ShapeError(
                f"{name}: x has {x.shape[1]} channels (shape {x.shape}) but weight of shape {weight.shape} with groups={n_groups} "
                f"expects {weight.shape[1] * n_groups}; pass x as {form('N, C', rank)} and weight as {form('O, C / groups', rank, 'K')}"
            )
        if bias is not None and bias.shape != (outputs,):
            raise ShapeError(f"{name}: bias has shape {bias.shape} but weight of shape {weight.shape} needs ({outputs},)")
        axes = conv_axes(name, x.shape[2:], weight.shape[2:], stride, padding, dilation)
        return Spec((x.shape[0], outputs, *(a.out for a in axes)), x.dtype)

    return out


def input_grad_out(name: str, rank: int) -> Callable[..., Spec]:
    """Return the shape rule of a convolution's gradient by x."""

    def out(g: Spec, weight: Spec, input_size: Any, stride: Any, padding: Any, dilation: Any, groups: Any) -> Spec:
        check_operand(name, "g", g, form("N, O", rank, "O"), rank)
        check_operand(name, "weight", weight, form("O, C / groups", rank, "K"), rank)
        check_floats(name, g=g, weight=weight)
        size = ints(name, "input_size", input_size, rank, 0)
        outputs, per_group = weight.shape[:2]
        n_groups = check_groups(name, groups, outputs, outputs)
        made = tuple(a.out for a in conv_axes(name, size, weight.shape[2:], stride, padding, dilation))
        if g.shape[1:] != (outputs, *made):
            raise ShapeError(
                f"{name}: g has shape {g.shape} but a convolution of an input of {size} with weight of shape {weight.shape} "
                f"gives (N, {outputs}, {', '.join(map(str, made))}); pass the settings of the forward call"
            )
        return Spec((g.shape[0], per_group * n_groups, *size), g.dtype)

    return out


def weight_grad_out(name: str, rank: int) -> Callable[..., Spec]:
    """Return the shape rule of a convolution's gradient by its filters."""

    def out(x: Spec, g: Spec, kernel_size: Any, stride: Any, padding: Any, dilation: Any, groups: Any) -> Spec:
        check_operand(name, "x", x, form("N, C", rank), rank)
        check_operand(name, "g", g, form("N, O", rank, "O"), rank)
        check_floats(name, x=x, g=g)
        kernel = ints(name, "kernel_size", kernel_size, rank)
        n_groups = check_groups(name, groups, x.shape[1], g.shape[1])
        made = tuple(a.out for a in conv_axes(name, x.shape[2:], kernel, stride, padding, dilation))
        if (g.shape[0], *g.shape[2:]) != (x.shape[0], *made):
            raise ShapeError(
                f"{name}: g has shape {g.shape} but a convolution of x of shape {x.shape} with a {kernel} kernel gives "
                f"({x.shape[0]}, O, {', '.join(map(str, made))}); pass the settings of the forward call"
            )
        return Spec((g.shape[1], x.shape[1] // n_groups, *kernel), x.dtype)

    return out


def flops(call: Call) -> int:
    """Return 2 N O (C / G) |out| |kernel| and the additions of the bias, for any of the three and the transposed ones."""
    transposed, backward = call.op.startswith("conv_transpose"), call.op.endswith("grad")
    pixels = call.spec(1) if call.op.endswith("weight_grad") else call.spec(0) if transposed or backward else call.outputs[0]
    weight = call.outputs[0] if call.op.endswith("weight_grad") else call.spec(1)
    bias = not backward and call.inputs[2] is not None
    return 2 * pixels.shape[0] * weight.size * prod(pixels.shape[2:]) + (call.outputs[0].size if bias else 0)


def forward_terms(call: Call) -> int:
    """Return how many terms one output sums."""
    weight = call.spec(1)
    return weight.size // max(weight.shape[0], 1) + 1


def input_terms(call: Call) -> int:
    """Return how many terms one element of the gradient by x sums, at most."""
    weight = call.spec(1)
    return weight.size // max(weight.shape[1], 1) // int(call.settings["groups"]) + 1


def weight_terms(call: Call) -> int:
    """Return how many terms one element of the gradient by the filters sums."""
    g = call.spec(1)
    return max(g.size // max(g.shape[1], 1), 1)


# -- references -------------------------------------------------------------------------------------------------------


def _taps(xp: np.ndarray[Any, Any], axes: Axes) -> Callable[[tuple[int, ...]], np.ndarray[Any, Any]]:
    """Return a function that gives, for a kernel position, what the padded input shows to every output."""

    def at(position: tuple[int, ...]) -> np.ndarray[Any, Any]:
        starts = [p * a.dilation for p, a in zip(position, axes, strict=True)]
        shown: Any = (..., *(slice(i, i + (a.out - 1) * a.stride + 1, a.stride) for i, a in zip(starts, axes, strict=True)))
        made: np.ndarray[Any, Any] = xp[shown]
        return made

    return at


def _kernel(axes: Axes) -> product[tuple[int, ...]]:
    return product(*(range(a.kernel) for a in axes))


def _padded(x: np.ndarray[Any, Any], axes: Axes, groups: int) -> np.ndarray[Any, Any]:
    wide = np.pad(x, ((0, 0), (0, 0), *((a.before, a.after) for a in axes)))
    return wide.reshape(x.shape[0], groups, x.shape[1] // groups, *wide.shape[2:])


def forward(x: Any, weight: Any, bias: Any, axes: Axes, groups: int) -> Any:
    """Return the convolution, one tap at a time."""
    at = _taps(_padded(x, axes, groups), axes)
    filters = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    out = tuple(a.out for a in axes)
    y = np.zeros((x.shape[0], groups, filters.shape[1], *out), x.dtype)
    for position in _kernel(axes):
        y += np.einsum("ngc...,goc->ngo...", at(position), filters[(..., *position)])
    y = y.reshape(x.shape[0], weight.shape[0], *out)
    return y if bias is None else y + bias.reshape(-1, *(1,) * len(axes))


def input_grad(g: Any, weight: Any, axes: Axes, groups: int) -> Any:
    """Return the gradient by x: each tap's products are added where the tap read."""
    n, outputs, per_group = g.shape[0], weight.shape[0], weight.shape[1]
    size = tuple(a.size for a in axes)
    filters = weight.reshape(groups, outputs // groups, *weight.shape[1:])
    cotangent = g.reshape(n, groups, outputs // groups, *g.shape[2:])
    wide = np.zeros((n, groups, per_group, *(a.before + a.size + a.after for a in axes)), g.dtype)
    at = _taps(wide, axes)
    for position in _kernel(axes):
        shown = at(position)
        shown += np.einsum("ngo...,goc->ngc...", cotangent, filters[(..., *position)])
    inside: Any = (..., *(slice(a.before, a.before + a.size) for a in axes))
    return wide[inside].reshape(n, groups * per_group, *size)


def weight_grad(x: Any, g: Any, axes: Axes, groups: int) -> Any:
    """Return the gradient by the filters: for each tap, cotangents times what it reads."""
    n, outputs = g.shape[:2]
    at = _taps(_padded(x, axes, groups), axes)
    cotangent = g.reshape(n, groups, outputs // groups, prod(g.shape[2:]))
    kernel = tuple(a.kernel for a in axes)
    dw = np.zeros((groups, outputs // groups, x.shape[1] // groups, *kernel), x.dtype)
    place: Any
    for position in _kernel(axes):
        shown, place = at(position), (..., *position)
        dw[place] = np.einsum("ngol,ngcl->goc", cotangent, shown.reshape(*shown.shape[:3], cotangent.shape[3]))
    return dw.reshape(outputs, x.shape[1] // groups, *kernel)
