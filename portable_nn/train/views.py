"""Test-time augmentation: several views of each image, and the mean of what the model says about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import ops
from ..core.array import Array

View = Callable[[Array], Array]


def _shifted(down: int, right: int) -> View:
    """Move an image by a pixel; the row or column that comes in repeats the one at the edge."""

    def view(x: Array) -> Array:
        for axis, move in ((2, down), (3, right)):
            size = x.shape[axis]
            if not move or size < 2:
                continue
            index = [slice(None)] * 4
            edge = list(index)
            index[axis] = slice(0, size - 1) if move > 0 else slice(1, size)
            edge[axis] = slice(0, 1) if move > 0 else slice(size - 1, size)
            parts = (x[tuple(edge)], x[tuple(index)])
            x = ops.concat(list(parts if move > 0 else parts[::-1]), axis=axis)
        return x

    return view


def _same(x: Array) -> Array:
    return x


def _flip(x: Array) -> Array:
    return ops.flip(x, axis=3)


_MOVES: tuple[View, ...] = (_same, _shifted(-1, -1), _shifted(1, 1))

VIEWS: dict[str, tuple[View, ...]] = {
    "none": (_same,),
    "flip": (_same, _flip),
    "shift": _MOVES,
    "flip+shift": tuple(lambda x, move=move, turn=turn: turn(move(x)) for move in _MOVES for turn in (_same, _flip)),  # type: ignore[misc]
}
"""Ways to look at an image, by the name of the setting `tta`."""


def scores_of(model: Any, images: Array, view: str = "none") -> Any:
    """Return the model's outputs, the mean over all views of each image."""
    views = VIEWS[view]
    total = model(views[0](images))
    for look in views[1:]:
        total = ops.add(total, model(look(images)))
    return total if len(views) == 1 else ops.multiply(total, 1.0 / len(views))
