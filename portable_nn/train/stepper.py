"""Taking the steps of a run: captured and replayed where that works, call by call where it does not, which is said aloud."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import ops
from ..api import backend_of
from ..capture import capture
from ..core import tree
from ..core.array import Array
from ..core.errors import CaptureError
from .step import TrainState

Step = Callable[[TrainState, list[tuple[Array, Any]], float, Array], tuple[TrainState, Array, Any]]
"""``step(state, batches, lr, key) -> (state, loss, outputs)``."""


class Stepper:
    """Calls a step, captured if that was asked for and is possible.

    A captured step takes the memory of the state it is given (see `portable_nn.capture`): only the state that came out of
    the last call can be used, or one that `kept` copied.

    Parameters
    ----------
    step : callable
    captured : bool
        Whether to try.
    say : callable
        Told, in words, why a step cannot be captured, before it is taken call by call.
    """

    def __init__(self, step: Step, captured: bool, say: Callable[[str], None]) -> None:
        self._step, self._say = step, say
        self._captured: Any = capture(step, donate="state") if captured else None

    @property
    def captured(self) -> bool:
        """Whether steps are captured."""
        return self._captured is not None

    def __call__(self, state: TrainState, batches: list[tuple[Array, Any]], lr: float, key: Array) -> tuple[TrainState, Array, Any]:
        """Take one step; return the next state, the loss, and what the model gave for the last batch."""
        if self._captured is not None:
            try:
                made: tuple[TrainState, Array, Any] = self._captured(state, batches, lr, key)
                return made
            except CaptureError as error:  # raised before anything is launched: the state is as it was
                self._captured = None
                self._say(f"steps are not captured, which makes them slower (--no-capture says it beforehand): {error}")
        return self._step(state, batches, lr, key)

    def kept(self, state: TrainState) -> TrainState:
        """Return a state that later steps leave alone."""
        if not self.captured or not any(backend_of(x).plans_memory for x in tree.leaves(state.model)[:1]):
            return state
        copied: TrainState = tree.map(lambda x: ops.astype(x, x.dtype) if hasattr(x, "dtype") else x, state)
        return copied
