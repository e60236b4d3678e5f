"""Oclgrind, a simulator that finds races, uninitialised reads, accesses out of bounds and divergent barriers: its environment and its log.

Its exit code and the results of API calls say nothing: only the log does.
"""

from __future__ import annotations

import os
from pathlib import Path

ENVIRONMENT = {
    "PYOPENCL_NO_CACHE": "1",
    # Unoptimised: the optimiser removes dead faulty accesses, and inserts `freeze`, which Oclgrind does not know.
    "PYOPENCL_BUILD_OPTIONS": "-cl-opt-disable",
    "OCLGRIND_DATA_RACES": "1", "OCLGRIND_UNINITIALIZED": "1", "OCLGRIND_UNIFORM_WRITES": "1", "OCLGRIND_MAX_ERRORS": "100000",  # of the process: behind them it would be silent
}  # fmt: skip

# A cache of its own: a program that is loaded as a binary has no text to show.
PLACES = {"OCLGRIND_LOG": "{folder}/log", "XDG_CACHE_HOME": "{folder}"}


class Log:
    """The log of this process, which must have been started with `ENVIRONMENT`."""

    def __init__(self) -> None:
        wrong = {name for name, value in ENVIRONMENT.items() if os.environ.get(name) != value}
        assert not wrong, f"Oclgrind would look for less: {', '.join(sorted(wrong))} must be set as ladder.oclgrind.ENVIRONMENT says"
        self._path, self._read = Path(os.environ["OCLGRIND_LOG"]), 0

    def faults(self) -> str:
        """Return the faults since the last call."""
        text = self._path.read_text(errors="replace") if self._path.exists() else ""
        new, self._read = text[self._read :], len(text)
        return faults_in(new)


def faults_in(log: str) -> str:
    """Return what a log holds beside Oclgrind's own notices: nothing is excused."""
    return "\n".join(line for line in log.splitlines() if line.strip() and not line.startswith("Oclgrind:"))
