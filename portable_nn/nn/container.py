"""Layers that hold others or only reshape."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..core.array import Array
from ..core.errors import ShapeError
from .module import Module


class Sequential(Module):
    """Calls its layers one after the other; they are named "0", "1", ... as in PyTorch."""

    def __init__(self, *layers: Module) -> None:
        for i, layer in enumerate(layers):
            setattr(self, str(i), layer)

    def __call__(self, x: Array) -> Array:
        for layer in self:
            x = layer(x)
        return x

    def __len__(self) -> int:
        return len(self._kinds)

    def __getitem__(self, index: int) -> Any:
        return list(self)[index]

    def __iter__(self) -> Any:
        return iter(self.tree_children().values())


class Identity(Module):
    """Returns its input."""

    def __call__(self, x: Array) -> Array:
        return x


class Flatten(Module):
    """Joins the axes from `start_dim` to `end_dim` into one."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def __call__(self, x: Array) -> Array:
        ndim = len(x.shape)
        start, end = (d + ndim if d < 0 else d for d in (self.start_dim, self.end_dim))
        if not 0 <= start <= end < ndim:
            raise ShapeError(f"Flatten: x has shape {x.shape}; axes {self.start_dim}..{self.end_dim} are not there")
        joined = 1
        for n in x.shape[start : end + 1]:
            joined *= n
        return ops.reshape(x, (*x.shape[:start], joined, *x.shape[end + 1 :]))
