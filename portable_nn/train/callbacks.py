"""Callbacks: what a run calls at its milestones, for code of one's own beside the loop.

>>> class Note(pnn.train.Callback):
...     def epoch(self, run, evaluation):
...         print(run.state.step, evaluation.accuracy)
>>> pnn.train.fit(model, train, valid, callbacks=[Note()])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .loop import Result, Run


class Callback:
    """Does nothing at each milestone; override those you need.

    `run.state` is the `TrainState`, `run.config` the settings, `run.folder` the run folder, `run.position` the place in the
    run, and ``run.stop_after_epoch("why")`` ends it in good order. A callback that raises ends the run; the last
    checkpoint stays.
    """

    def begin(self, run: Run) -> None:
        """Before the first step in this process."""

    def step(self, run: Run, loss: Any) -> None:
        """After every step; `loss` is a 0-d array on the device, and reading it waits for the device."""

    def logged(self, run: Run, row: dict[str, float | int | None]) -> None:
        """After a row of metrics was written."""

    def epoch(self, run: Run, evaluation: Any) -> None:
        """After every epoch and its test."""

    def end(self, run: Run, result: Result) -> None:
        """After the last epoch, when everything is written."""

    def close(self) -> None:
        """When the run is left, also by an error."""
