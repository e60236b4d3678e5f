"""Arithmetic, bits and comparisons: the operators of the array API, broadcasting and promoting by its rules."""

from __future__ import annotations

from ..core.array import Array, ArrayOrScalar
from ..core.elementwise import elementwise
from ..core.errors import DTypeError, ShapeError
from ..core.samples import A, Sample, bad, bench, s

_NUMERIC = ("int", "float", "complex")
_REAL = ("int", "float")
_BITS = ("bool", "int")
_MIXED = bad("mixed kinds", DTypeError, ("int32", "float32"), A((2, 3), dtype="int32"), A((2, 3), dtype="float32"))
_SHAPES = bad("shapes", ShapeError, ("(2, 3)", "(4,)"), A((2, 3)), A((4,)))
_BENCH = (bench("1M", A((1024, 1024)), A((1024, 1024))), bench("bias", A((32, 64, 32, 32)), A((64, 1, 1))))
_PLAIN = A((3, 5))
_AWAY = A((3, 5), low=0.5, high=2.0)  # a divisor, or a base, away from zero


def _pairs(b: A) -> tuple[Sample, ...]:
    """Return the samples of a binary op: plain, broadcast both ways, views, scalar, odd and empty sizes."""
    low, high = b.low, b.high
    return (
        s("plain", A((3, 5), low, high), b),
        s("broadcast row", A((4, 3, 5), low, high), A((5,), low, high)),
        s("broadcast both", A((4, 1, 5), low, high), A((3, 1), low, high)),
        s("channel", A((2, 3, 7, 7), low, high), A((3, 1, 1), low, high)),
        s("transposed", A((33, 5), low, high, view="transposed"), A((33, 5), low, high)),
        s("reversed strided", A((6, 7), low, high, view="reversed"), A((6, 7), low, high, view="strided")),
        s("channels last", A((2, 3, 4, 5), low, high, view="channels_last"), A((2, 3, 4, 5), low, high, view="channels_last")),
        s("zero-d", A((), low, high), A((), low, high)),
        s("scalar", A((4, 9), low, high), 2),
        s("size one", A((1, 1), low, high), A((1,), low, high)),
        s("empty", A((0, 3), low, high), A((3,), low, high)),
        s("row past a group", A((3, 257), low, high), A((3, 257), low, high)),
    )


_NAN = s(
    "NaN inf zero", A((6,), values=(float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1.0)),
    A((6,), values=(1.0, float("inf"), 1.0, -0.0, 0.0, float("nan"))),
    gradient=False, dtypes=("float32", "float64", "float16", "bfloat16"), why="NaN and inf",
)  # fmt: skip


@elementwise("x1 + x2", gradients={"x1": "g", "x2": "g"}, kinds=("int", "float"), samples=(*_pairs(_PLAIN), _NAN), bad=(_MIXED, _SHAPES), bench=_BENCH)
def add(x1: ArrayOrScalar, x2: ArrayOrScalar) -> Array:
    """Add: ``y = x1 + x2``.

    Parameters
    ----------
    x1, x2 : array or Python scalar
        Shapes that broadcast; integer or real floating dtypes of one kind. Integers wrap.

    Returns
    -------
    array
        Broadcast shape, promoted dtype.

    Raises
    ------
    ShapeError, DTypeError
        Shapes that do not broadcast; kinds that the array API does not mix.
    """


@elementwise("x1 - x2", gradients={"x1": "g", "x2": "-g"}, kinds=("int", "float"), samples=(*_pairs(_PLAIN), _NAN), bad=(_MIXED, _SHAPES), bench=_BENCH)
def subtract(x1: ArrayOrScalar, x2: ArrayOrScalar) -> Array:
    """Subtract: ``y = x1 - x2``. Shapes broadcast, dtypes promote; see `add`."""


@elementwise(
    "x1 * x2", gradients={"x1": "g * x2", "x2": "g * x1"}, kinds=("int", "float"), samples=(*_pairs(_PLAIN), _NAN), bad=(_MIXED, _SHAPES), bench=_BENCH
)
def multiply(x1: ArrayOrScalar, x2: ArrayOrScalar) -> Array:
    """Multiply: ``y = x1 * x2``. Shapes broadcast, dtypes promote; see `add`."""


@elementwise(
    "x1 / x2", gradients={"x1": "g / x2", "x2": "-g * (y / x2)"}, samples=(*_pairs(_AWAY), _NAN), bad=(_MIXED, _SHAPES), bench=_BENCH
)
def divide(x1: ArrayOrScalar, x2: ArrayOrScalar) -> Array:
    """Divide: ``y = x1 / x2``, correctly rounded; real floating dtypes. ``x / 0`` is inf or NaN by IEEE 754."""


