"""Smooth activations with an exponential or rational tail: mish, selu, celu, softsign, logsigmoid. NaN passes through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.array import Array
from ..core.elementwise import elementwise
from ..core.errors import DTypeError, SettingError
from ..core.samples import A, Sample, bad, bench, s
from .threshold import checked

_FLOATS = ("float32", "float64", "float16", "bfloat16")
_NET = (bench("map", A((32, 64, 32, 32))), bench("row", A((64, 1024))))
_INTEGER = bad("integer", DTypeError, ("int32", "float", "astype"), A((3,), dtype="int32"))


def _samples(infinite: bool = True) -> tuple[Sample, ...]:
    """Return samples on both sides of 0, odd sizes, views and values that overflow an exponential; infinities if legal."""
    special = (float("nan"), 0.0, -0.0, 30.0, -30.0, 200.0, -200.0, *((float("inf"), -float("inf")) if infinite else ()))
    return (
        s("positive", A((3, 5), 0.1, 2.5)),
        s("negative", A((2, 17), -2.5, -0.1)),
        s("map", A((2, 3, 5, 5), 0.1, 4.0, view="channels_last")),
        s("odd", A((1, 1031), -2.9, -0.2, view="strided")),
        s("far", A((4, 6), 4.0, 8.0, view="transposed")),
        s("far below", A((4, 6), -8.0, -4.0)),
        s("empty", A((0, 4))),
        s("special", A((len(special),), values=special), gradient=False, dtypes=_FLOATS, why="NaN, inf, kinks"),
    )


# tanh(log(1 + e^x)) is rational in e = exp(-|x|): no overflow, no cancellation.
_MISH = "e = exp(-abs(x)); w = where(x > 0, (1 + 2 * e) / (1 + 2 * e + 2 * e * e), e * (e + 2) / (e * (e + 2) + 2))"


@elementwise(
    f"{_MISH}; x * w",
    gradients={"x": f"{_MISH}; p = where(x > 0, 1, e) / (1 + e); g * (w + x * (1 - w * w) * p)"},
    samples=_samples(infinite=False), bench=_NET, bad=(_INTEGER,),
)  # fmt: skip
def mish(x: Array) -> Array:
    """Mish: ``y = x tanh(log(1 + e^x))``; NaN at -inf, as in PyTorch. Misra 2019, arXiv:1908.08681."""


@elementwise(
    "where(x > 0, 1.0507009873554805 * x, 1.7580993408473766 * expm1(x))",
    gradients={"x": "g * where(x > 0, 1.0507009873554805, 1.7580993408473766 * exp(x))"},
    samples=_samples(), bench=_NET, bad=(_INTEGER,),
)  # fmt: skip
def selu(x: Array) -> Array:
    """Scaled ELU: ``y = s x`` where ``x > 0``, else ``s a (e^x - 1)``; s = 1.0507.., a = 1.6732.. Klambauer et al. 2017, arXiv:1706.02515."""


def _alpha(settings: Mapping[str, Any]) -> str:
    return "celu: alpha is 0 but x is divided by it; use relu" if settings["alpha"] == 0 else ""


@elementwise(
    checked("where(x > 0, x, alpha * expm1(x / alpha))", _alpha),
    gradients={"x": "where(x > 0, g, g * exp(x / alpha))"},
    samples=(*_samples(), s("alpha", A((3, 7), -2, -0.1), alpha=0.5)),
    bench=_NET, bad=(_INTEGER, bad("alpha", SettingError, ("alpha", "0", "relu"), A((3,)), 0.0)),
)  # fmt: skip
def celu(x: Array, alpha: float = 1.0) -> Array:
    """ELU with a continuous derivative: ``y = x`` where ``x > 0``, else ``alpha (e^(x / alpha) - 1)``. Barron 2017, arXiv:1704.07483."""


@elementwise(
    "x / (1 + abs(x))",
    gradients={"x": "d = 1 + abs(x); g / (d * d)"},
    samples=_samples(infinite=False), bench=_NET, bad=(_INTEGER,),
)  # fmt: skip
def softsign(x: Array) -> Array:
    """Softsign: ``y = x / (1 + |x|)``; NaN for infinite x, as in PyTorch."""


@elementwise(
    "minimum(x, 0) - log1p(exp(-abs(x)))",
    gradients={"x": "g / (1 + exp(x))"},
    samples=_samples(), bench=_NET, bad=(_INTEGER,),
)  # fmt: skip
def logsigmoid(x: Array) -> Array:
    """Logarithm of the logistic function: ``y = -log(1 + e^-x)``, computed without overflow."""
