"""Processes that run a rung, op by op: one that dies or hangs fails the op it was at, and another goes on with the next."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from .rungs import ROOT, Rung, python_path

PATIENCE = 1800  # seconds for one op
OPS_EACH = 60  # then a fresh process: drivers keep memory


class _Worker:
    """One process and its pipes."""

    def __init__(self, rung: Rung, samples: int | None, dtypes: Sequence[str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="portable_nn-ladder-")
        self._errors = Path(self._folder.name) / "stderr"
        environment = os.environ | {"PYTHONPATH": python_path()}
        environment |= {name: value.replace("{folder}", self._folder.name) for name, value in rung.environment().items()}
        command = [*rung.prefix, sys.executable, "-m", "ladder.child", rung.name, str(samples or 0), *dtypes]
        with self._errors.open("w") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment, cwd=ROOT
            )
        self.ops = 0

    def run(self, op: str) -> dict[str, Any]:
        """Return what became of an op."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.ops += 1
        timer = threading.Timer(PATIENCE, self.process.kill)
        timer.start()
        try:
            self.process.stdin.write(op + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            late = not timer.is_alive()
            timer.cancel()
        if line:
            found: dict[str, Any] = json.loads(line)
            return found
        status = self.process.wait()
        words = self._errors.read_text(errors="replace").strip()
        said = f"more than {PATIENCE} s" if late else f"the process ended with {status}: {' '.join(words[-400:].split())}"
        return {"op": op, "cpu_seconds": 0.0, "counts": {op: {"forward": {"float32": [0, 1, 0]}}}, "failures": [f"{op}: {said}"], "skips": {}}

    @property
    def spent(self) -> bool:
        """Tell whether the next op needs another process."""
        return self.ops >= OPS_EACH or self.process.poll() is not None

    def close(self) -> None:
        """End the process."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._folder.cleanup()


def run(rung: Rung, ops: Sequence[str], samples: int | None, dtypes: Sequence[str], processes: int, started: Callable[[str], object]) -> Iterator[dict[str, Any]]:
    """Yield the results of ops as they come, in any order. No dtypes: all of them."""
    waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    done: queue.SimpleQueue[dict[str, Any] | BaseException | None] = queue.SimpleQueue()
    stop = threading.Event()
    for op in ops:
        waiting.put(op)
    for _ in range(processes):
        waiting.put(None)

    def work() -> None:
        worker: _Worker | None = None
        try:
            while (op := waiting.get()) is not None and not stop.is_set():
                if worker is not None and worker.spent:
                    worker.close()
                    worker = None
                worker = worker or _Worker(rung, samples, dtypes)
                started(op)
                done.put(worker.run(op))
        except BaseException as error:
            done.put(error)
        finally:
            if worker is not None:
                worker.close()
            done.put(None)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(processes)]
    for thread in threads:
        thread.start()
    try:
        left = processes
        while left:
            found = done.get()
            if found is None:
                left -= 1
            elif isinstance(found, BaseException):
                raise found
            else:
                yield found
    finally:
        stop.set()