@elementwise("x1 // x2", kinds=_REAL, samples=(s("plain", A((3, 5)), _AWAY), s("signs", A((4,), values=(7, -7, 7, -7)), A((4,), values=(2, 2, -2, -2)))))
def floor_divide(x1: ArrayOrScalar, x2: ArrayOrScalar) -> Array:
    """Divide and round towards minus infinity: ``y = floor(x1 / x2)``. An integer divisor of 0 gives 0. No gradient rule: the derivative is 0 almost everywhere."""


@elementwise(
    "x1 % x2",
    gradients={"x1": "g", "x2": "-g * floor(x1 / x2)"},
    kinds=_REAL,
    samples=(
        s("plain", A((5,), values=(0.7, 1.9, -0.4, 3.3, -2.6)), A((5,), values=(0.5, 0.6, 0.3, 1.25, 0.8)), dtypes=("float32", "float64", "float16", "bfloat16")),
        s("signs", A((4,), values=(7, -7, 7, -7)), A((4,), values=(2, 2, -2, -2)), gradient=False, why="on the steps of floor"),
    ),
)
def remainder(x1: ArrayOrScalar, x2: ArrayOrScalar) -> Array:
    """Remainder with the sign of the divisor: ``y = x1 - x2 floor(x1 / x2)``. An integer divisor of 0 gives 0."""


@elementwise(
    "x1 ** x2",
    gradients={"x1": "g * x2 * x1 ** (x2 - 1)", "x2": "where(x1 == 0, 0, g * y * log(x1))"},
    kinds=_REAL,
    samples=(
        s("plain", A((3, 5), 0.5, 2.0), A((3, 5), dtype="float32"), dtypes=("float32",)),
        s("square", A((3, 5), 0.5, 2.0), 2),
        s("broadcast", A((3, 5), 0.5, 2.0), A((5,), 0.5, 2.0)),
    ),
)
def pow(x1: ArrayOrScalar, x2: ArrayOrScalar) -> Array:
    """Raise to a power: ``y = x1 ** x2``. The gradient by ``x2`` is 0 at ``x1 = 0``."""


_UNARY = (
    s("plain", A((3, 5))), s("views", A((4, 6, 5), view="transposed")), s("empty", A((0,))), s("zero-d", A(())), s("large", A((1, 1031))),
)  # fmt: skip


@elementwise("-x", gradients={"x": "-g"}, kinds=("int", "float"), samples=_UNARY)
def negative(x: Array) -> Array:
    """Negate: ``y = -x``. ``-0.0`` and ``0.0`` are exchanged."""


@elementwise("x", gradients={"x": "g"}, kinds=("int", "float"), samples=_UNARY)
def positive(x: Array) -> Array:
    """Return a copy: ``y = x``."""


@elementwise("abs(x)", gradients={"x": "g * sign(x)"}, kinds=_REAL, samples=(s("plain", A((3, 5), 0.2, 1.0)), s("negative", A((7,), -1.0, -0.2))))
def abs(x: Array) -> Array:
    """Absolute value: ``y = |x|``. The gradient at 0 is 0."""


@elementwise("sign(x)", kinds=_REAL, samples=(s("values", A((5,), values=(-2, -0.0, 0, 1, 3))),))
def sign(x: Array) -> Array:
    """Sign: -1, 0 or 1; NaN stays NaN. No gradient rule: the derivative is 0 almost everywhere."""


@elementwise(
    "maximum(x1, x2)",
    gradients={"x1": "where(x1 > x2, g, where(x1 == x2, 0.5 * g, 0))", "x2": "where(x2 > x1, g, where(x1 == x2, 0.5 * g, 0))"},
    kinds=_REAL,
    samples=(s("plain", A((3, 5), unique=True), A((3, 5), low=2.0, high=3.0)), _NAN, s("scalar", A((4, 5), 0.1, 0.9), 0.5, dtypes=("float32", "float64"))),
)
def maximum(x1: ArrayOrScalar, x2: ArrayOrScalar) -> Array:
    """Larger of two: NaN if either is. The gradient is shared equally where both are the same."""


@elementwise(
    "minimum(x1, x2)",
    gradients={"x1": "where(x1 < x2, g, where(x1 == x2, 0.5 * g, 0))", "x2": "where(x2 < x1, g, where(x1 == x2, 0.5 * g, 0))"},
    kinds=_REAL,
    samples=(s("plain", A((3, 5), unique=True), A((3, 5), low=2.0, high=3.0)), _NAN),
)
def minimum(x1: ArrayOrScalar, x2: ArrayOrScalar) -> Array:
    """Smaller of two: NaN if either is. The gradient is shared equally where both are the same."""


