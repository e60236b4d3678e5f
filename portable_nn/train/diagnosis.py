"""Why a loss is not finite: steps are taken again, and the first op that made such a number from finite ones is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..api import to_numpy
from ..nn import params
from .observe import BACKWARD, UPDATE, Seen, observed
from .step import TrainState


class _Found(Exception):
    """Ends the step at the call that was looked for."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def diagnose(state: TrainState, step: Callable[[TrainState], TrainState], scaled: bool = False) -> tuple[str | None, TrainState]:
    """Take a step and look at what every op gives.

    Parameters
    ----------
    state : TrainState
        Finite.
    step : callable
        Takes one step from a state.
    scaled : bool
        Loss scaling is on: gradients that overflow are expected, and left out by it.

    Returns
    -------
    found : str or None
        What made the first number that is not finite, in words.
    state : TrainState
        After the step; as it was if something was found.
    """
    names = {id(x): name for name, x in params(state.model).items()}

    def see(seen: Seen) -> None:
        if scaled and seen.phase in (BACKWARD, UPDATE):
            return
        for output in seen.outputs:
            host = _wide(output)
            if host is None or np.isfinite(host).all() or not seen.inputs:  # a constant was meant to be what it is
                continue
            inputs = [x for x in map(_wide, seen.inputs) if x is not None]
            if all(np.isfinite(x).all() for x in inputs):
                raise _Found(_words(state.step + 1, seen, host, inputs, names))
            if seen.phase == "input":
                raise _Found(f"the batch of step {state.step + 1} holds numbers that are not finite")

    try:
        with observed(state.model, see):
            return None, step(state)
    except _Found as found:
        return found.text, state


def _wide(x: Any) -> NDArray[np.float64] | None:
    """Return a floating array on the host; None for other kinds."""
    if x is None or x.dtype.kind not in "fV":
        return None
    return to_numpy(x).astype(np.float64)


def _words(step: int, seen: Seen, host: NDArray[np.float64], inputs: list[NDArray[np.float64]], names: dict[int, str]) -> str:
    index = tuple(int(i) for i in np.argwhere(~np.isfinite(host))[0])
    parameter = next((names[id(x)] for x in seen.inputs if id(x) in names and seen.phase == UPDATE), None)
    where = f"layer {seen.layer}" if seen.layer else f"parameter {parameter}" if parameter else "the loss" if seen.phase != UPDATE else "the optimizer"
    full = [x for x in inputs if x.size]
    span = f", from inputs between {min(x.min() for x in full):.3g} and {max(x.max() for x in full):.3g}" if full else ""
    many = int((~np.isfinite(host)).sum())
    return (
        f"The first number that is not finite was {host[index]} at index {index} ({many} of {host.size}): step {step}, {seen.phase}, "
        f"op {seen.op} in {where}{span}"
    )
