"""What `x[...]` and `x[...] = v` mean for arrays of ours: which op is called, with an index that hashes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import dtypes
from .errors import ArgumentError, DTypeError
from .registry import find

if TYPE_CHECKING:
    from .array import ArrayOperators, DeviceArray

# One item per axis: int, slice as (start, stop, step), None or Ellipsis. Slices do not hash before Python 3.12.
Index = tuple[Any, ...]


def native(index: Index) -> tuple[Any, ...]:
    """Return `index` as NumPy takes it."""
    return tuple(slice(*item) if isinstance(item, tuple) else item for item in index)


def _bound(value: Any) -> int | None:
    try:
        return None if value is None else int(value.__index__())
    except AttributeError:
        raise ArgumentError(f"index: a slice from, to or by {value!r}; integers or None are needed") from None


def normal(index: Any) -> tuple[Index, int | None]:
    """Return the index as a tuple that hashes, and the position of an integer array in it (None: there is none)."""
    items = list(index) if isinstance(index, tuple) else [index]
    found = None
    for at, item in enumerate(items):
        if item is None or item is Ellipsis:
            continue
        if isinstance(item, slice):
            items[at] = (_bound(item.start), _bound(item.stop), _bound(item.step))
            continue
        if isinstance(item, list):
            item = items[at] = np.asarray(item, dtype=np.int64 if not item else None)
        dtype = bool if isinstance(item, bool) else getattr(item, "dtype", None)
        if dtype in (bool, dtypes.bool_):
            raise ArgumentError(
                "index: a boolean mask gives an array whose size depends on values, which kernels cannot know; "
                "use where(mask, x, 0), or take with integer indices"
            )
        if dtype is None or (isinstance(item, np.ndarray | np.generic) and item.ndim == 0 and dtypes.is_integer(dtype)):
            try:
                items[at] = int(item.__index__())
            except AttributeError:
                raise ArgumentError(f"index: {item!r} is not an integer, slice, None, ... or integer array") from None
            continue
        if not dtypes.is_integer(dtype):
            raise DTypeError(f"index: an array of {dtype} was given but integers are needed; convert it with astype")
        if found is not None:
            raise ArgumentError("index: two integer arrays in one index are not supported; use one take after the other")
        found = at
    return tuple(items), found


def get(x: ArrayOperators, index: Any) -> Any:
    """Return ``x[index]``: a view for basic indexing, `take` along one axis for an integer array."""
    items, at = normal(index)
    if at is None:
        return find("getitem")(x, items)
    chosen = items[at]
    basic = (*items[:at], (None, None, None), *items[at + 1 :])
    lead = 0
    for item in basic[:at]:
        if item is Ellipsis:
            named = sum(i is not None and i is not Ellipsis for i in basic)
            lead += x.ndim - named
        elif not isinstance(item, int):
            lead += 1
    part = x if basic == ((None, None, None),) else find("getitem")(x, basic)
    if isinstance(chosen, np.ndarray):
        chosen = _beside(x, chosen)
    if chosen.ndim == 1:
        return find("take")(part, chosen, axis=lead)
    taken = find("take")(part, find("reshape")(chosen, (-1,)), axis=lead)
    return find("reshape")(taken, (*part.shape[:lead], *chosen.shape, *part.shape[lead + 1 :]))


def _beside(x: Any, host: np.ndarray[Any, Any]) -> Any:
    """Return a host array where `x` lives."""
    while hasattr(x, "tape"):
        x = x.value
    backend = getattr(x, "backend", None)
    return host if backend is None else backend.from_numpy(host)


def put(x: DeviceArray, index: Any, value: Any) -> None:
    """Write `value`, broadcast and converted to x's dtype, into ``x[index]``."""
    items, at = normal(index)
    if at is not None:
        raise ArgumentError("index: writing through an integer array is not supported; write slices, or use where")
    target = find("getitem")(x, items)
    if isinstance(value, bool | int | float | complex):
        value = find("full_like")(find("getitem")(target, (0,) * target.ndim), value) if target.size else None
    elif isinstance(value, np.ndarray | np.generic):
        value = x.backend.from_numpy(np.asarray(value))
    elif not hasattr(value, "storage"):
        raise ArgumentError(f"index: {type(value).__name__} cannot be written into an array; give a number or an array")
    if target.size:
        if getattr(value, "storage", None) is x.storage:  # the parts may overlap: read all before writing any
            value = find("astype")(value, x.dtype)
        x.backend.write(target, find("broadcast_to")(value, target.shape))
        x.storage.version += 1
