"""Does a device really work? Build and run one kernel in a process of its own, once per driver version.

Some drivers list a device whose every build fails, and some abort the process; neither may happen to the user's.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING

from . import helpers, runtimes
from .files import cache_folder, write_whole

if TYPE_CHECKING:
    from .devices import Found

TIMEOUT = 60.0  # seconds; a GPU driver may compile its own built-ins at first use
_BUSY = 5  # times as long where more wants to run than there are cores
_EXCEPTION = re.compile(r"[\w.]*(Error|Exception)\b")
_FORGET = 24 * 3600.0  # failures are tried again after a day: the cause may be gone, the driver version the same

# The process of a device that works stays, to compile the first programs.
TEST = """
import numpy as np
queue = cl.CommandQueue(context)
text = "__kernel void pnn_probe(__global int* y) { y[get_global_id(0)] = 3 * (int)get_global_id(0) + 1; }"
kernel = cl.Program(context, text).build(["-cl-std=CL1.2"], cache_dir=False).pnn_probe
y = np.zeros(64, np.int32)
buffer = cl.Buffer(context, cl.mem_flags.READ_WRITE, y.nbytes)
kernel(queue, (64,), (16,), buffer)
cl.enqueue_copy(queue, y, buffer)
if (y != 3 * np.arange(64) + 1).any():
    sys.exit("a kernel ran but gave wrong values")
print("works", flush=True)
nowhere = os.open(os.devnull, os.O_WRONLY)
os.dup2(nowhere, 1)
os.dup2(nowhere, 2)
"""
SCRIPT = helpers.OPEN + TEST + (helpers.SERVE if helpers.POSIX else "")


@dataclass(frozen=True, slots=True)
class Result:
    """What a probe found."""

    ok: bool
    reason: str = ""


def path(device: Found) -> Path:
    """Return the file that remembers the result for this device and driver."""
    return cache_folder() / f"probe-{hashlib.sha256(device.key.encode()).hexdigest()[:16]}.json"


def cached(device: Found) -> Result | None:
    """Return what an earlier probe found, if it still counts."""
    try:
        kept = json.loads(path(device).read_text())
        if kept["key"] == device.key and (kept["ok"] or time.time() - kept["time"] < _FORGET):
            return Result(bool(kept["ok"]), str(kept["reason"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass  # never written, or by something else: probe again
    return None


class _Probing:
    """A process that probes the device it is told."""

    def __init__(self) -> None:
        self.crew = helpers.Crew()
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - until the process has answered
        try:
            self._process = self.crew.hire(SCRIPT, subprocess.PIPE, self.errors)
        except OSError:
            self.crew.close()
            raise

    def answer(self, device: Found, timeout: float) -> Result:
        """Return what the process finds."""
        lines = queue.SimpleQueue[bytes]()

        def read() -> None:
            for line in self._process.stdout or ():
                lines.put(line)
            lines.put(b"")

        self.crew.device = helpers.identity(device)
        self.crew.tell(self.crew.device)
        threading.Thread(target=read, daemon=True).start()
        import_module("portable_nn_opencl.opencl")  # what is needed next, while the process is at it
        said, line = "", "-"
        limit, end = timeout, time.monotonic() + timeout
        while line and "works" not in line:
            try:
                line = lines.get(timeout=max(0, end - time.monotonic())).decode(errors="replace")
                said += line
            except queue.Empty:
                if limit > timeout or not _busy():
                    return Result(False, f"the build probe did not end within {limit:.0f} s")
                limit = _BUSY * timeout
                end += limit - timeout
        if line:
            return Result(True)
        try:
            status = self._process.wait(10)
        except subprocess.TimeoutExpired:
            return Result(False, "the build probe neither succeeded nor ended")
        if status < 0:
            return Result(False, f"the driver ended the probe process with signal {-status}")
        self.errors.seek(0)
        return Result(False, _told(self.errors.read().decode(errors="replace") + said, status))


def _busy() -> bool:
    """Tell whether more wants to run than there are cores."""
    try:
        return os.getloadavg()[0] > (os.cpu_count() or 1)
    except (OSError, AttributeError):
        return False


def _told(text: str, status: int) -> str:
    """Return the compiler's own words if there are any, else the last line of the traceback that names an exception."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    compiler = [line for line in lines if line.startswith("error:") or ": error:" in line]
    raised = [line for line in lines if _EXCEPTION.match(line)]
    telling = (compiler or raised[-1:] or lines[-1:] or [f"exit status {status}"])[0]
    return f"a test kernel failed: {telling[:200]}"


_begun: list[_Probing] = []  # at most one


@contextlib.contextmanager
def ahead() -> Iterator[None]:
    """Where no device was ever probed, start the process before the device is known: it starts while this one imports."""
    if sys.executable and find_spec("pyopencl") and next(cache_folder().glob("probe-*.json"), None) is None:
        runtimes.register()
        with contextlib.suppress(OSError):
            _begun.append(_Probing())
    try:
        yield
    finally:
        while _begun:
            probing = _begun.pop()
            probing.crew.close()
            probing.errors.close()


def run(device: Found, timeout: float = TIMEOUT) -> Result:
    """Build and run a kernel on `device` in a child process."""
    if not sys.executable:
        return Result(True, "not probed: this Python is embedded in another program")
    try:
        probing = _begun.pop() if _begun else _Probing()
    except OSError as error:
        return Result(False, f"the build probe did not start: {error}")
    result = Result(False)
    try:
        result = probing.answer(device, timeout)
    finally:
        if result.ok and helpers.POSIX:
            helpers.leave(probing.crew)
        else:
            probing.crew.close()
        probing.errors.close()
    return result


def passes(device: Found) -> Result:
    """Return whether `device` works, probing it if no result is remembered for its driver version."""
    result = cached(device)
    if result is None:
        result = run(device)
        kept = {"key": device.key, "ok": result.ok, "reason": result.reason, "time": time.time()}
        write_whole(path(device), json.dumps(kept).encode())
    return result
