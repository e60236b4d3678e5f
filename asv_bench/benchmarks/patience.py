"""How long NumPy's references are waited for: they are tests and no kernels, and the loops of some take a minute for one call."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .choice import Skip

_given_up: set[tuple[tuple[str, ...], str]] = set()


class _Late(BaseException):
    """Raised between two steps of a loop; no `except Exception` of a reference takes it."""


@contextmanager
def limited(seconds: float, case: tuple[str, ...], direction: str) -> Iterator[None]:
    """Give what is inside so many processor seconds; raise `Skip` after them, and at once for what would take no less.

    A case that was given up is not tried in another dtype; one whose forward call was, in no direction. Where the system has no
    timer of processor time (Windows), everything is waited for.

    Raises
    ------
    Skip
        If time is up, or `seconds` is 0.
    """
    if not seconds:
        raise Skip("NumPy runs the reference, which is a test and no kernel: not in this profile")
    late = f"NumPy runs the reference, whose loops did not end within {seconds:g} s of processor time"
    if not _given_up.isdisjoint({(case, "forward"), (case, direction)}):
        raise Skip(late)
    if not hasattr(signal, "setitimer"):
        yield
        return

    def interrupt(*_: Any) -> None:
        raise _Late

    before = signal.signal(signal.SIGPROF, interrupt)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    except _Late:
        _given_up.add((case, direction))
        raise Skip(late) from None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
