"""Batch, layer and group normalisation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import ops
from ..core.array import Array
from ..core.errors import ShapeError
from .context import current
from .linear import check_sizes
from .module import Module, buffer, parameter


class _BatchNorm(Module):
    """Normalises each channel by the batch while training, by running statistics otherwise.

    Parameters
    ----------
    num_features : int
        C, the size of axis 1.
    eps : float
        Added to the variance.
    momentum : float
        Weight of the batch in the running statistics: ``running = (1 - momentum) running + momentum batch``, with
        the unbiased variance of the batch, as in PyTorch.
    affine : bool
        Whether each channel has a learned weight and bias.

    Attributes
    ----------
    weight, bias : array, (C,), or None
        Start at 1 and 0.
    running_mean, running_var : array, (C,)
        Buffers; their new values come out of `apply` as state.
    """

    axes: tuple[int, ...] = ()

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True) -> None:
        check_sizes(type(self).__name__, num_features=num_features)
        self.num_features, self.eps, self.momentum, self.affine = num_features, eps, momentum, affine
        self.weight = parameter(np.ones(num_features, np.float32)) if affine else None
        self.bias = parameter(np.zeros(num_features, np.float32)) if affine else None
        self.running_mean = buffer(np.zeros(num_features, np.float32))
        self.running_var = buffer(np.ones(num_features, np.float32))

    def __call__(self, x: Array) -> Array:
        if len(x.shape) not in self.axes:
            wanted = " or ".join(str(n) for n in self.axes)
            raise ShapeError(f"{type(self).__name__}: x has shape {x.shape} but {wanted} axes (N, C, ...) are needed")
        context = current()
        if context is None or not context.train:
            return ops.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        count = 1
        for n in (x.shape[0], *x.shape[2:]):
            count *= n
        if count < 2:
            raise ShapeError(
                f"{type(self).__name__}: x has shape {x.shape}, one value per channel, which has no variance; "
                "train with more than one image per batch (drop_last)"
            )
        y, mean, var = ops.batch_norm_train(x, self.weight, self.bias, eps=self.eps)
        running_mean, running_var = ops.running_statistics_step(
            self.running_mean, self.running_var, mean, var, float(self.momentum), count / (count - 1)
        )
        context.learn(self, running_mean=running_mean, running_var=running_var)
        return y


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (N, C) or (N, C, L)."""

    __doc__ = f"{__doc__}\n{(_BatchNorm.__doc__ or '').partition(chr(10))[2]}"
    axes = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of images (N, C, H, W)."""

    __doc__ = f"{__doc__}\n{(_BatchNorm.__doc__ or '').partition(chr(10))[2]}"
    axes = (4,)


class LayerNorm(Module):
    """Normalises the last axes of each example to mean 0 and variance 1, then scales and shifts.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        Sizes of those axes.
    eps : float
        Added to the variance.
    elementwise_affine, bias : bool
        Whether there is a learned weight, and with it a bias.
    """

    def __init__(
        self, normalized_shape: int | Sequence[int], eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True
    ) -> None:
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        check_sizes("LayerNorm", **{f"normalized_shape[{i}]": n for i, n in enumerate(shape)})
        self.normalized_shape, self.eps = shape, eps
        self.weight = parameter(np.ones(shape, np.float32)) if elementwise_affine else None
        self.bias = parameter(np.zeros(shape, np.float32)) if elementwise_affine and bias else None

    def __call__(self, x: Array) -> Array:
        return ops.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


class LayerNorm2d(LayerNorm):
    """Normalises the channels of each pixel of (N, C, H, W): `LayerNorm` over axis 1, as ConvNeXt has it."""

    def __init__(self, num_channels: int, eps: float = 1e-6) -> None:
        super().__init__(num_channels, eps)

    def __call__(self, x: Array) -> Array:
        return ops.permute(super().__call__(ops.permute(x, (0, 2, 3, 1))), (0, 3, 1, 2))


class GroupNorm(Module):
    """Normalises groups of channels of each example, see `ops.group_norm`; nothing is learned from the batch.

    Parameters
    ----------
    num_groups : int
        Divides `num_channels`.
    num_channels : int
        C, the size of axis 1.
    eps : float
        Added to the variance.
    affine : bool
        Whether each channel has a learned weight and bias.
    """

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True) -> None:
        check_sizes("GroupNorm", num_groups=num_groups, num_channels=num_channels)
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        self.weight = parameter(np.ones(num_channels, np.float32)) if affine else None
        self.bias = parameter(np.zeros(num_channels, np.float32)) if affine else None

    def __call__(self, x: Array) -> Array:
        return ops.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
