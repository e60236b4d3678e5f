"""A bar for what takes more than a moment, on a terminal only: piped output stays clean."""

from __future__ import annotations

import sys
from typing import Any


class Bar:
    """A bar by rich on stderr while a ``with`` block runs; silent where stderr is no terminal.

    Has the attributes and methods that pooch asks of a progress bar: `total`, `update`, `reset`, `close`.

    Parameters
    ----------
    title : str
    total : int
        Units to go; may be set later.
    """

    def __init__(self, title: str, total: int = 0) -> None:
        self.title, self._total = title, total
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Bar:
        if sys.stderr.isatty():
            from rich import progress as rich
            from rich.console import Console

            self._bar = rich.Progress(
                rich.TextColumn("{task.description}"), rich.BarColumn(), rich.TaskProgressColumn(),
                rich.TimeRemainingColumn(compact=True), console=Console(stderr=True), transient=True,
            )  # fmt: skip
            self._task = self._bar.add_task(self.title, total=self._total or None)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def total(self) -> int:
        """Units to go."""
        return self._total

    @total.setter
    def total(self, value: int) -> None:
        self._total = value
        if self._bar is not None:
            self._bar.update(self._task, total=value)

    def update(self, count: int) -> None:
        """Move on by `count` units."""
        if self._bar is not None:
            self._bar.advance(self._task, count)

    def reset(self) -> None:
        """Go back to the start."""
        if self._bar is not None:
            self._bar.reset(self._task, total=self._total or None)

    def close(self) -> None:
        """Do nothing: the block's end closes it."""
