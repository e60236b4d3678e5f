"""Linear and Embedding."""

from __future__ import annotations

import numpy as np

from .. import ops
from ..core.array import Array
from ..core.errors import SettingError
from . import init
from .module import Module, parameter


class Linear(Module):
    """``y = x W^T + b`` on the last axis.

    Parameters
    ----------
    in_features, out_features : int
        Sizes of the last axis of x and y.
    bias : bool
        Whether there is a b.

    Attributes
    ----------
    weight : array, (out_features, in_features)
    bias : array, (out_features,), or None
        Both start uniform in +-1/sqrt(in_features).
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        check_sizes("Linear", in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        self.weight = parameter(init.kaiming_uniform((out_features, in_features), in_features))
        self.bias = parameter(init.kaiming_uniform((out_features,), in_features)) if bias else None

    def __call__(self, x: Array) -> Array:
        return ops.linear(x, self.weight, self.bias)


class Embedding(Module):
    """Rows of a table by their integer index: ``y[..., :] = weight[x[...], :]``.

    Parameters
    ----------
    num_embeddings, embedding_dim : int
        Rows and columns of the table; it starts normal with standard deviation 1.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None) -> None:
        check_sizes("Embedding", num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        self.num_embeddings, self.embedding_dim, self.padding_idx = num_embeddings, embedding_dim, padding_idx
        table = init.normal((num_embeddings, embedding_dim))
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise SettingError(f"Embedding: padding_idx is {padding_idx} but there are {num_embeddings} rows")
            table[padding_idx] = np.float32(0)
        self.weight = parameter(table)

    def __call__(self, x: Array) -> Array:
        return ops.embedding(x, self.weight, padding_idx=self.padding_idx)


def check_sizes(layer: str, **sizes: int) -> None:
    """Raise `SettingError` unless every size is an integer of at least 1."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
            raise SettingError(f"{layer}: {name} is {size!r} but an integer of at least 1 is needed")
