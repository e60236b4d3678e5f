"""The driver's end of a worker: start it on a copy of portable_nn, ask, stop it when it hangs."""

from __future__ import annotations

import json
import os
import selectors
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

SUITE = Path(__file__).resolve().parents[1]


# OpenBLAS's threads spin for a tenth of a second after a product, and take a core from what is measured next (OpenCL's calls took
# 1.8 times as long on two cores); 2^14 cycles are enough for them to meet the next product of a burst. And glibc is asked for huge pages,
# so that where a process happens to find its memory shows less in its times.
QUIET = {"OPENBLAS_THREAD_TIMEOUT": "14", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


class WorkerDied(Exception):
    """The measured process ended or did not answer in time; its last words are the message."""


class Asked(Exception):
    """The measured process answered with an error."""


class Session:
    """A worker on one copy of portable_nn.

    Parameters
    ----------
    copy : path
        Root of a checkout: its `.` and `backends` are put on the worker's path.
    environment : mapping, optional
        Variables to set for the worker, such as PORTABLE_NN_BENCH_PROFILE; an empty one is taken away.
    python : str, optional
        Another interpreter: another set of dependencies.
    module : sequence of str, optional
        What it runs, with arguments.

    Notes
    -----
    PORTABLE_NN_BENCH_UNDER is put before the worker's command, such as ``taskset -c 1 chrt -f 20`` on a machine that others use. Never
    start the driver itself like that: what it asks of the kernel (worktrees, processes) waits for threads that it would then starve.
    Where that command waits for its turn (a lock), PORTABLE_NN_BENCH_SLICE says after how many seconds a worker gives way to others:
    it is then `stale`, and whoever measures one copy alone restarts it between two cases.
    """

    def __init__(self, copy: Path, environment: Mapping[str, str] | None = None, python: str | None = None, module: Sequence[str] = ("harness.worker",)) -> None:
        self.copy, self.python, self.module = copy, python or sys.executable, tuple(module)
        path = os.pathsep.join(map(str, (copy, copy / "backends", SUITE)))
        given = {**QUIET, **os.environ, **(environment or {}), "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
        self._environment = {name: value for name, value in given.items() if value}
        self._slice = float(self._environment.get("PORTABLE_NN_BENCH_SLICE") or 0)
        self._start()

    @property
    def stale(self) -> bool:
        """Whether others should have a turn."""
        return bool(self._slice) and time.monotonic() - self._began > self._slice

    def _start(self) -> None:
        self._said = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  (closed in `close`; a pipe that nobody reads would block the worker)
        self.process = subprocess.Popen(
            [*shlex.split(self._environment.get("PORTABLE_NN_BENCH_UNDER", "")), self.python, "-m", *self.module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said,
            text=True, env=self._environment, cwd=self.copy,
        )  # fmt: skip
        self.about = self.ask("hello", timeout=3600 if self._slice else 300)
        self._began = time.monotonic()

    def restart(self) -> None:
        """Start again after the worker died."""
        self.close()
        self._start()

    def ask(self, do: str, timeout: float = 120, **arguments: Any) -> Any:
        """Send a command and return the answer.

        Raises
        ------
        WorkerDied
            If the process ended, or has not answered after `timeout` seconds (it is stopped then).
        Asked
            If the command failed inside the worker.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise WorkerDied(self._last_words()) from None
        with selectors.DefaultSelector() as ready:
            ready.register(self.process.stdout, selectors.EVENT_READ)
            if not ready.select(timeout):
                self.process.kill()
                raise WorkerDied(f"no answer to {do} after {timeout:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            raise WorkerDied(self._last_words())
        answer = json.loads(line)
        if "error" in answer:
            raise Asked(answer["error"])
        return answer["ok"]

    def _last_words(self) -> str:
        self.process.wait(10)
        self._said.seek(0)
        said = self._said.read().strip().splitlines()
        return f"the worker ended with status {self.process.returncode}" + (f": {said[-1][:300]}" if said else "")

    def close(self) -> None:
        """End the worker."""
        if self.process.stdin and not self.process.stdin.closed:
            with suppress(BrokenPipeError):
                self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        self._said.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
