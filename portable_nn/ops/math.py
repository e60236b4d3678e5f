"""Elementwise functions of one or two real arrays, in the array API's spelling."""

from __future__ import annotations

from ..core.array import Array, ArrayOrScalar
from ..core.elementwise import elementwise
from ..core.errors import DTypeError
from ..core.samples import A, Sample, bad, bench, s

_FLOATS = ("float32", "float64", "float16", "bfloat16")
_BENCH = (bench("1M", A((1024, 1024))),)
_INT = (bad("integer", DTypeError, ("int32", "float"), A((3,), dtype="int32")),)


def _on(low: float, high: float, *special: float) -> tuple[Sample, ...]:
    """Return the samples of a function of one operand: inside [low, high], odd sizes, views, special values."""
    nan, inf = float("nan"), float("inf")
    values = (nan, inf, -inf, 0.0, -0.0, *special)
    return (
        s("plain", A((3, 5), low, high)),
        s("transposed", A((9, 4), low, high, view="transposed")),
        s("strided", A((3, 17), low, high, view="strided")),
        s("odd", A((1, 1031), low, high)),
        s("empty", A((0, 2))),
        s("special", A((len(values),), values=values), gradient=False, dtypes=_FLOATS, why="NaN, inf and signed zeros"),
    )


@elementwise("exp(x)", gradients={"x": "g * y"}, samples=_on(-3, 3, 1.0, -100.0), bench=_BENCH, bad=_INT)
def exp(x: Array) -> Array:
    """Exponential: ``y = e ** x``."""


@elementwise("expm1(x)", gradients={"x": "g * (y + 1)"}, samples=_on(-3, 3, 1e-4), bad=_INT)
def expm1(x: Array) -> Array:
    """``y = e ** x - 1``, accurate near 0."""


@elementwise("log(x)", gradients={"x": "g / x"}, samples=_on(0.1, 5, 1.0, -1.0), bench=_BENCH, bad=_INT)
def log(x: Array) -> Array:
    """Natural logarithm; -inf at 0, NaN below."""


@elementwise("log1p(x)", gradients={"x": "g / (1 + x)"}, samples=_on(-0.5, 5, 1e-4, -2.0), bad=_INT)
def log1p(x: Array) -> Array:
    """``y = log(1 + x)``, accurate near 0; NaN below -1."""


@elementwise("log2(x)", gradients={"x": "g / (x * 0.6931471805599453)"}, samples=_on(0.1, 5, 8.0), bad=_INT)
def log2(x: Array) -> Array:
    """Logarithm to base 2."""


@elementwise("log10(x)", gradients={"x": "g / (x * 2.302585092994046)"}, samples=_on(0.1, 5, 1000.0), bad=_INT)
def log10(x: Array) -> Array:
    """Logarithm to base 10."""


@elementwise("sqrt(x)", gradients={"x": "g * 0.5 / y"}, samples=_on(0.1, 5, 4.0, -1.0), bench=_BENCH, bad=_INT)
def sqrt(x: Array) -> Array:
    """Square root, correctly rounded where the device does; NaN below 0."""


@elementwise("rsqrt(x)", gradients={"x": "-0.5 * g * (y * y * y)"}, samples=_on(0.1, 5, 4.0), bad=_INT)
def rsqrt(x: Array) -> Array:
    """Reciprocal square root: ``y = 1 / sqrt(x)``."""


@elementwise("x * x", gradients={"x": "g * 2 * x"}, kinds=("int", "float"), samples=_on(-3, 3))
def square(x: Array) -> Array:
    """Square: ``y = x * x``."""


@elementwise("1 / x", gradients={"x": "-g * (y * y)"}, samples=_on(0.5, 3), bad=_INT)
def reciprocal(x: Array) -> Array:
    """Reciprocal: ``y = 1 / x``."""


@elementwise("sin(x)", gradients={"x": "g * cos(x)"}, samples=_on(-6, 6), bad=_INT)
def sin(x: Array) -> Array:
    """Sine of an angle in radians."""


@elementwise("cos(x)", gradients={"x": "-g * sin(x)"}, samples=_on(-6, 6), bad=_INT)
def cos(x: Array) -> Array:
    """Cosine of an angle in radians."""


@elementwise("tan(x)", gradients={"x": "g * (1 + y * y)"}, samples=_on(-1, 1), bad=_INT)
def tan(x: Array) -> Array:
    """Tangent of an angle in radians."""


@elementwise("asin(x)", gradients={"x": "g / sqrt(1 - x * x)"}, samples=_on(-0.9, 0.9, 1.0, 2.0), bad=_INT)
def asin(x: Array) -> Array:
    """Inverse sine in radians; NaN outside [-1, 1]."""


@elementwise("acos(x)", gradients={"x": "-g / sqrt(1 - x * x)"}, samples=_on(-0.9, 0.9, 1.0, 2.0), bad=_INT)
def acos(x: Array) -> Array:
    """Inverse cosine in radians; NaN outside [-1, 1]."""


@elementwise("atan(x)", gradients={"x": "g / (1 + x * x)"}, samples=_on(-5, 5), bad=_INT)
def atan(x: Array) -> Array:
    """Inverse tangent in radians."""


