"""Augmentations by name, as the command line and a file of settings write them: ``flip,crop:4,erase:p=0.5``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Protocol

from ..core.array import Array
from ..core.errors import SettingError
from .color import ColorJitter, Levels
from .erasing import Cutout, RandomErasing
from .geometry import Affine, Crop, Flip, Rotate, Shift


class Augmentation(Protocol):
    """A record of settings that changes a batch of normalised images (B, C, H, W) by draws from a key of its own."""

    def __call__(self, images: Array, key: Array, levels: Levels) -> Array:
        """Return images of the same shape and dtype."""
        ...


AUGMENTATIONS: dict[str, type[Any]] = {
    "flip": Flip, "crop": Crop, "shift": Shift, "rotate": Rotate, "affine": Affine, "jitter": ColorJitter,
    "cutout": Cutout, "erase": RandomErasing,
}  # fmt: skip


def describe() -> dict[str, str]:
    """Return each augmentation's name with its settings and defaults, as ``"affine:degrees=10.0:translate=0.1:scale=0.1"``."""
    return {
        name: ":".join([name, *(f"{f.name}={f.default}" for f in dataclasses.fields(kind))]) for name, kind in AUGMENTATIONS.items()
    }


def parse(text: str | Sequence[str | Augmentation]) -> tuple[Augmentation, ...]:
    """Return the augmentations that a text names, in its order.

    Parameters
    ----------
    text : str or sequence
        Names separated by commas; a name may be followed by settings in their order or by name, each after a colon:
        ``"flip"``, ``"crop:4"``, ``"affine:10:scale=0.2"``. In a sequence, records such as ``Flip()`` may stand beside names.

    Raises
    ------
    SettingError
        An unknown name or setting (with a close match), a value that is no number or out of range.
    """
    words: Sequence[Any] = [w for w in (w.strip() for w in text.split(",")) if w] if isinstance(text, str) else text
    return tuple(_one(word.strip()) if isinstance(word, str) else word for word in words)


def _one(word: str) -> Augmentation:
    name, *given = (part.strip() for part in word.split(":"))
    if name not in AUGMENTATIONS:
        raise SettingError(f"augment: there is no augmentation {name!r};{_close(name, AUGMENTATIONS)} known: {', '.join(AUGMENTATIONS)}")
    fields = {f.name: f for f in dataclasses.fields(AUGMENTATIONS[name])}
    values: dict[str, Any] = {}
    for number, part in enumerate(given):
        key, equals, value = part.rpartition("=")
        if not equals:
            if number >= len(fields):
                raise SettingError(f"augment: {word!r} has {len(given)} settings but {name} takes {len(fields)}: {', '.join(fields)}")
            key = list(fields)[number]
        if key not in fields:
            raise SettingError(f"augment: {name} has no setting {key!r};{_close(key, fields)} it has {', '.join(fields)}")
        try:
            values[key] = _number(value)
        except ValueError:
            raise SettingError(f"augment: {name}'s {key} is {value!r} but a number is needed, as in {describe()[name]!r}") from None
    made: Augmentation = AUGMENTATIONS[name](**values)
    return made


def _number(text: str) -> float:
    value = float(text)
    return int(value) if value.is_integer() else value


def _close(word: str, known: Any) -> str:
    near = get_close_matches(word, known, n=1)
    return f" did you mean {near[0]!r}?" if near else ""
