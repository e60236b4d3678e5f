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
Match = Callable[[tuple[Any, ...], dict[str, Any]], "tuple[list[Any], list[Any]] | None"]
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
    """Return a function that makes a tree like `x` of arrays and numbers: one expression, because every replay ends with it.

    Parameters
    ----------
    x : tree
        The template.
    array, number : callable
        Return the position of an array, or of a `Number`, of the template among those the function will be given.
    """
    names: dict[str, Any] = {"updated": _updated}

    def named(x: Any) -> str:
        names[name := f"c{len(names)}"] = x
        return name

    def branches(x: Any) -> str:
        return "{" + "".join(f"{named(k)}: {text(v)}, " for k, v in x.items()) + "}"

    def text(x: Any) -> str:
        if isinstance(x, Number):
            return f"numbers[{number(x)}]"
        if x is None or isinstance(x, bool | int | float | str):
            return named(x)
        if hasattr(x, "dtype") and hasattr(x, "shape"):
            return f"arrays[{array(x)}]"
        if type(x) is dict:
            return branches(x)
        if type(x) is list:
            return f"[{', '.join(text(v) for v in x)}]"
        if type(x) is tuple:
            return f"({''.join(f'{text(v)}, ' for v in x)})"
        if isinstance(x, tuple) and hasattr(x, "_fields"):
            return f"{named(type(x))}({', '.join(text(v) for v in x)})"
        if isinstance(x, dict):
            return f"updated({named(x)}, {branches(x)})"
        if tree.is_node(type(x)):
            return f"{named(x)}.tree_rebuild({branches(x.tree_children())})"
        return named(x)

    made: Build = eval(f"lambda arrays, numbers: {text(x)}", names)
    return made


def matcher(args: tuple[Any, ...], kwargs: dict[str, Any], backend: Any) -> Match | None:
    """Return a function that gives arrays and numbers of arguments of the same form, on the same backend; else None.

    It tells in one go what `Leaves`, a look for the backend and a comparison of forms tell, in a tenth of their time. Forms with
    anything but dicts, tuples and lists of arrays of devices, Python numbers, None and bools have none, nor have those without an array.
    """
    names: dict[str, Any] = {"DeviceArray": DeviceArray, "backend": backend}
    lines, arrays, numbers = list[str](), list[str](), list[str]()

    def known(x: Any, name: str) -> bool:
        kind = type(x)
        if kind is DeviceArray:
            names[f"spec_{name}"] = x.spec
            refused = f"type({name}) is not DeviceArray or {name}.spec is not spec_{name} or {name}.backend is not backend"
            arrays.append(name)
        elif kind is int or kind is float:
            refused = f"type({name}) is not {kind.__name__}"
            numbers.append(name)
        elif x is None or kind is bool:
            refused = f"{name} is not {x}"
        elif kind is dict or kind is tuple or kind is list:
            names[f"keys_{name}"] = tuple(x) if kind is dict else len(x)
            refused = f"type({name}) is not {kind.__name__} or {'tuple' if kind is dict else 'len'}({name}) != keys_{name}"
        else:
            return False
        lines.append(f"if {refused}: return None")
        if kind not in (dict, tuple, list) or not x:
            return True
        parts = [f"{name}_{i}" for i in range(len(x))]
        lines.append(f"{', '.join(parts)}, = {name}{'.values()' if kind is dict else ''}")
        return all(known(v, part) for v, part in zip(x.values() if kind is dict else x, parts, strict=True))

    if not known(args, "a") or not known(kwargs, "k") or not arrays:
        return None
    body = "".join(f"    {line}\n" for line in [*lines, f"return [{', '.join(arrays)}], [{', '.join(numbers)}]"])
    exec(f"def match(a, k):\n{body}", names)
    made: Match = names["match"]
    return made


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