@elementwise("sinh(x)", gradients={"x": "g * cosh(x)"}, samples=_on(-3, 3), bad=_INT)
def sinh(x: Array) -> Array:
    """Hyperbolic sine."""


@elementwise("cosh(x)", gradients={"x": "g * sinh(x)"}, samples=_on(-3, 3), bad=_INT)
def cosh(x: Array) -> Array:
    """Hyperbolic cosine."""


@elementwise("asinh(x)", gradients={"x": "g / sqrt(1 + x * x)"}, samples=_on(-5, 5), bad=_INT)
def asinh(x: Array) -> Array:
    """Inverse hyperbolic sine."""


@elementwise("acosh(x)", gradients={"x": "g / sqrt(x * x - 1)"}, samples=_on(1.5, 5), bad=_INT)
def acosh(x: Array) -> Array:
    """Inverse hyperbolic cosine; NaN below 1."""


@elementwise("atanh(x)", gradients={"x": "g / (1 - x * x)"}, samples=_on(-0.9, 0.9, 1.0), bad=_INT)
def atanh(x: Array) -> Array:
    """Inverse hyperbolic tangent; NaN outside [-1, 1]."""


@elementwise("erf(x)", gradients={"x": "g * 1.1283791670955126 * exp(-(x * x))"}, samples=_on(-3, 3), bench=_BENCH, bad=_INT)
def erf(x: Array) -> Array:
    """Error function: ``y = 2 / sqrt(pi) * integral of exp(-t^2) from 0 to x``."""


@elementwise("floor(x)", kinds=("int", "float"), samples=_on(-3, 3, 2.5, -2.5))
def floor(x: Array) -> Array:
    """Round towards minus infinity.

    No gradient rule: the derivative is 0 almost everywhere, and training through it would stop without a word.
    """


@elementwise("ceil(x)", kinds=("int", "float"), samples=_on(-3, 3, 2.5, -2.5))
def ceil(x: Array) -> Array:
    """Round towards plus infinity.

    No gradient rule: the derivative is 0 almost everywhere, and training through it would stop without a word.
    """


@elementwise("trunc(x)", kinds=("int", "float"), samples=_on(-3, 3, 2.5, -2.5))
def trunc(x: Array) -> Array:
    """Round towards zero.

    No gradient rule: the derivative is 0 almost everywhere, and training through it would stop without a word.
    """


@elementwise("round(x)", kinds=("int", "float"), samples=_on(-3, 3, 0.5, 1.5, 2.5, -2.5))
def round(x: Array) -> Array:
    """Round to the nearest integer, halves to even.

    No gradient rule: the derivative is 0 almost everywhere, and training through it would stop without a word.
    """


@elementwise("isnan(x)", kinds=("int", "float"), result="bool", samples=_on(-3, 3))
def isnan(x: Array) -> Array:
    """Whether ``x`` is NaN."""


@elementwise("isinf(x)", kinds=("int", "float"), result="bool", samples=_on(-3, 3))
def isinf(x: Array) -> Array:
    """Whether ``x`` is infinite."""


@elementwise("isfinite(x)", kinds=("int", "float"), result="bool", samples=_on(-3, 3))
def isfinite(x: Array) -> Array:
    """Whether ``x`` is neither NaN nor infinite."""


@elementwise("signbit(x)", kinds=("float",), result="bool", samples=_on(-3, 3))
def signbit(x: Array) -> Array:
    """Whether the sign bit is set, ``-0.0`` included."""


_PLANE = (s("plain", A((3, 5), 0.5, 2), A((3, 5), 0.5, 2)), s("broadcast", A((4, 1), -2, -0.5), A((3,), 0.5, 2)), s("row", A((2, 65), 0.5, 2), A((2, 65), -2, -0.5)))


@elementwise("atan2(x1, x2)", gradients={"x1": "g * x2 / (x1 * x1 + x2 * x2)", "x2": "-g * x1 / (x1 * x1 + x2 * x2)"}, samples=_PLANE)
def atan2(x1: ArrayOrScalar, x2: ArrayOrScalar) -> Array:
    """Angle in radians of the point (x2, x1), in [-pi, pi]."""


@elementwise("hypot(x1, x2)", gradients={"x1": "g * x1 / y", "x2": "g * x2 / y"}, samples=_PLANE)
def hypot(x1: ArrayOrScalar, x2: ArrayOrScalar) -> Array:
    """``y = sqrt(x1^2 + x2^2)`` without overflow in between."""


@elementwise("copysign(x1, x2)", samples=_PLANE)
def copysign(x1: ArrayOrScalar, x2: ArrayOrScalar) -> Array:
    """Combine: the size of ``x1`` with the sign of ``x2``. No gradient rule: it is for taking values apart."""


@elementwise(
    "m = maximum(x1, x2); where(isinf(x1 - x2), m, where(x1 == x2, x1 + 0.6931471805599453, m + log1p(exp(-abs(x1 - x2)))))",
    gradients={"x1": "g * exp(x1 - y)", "x2": "g * exp(x2 - y)"},
    samples=_PLANE,
)
def logaddexp(x1: ArrayOrScalar, x2: ArrayOrScalar) -> Array:
    """``y = log(e^x1 + e^x2)`` without overflow in between."""
