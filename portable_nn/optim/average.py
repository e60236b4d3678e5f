"""Exponential moving averages of weights: a model that answers more steadily than the last step's."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..core import tree
from ..core.number import smaller
from .leaves import check


def average(averages: Any, values: Any, decay: float, step: int) -> Any:
    """Return the averages one step on: ``d averages + (1 - d) values``, with ``d = min(decay, (1 + step) / (10 + step))``.

    Parameters
    ----------
    averages, values : tree of arrays
        Of one form. Start with the values themselves.
    decay : float
        In [0, 1). About ``1 / (1 - decay)`` steps are remembered.
    step : int
        Steps taken before this one; early on less is remembered, so that the start is soon forgotten.

    Raises
    ------
    SettingError
        A decay outside [0, 1).
    """
    check("average: decay", 0 <= decay < 1, decay, "a number in [0, 1)")
    kept = smaller(float(decay), (1.0 + step) / (10.0 + step))
    return tree.map(lambda a, v: ops.average_step(a, v, kept), averages, values)
