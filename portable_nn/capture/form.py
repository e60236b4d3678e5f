"""The form of what a step is given and gives: which trees, which arrays, which numbers. What a capture is keyed by."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from ..core import tree
from ..core.array import DeviceArray
from ..core.errors import CaptureError
from ..core.number import Integer, Number, Real
from ..core.tape import Traced

Build = Callable[[Sequence[Any], Sequence[Any]], Any]
_NUMBERS = {int: int, float: float, Integer: int, Real: float}


class Leaves:
    """The arrays and numbers of a tree, in order, and the tree's form.

    Parameters
    ----------
    x : tree
        Dicts, lists, tuples and nodes; arrays; ints and floats, which are inputs; anything else that can be hashed, which
        belongs to the form.
    specs : bool
        Whether shapes, dtypes and strides belong to the form.
    """

    __slots__ = ("arrays", "form", "numbers", "specs")

    def __init__(self, x: Any, specs: bool = True) -> None:
        self.arrays: list[Any] = []
        self.numbers: list[Any] = []
        self.specs = specs
        self.form: Hashable = self._walk(x)

    def _walk(self, x: Any) -> Any:
        kind = type(x)
        if kind is DeviceArray:
            self.arrays.append(x)
            return x.spec if self.specs else DeviceArray
        number = _NUMBERS.get(kind)
        if number is not None:
            self.numbers.append(x)
            return number
        if kind is dict:
            return (dict, tuple(x), *[self._walk(v) for v in x.values()])
        if kind is tuple or kind is list:
            return (kind, *[self._walk(v) for v in x])
        if x is None:
            return None
        if tree.is_node(kind):
            children = x.tree_children()
            settings = {k: v for k, v in vars(x).items() if k not in children} if hasattr(x, "__dict__") else {}
            return (kind, _frozen(settings), tuple(children), *[self._walk(v) for v in children.values()])
        if hasattr(x, "dtype") and hasattr(x, "shape"):
            if kind is Traced:
                raise CaptureError("capture: a traced array was given or returned; capture the function that opens the tape")
            array = np.asarray(x) if isinstance(x, np.generic) else x
            self.arrays.append(array)
            return (array.shape, array.dtype, array.strides) if self.specs else DeviceArray
        if isinstance(x, list | tuple | dict):  # subclasses: named tuples, ordered dicts
            branches = list(x.values()) if isinstance(x, dict) else list(x)
            return (kind, tuple(x) if isinstance(x, dict) else len(x), *[self._walk(v) for v in branches])
        return (kind, _frozen(x))


def _frozen(x: Any) -> Hashable:
    """Return settings as something that can be hashed, in which 1, 1.0 and True differ."""
    if isinstance(x, dict):
        return ("dict", *[(k, _frozen(v)) for k, v in x.items()])
    if isinstance(x, list | tuple | set):
        return (type(x).__name__, *[_frozen(v) for v in x])
    try:
        hash(x)
    except TypeError:
        raise CaptureError(
            f"capture: a {type(x).__module__}.{type(x).__qualname__} was given, which is neither an array, a number nor a tree of them, and "
            "cannot be hashed, so a change of it would go unseen; make it a frozen dataclass, or use it from outside the step"
        ) from None
    return (type(x).__name__, x) if isinstance(x, int | float) else x


def rebuilder(x: Any, array: Callable[[Any], int], number: Callable[[Any], int]) -> Build:
    """Return a function that makes a tree like `x` of arrays and numbers.

    Parameters
    ----------
    x : tree
        The template.
    array, number : callable
        Return the position of an array, or of a `Number`, of the template among those the function will be given.
    """

    def make(x: Any) -> Build:
        if isinstance(x, Number):
            at = number(x)
            return lambda arrays, numbers: numbers[at]
        if x is None or isinstance(x, bool | int | float | str):
            return lambda arrays, numbers: x
        if hasattr(x, "dtype") and hasattr(x, "shape"):
            at = array(x)
            return lambda arrays, numbers: arrays[at]
        if type(x) is dict:
            pairs = [(k, make(v)) for k, v in x.items()]
            return lambda arrays, numbers: {k: f(arrays, numbers) for k, f in pairs}
        if type(x) in (tuple, list):
            parts, kind = [make(v) for v in x], type(x)
            return lambda arrays, numbers: kind([f(arrays, numbers) for f in parts])
        if isinstance(x, tuple) and hasattr(x, "_fields"):
            parts, named = [make(v) for v in x], type(x)
            return lambda arrays, numbers: named(*[f(arrays, numbers) for f in parts])
        if isinstance(x, dict):
            items = [(k, make(v)) for k, v in x.items()]
            return lambda arrays, numbers: _updated(x, {k: f(arrays, numbers) for k, f in items})
        if tree.is_node(type(x)):
            branches = [(k, make(v)) for k, v in x.tree_children().items()]
            return lambda arrays, numbers: x.tree_rebuild({k: f(arrays, numbers) for k, f in branches})
        return lambda arrays, numbers: x

    return make(x)


def restored(x: Any, arrays: Sequence[Any], numbers: Sequence[Any]) -> Any:
    """Return the tree `x` with other arrays and numbers, in the order of `Leaves`."""
    rest_a, rest_n = iter(arrays), iter(numbers)

    def walk(x: Any) -> Any:
        if type(x) in _NUMBERS:
            return next(rest_n)
        if x is None or isinstance(x, bool | str):
            return x
        if hasattr(x, "dtype") and hasattr(x, "shape"):
            return next(rest_a)
        if type(x) is dict:
            return {k: walk(v) for k, v in x.items()}
        if type(x) in (tuple, list):
            return type(x)([walk(v) for v in x])
        if isinstance(x, dict):
            return _updated(x, {k: walk(v) for k, v in x.items()})
        if isinstance(x, tuple):
            return type(x)(*[walk(v) for v in x])
        if tree.is_node(type(x)):
            return x.tree_rebuild({k: walk(v) for k, v in x.tree_children().items()})
        return x

    return walk(x)


def _updated(x: dict[Any, Any], values: dict[Any, Any]) -> dict[Any, Any]:
    made = x.copy()  # of the same class
    made.update(values)
    return made
