"""Activations in pieces: hardtanh, threshold and the shrinking ones. NaN passes through; the gradient at a kink is stated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..core.array import Array
from ..core.elementwise import Choice, elementwise
from ..core.errors import DTypeError, SettingError
from ..core.samples import A, Sample, bad, bench, s

_FLOATS = ("float32", "float64", "float16", "bfloat16")
_NET = (bench("map", A((32, 64, 32, 32))), bench("row", A((64, 1024))))
_INTEGER = bad("integer", DTypeError, ("int32", "float", "astype"), A((3,), dtype="int32"))


def checked(text: str, check: Callable[[Mapping[str, Any]], str]) -> Choice:
    """Return `text` for settings of which `check` finds nothing wrong; what it says otherwise is raised."""

    def pick(settings: Mapping[str, Any], absent: frozenset[str]) -> str:
        del absent
        wrong = check(settings)
        if wrong:
            raise SettingError(wrong)
        return text

    return Choice(pick, (text,))


def _samples(*bounds: tuple[float, float], **settings: Any) -> tuple[Sample, ...]:
    """Return samples inside each of `bounds`, between which the kinks lie, as maps, rows and views."""
    views = ("", "transposed", "strided", "reversed")
    shapes = ((3, 5), (2, 65), (1, 1031), (7, 4))
    found = [s(f"from {low} to {high}", A(shapes[i % 4], low, high, view=views[i % 4]), **settings) for i, (low, high) in enumerate(bounds)]
    special = (float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 0.5, -0.5, 1.0, -1.0)
    found.append(s("special", A((9,), values=special), gradient=False, dtypes=_FLOATS, why="NaN, inf, kinks", **settings))
    return (*found, s("empty", A((0, 4)), **settings))


def _range(settings: Mapping[str, Any]) -> str:
    low, high = settings["min_val"], settings["max_val"]
    return f"hardtanh: min_val {low!r} is above max_val {high!r}; exchange them" if low > high else ""


@elementwise(
    checked("minimum(maximum(x, min_val), max_val)", _range),
    gradients={"x": "where(x > min_val, where(x < max_val, g, 0), 0)"},
    samples=(*_samples((-4, -1.1), (-0.9, 0.9), (1.1, 4)), s("bounds", A((3, 40), -0.9, 1.8), min_val=-1.0, max_val=2.0)),
    bench=_NET, bad=(_INTEGER, bad("bounds", SettingError, ("2.0", "1.0", "exchange"), A((3,)), 2.0, 1.0)),
)  # fmt: skip
def hardtanh(x: Array, min_val: float = -1.0, max_val: float = 1.0) -> Array:
    """Hard tanh: ``y = min(max(x, min_val), max_val)``. The gradient at the kinks is 0."""


@elementwise(
    "where(x <= threshold, value, x)",
    gradients={"x": "where(x <= threshold, 0, g)"},
    samples=_samples((-3, 0.2), (0.3, 4), threshold=0.25, value=-7.0),
    bad=(bad("integer", DTypeError, ("int32", "float"), A((3,), dtype="int32"), 0.0, 1.0),),
)
def threshold(x: Array, threshold: float, value: float) -> Array:
    """Threshold: ``y = x`` where ``x > threshold``, else ``value``; NaN stays NaN. The gradient at the threshold is 0."""


@elementwise(
    "where(abs(x) <= lambd, 0, x)",
    gradients={"x": "where(abs(x) <= lambd, 0, g)"},
    samples=(*_samples((-4, -0.6), (-0.4, 0.4), (0.6, 4)), s("lambd", A((3, 40), 2.1, 3), lambd=2.0)),
    bench=_NET[:1], bad=(_INTEGER,),
)  # fmt: skip
def hardshrink(x: Array, lambd: float = 0.5) -> Array:
    """Hard shrinkage: ``y = x`` where ``|x| > lambd``, else 0. The gradient at the kinks is 0."""


def _positive(settings: Mapping[str, Any]) -> str:
    return f"softshrink: lambd is {settings['lambd']!r} but must not be below 0" if settings["lambd"] < 0 else ""


@elementwise(
    checked("where(abs(x) <= lambd, 0, x - copysign(lambd, x))", _positive),
    gradients={"x": "where(abs(x) <= lambd, 0, g)"},
    samples=(*_samples((-4, -0.6), (-0.4, 0.4), (0.6, 4)), s("lambd", A((3, 40), -3, -2.1), lambd=2.0)),
    bench=_NET[:1], bad=(_INTEGER, bad("lambd", SettingError, ("-0.5", "below 0"), A((3,)), -0.5)),
)  # fmt: skip
def softshrink(x: Array, lambd: float = 0.5) -> Array:
    """Soft shrinkage: ``y = sign(x) max(|x| - lambd, 0)``. The gradient at the kinks is 0."""


@elementwise(
    "x - tanh(x)",
    gradients={"x": "t = tanh(x); g * t * t"},
    samples=(*_samples((-4, -0.2), (-0.2, 0.2), (0.2, 4))[:-2], s("inf", A((3,), values=(float("nan"), float("inf"), -float("inf"))), gradient=False, dtypes=_FLOATS, why="NaN, inf")),
    bench=_NET[:1], bad=(_INTEGER,),
)  # fmt: skip
def tanhshrink(x: Array) -> Array:
    """Tanh shrinkage: ``y = x - tanh(x)``, exact to a rounding of x (small x cancel, as in PyTorch)."""
