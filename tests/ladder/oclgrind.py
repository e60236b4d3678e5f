"""Oclgrind, a simulator that finds races, uninitialised reads, accesses out of bounds and divergent barriers: its environment and its log.

Its exit code and the results of API calls say nothing: only the log does.
"""

from __future__ import annotations

import os
from pathlib import Path

# (kernel, how the fault begins, what the line of text holds) -> why it is none
EXPECTED: dict[tuple[str, str, str], str] = {
    ("pnn_conv_panels", "Uninitialized value written to global memory", "vstore8(v[e].hi,"): "Oclgrind 21.10 takes the upper half of any float16 for unset, also of one just "
    "loaded (tests/backend/test_ladder.py shows it on three lines of text); the lower halves, computed together with these, are not excused",
}
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
    """Return the blocks of a log that are not expected. A block is a line and the indented ones below it, the last of which is the line of text."""
    blocks: list[list[str]] = []
    for line in log.splitlines():
        if not line.strip():  # also a lone tab, below the line of text
            continue
        if line.startswith("\t") and blocks:
            blocks[-1].append(line)
        else:
            blocks.append([line])
    told = []
    for block in blocks:
        kernel = next((line.split(":")[1].strip() for line in block if line.strip().startswith("Kernel:")), "")
        expected = any(kernel == k and block[0].strip().startswith(fault) and text in block[-1] for k, fault, text in EXPECTED)
        if not expected and not block[0].startswith("Oclgrind:"):
            told.append("\n".join(block))
    return "\n".join(told)
