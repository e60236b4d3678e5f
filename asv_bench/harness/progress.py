"""How far a command is, and how long it will take: a bar on a terminal, a line every half minute elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

EVERY = 30.0  # seconds between lines where there is no terminal


def duration(seconds: float) -> str:
    """Return a time that is left as people say it."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextmanager
def shown(pace: float = 0.0, clock: Callable[[], float] = monotonic) -> Iterator[Callable[[int, int, str], None]]:
    """Give a function that is told how many are done, how many there are, and which one it was.

    With a `pace`, in seconds for one, the first call says how long all of them are expected to take.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:60.60}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    started = said = clock()
    last, known = 0, False
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("starting", total=None)

        def show(at: int, of: int, text: str) -> None:
            nonlocal started, said, last, known
            if pace and not known:
                progress.console.print(f"{of} cases: about {duration(of * pace)} on two quiet cores", highlight=False)
            known = True
            if at <= last:  # the next of several runs
                started = clock()
            last = at
            progress.update(task, completed=at, total=max(of, at), description=text)
            now = clock()
            if not console.is_terminal and now - said >= EVERY and started < now and at < of:
                print(f"{at} of {of}, about {duration((now - started) / max(1, at) * (of - at))} left", file=sys.stderr, flush=True)
                said = now

        yield show
