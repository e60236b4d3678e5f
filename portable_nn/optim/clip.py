"""Clipping of gradients by their common length."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..core import tree
from ..core.errors import SettingError


def global_norm(grads: Any) -> Any:
    """Return the length of all gradients taken as one vector, ``sqrt(sum g^2)``, as a 0-d array; nothing is read back.

    Raises
    ------
    SettingError
        A tree without arrays.
    """
    total = None
    for g in tree.leaves(grads):
        square = ops.sum(ops.square(g))
        total = square if total is None else ops.add(total, square)
    if total is None:
        raise SettingError("global_norm: the tree holds no gradient")
    return ops.sqrt(total)


def clip_by_global_norm(grads: Any, max_norm: float) -> tuple[Any, Any]:
    """Scale all gradients by one factor so that their common length is at most `max_norm`.

    Parameters
    ----------
    grads : tree of arrays
    max_norm : float
        Above 0.

    Returns
    -------
    grads : tree of arrays
        Times ``min(1, max_norm / (norm + 1e-6))``, as `torch.nn.utils.clip_grad_norm_`.
    norm : array, 0-d
        The length before clipping.

    Raises
    ------
    SettingError
        `max_norm` not above 0.
    """
    if not max_norm > 0:
        raise SettingError(f"clip_by_global_norm: max_norm is {max_norm!r} but a number above 0 is needed")
    norm = global_norm(grads)
    factor = ops.minimum(ops.divide(float(max_norm), ops.add(norm, 1e-6)), 1.0)
    return tree.map(lambda g: ops.multiply(g, factor), grads), norm
