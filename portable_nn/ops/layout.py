"""Layout: the same elements under another shape or in another order. Views wherever strides can say it, copies where not.

Over 250 lines because each op carries its record and its page.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any

import numpy as np

from ..core.array import Array
from ..core.axes import axes_of as axes_of
from ..core.axes import axis_of as axis_of
from ..core.call import Call
from ..core.errors import SettingError, ShapeError
from ..core.op import op, setting_int
from ..core.registry import find
from ..core.samples import A, bad, bench, s
from ..core.spec import Spec, broadcast_strides
from ..core.tape import Saved

Ints = int | Sequence[int]


def view_as_out(call: Call) -> tuple[tuple[int, ...], int]:
    """Return the view of ops whose shape rule already gives the strides, from the first element on."""
    return call.outputs[0].strides, 0


def reshape_strides(spec: Spec, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the strides with which `spec`'s memory reads as `shape`, or None if it takes a copy.

    Old and new axes are cut into runs of equal size; within a run, the old axes must continue each other in memory.
    """
    if spec.size == 0 or spec.contiguous:
        return Spec(shape, spec.dtype).strides
    old = [(n, step) for n, step in zip(spec.shape, spec.strides, strict=True) if n != 1]
    strides: list[int] = []
    i = 0
    j = 0
    while j < len(shape):
        if shape[j] == 1:
            strides.append(1)
            j += 1
            continue
        first, have, want, stop = i, old[i][0], shape[j], j
        while have != want:
            if have < want:
                i += 1
                have *= old[i][0]
            else:
                stop += 1
                want *= shape[stop]
        if any(old[k][1] != old[k + 1][0] * old[k + 1][1] for k in range(first, i)):
            return None
        step = old[i][1]
        run = []
        for n in reversed(shape[j : stop + 1]):
            run.append(step)
            step *= n
        strides += reversed(run)
        i += 1
        j = stop + 1
    return tuple(strides)


def _sizes(name: str, shape: Any) -> tuple[int, ...]:
    given = shape if isinstance(shape, list | tuple) else (shape,)
    return tuple(setting_int(name, "a size in shape", n) for n in given)


