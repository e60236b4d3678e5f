"""Axes: the one place where an axis setting is read, and where the shape of a reduction is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .errors import SettingError
from .op import setting_int
from .spec import Shape


def axis_of(name: str, axis: Any, ndim: int) -> int:
    """Return `axis` counted from the front, or raise naming the op."""
    number = setting_int(name, "axis", axis)
    if not -ndim <= number < ndim:
        raise SettingError(f"{name}: axis {number} does not exist in an array of {ndim} axes; use {-ndim} to {ndim - 1}")
    return number % ndim


def axes_of(name: str, axes: Any, ndim: int) -> tuple[int, ...]:
    """Return one axis or several, counted from the front and all different, or raise."""
    given = axes if isinstance(axes, list | tuple) else (axes,)
    found = tuple(axis_of(name, axis, ndim) for axis in given)
    if len(set(found)) != len(found):
        raise SettingError(f"{name}: axes {tuple(given)} name an axis twice (the array has {ndim} axes)")
    return found


def reduced_axes(name: str, axis: Any, ndim: int) -> tuple[int, ...]:
    """Return the axes a reduction with this `axis` setting runs over, in order; None means all."""
    return tuple(range(ndim)) if axis is None else tuple(sorted(axes_of(name, axis, ndim)))


def reduced_shape(shape: Sequence[int], axes: Sequence[int], keepdims: bool) -> Shape:
    """Return `shape` with `axes` made 1 (keepdims) or taken away."""
    return tuple(1 if i in axes else n for i, n in enumerate(shape) if keepdims or i not in axes)


def sum_to_axes(shape: Sequence[int], wanted: Sequence[int]) -> tuple[int, ...]:
    """Return the axes of an array of `shape` that are summed to make it `wanted`, which broadcasts to `shape`."""
    lead = len(shape) - len(wanted)
    return tuple(i for i, n in enumerate(shape) if i < lead or (wanted[i - lead] == 1 and n != 1))