_ANY = ("bool", "int", "float")
_COMPARED = (s("plain", A((3, 5), -2, 2), A((3, 5), -2, 2)), s("broadcast", A((4, 1)), A((3,))), _NAN)


@elementwise("x1 == x2", kinds=_ANY, result="bool", samples=_COMPARED, bad=(_MIXED, _SHAPES))
def equal(x1: ArrayOrScalar, x2: ArrayOrScalar) -> Array:
    """Compare: ``x1 == x2`` as bool; NaN equals nothing."""


@elementwise("x1 != x2", kinds=_ANY, result="bool", samples=_COMPARED)
def not_equal(x1: ArrayOrScalar, x2: ArrayOrScalar) -> Array:
    """Compare: ``x1 != x2`` as bool."""


@elementwise("x1 < x2", kinds=_REAL, result="bool", samples=_COMPARED)
def less(x1: ArrayOrScalar, x2: ArrayOrScalar) -> Array:
    """Compare: ``x1 < x2`` as bool; false with NaN."""


@elementwise("x1 <= x2", kinds=_REAL, result="bool", samples=_COMPARED)
def less_equal(x1: ArrayOrScalar, x2: ArrayOrScalar) -> Array:
    """Compare: ``x1 <= x2`` as bool; false with NaN."""


@elementwise("x1 > x2", kinds=_REAL, result="bool", samples=_COMPARED)
def greater(x1: ArrayOrScalar, x2: ArrayOrScalar) -> Array:
    """Compare: ``x1 > x2`` as bool; false with NaN."""


@elementwise("x1 >= x2", kinds=_REAL, result="bool", samples=_COMPARED)
def greater_equal(x1: ArrayOrScalar, x2: ArrayOrScalar) -> Array:
    """Compare: ``x1 >= x2`` as bool; false with NaN."""


_BIT_PAIRS = (s("int", A((3, 5), dtype="int32", low=0, high=99), A((5,), dtype="int32", low=0, high=99)), s("bool", A((7,), dtype="bool"), A((7,), dtype="bool")))
_SHIFTS = (s("int", A((3, 5), dtype="int32", low=-99, high=99), A((5,), dtype="int32", low=0, high=9)), s("past the width", A((3,), dtype="int32", values=(-5, 5, 1)), A((3,), dtype="int32", values=(40, 33, 31))))


@elementwise("x1 & x2", kinds=_BITS, samples=_BIT_PAIRS, bad=(bad("float", DTypeError, ("float32", "bool or int"), A((2,), dtype="float32"), A((2,), dtype="float32")),))
def bitwise_and(x1: ArrayOrScalar, x2: ArrayOrScalar) -> Array:
    """Bits set in both; logical and of bools."""


@elementwise("x1 | x2", kinds=_BITS, samples=_BIT_PAIRS)
def bitwise_or(x1: ArrayOrScalar, x2: ArrayOrScalar) -> Array:
    """Bits set in either; logical or of bools."""


@elementwise("x1 ^ x2", kinds=_BITS, samples=_BIT_PAIRS)
def bitwise_xor(x1: ArrayOrScalar, x2: ArrayOrScalar) -> Array:
    """Bits set in one of both; exclusive or of bools."""


@elementwise("x1 << x2", kinds=("int",), samples=_SHIFTS)
def bitwise_left_shift(x1: ArrayOrScalar, x2: ArrayOrScalar) -> Array:
    """Shift bits left; a shift by the width or more gives 0."""


@elementwise("x1 >> x2", kinds=("int",), samples=_SHIFTS)
def bitwise_right_shift(x1: ArrayOrScalar, x2: ArrayOrScalar) -> Array:
    """Shift bits right, keeping the sign; a shift by the width or more gives 0 or -1."""


@elementwise("~x", kinds=("int",), samples=(s("int", A((3, 5), dtype="int32", low=-99, high=99)), s("byte", A((9,), dtype="uint8", low=0, high=255))))
def bitwise_invert(x: Array) -> Array:
    """Flip every bit; see `logical_not` for bools."""


@elementwise("x == 0", kinds=_ANY, result="bool", samples=(s("bool", A((7,), dtype="bool")), s("float", A((3,), values=(0, 1, -0.0)))))
def logical_not(x: Array) -> Array:
    """Whether ``x`` is zero or false."""
