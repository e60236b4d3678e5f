"""Gathering by indices that are arrays: take, take_along_dim, and their deterministic gradients."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..core import dtypes
from ..core.array import Array
from ..core.axes import axis_of
from ..core.errors import DeviceValueError, DTypeError, ShapeError
from ..core.op import op, setting_int
from ..core.samples import A, bad, bench, s
from ..core.spec import Spec
from ..core.tape import Saved


def check_integer(name: str, what: str, spec: Spec) -> None:
    """Raise unless `spec` holds integers."""
    if not dtypes.is_integer(spec.dtype):
        raise DTypeError(f"{name}: {what} is {spec.dtype.name} but an integer dtype is needed; convert with astype")


def check_indices(name: str, indices: Any, size: int) -> None:
    """Raise `DeviceValueError` for the first index outside [0, size)."""
    wrong = (indices < 0) | (indices >= size)
    if np.any(wrong):
        at = int(np.flatnonzero(wrong)[0])
        raise DeviceValueError(f"{name}: index {indices.reshape(-1)[at]} at position {at} is not in [0, {size})")


def _index(*shape: int, size: int, **more: Any) -> A:
    return A(shape, low=0, high=size, dtype=more.pop("dtype", "int64"), **more)


def _take_out(x: Spec, indices: Spec, axis: Any) -> Spec:
    check_integer("take", "indices", indices)
    at = axis_of("take", axis, x.ndim)
    if indices.ndim != 1:
        raise ShapeError(f"take: indices has shape {indices.shape} but one axis is needed; flatten it, and reshape the result")
    return Spec((*x.shape[:at], indices.size, *x.shape[at + 1 :]), x.dtype)


def _take_vjp(c: Saved, g: Any) -> dict[str, Any]:
    spec = c.spec_of("x")
    at = axis_of("take", c.axis, spec.ndim)
    return {"x": lambda: take_grad(g, c.indices, spec.shape[at], at)}


@op(
    out=_take_out, vjp=_take_vjp, saves=("indices",),
    samples=(
        s("rows", A((5, 3)), _index(7, size=5)),
        s("last axis", A((3, 4, 6)), _index(9, size=6, dtype="int32"), axis=-1),
        s("middle", A((2, 5, 40)), _index(3, size=5), 1),
        s("repeats", A((4, 2)), A((5,), dtype="int64", values=(2, 2, 0, 2, 0))),
        s("views", A((33, 40), view="transposed"), _index(6, size=33, view="reversed")),
        s("many axes", A((2, 3, 4, 5), view="channels_last"), _index(3, size=4, dtype="uint8"), axis=2),
        s("no index", A((5, 3)), _index(0, size=5)),
        s("long", A((9, 300)), _index(70, size=9)),
        s("int", A((5, 3), dtype="int32", low=-9, high=9), _index(4, size=5)),
    ),
    bad=(
        bad("float indices", DTypeError, ("float32", "integer"), A((3, 2)), A((2,), dtype="float32")),
        bad("two axes", ShapeError, ("(2, 2)", "one axis"), A((3, 2)), _index(2, 2, size=3)),
        bad("index", DeviceValueError, ("take", "3", "position 1", "[0, 3)"), A((3, 2)), A((2,), dtype="int64", values=(0, 3))),
    ),
    bench=(bench("rows", A((10000, 256)), _index(4096, size=10000)),), flops=lambda call: 0,
)  # fmt: skip
def take(x: Array, indices: Array, axis: int = 0) -> Array:
    """Take slices along an axis: ``y[.., j, ..] = x[.., indices[j], ..]``.

    Parameters
    ----------
    x : array
    indices : array
        One axis, integer dtype, values in [0, n): negative ones are out of range.
    axis : int

    Returns
    -------
    array
        Shape of `x` with as many slices along `axis` as indices; dtype of `x`.

    Raises
    ------
    DeviceValueError
        An index out of range: at once on NumPy, at the next synchronisation on a device.

    Notes
    -----
    The gradient adds the cotangents of equal indices in the order of their positions: deterministic, without atomics.
    """
    at = axis % x.ndim
    check_indices("take", indices, x.shape[at])
    return np.take(x, indices.astype(np.int64), axis=at)


def _take_grad_out(g: Spec, indices: Spec, size: Any, axis: Any) -> Spec:
    check_integer("take_grad", "indices", indices)
    at = axis_of("take_grad", axis, g.ndim)
    if indices.shape != (g.shape[at],):
        raise ShapeError(f"take_grad: indices has shape {indices.shape} but g of shape {g.shape} needs ({g.shape[at]},) for axis {at}")
    if not dtypes.is_float(g.dtype):
        raise DTypeError(f"take_grad: g is {g.dtype.name} but float is needed")
    return Spec((*g.shape[:at], setting_int("take_grad", "size", size), *g.shape[at + 1 :]), g.dtype)


@op(
    out=_take_grad_out, vjp=lambda c, g: {"g": partial(take, g, c.indices, c.axis)}, saves=("indices",),
    samples=(
        s("rows", A((7, 3)), _index(7, size=5), 5),
        s("many repeats", A((300, 40)), _index(300, size=3), 3),
        s("past two merges", A((200, 2)), _index(200, size=50), 50),
        s("middle", A((2, 9, 4)), _index(9, size=5, dtype="int32"), 5, 1),
        s("last axis", A((3, 70)), _index(70, size=6), 6, -1),
        s("views", A((33, 40), view="transposed"), _index(33, size=4, view="reversed"), 4),
        s("no index", A((0, 3)), _index(0, size=5), 5),
    ),
    bad=(bad("count", ShapeError, ("(3,)", "(4, 2)"), A((4, 2)), _index(3, size=2), 2),),
    bench=(bench("rows", A((4096, 256)), _index(4096, size=10000), 10000),),
    flops=lambda call: call.spec(0).size, reduces=lambda call: call.spec(1).size,
)  # fmt: skip
def take_grad(g: Array, indices: Array, size: int, axis: int = 0) -> Array:
    """Gradient of `take`: ``y[.., v, ..] = Σ_j [indices[j] = v] g[.., j, ..]``, `size` long along `axis`.

    Indices are sorted stably, then each v adds its run: the order is that of the positions, on every device.

    Parameters
    ----------
    g : array
        Cotangent of `take`; real floating.
    indices : array
        One index per slice of `g` along `axis`.
    size : int
        Length of the result along `axis`.
    axis : int

    Returns
    -------
    array
        Shape of `g` with `size` along `axis`; dtype of `g`.
    """
    at = axis % g.ndim
    check_indices("take_grad", indices, size)
    made = np.zeros((size, *np.moveaxis(g, at, 0).shape[1:]), g.dtype)
    np.add.at(made, indices.astype(np.int64), np.moveaxis(g, at, 0))
    return np.moveaxis(made, 0, at)


def _along_out(input: Spec, indices: Spec, dim: Any) -> Spec:
    name = "take_along_dim"
    check_integer(name, "indices", indices)
    at = axis_of(name, dim, input.ndim)
    rest = indices.ndim == input.ndim and (*indices.shape[:at], *indices.shape[at + 1 :]) == (*input.shape[:at], *input.shape[at + 1 :])
    if not rest:
        raise ShapeError(f"{name}: indices has shape {indices.shape} but input {input.shape}; all axes but {at} must be equal")
    return Spec(indices.shape, input.dtype)


def _along_vjp(c: Saved, g: Any) -> dict[str, Any]:
    spec = c.spec_of("input")
    at = axis_of("take_along_dim", c.dim, spec.ndim)
    return {"input": lambda: take_along_dim_grad(g, c.indices, spec.shape[at], at)}


@op(
    out=_along_out, vjp=_along_vjp, saves=("indices",),
    samples=(
        s("labels", A((7, 10)), _index(7, 1, size=10), 1),
        s("first axis", A((5, 3)), _index(2, 3, size=5, dtype="int32"), 0),
        s("repeats", A((2, 3)), A((2, 4), dtype="int64", values=(0, 0, 2, 0, 1, 1, 1, 1)), -1),
        s("middle", A((2, 5, 40)), _index(2, 3, 40, size=5), 1),
        s("views", A((33, 5), view="transposed"), _index(33, 4, size=5, view="transposed"), 1),
        s("empty", A((0, 3)), _index(0, 2, size=3), 1),
    ),
    bad=(
        bad("shape", ShapeError, ("(3, 1)", "(2, 5)"), A((2, 5)), _index(3, 1, size=5), 1),
        bad("index", DeviceValueError, ("take_along_dim", "-1", "position 0", "[0, 5)"), A((2, 5)), A((2, 1), dtype="int64", values=(-1, 2)), 1),
    ),
    bench=(bench("labels", A((8192, 1000)), _index(8192, 1, size=1000), 1),), flops=lambda call: 0,
)  # fmt: skip
def take_along_dim(input: Array, indices: Array, dim: int) -> Array:
    """Take one element per index along an axis: ``y[k, j] = x[k, indices[k, j]]``, PyTorch's ``take_along_dim``.

    `indices` has the shape of `input` but for axis `dim` (no broadcasting) and values in [0, n); see `take` for what is
    raised. The gradient compares every index with every place of its line, which is meant for few indices.
    """
    at = dim % input.ndim
    check_indices("take_along_dim", indices, input.shape[at])
    return np.take_along_axis(input, indices.astype(np.int64), at)


def _along_grad_out(g: Spec, indices: Spec, size: Any, dim: Any) -> Spec:
    check_integer("take_along_dim_grad", "indices", indices)
    at = axis_of("take_along_dim_grad", dim, g.ndim)
    if g.shape != indices.shape:
        raise ShapeError(f"take_along_dim_grad: g has shape {g.shape} but indices {indices.shape}; they must be equal")
    if not dtypes.is_float(g.dtype):
        raise DTypeError(f"take_along_dim_grad: g is {g.dtype.name} but float is needed")
    return Spec((*g.shape[:at], setting_int("take_along_dim_grad", "size", size), *g.shape[at + 1 :]), g.dtype)


@op(
    out=_along_grad_out, vjp=lambda c, g: {"g": partial(take_along_dim, g, c.indices, c.dim)}, saves=("indices",),
    samples=(
        s("labels", A((7, 1)), _index(7, 1, size=10), 10, 1),
        s("repeats", A((3, 9)), _index(3, 9, size=4), 4, 1),
        s("first axis", A((5, 40)), _index(5, 40, size=3, dtype="int32"), 3, 0),
        s("views", A((33, 5), view="transposed"), _index(33, 5, size=4, view="reversed"), 4, 1),
        s("no index", A((2, 0)), _index(2, 0, size=3), 3, 1),
    ),
    bad=(bad("shape", ShapeError, ("(2, 2)", "(2, 1)"), A((2, 2)), _index(2, 1, size=3), 3, 1),),
    flops=lambda call: call.outputs[0].size * call.spec(1).shape[call.settings["dim"]],
    reduces=lambda call: call.spec(1).shape[call.settings["dim"]],
)  # fmt: skip
def take_along_dim_grad(g: Array, indices: Array, size: int, dim: int) -> Array:
    """Gradient of `take_along_dim`: ``y[k, v] = Σ_j [indices[k, j] = v] g[k, j]``, `size` long along `dim`; j in order.

    Parameters
    ----------
    g : array
        Cotangent of `take_along_dim`; real floating.
    indices : array
        Shape of `g`.
    size : int
        Length of the result along `dim`.
    dim : int

    Returns
    -------
    array
        Shape of `g` with `size` along `dim`; dtype of `g`.
    """
    at = dim % g.ndim
    check_indices("take_along_dim_grad", indices, size)
    hit = np.moveaxis(indices, at, -1)[..., None] == np.arange(size)
    return np.moveaxis(np.sum(np.where(hit, np.moveaxis(g, at, -1)[..., None], 0), axis=-2), -1, at).astype(g.dtype)