def _reshape_out(x: Spec, shape: Any) -> Spec:
    wanted = _sizes("reshape", shape)
    unknown = [axis for axis, n in enumerate(wanted) if n == -1]
    known = prod(n for n in wanted if n != -1)
    if len(unknown) > 1 or any(n < -1 for n in wanted):
        raise ShapeError(f"reshape: shape {wanted} may have one -1 and no other negative size")
    if unknown:
        if known == 0 or x.size % known:
            raise ShapeError(f"reshape: {x.size} elements (shape {x.shape}) do not divide into {wanted}; the -1 has no size that fits")
        wanted = tuple(x.size // known if n == -1 else n for n in wanted)
    if prod(wanted) != x.size:
        raise ShapeError(f"reshape: shape {x.shape} has {x.size} elements but {wanted} has {prod(wanted)}")
    return Spec(wanted, x.dtype, reshape_strides(x, wanted))


def _reshape_view(call: Call) -> tuple[tuple[int, ...], int] | None:
    strides = reshape_strides(call.spec(0), call.outputs[0].shape)
    return None if strides is None else (strides, 0)


def _reshape_vjp(c: Saved, g: Any) -> dict[str, Any]:
    return {"x": partial(reshape, g, c.spec_of("x").shape)}


@op(
    out=_reshape_out,
    view=_reshape_view,
    vjp=_reshape_vjp,
    samples=(
        s("merge", A((2, 3, 5)), (6, 5)),
        s("split, -1", A((4, 6)), (2, -1, 3)),
        s("int shape", A((4, 6)), -1),
        s("channels last copies", A((2, 3, 4, 5), view="channels_last"), (2, -1)),
        s("transposed copies", A((33, 70), view="transposed"), (70, 33)),
        s("transposed keeps a view", A((4, 6), view="transposed"), (2, 2, 6)),
        s("strided merges", A((3, 4, 5), view="strided"), (12, 5)),
        s("reversed", A((4, 6), view="reversed"), (2, 12)),
        s("expanded", A((4, 6), view="expanded"), (24,)),
        s("offset", A((4, 6), view="offset"), (3, 8)),
        s("transposed tiles", A((67, 130), view="transposed"), -1, dtypes=("float32", "float64", "float16", "int8", "bool")),
        s("channels last tiles", A((2, 37, 9, 11), view="channels_last"), -1, dtypes=("float32", "bfloat16")),
        s("few channels", A((2, 3, 40, 41), view="channels_last"), -1, dtypes=("float32", "uint8")),
        s("whole tiles", A((3, 32, 8, 8), view="channels_last"), -1, dtypes=("float32",)),
        s("ones", A((1, 4, 1)), (4, 1, 1, 1)),
        s("to zero-d", A((1, 1)), ()),
        s("empty", A((0, 3)), (3, 0, 2)),
        s("int", A((2, 6), dtype="int64", low=-9, high=9, view="transposed"), (12,)),
    ),
    bad=(
        bad("count", ShapeError, ("(2, 3)", "6", "(4,)"), A((2, 3)), (4,)),
        bad("two unknown", ShapeError, "one -1", A((2, 3)), (-1, -1)),
        bad("does not divide", ShapeError, ("6", "(4, -1)"), A((2, 3)), (4, -1)),
        bad("not an integer", SettingError, ("2.5", "integer"), A((2, 3)), (2.5, 3)),
    ),
    bench=(bench("flatten", A((64, 512, 7, 7)), (64, -1)), bench("channels-last copy", A((64, 512, 7, 7), view="channels_last"), (64, -1))),
    flops=lambda call: 0,
)
def reshape(x: Array, shape: Ints) -> Array:
    """Read the elements in C order under another shape.

    Parameters
    ----------
    x : array
    shape : int or sequence of int
        As many elements as `x` has; one size may be -1 and is then worked out.

    Returns
    -------
    array
        A view of `x` where strides can say it, else a copy. Do not write to it.

    Raises
    ------
    ShapeError
        Another number of elements, or more than one -1.

    Notes
    -----
    No arithmetic; a copy moves every element once. The gradient is reshaped back.
    """
    return x.reshape(shape)


def _permute_out(x: Spec, dims: Any) -> Spec:
    order = axes_of("permute", dims, x.ndim)
    if len(order) != x.ndim:
        raise SettingError(f"permute: dims {tuple(dims)} names {len(order)} axes but x has {x.ndim} (shape {x.shape})")
    return Spec(tuple(x.shape[a] for a in order), x.dtype, tuple(x.strides[a] for a in order))


def _permute_vjp(c: Saved, g: Any) -> dict[str, Any]:
    order = axes_of("permute", c.dims, len(c.dims))
    return {"x": partial(permute, g, tuple(sorted(range(len(order)), key=order.__getitem__)))}


@op(
    out=_permute_out,
    view=view_as_out,
    vjp=_permute_vjp,
    samples=(
        s("transpose", A((3, 5)), (1, 0)),
        s("to channels last", A((2, 3, 4, 5)), (0, 2, 3, 1)),
        s("negative", A((2, 3, 4)), (-1, 0, 1)),
        s("reversed", A((4, 6), view="reversed"), (1, 0)),
        s("strided", A((4, 6), view="strided"), (1, 0)),
        s("expanded", A((4, 6), view="expanded"), (1, 0)),
        s("identity", A((4, 6)), (0, 1)),
        s("zero-d", A(()), ()),
        s("empty", A((0, 6)), (1, 0)),
    ),
    bad=(
        bad("too few", SettingError, ("(1, 0)", "(2, 3, 4)"), A((2, 3, 4)), (1, 0)),
        bad("twice", SettingError, ("(0, 0)", "twice"), A((2, 3)), (0, 0)),
        bad("axis", SettingError, "axis 2", A((2, 3)), (0, 2)),
    ),
    flops=lambda call: 0,
)
def permute(x: Array, dims: Sequence[int]) -> Array:
    """Reorder the axes: ``y.shape[k] = x.shape[dims[k]]``.

    Parameters
    ----------
    x : array
    dims : sequence of int
        Every axis once.

    Returns
    -------
    array
        A view of `x`. Do not write to it.

    Raises
    ------
    SettingError
        An axis missing, named twice or not there.
    """
    return np.transpose(x, dims)


def _broadcast_to_out(x: Spec, shape: Any) -> Spec:
    wanted = _sizes("broadcast_to", shape)
    lead = len(wanted) - x.ndim
    fits = lead >= 0 and all(n in (1, full) for n, full in zip(x.shape, wanted[lead:], strict=True))
    if not fits or any(n < 0 for n in wanted):
        raise ShapeError(f"broadcast_to: shape {x.shape} does not broadcast to {wanted}; sizes must be equal, or 1 in x")
    return Spec(wanted, x.dtype, broadcast_strides(x, wanted))


@op(
    out=_broadcast_to_out,
    view=view_as_out,
    vjp=lambda c, g: {"x": partial(find("sum_to"), g, c.spec_of("x").shape)},
    samples=(
        s("row", A((5,)), (3, 5)),
        s("column", A((3, 1)), (2, 3, 4)),
        s("channel", A((3, 1, 1)), (2, 3, 4, 4)),
        s("zero-d", A(()), (2, 3)),
        s("same", A((2, 3), view="transposed"), (2, 3)),
        s("to empty", A((1, 3)), (0, 3)),
        s("of empty", A((0, 3)), (2, 0, 3)),
        s("int shape", A((1,)), 7),
    ),
    bad=(
        bad("size", ShapeError, ("(3,)", "(4,)"), A((3,)), (4,)),
        bad("fewer axes", ShapeError, ("(1, 3)", "(3,)"), A((1, 3)), (3,)),
    ),
    flops=lambda call: 0,
)
def broadcast_to(x: Array, shape: Ints) -> Array:
    """Repeat axes of length 1, and add axes in front, without copying.

    Parameters
    ----------
    x : array
    shape : int or sequence of int

    Returns
    -------
    array
        A view of `x` with stride 0 on the repeated axes. Do not write to it.

    Raises
    ------
    ShapeError
        A size that is neither equal nor 1 in `x`.

    Notes
    -----
    The gradient sums the cotangent over the repeated axes.
    """
    return np.broadcast_to(x, shape)
