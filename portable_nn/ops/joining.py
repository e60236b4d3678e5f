"""Joining: several arrays in one, borders around one, and what is made of these (stack, split, roll, tile, repeat).

Over 250 lines because each op carries its record and its page.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ..core.array import Array
from ..core.dtypes import promote
from ..core.errors import SettingError, ShapeError
from ..core.op import op, setting_int
from ..core.registry import find
from ..core.samples import A, bad, bench, s
from ..core.spec import Shape, Spec
from ..core.tape import Saved
from .axes import expand_dims, flip
from .creation import astype
from .indexing import getitem
from .layout import Ints, axes_of, axis_of, broadcast_to, reshape

_ALL = (None, None, None)


def dense_like(shape: Shape, *models: Spec) -> Shape | None:
    """Return dense strides of `shape` in the order of axes that all `models` share (channels-last), or None for C order."""
    orders = {tuple(sorted(range(m.ndim), key=lambda a: (-m.strides[a], a))) for m in models if m.size}
    if len(orders) != 1 or len(shape) != len(order := orders.pop()) or any(step < 1 for m in models for step in m.strides):
        return None
    strides = [1] * len(shape)
    step = 1
    for axis in reversed(order):
        strides[axis] = step
        step *= max(shape[axis], 1)
    return tuple(strides)


def along(x: Array, axis: int, start: int | None, stop: int | None, step: int | None = None) -> Array:
    """Return ``x[:, ..., start:stop:step]`` with the slice on `axis`, counted from the front."""
    return getitem(x, (*(_ALL,) * axis, (start, stop, step)))


def _concat_out(arrays: list[Spec], axis: int | None) -> Spec:
    if not arrays:
        raise ShapeError("concat: no arrays were given; at least one is needed")
    dtype = promote("concat", *(a.dtype for a in arrays))
    if axis is None:
        return Spec((sum(a.size for a in arrays),), dtype)
    first = arrays[0]
    if first.ndim == 0:
        raise ShapeError("concat: 0-d arrays have no axis to join; use stack")
    at = axis_of("concat", axis, first.ndim)
    for number, a in enumerate(arrays):
        if a.ndim != first.ndim or any(n != m for k, (n, m) in enumerate(zip(a.shape, first.shape, strict=True)) if k != at):
            raise ShapeError(
                f"concat: array {number} has shape {a.shape} but array 0 has {first.shape}; all sizes but axis {at} must be equal"
            )
    shape = (*first.shape[:at], sum(a.shape[at] for a in arrays), *first.shape[at + 1 :])
    return Spec(shape, dtype, dense_like(shape, *arrays))


def _concat_vjp(c: Saved, g: Any) -> dict[str, Any]:
    specs = c.spec_of("arrays")

    def pieces() -> list[Any]:
        made = []
        start = 0
        for spec in specs:
            if c.axis is None:
                piece = reshape(along(g, 0, start, start + spec.size), spec.shape)
                start += spec.size
            else:
                at = c.axis % spec.ndim
                piece = along(g, at, start, start + spec.shape[at])
                start += spec.shape[at]
            made.append(piece if piece.dtype == spec.dtype else astype(piece, spec.dtype))
        return made

    return {"arrays": pieces}


@op(
    out=_concat_out,
    vjp=_concat_vjp,
    samples=(
        s("rows", [A((2, 3)), A((4, 3))]),
        s("last", [A((2, 3)), A((2, 1)), A((2, 5))], -1),
        s("channels", [A((2, 3, 5, 4)), A((2, 2, 5, 4))], axis=1),
        s("channels last", [A((2, 3, 5, 4), view="channels_last"), A((2, 2, 5, 4), view="channels_last")], axis=1),
        s("views", [A((4, 6), view="transposed"), A((4, 6), view="reversed"), A((4, 6), view="strided")], 1),
        s("one", [A((3,))]),
        s("flat", [A((2, 3)), A((4,)), A(())], None),
        s("one empty", [A((0, 3)), A((2, 3))]),
        s("all empty", [A((0,)), A((0,))]),
        s("promoted", [A((3,), dtype="float32"), A((2,), dtype="float64")], dtypes=("float64",), gradient=False, why="one gradient is rounded to float32"),
        s("int", [A((3,), dtype="int8", low=-9, high=9), A((2,), dtype="int32", low=-9, high=9)]),
        s("wide", [A((3, 300)), A((3, 257))], 1),
        s("tiles", [A((70, 80)), A((70, 80), view="transposed")], 0, dtypes=("float32",)),
        s("few channels first and last", [A((2, 3, 40, 41)), A((2, 3, 40, 41), view="channels_last")], 1, dtypes=("float32",)),
    ),
    bad=(
        bad("sizes", ShapeError, ("array 1", "(2, 4)", "(2, 3)"), [A((2, 3)), A((2, 4))]),
        bad("axis", SettingError, "axis 2", [A((2, 3)), A((2, 3))], 2),
        bad("zero-d", ShapeError, "stack", [A(()), A(())]),
    ),
    bench=(bench("skip connection", [A((32, 64, 56, 56)), A((32, 64, 56, 56))], 1),),
    flops=lambda call: 0,
)
def concat(arrays: Sequence[Array], axis: int | None = 0) -> Array:
    """Join arrays along an axis they have.

    Parameters
    ----------
    arrays : sequence of array
        Equal shapes but for `axis`; dtypes promote.
    axis : int, optional
        None joins the flattened arrays.

    Returns
    -------
    array
        Channels-last where all are.

    Raises
    ------
    ShapeError
        Shapes that differ elsewhere, 0-d arrays, or no array.
    DTypeError
        Kinds that the array API does not mix.

    Notes
    -----
    One copy launch per array, no arithmetic. The gradients are views of the cotangent.
    """
    return np.concatenate(arrays, axis)


MODES = ("constant", "reflect", "replicate", "circular")


def _borders(x: Spec, pad: Any, mode: str) -> list[tuple[int, int]]:
    """Return (before, after) for each axis, checked."""
    given = tuple(setting_int("pad", "pad", n) for n in (pad if isinstance(pad, list | tuple) else (pad,)))
    if len(given) % 2 or len(given) > 2 * x.ndim:
        raise SettingError(
            f"pad: pad {given} has {len(given)} numbers; two per axis are needed, last axis first, at most {2 * x.ndim} for shape {x.shape}"
        )
    if mode not in MODES:
        raise SettingError(f"pad: mode is {mode!r} but must be one of {', '.join(MODES)}")
    borders = [(0, 0)] * x.ndim
    for number in range(len(given) // 2):
        borders[-1 - number] = given[2 * number], given[2 * number + 1]
    for axis, (n, pair) in enumerate(zip(x.shape, borders, strict=True)):
        limit = {"reflect": n - 1, "circular": n, "replicate": 0 if n == 0 else None}.get(mode)
        if mode != "constant" and (min(pair) < 0 or (limit is not None and max(pair) > max(limit, 0))):
            most = "" if limit is None else f" and at most {max(limit, 0)}"
            raise SettingError(f"pad: {pair} on axis {axis} of length {n}; in mode {mode!r} it must be at least 0{most}")
        if n + sum(pair) < 0:
            raise ShapeError(f"pad: {pair} cuts more than axis {axis} of length {n} has (shape {x.shape})")
    return borders


def _pad_out(x: Spec, pad: Any, mode: str, value: float) -> Spec:
    del value
    shape = tuple(n + before + after for n, (before, after) in zip(x.shape, _borders(x, pad, mode), strict=True))
    return Spec(shape, x.dtype, dense_like(shape, x))


def _pad_vjp(c: Saved, g: Any) -> dict[str, Any]:
    if c.mode == "constant":
        return {"x": partial(globals()["pad"], g, tuple(-n for n in c.pad))}
    return {"x": partial(_folded, g, _borders(c.spec_of("x"), c.pad, c.mode), c.mode)}


def _folded(g: Any, borders: list[tuple[int, int]], mode: str) -> Any:
    """Return g with its borders added to where their values were copied from."""
    padded = globals()["pad"]
    for axis in reversed(range(len(borders))):
        before, after = borders[axis]
        n = g.shape[axis] - before - after
        total = along(g, axis, before, before + n)
        for border, at_front in ((along(g, axis, 0, before), True), (along(g, axis, before + n, None), False)):
            count = before if at_front else after
            if not count:
                continue
            if mode == "replicate":
                border, low = find("sum")(border, axis=axis, keepdims=True), 0 if at_front else n - 1
            elif mode == "reflect":
                border, low = flip(border, axis=axis), 1 if at_front else n - 1 - count
            else:
                low = n - count if at_front else 0
            sizes = (0,) * (2 * (len(borders) - 1 - axis)) + (low, n - low - border.shape[axis])
            total = find("add")(total, padded(border, sizes))
        g = total
    return g


def _pad_view(call: Any) -> tuple[Shape, int] | None:
    x = call.spec(0)
    borders = _borders(x, call.settings["pad"], call.settings["mode"])
    if any(n > 0 for pair in borders for n in pair):
        return None
    return x.strides, sum(-before * step for (before, _), step in zip(borders, x.strides, strict=True)) if call.outputs[0].size else 0


@op(
    out=_pad_out,
    view=_pad_view,
    vjp=_pad_vjp,
    samples=(
        s("last axis", A((3, 5)), (1, 2)),
        s("image", A((2, 3, 4, 5)), (1, 1, 2, 0)),
        s("value", A((2, 3, 4, 5)), (1, 1), "constant", 2.5, dtypes=("float16", "bfloat16", "float32", "float64")),
        s("infinity", A((3, 4)), (1, 1, 1, 1), value=float("-inf"), dtypes=("float32", "bfloat16"), gradient=False, why="infinite"),
        s("channels last", A((2, 3, 4, 5), view="channels_last"), (1, 1, 1, 1)),
        s("batch too", A((2, 3)), (0, 1, 2, 0)),
        s("transposed tiles", A((70, 90), view="transposed"), (1, 2, 3, 4), dtypes=("float32",)),
        s("crop", A((5, 6)), (-1, -2, -1, 0)),
        s("crop and pad", A((5, 6), view="transposed"), (-1, 2, 3, -2)),
        s("large", A((3, 40, 520)), (3, 2, 600, 0), dtypes=("float32",)),
        s("reflect", A((2, 4, 5)), (2, 3, 3, 1), "reflect"),
        s("replicate", A((2, 4, 5)), (2, 7, 1, 0), "replicate"),
        s("circular", A((2, 4, 5)), (2, 5, 4, 1), "circular"),
        s("reflect reversed", A((4, 5), view="reversed"), (1, 1, 2, 2), "reflect"),
        s("nothing", A((3, 5)), (0, 0)),
        s("no numbers", A((3, 5)), ()),
        s("empty", A((0, 3)), (1, 1, 2, 1)),
        s("int", A((3, 5), dtype="int32", low=-9, high=9), (1, 1), value=7),
        s("bool", A((9,), dtype="bool"), (3, 1)),
    ),
    bad=(
        bad("odd", SettingError, ("(1, 2, 3)", "two per axis"), A((3, 5)), (1, 2, 3)),
        bad("too many", SettingError, ("4 numbers", "at most 2"), A((3,)), (1, 1, 1, 1)),
        bad("mode", SettingError, ("'mirror'", "reflect"), A((3,)), (1, 1), "mirror"),
        bad("reflect", SettingError, ("(3, 0)", "at most 2"), A((3,)), (3, 0), "reflect"),
        bad("crop", ShapeError, ("(-2, -2)", "length 3"), A((3,)), (-2, -2)),
    ),
    bench=(bench("same convolution", A((32, 64, 56, 56)), (1, 1, 1, 1)), bench("reflect", A((8, 3, 256, 256)), (3, 3, 3, 3), "reflect")),
    flops=lambda call: 0,
)
def pad(x: Array, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Array:
    """Put a border around an array; as `torch.nn.functional.pad`.

    Parameters
    ----------
    x : array
    pad : sequence of int
        Two numbers per axis, before and after, **last axis first**: ``(left, right, top, bottom)``. Negative numbers crop
        (in mode "constant").
    mode : str
        "constant"; "reflect" (mirrored without the edge), "replicate" (the edge repeated), "circular" (the other side).
        Any axes may be padded in every mode.
    value : number
        Of the border in mode "constant".

    Returns
    -------
    array
        Channels-last where `x` is. A view where `pad` only crops.

    Raises
    ------
    SettingError
        An odd or too large count of numbers, an unknown mode, or a border wider than the mode can fill: the axis less one in
        "reflect", the axis in "circular".
    ShapeError
        More cropped than there is.

    Notes
    -----
    No arithmetic. The gradient adds each border to where it was copied from.
    """
    widths = [(0, 0)] * x.ndim
    for number in range(len(pad) // 2):
        widths[-1 - number] = pad[2 * number], pad[2 * number + 1]
    cut = x[tuple(slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(x.shape, widths, strict=True))]
    grown = [(max(a, 0), max(b, 0)) for a, b in widths]
    if mode == "constant":
        return np.pad(cut, grown, constant_values=value)
    return np.pad(cut, grown, mode={"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[mode])  # type: ignore[call-overload]


def stack(arrays: Sequence[Array], axis: int = 0) -> Array:
    """Join arrays of one shape along a new axis."""
    for number, x in enumerate(arrays):
        if x.shape != arrays[0].shape:
            raise ShapeError(f"stack: array {number} has shape {x.shape} but array 0 has {arrays[0].shape}; they must be equal")
    return concat([expand_dims(x, axis) for x in arrays], axis)


def split(x: Array, split_size_or_sections: Ints, dim: int = 0) -> tuple[Array, ...]:
    """Cut an axis into parts of one size (the last may be smaller) or of the sizes listed; views. As `torch.split`."""
    at = axis_of("split", dim, x.ndim)
    n = x.shape[at]
    if isinstance(split_size_or_sections, list | tuple):
        sizes = [setting_int("split", "a size", size) for size in split_size_or_sections]
        if sum(sizes) != n or min(sizes, default=0) < 0:
            raise SettingError(f"split: sizes {tuple(sizes)} sum to {sum(sizes)} but axis {at} has length {n} (shape {x.shape})")
    else:
        size = setting_int("split", "size", split_size_or_sections)
        if size < 1:
            raise SettingError(f"split: size is {size} but must be at least 1")
        sizes = [min(size, n - start) for start in range(0, n, size)] or [0]
    parts = []
    start = 0
    for size in sizes:
        parts.append(along(x, at, start, start + size))
        start += size
    return tuple(parts)


def chunk(x: Array, chunks: int, dim: int = 0) -> tuple[Array, ...]:
    """Cut an axis into at most `chunks` parts of equal size (the last may be smaller); views. As `torch.chunk`."""
    count = setting_int("chunk", "chunks", chunks)
    if count < 1:
        raise SettingError(f"chunk: chunks is {count} but must be at least 1")
    return split(x, max(-(-x.shape[axis_of("chunk", dim, x.ndim)] // count), 1), dim)


def unstack(x: Array, axis: int = 0) -> tuple[Array, ...]:
    """Return the parts along an axis, which they lose; views."""
    at = axis_of("unstack", axis, x.ndim)
    return tuple(getitem(x, (*(_ALL,) * at, i)) for i in range(x.shape[at]))


def roll(x: Array, shift: Ints, axis: Ints | None = None) -> Array:
    """Shift elements along axes, around the end; without `axis` in the flattened array."""
    if axis is None:
        return reshape(roll(reshape(x, (-1,)), shift, 0), x.shape)
    axes = axes_of("roll", axis, x.ndim)
    shifts = tuple(shift) if isinstance(shift, list | tuple) else (shift,) * len(axes)
    if len(shifts) != len(axes):
        raise SettingError(f"roll: {len(shifts)} shifts {shifts} were given for {len(axes)} axes {axes}")
    for n, at in zip(shifts, axes, strict=True):
        size = x.shape[at]
        cut = size - setting_int("roll", "shift", n) % size if size else 0
        if cut != size and size:
            x = concat([along(x, at, cut, None), along(x, at, 0, cut)], at)
    return x


def tile(x: Array, repetitions: Sequence[int]) -> Array:
    """Repeat the whole array along each axis: the element at ``i`` is ``x[i mod n]``."""
    times = tuple(repetitions)
    times = (1,) * (x.ndim - len(times)) + times
    shape = (1,) * (len(times) - x.ndim) + tuple(x.shape)
    if any(n < 0 for n in times):
        raise SettingError(f"tile: repetitions {times} must not be negative")
    apart = reshape(x, tuple(size for n in shape for size in (1, n)))
    wide = broadcast_to(apart, tuple(size for t, n in zip(times, shape, strict=True) for size in (t, n)))
    return reshape(wide, tuple(t * n for t, n in zip(times, shape, strict=True)))


def repeat(x: Array, repeats: int, axis: int | None = None) -> Array:
    """Repeat each element `repeats` times along an axis; without `axis` in the flattened array."""
    times = setting_int("repeat", "repeats", repeats)
    if times < 0:
        raise SettingError(f"repeat: repeats is {times} but must not be negative")
    if axis is None:
        return repeat(reshape(x, (-1,)), times, 0)
    at = axis_of("repeat", axis, x.ndim)
    shape = tuple(x.shape)
    wide = broadcast_to(expand_dims(x, at + 1), (*shape[: at + 1], times, *shape[at + 1 :]))
    return reshape(wide, (*shape[:at], shape[at] * times, *shape[at + 1 :]))
