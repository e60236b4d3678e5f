"""Activations as layers; each calls the op of the same name."""

from __future__ import annotations

from .. import ops
from ..core.array import Array
from .module import Module


class ReLU(Module):
    """``max(x, 0)``, see `ops.relu`."""

    def __call__(self, x: Array) -> Array:
        return ops.relu(x)


class ReLU6(Module):
    """``min(max(x, 0), 6)``, see `ops.relu6`."""

    def __call__(self, x: Array) -> Array:
        return ops.relu6(x)


class LeakyReLU(Module):
    """``x`` above 0, ``negative_slope x`` below, see `ops.leaky_relu`."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = negative_slope

    def __call__(self, x: Array) -> Array:
        return ops.leaky_relu(x, self.negative_slope)


class GELU(Module):
    """``x Phi(x)``, exact or (``approximate="tanh"``) by tanh, see `ops.gelu`."""

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate

    def __call__(self, x: Array) -> Array:
        return ops.gelu(x, self.approximate)


class SiLU(Module):
    """``x sigmoid(x)``, see `ops.silu`."""

    def __call__(self, x: Array) -> Array:
        return ops.silu(x)


class Sigmoid(Module):
    """``1 / (1 + exp(-x))``, see `ops.sigmoid`."""

    def __call__(self, x: Array) -> Array:
        return ops.sigmoid(x)


class Tanh(Module):
    """Hyperbolic tangent, see `ops.tanh`."""

    def __call__(self, x: Array) -> Array:
        return ops.tanh(x)


class Softplus(Module):
    """``log(1 + exp(beta x)) / beta``, see `ops.softplus`."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta, self.threshold = beta, threshold

    def __call__(self, x: Array) -> Array:
        return ops.softplus(x, self.beta, self.threshold)


class ELU(Module):
    """``x`` above 0, ``alpha (exp(x) - 1)`` below, see `ops.elu`."""

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def __call__(self, x: Array) -> Array:
        return ops.elu(x, self.alpha)


class Hardswish(Module):
    """``x clamp(x + 3, 0, 6) / 6``, see `ops.hardswish`."""

    def __call__(self, x: Array) -> Array:
        return ops.hardswish(x)


class Softmax(Module):
    """``exp(x) / sum exp(x)`` along `dim`, see `ops.softmax`."""

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim

    def __call__(self, x: Array) -> Array:
        return ops.softmax(x, self.dim)
