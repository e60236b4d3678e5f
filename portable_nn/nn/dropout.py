"""Dropout."""

from __future__ import annotations

from .. import ops
from ..core.array import Array
from ..core.errors import SettingError
from .context import current
from .module import Module


class Dropout(Module):
    """While training, sets each element to 0 with probability `p` and multiplies the others by ``1 / (1 - p)``.

    Which ones depends on the key of `apply` and on how many dropouts ran before in that call, and on nothing else.

    Parameters
    ----------
    p : float
        In [0, 1).
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p < 1:
            raise SettingError(f"Dropout: p is {p!r} but a number in [0, 1) is needed")
        self.p = float(p)

    def __call__(self, x: Array) -> Array:
        context = current()
        if context is None or not context.train or self.p == 0:
            return x
        return ops.dropout(x, self.p, context.fresh_key("Dropout"))
