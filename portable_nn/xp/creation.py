"""Creation functions in the array API's spelling: new arrays on the chosen backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import api, ops
from ..core import dtypes, selection
from ..core.array import Array
from ..core.errors import ArgumentError

Shape = int | Sequence[int]


def _check_device(name: str, device: Any, x: Array | None = None) -> None:
    here = selection.default().device if x is None else api.backend_of(x).device
    if device is not None and device != here:
        raise ArgumentError(f"{name}: device {device!r} was asked for but this array goes to {here!r}; choose with portable_nn.use_backend")


def asarray(obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Array:
    """Return `obj` as an array: one that is ours stays where it is, others go to the chosen backend."""
    if hasattr(obj, "spec"):
        _check_device("asarray", device, obj)
        if dtype is not None and obj.dtype != dtypes.canonical(dtype):
            return ops.astype(obj, dtype)
        return ops.astype(obj, obj.dtype) if copy else obj
    return api.asarray(obj, dtype=dtype, device=device, copy=copy)


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Array:
    """Return an array of another library, over the host, on the chosen backend."""
    return asarray(x, device=device, copy=copy)


def arange(start: float, /, stop: float | None = None, step: float = 1, *, dtype: Any = None, device: Any = None) -> Array:
    """Return evenly spaced numbers; see `ops.arange`."""
    _check_device("arange", device)
    return ops.arange(start, stop, step, dtype=dtype)


def linspace(start: float, stop: float, /, num: int, *, dtype: Any = None, device: Any = None, endpoint: bool = True) -> Array:
    """Return `num` evenly spaced numbers; see `ops.linspace`."""
    _check_device("linspace", device)
    return ops.linspace(start, stop, num, dtype=dtype, endpoint=endpoint)


def empty(shape: Shape, *, dtype: Any = None, device: Any = None) -> Array:
    """Return an array to be written to (it holds zeros)."""
    _check_device("empty", device)
    return ops.zeros(shape, dtype=dtype)


def empty_like(x: Array, /, *, dtype: Any = None, device: Any = None) -> Array:
    """Return an array like `x` to be written to (it holds zeros)."""
    _check_device("empty_like", device, x)
    return ops.zeros_like(x, dtype=dtype)


def zeros(shape: Shape, *, dtype: Any = None, device: Any = None) -> Array:
    """Return zeros."""
    _check_device("zeros", device)
    return ops.zeros(shape, dtype=dtype)


def zeros_like(x: Array, /, *, dtype: Any = None, device: Any = None) -> Array:
    """Return zeros like `x`."""
    _check_device("zeros_like", device, x)
    return ops.zeros_like(x, dtype=dtype)


def ones(shape: Shape, *, dtype: Any = None, device: Any = None) -> Array:
    """Return ones."""
    _check_device("ones", device)
    return ops.ones(shape, dtype=dtype)


def ones_like(x: Array, /, *, dtype: Any = None, device: Any = None) -> Array:
    """Return ones like `x`."""
    _check_device("ones_like", device, x)
    return ops.ones_like(x, dtype=dtype)


def full(shape: Shape, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Array:
    """Return one number everywhere."""
    _check_device("full", device)
    return ops.full(shape, fill_value, dtype=dtype)


def full_like(x: Array, /, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Array:
    """Return one number everywhere, like `x`."""
    _check_device("full_like", device, x)
    return ops.full_like(x, fill_value, dtype=dtype)


def eye(n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None, device: Any = None) -> Array:
    """Return a matrix with ones on a diagonal."""
    _check_device("eye", device)
    return ops.eye(n_rows, n_cols, k=k, dtype=dtype)


def meshgrid(*arrays: Array, indexing: str = "xy") -> list[Array]:
    """Return the coordinates of a grid, one array per vector given; views. "xy" exchanges the first two axes, "ij" does not."""
    if indexing not in ("xy", "ij"):
        raise ArgumentError(f"meshgrid: indexing is {indexing!r} but must be 'xy' or 'ij'")
    n = len(arrays)
    order = list(range(n))
    if indexing == "xy" and n > 1:
        order[:2] = 1, 0
    columns = [ops.reshape(x, tuple(-1 if axis == order[i] else 1 for axis in range(n))) for i, x in enumerate(arrays)]
    shape = tuple(arrays[order.index(axis)].shape[0] for axis in range(n))
    return [ops.broadcast_to(column, shape) for column in columns]
