"""Ctrl-C and termination that wait for the end of a step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from ..core.errors import RunError


class Interrupted(RunError):
    """A run that was asked to stop, and wrote a checkpoint first.

    Parameters
    ----------
    folder : Path
        The run folder; `fit(resume=folder)` continues it.
    step : int
        Steps taken.
    signum : int
        The signal: SIGINT (Ctrl-C) or SIGTERM.
    """

    def __init__(self, folder: Path, step: int, signum: int) -> None:
        super().__init__(
            f"stopped after step {step}; the checkpoint is written. Continue with: portable-nn train --resume {folder}"
        )
        self.folder, self.step, self.signum = folder, step, signum


class Stop:
    """Remembers that a stop was asked for."""

    signum: int | None = None


@contextmanager
def delayed_interrupts() -> Iterator[Stop]:
    """Turn the first SIGINT or SIGTERM into a note that the loop reads; a second Ctrl-C stops at once.

    Outside the main thread nothing is changed, because Python handles signals there only.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(signum: int, frame: FrameType | None) -> None:
        del frame
        if stop.signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        stop.signum = signum

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
