"""Settings are of the kind that their annotation says, or the call is refused before its shape rule sees them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from operator import index
from typing import Any

import numpy as np

from .errors import SettingError


@dataclass(frozen=True, slots=True)
class Kind:
    """What a setting must be, how that is said, and what makes a plain Python value of it (NumPy's scalars are settings too)."""

    types: tuple[type, ...]
    words: str
    plain: Callable[[Any], Any]


def _number(value: Any) -> int | float:
    return index(value) if isinstance(value, Integral) else float(value)


_KINDS = {
    "bool": Kind((bool, np.bool_), "True or False", bool),
    "int": Kind((Integral,), "a whole number", index),
    "float": Kind((Real,), "a real number", _number),  # 1 stays 1: of integers it clamps to an integer
    "str": Kind((str,), "text", str),
}
_ONE_OR_MORE = Kind((object,), "", lambda value: index(value) if isinstance(value, Integral) else value)  # the shape rule says how many


def kind_of(annotation: str) -> Kind | None:
    """Return what a setting must be; None for what only the shape rule knows."""
    name, _, other = annotation.partition(" | ")
    if name == "int" and other not in ("", "None"):
        return _ONE_OR_MORE
    if name not in _KINDS or other not in ("", "None"):
        return None
    kind = _KINDS[name]
    return Kind((*kind.types, type(None)), f"{kind.words} or None", kind.plain) if other else kind


def plain(op_name: str, name: str, value: Any, kind: Kind) -> Any:
    """Return the value of a setting as a Python value; raise if it is of another kind."""
    if not isinstance(value, kind.types):
        raise SettingError(f"{op_name}: {name} is {value!r} ({type(value).__name__}) but must be {kind.words}")
    return value if value is None else kind.plain(value)
