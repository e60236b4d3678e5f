"""What optimisers share: an update of every leaf of a tree, and which leaves weight decay touches."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..core import tree
from ..core.errors import SettingError

State = dict[str, Any]
Decays = Callable[[str, Any], bool]

UNDECAYED = ("pos_embed", "cls_token")
"""Parameters of transformers that have many axes and are no weights: where a patch is, and the token that gathers."""


def weights_only(name: str, param: Any) -> bool:
    """Tell whether a parameter is a weight: biases, norms and layer scales (one axis) and embeddings of position are none.

    For `decays` of the optimisers: these parameters set offsets and scales, and drawing them to 0 does not simplify a model.
    """
    return len(param.shape) >= 2 and name.rpartition(".")[2] not in UNDECAYED


def decay_of(params: Any, weight_decay: float, decays: Decays | None) -> Any:
    """Return a tree with the weight decay of each leaf."""
    if decays is None:
        return tree.map(lambda _: float(weight_decay), params)
    named = tree.named_leaves(params)
    return tree.unflatten(params, [float(weight_decay) if decays(name, x) else 0.0 for name, x in named])


def update_leaves(update: Callable[..., tuple[Any, ...]], params: Any, *trees: Any) -> tuple[Any, ...]:
    """Return one tree per result of `update(param, *leaves of trees)`; nothing for a tree without leaves."""
    results = [
        update(*leaves) for leaves in zip(tree.leaves(params), *(tree.leaves(_same(params, t)) for t in trees), strict=True)
    ]
    return tuple(tree.unflatten(params, list(column)) for column in zip(*results, strict=True)) if results else ()


def _same(params: Any, other: Any) -> Any:
    """Return `other` in the order of `params`, or raise `ArgumentError` naming where the trees differ."""
    return tree.map(lambda _, leaf: leaf, params, other)


def check(name: str, good: bool, value: Any, needed: str) -> None:
    """Raise `SettingError` naming the value unless it is good."""
    if not good:
        raise SettingError(f"{name} is {value!r} but {needed} is needed")


def check_decay(name: str, weight_decay: float) -> None:
    """Raise `SettingError` for a weight decay below 0."""
    check(f"{name}: weight_decay", 0 <= weight_decay < math.inf, weight_decay, "a number of at least 0")
