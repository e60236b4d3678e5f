"""Shapes, joining, choosing and products in the array API's spelling, where it differs from that of `ops`."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from .. import ops
from ..core.array import Array
from ..core.errors import DTypeError, ShapeError
from ..core.spec import broadcast_shapes

Ints = int | Sequence[int]


def astype(x: Array, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Array:
    """Convert to another dtype; see `ops.astype`."""
    del device
    return ops.astype(x, dtype, copy=copy)


def reshape(x: Array, /, shape: Ints, *, copy: bool | None = None) -> Array:
    """Read the elements under another shape; see `ops.reshape`. `copy` True always copies."""
    made = ops.reshape(x, shape)
    return ops.astype(made, made.dtype) if copy else made


def permute_dims(x: Array, /, axes: Sequence[int]) -> Array:
    """Reorder the axes; see `ops.permute`."""
    return ops.permute(x, axes)


def expand_dims(x: Array, /, *, axis: int = 0) -> Array:
    """Insert an axis of length 1."""
    return ops.expand_dims(x, axis)


def squeeze(x: Array, /, axis: Ints) -> Array:
    """Drop axes of length 1."""
    return ops.squeeze(x, axis)


def concat(arrays: Sequence[Array], /, *, axis: int | None = 0) -> Array:
    """Join arrays along an axis they have."""
    return ops.concat(arrays, axis)


def stack(arrays: Sequence[Array], /, *, axis: int = 0) -> Array:
    """Join arrays along a new axis."""
    return ops.stack(arrays, axis)


def unstack(x: Array, /, *, axis: int = 0) -> tuple[Array, ...]:
    """Return the parts along an axis."""
    return ops.unstack(x, axis)


def roll(x: Array, /, shift: Ints, *, axis: Ints | None = None) -> Array:
    """Shift elements along axes, around the end."""
    return ops.roll(x, shift, axis)


def repeat(x: Array, repeats: int, /, *, axis: int | None = None) -> Array:
    """Repeat each element."""
    return ops.repeat(x, repeats, axis)


def broadcast_arrays(*arrays: Array) -> list[Array]:
    """Broadcast arrays to one shape; views."""
    shape = broadcast_shapes("broadcast_arrays", *(x.shape for x in arrays))
    return [ops.broadcast_to(x, shape) for x in arrays]


def clip(x: Array, /, min: Any = None, max: Any = None) -> Array:
    """Limit to a range given by numbers or arrays; see `ops.clamp`."""
    if all(limit is None or isinstance(limit, int | float) for limit in (min, max)):
        return ops.clamp(x, min, max)
    if min is not None:
        x = ops.maximum(x, min)
    return x if max is None else ops.minimum(x, max)


def _truths(name: str, *operands: Any) -> None:
    for x in operands:
        if not isinstance(x, bool) and x.dtype != bool:
            raise DTypeError(f"{name}: an operand is {getattr(x, 'dtype', type(x).__name__)} but bool is needed")


def logical_and(x1: Any, x2: Any, /) -> Array:
    """Whether both bools are true."""
    _truths("logical_and", x1, x2)
    return ops.bitwise_and(x1, x2)


def logical_or(x1: Any, x2: Any, /) -> Array:
    """Whether one of two bools is true."""
    _truths("logical_or", x1, x2)
    return ops.bitwise_or(x1, x2)


def logical_xor(x1: Any, x2: Any, /) -> Array:
    """Whether one of two bools is true, not both."""
    _truths("logical_xor", x1, x2)
    return ops.bitwise_xor(x1, x2)


def bitwise_invert(x: Array, /) -> Array:
    """Flip every bit; of bools, whether each is false."""
    return ops.logical_not(x) if x.dtype == bool else ops.bitwise_invert(x)


def take_along_axis(x: Array, indices: Array, /, *, axis: int = -1) -> Array:
    """Take one element per index along an axis; see `ops.take_along_dim`."""
    return ops.take_along_dim(x, indices, axis)


def count_nonzero(x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
    """Count the elements that are not zero, in int64."""
    return ops.sum(ops.astype(ops.not_equal(x, False if x.dtype == bool else 0), "int64"), axis=axis, keepdims=keepdims)


def vecdot(x1: Array, x2: Array, /, *, axis: int = -1) -> Array:
    """Sum the products of two arrays along an axis."""
    products = ops.multiply(x1, x2)
    return ops.sum(products, axis=axis, dtype=products.dtype)


def tensordot(x1: Array, x2: Array, /, *, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Array:
    """Sum products over several axes: the last ones of `x1` with the first of `x2`, or those listed for each."""
    if isinstance(axes, int):
        left, right = tuple(range(x1.ndim - axes, x1.ndim)), tuple(range(axes))
    else:
        left, right = (tuple(a % x.ndim for a in listed) for x, listed in zip((x1, x2), axes, strict=True))
    if [x1.shape[a] for a in left] != [x2.shape[a] for a in right]:
        raise ShapeError(f"tensordot: shapes {tuple(x1.shape)} and {tuple(x2.shape)} do not fit over axes {left} and {right}")
    kept1, kept2 = ([a for a in range(x.ndim) if a not in gone] for x, gone in ((x1, left), (x2, right)))
    inner = prod(x1.shape[a] for a in left)
    outer1, outer2 = tuple(x1.shape[a] for a in kept1), tuple(x2.shape[a] for a in kept2)
    first = ops.reshape(ops.permute(x1, (*kept1, *left)), (prod(outer1), inner))
    second = ops.reshape(ops.permute(x2, (*right, *kept2)), (inner, prod(outer2)))
    return ops.reshape(ops.matmul(first, second), (*outer1, *outer2))
