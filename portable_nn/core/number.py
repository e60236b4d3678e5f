"""Number: a Python number that a captured step is given, known only when the step runs.

Arithmetic on it is written down and done again at every replay, so that `1 - beta ** step` follows the step number. Where
a number is needed at once (a comparison, `float(x)`, a setting such as an axis), its value is used, and the capture holds
for that value only: another one records anew.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from .spec import WEAK


class Watcher(Protocol):
    """What is told that the step took the value of an argument."""

    def hold(self, leaves: frozenset[int]) -> None:
        """Note that the recording is right only for the present values of these arguments."""
        ...


def _text(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f"float({str(value)!r})"
    return repr(value)


class Number:
    """An expression over the numbers given to a step.

    Parameters
    ----------
    text : str
        Python source over ``a[0]``, ``a[1]``, ...
    value : int or float
        Its value in this recording.
    leaves : frozenset of int
        Which arguments it reads.
    watcher : Watcher
        Told when the value is taken.
    """

    __slots__ = ("_value", "leaves", "text", "watcher")
    __array_ufunc__ = None  # a NumPy array must not take it for an object
    _value: int | float

    def __init__(self, text: str, value: Any, leaves: frozenset[int], watcher: Watcher) -> None:
        self.text, self._value, self.leaves, self.watcher = text, value, leaves, watcher

    def taken(self) -> Any:
        """Return the present value, and hold the capture to it."""
        self.watcher.hold(self.leaves)
        return self._value

    def _join(self, other: Any, symbol: str, f: Callable[[Any, Any], Any], reflected: bool = False, call: str = "") -> Any:
        if isinstance(other, Number):
            leaves, text, value = self.leaves | other.leaves, other.text, other._value
        elif isinstance(other, int | float) and type(other).__module__ == "builtins":
            leaves, text, value = self.leaves, _text(other), other
        else:
            return NotImplemented
        left, right = ((text, value), (self.text, self._value))[:: 1 if reflected else -1]
        # The type of an integer's power depends on the exponent's sign: not known beforehand.
        if symbol == "**" and isinstance(left[1], int) and isinstance(right[1], int):
            self.watcher.hold(leaves)
            return f(left[1], right[1])
        text = f"{call}({left[0]}, {right[0]})" if call else f"({left[0]} {symbol} {right[0]})"
        return number(text, f(left[1], right[1]), leaves, self.watcher)

    def __neg__(self) -> Any:
        return number(f"(-{self.text})", -self._value, self.leaves, self.watcher)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return number(f"abs({self.text})", abs(self._value), self.leaves, self.watcher)

    def __repr__(self) -> str:
        return f"<{self.text} = {self._value!r}>"

    def __hash__(self) -> int:
        return hash(self.taken())

    def __float__(self) -> float:
        return float(self.taken())

    def __int__(self) -> int:
        return int(self.taken())

    def __bool__(self) -> bool:
        return bool(self.taken())

    def __round__(self, digits: int | None = None) -> Any:
        return round(self.taken(), digits)

    def __format__(self, how: str) -> str:
        return format(self.taken(), how)


class Integer(Number):
    """A number that is an int."""

    __slots__ = ()

    def __index__(self) -> int:
        return int(self.taken())


class Real(Number):
    """A number that is a float."""

    __slots__ = ()


def _install() -> None:
    """Give `Number` the operators of a Python number."""
    joined = {
        "add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**",
    }  # fmt: skip
    for name, symbol in joined.items():
        f = getattr(operator, name)

        def forward(self: Number, other: Any, symbol: str = symbol, f: Any = f) -> Any:
            return self._join(other, symbol, f)

        def reflected(self: Number, other: Any, symbol: str = symbol, f: Any = f) -> Any:
            return self._join(other, symbol, f, reflected=True)

        setattr(Number, f"__{name}__", forward)
        setattr(Number, f"__r{name}__", reflected)
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        f = getattr(operator, name)

        def compare(self: Number, other: Any, f: Any = f) -> Any:
            if not isinstance(other, Number | int | float):
                return NotImplemented
            return f(self.taken(), other.taken() if isinstance(other, Number) else other)

        setattr(Number, f"__{name}__", compare)


_install()
WEAK[Integer], WEAK[Real] = WEAK[int], WEAK[float]


def number(text: str, value: Any, leaves: frozenset[int], watcher: Watcher) -> Any:
    """Return an `Integer` or a `Real`, by the type of the value."""
    kind = Integer if isinstance(value, int) else Real
    return kind(text, value, leaves, watcher)


def plain_float(x: Any) -> Any:
    """Return `x` as a Python float; a number that is known only when a captured step runs stays what it is."""
    return x if isinstance(x, Number) else float(x)


def smaller(a: Any, b: Any) -> Any:
    """Return the smaller of two numbers; decided at every replay where one of them is known only then."""
    known = next((x for x in (a, b) if isinstance(x, Number)), None)
    return min(a, b) if known is None else known._join(b if known is a else a, "", min, call="min")


def compiled(texts: Sequence[str]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """Return a function that gives the values of expressions for the numbers of a call."""
    # Texts are made by this file alone.
    body = "".join(f"{text}, " for text in texts)
    made: Callable[[Sequence[Any]], tuple[Any, ...]] = eval(f"lambda a: ({body})")
    return made
