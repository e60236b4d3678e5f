"""What the shape rules of batch, layer and RMS norm check alike."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from ..core import dtypes
from ..core.errors import DTypeError, SettingError, ShapeError
from ..core.spec import Spec


def floating(name: str, **specs: Spec | None) -> dtypes.DType:
    """Return the promoted dtype; raise unless every operand is real floating."""
    for operand, spec in specs.items():
        if spec is not None and not dtypes.is_float(spec.dtype):
            raise DTypeError(f"{name}: {operand} is {spec.dtype.name} but a real floating dtype is needed; convert with astype")
    return dtypes.promote(name, *(spec.dtype for spec in specs.values() if spec is not None))


def positive_eps(name: str, eps: float) -> None:
    """Raise for a negative or NaN eps."""
    if not eps >= 0:
        raise SettingError(f"{name}: eps is {eps} but must be 0 or more")


def per_channel(name: str, x: Spec, **specs: Spec | None) -> None:
    """Raise unless x has a channel axis and each operand one number per channel."""
    if x.ndim < 2:
        raise ShapeError(f"{name}: x has shape {x.shape} but at least two axes (N, C, ...) are needed")
    for operand, spec in specs.items():
        if spec is not None and spec.shape != (x.shape[1],):
            raise ShapeError(f"{name}: {operand} has shape {spec.shape} but x of shape {x.shape} has {x.shape[1]} channels: {(x.shape[1],)} is needed")


def statistic(dtype: dtypes.DType) -> dtypes.DType:
    """Return the dtype statistics of arrays of `dtype` are kept in."""
    return dtypes.accumulator(dtype)


def normalized(name: str, x: Spec, normalized_shape: int | Sequence[int], **parameters: Spec | None) -> tuple[int, int]:
    """Return (rows, row length) of x for the trailing axes `normalized_shape`, which is the shape of weights and biases too."""
    wanted = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not wanted or x.shape[x.ndim - len(wanted) :] != wanted:
        raise ShapeError(f"{name}: x has shape {x.shape} but its last axes must be normalized_shape {wanted}")
    length = prod(wanted)
    if length == 0:
        raise ShapeError(f"{name}: normalized_shape {wanted} is empty: a row without elements has no mean")
    for parameter, spec in parameters.items():
        if spec is not None and spec.shape != wanted:
            raise ShapeError(f"{name}: {parameter} has shape {spec.shape} but normalized_shape is {wanted}; they must be the same")
    return x.size // length, length
