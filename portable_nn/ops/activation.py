"""Activations, one expression and one gradient each. NaN passes through; the gradient at a kink is stated with each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.array import Array
from ..core.elementwise import Choice, elementwise
from ..core.errors import DTypeError, SettingError
from ..core.samples import A, Sample, bad, bench, s

_FLOATS = ("float32", "float64", "float16", "bfloat16")
_NET = (bench("map", A((32, 64, 32, 32))), bench("row", A((64, 1024))), bench("large", A((8192, 1024))))
# relu also takes integers.
_BAD_RELU = (bad("bool", DTypeError, ("bool", "int or float", "astype"), A((3,), dtype="bool")),)
_BAD = (bad("integer", DTypeError, ("int32", "float", "astype"), A((3,), dtype="int32")),)


def _samples(**settings: Any) -> tuple[Sample, ...]:
    """Return samples on both sides of 0 and away from it, odd sizes, views and special values."""
    special = (float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 30.0, -30.0)
    return (
        s("positive", A((3, 5), 0.1, 2.5), **settings),
        s("negative", A((2, 17), -2.5, -0.1), **settings),
        s("map", A((2, 3, 5, 5), 0.1, 4.0, view="channels_last"), **settings),
        s("odd", A((1, 1031), -2.9, -0.2, view="strided"), **settings),
        s("empty", A((0, 4)), **settings),
        s("special", A((7,), values=special), gradient=False, dtypes=_FLOATS, why="NaN, inf, kinks", **settings),
    )


@elementwise("maximum(x, 0)", gradients={"x": "where(y > 0, g, 0)"}, samples=_samples(), bench=_NET, bad=_BAD_RELU, kinds=("int", "float"))
def relu(x: Array) -> Array:
    """Rectified linear unit: ``y = max(x, 0)``.

    Parameters
    ----------
    x : array
        Any shape, real dtype.

    Returns
    -------
    array
        Same shape and dtype. NaN stays NaN. The gradient is ``g`` where ``y > 0`` and 0 elsewhere, at 0 and NaN too.

    Notes
    -----
    One operation per element. Nair and Hinton 2010.
    """


@elementwise("where(x > 0, x, x * negative_slope)", gradients={"x": "where(x > 0, g, g * negative_slope)"}, samples=(*_samples(), s("slope", A((4, 9), -2, -0.1), negative_slope=0.2)), bench=_NET, bad=_BAD)
def leaky_relu(x: Array, negative_slope: float = 0.01) -> Array:
    """Leaky ReLU: ``y = x`` where ``x > 0``, else ``negative_slope x``. The gradient at 0 is ``negative_slope``."""


_TANH = "u = 0.7978845608028654 * (x + 0.044715 * x * x * x)"


def _approximate(exact: str, tanh: str) -> Choice:
    def pick(settings: Mapping[str, Any], absent: frozenset[str]) -> str:
        del absent
        mode = settings["approximate"]
        if mode not in ("none", "tanh"):
            raise SettingError(f"gelu: approximate is {mode!r} but must be 'none' or 'tanh'")
        return exact if mode == "none" else tanh

    return Choice(pick, (exact, tanh))


@elementwise(
    _approximate("0.5 * x * (1 + erf(x * 0.7071067811865476))", f"{_TANH}; 0.5 * x * (1 + tanh(u))"),
    gradients={
        "x": _approximate(
            "g * (0.5 * (1 + erf(x * 0.7071067811865476)) + x * 0.3989422804014327 * exp(-0.5 * x * x))",
            f"{_TANH}; t = tanh(u); g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * 0.7978845608028654 * (1 + 0.134145 * x * x))",
        )
    },
    samples=(*_samples()[:5], *(s(f"{x.name} tanh", *x.args, approximate="tanh") for x in _samples()[:3])),
    bench=_NET,
    bad=(*_BAD, bad("mode", SettingError, ("approximate", "'erf'", "'tanh'"), A((3,)), approximate="erf")),
)
def gelu(x: Array, approximate: str = "none") -> Array:
    """Gaussian error linear unit: ``y = x Phi(x) = x / 2 (1 + erf(x / sqrt(2)))``.

    Parameters
    ----------
    x : array
        Any shape, real floating dtype.
    approximate : "none" or "tanh"
        "tanh": ``y = x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))``.

    Returns
    -------
    array
        Same shape and dtype.

    Notes
    -----
    Hendrycks and Gimpel 2016, arXiv:1606.08415.
    """


@elementwise("1 / (1 + exp(-x))", gradients={"x": "g * y * (1 - y)"}, samples=_samples(), bench=_NET, bad=_BAD)
def sigmoid(x: Array) -> Array:
    """Logistic function: ``y = 1 / (1 + e^-x)``; 0 and 1 at the ends, never NaN for finite x."""


@elementwise("tanh(x)", gradients={"x": "g * (1 - y * y)"}, samples=_samples(), bench=_NET, bad=_BAD)
def tanh(x: Array) -> Array:
    """Hyperbolic tangent: ``y = (e^x - e^-x) / (e^x + e^-x)``."""


@elementwise("x / (1 + exp(-x))", gradients={"x": "p = 1 / (1 + exp(-x)); g * p * (1 + x * (1 - p))"}, samples=_samples()[:5], bench=_NET, bad=_BAD)
def silu(x: Array) -> Array:
    """Sigmoid linear unit (swish): ``y = x / (1 + e^-x)``. Elfwing et al. 2017, arXiv:1702.03118."""


@elementwise(
    "where(x * beta > threshold, x, log1p(exp(x * beta)) / beta)",
    gradients={"x": "where(x * beta > threshold, g, g / (1 + exp(-(x * beta))))"},
    samples=(*_samples(), s("beta", A((3, 7), -2, 2), beta=2.0, threshold=3.0), s("past the threshold", A((5,), 25, 40))),
    bench=_NET,
    bad=_BAD,
)
def softplus(x: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """Smooth ReLU: ``y = log(1 + e^(beta x)) / beta``, and ``y = x`` where ``beta x > threshold``."""


@elementwise("where(x > 0, x, alpha * expm1(x))", gradients={"x": "where(x > 0, g, g * (y + alpha))"}, samples=(*_samples(), s("alpha", A((3, 7), -2, -0.1), alpha=0.5)), bench=_NET, bad=_BAD)
def elu(x: Array, alpha: float = 1.0) -> Array:
    """Exponential linear unit: ``y = x`` where ``x > 0``, else ``alpha (e^x - 1)``. Clevert et al. 2015, arXiv:1511.07289."""


_HARD = (s("low", A((3, 5), -5, -3.2)), s("middle", A((3, 5), -2.8, 2.8)), s("high", A((2, 65), 3.2, 6)), s("views", A((4, 6), -2.8, 2.8, view="transposed")))


@elementwise("x * minimum(maximum(x + 3, 0), 6) / 6", gradients={"x": "where(x <= -3, 0, where(x >= 3, g, g * (x / 3 + 0.5)))"}, samples=_HARD, bench=_NET, bad=_BAD)
def hardswish(x: Array) -> Array:
    """Hard swish: ``y = x min(max(x + 3, 0), 6) / 6``. The gradient at -3 is 0, at 3 it is 1. Howard et al. 2019, arXiv:1905.02244."""


@elementwise("minimum(maximum(x + 3, 0), 6) / 6", gradients={"x": "where(x > -3, where(x < 3, g / 6, 0), 0)"}, samples=_HARD, bad=_BAD)
def hardsigmoid(x: Array) -> Array:
    """Hard sigmoid: ``y = min(max(x + 3, 0), 6) / 6``. The gradient at the kinks is 0."""


@elementwise("minimum(maximum(x, 0), 6)", gradients={"x": "where(x > 0, where(x < 6, g, 0), 0)"}, samples=(s("middle", A((3, 5), 0.2, 5.8)), s("low", A((2, 9), -2, -0.2)), s("high", A((2, 9), 6.2, 9))), bench=_NET, bad=_BAD)
def relu6(x: Array) -> Array:
    """ReLU capped at 6: ``y = min(max(x, 0), 6)``. The gradient at the kinks is 0."""
