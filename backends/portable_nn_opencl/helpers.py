"""Helpers: processes that compile beside this one.

Compilers of CPU runtimes take turns within a process: with Intel's, eight programs in two threads took longer than one after
another (1.1 against 0.6 s on two cores). A process of its own needs half a second before its first program, so few programs are
not worth one. The process of a build probe has spent that half second already: it waits for the first programs.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from .devices import Found

POSIX = os.name == "posix"  # elsewhere a pipe is not passed on by number
WORTH = 6  # programs per process
_CLAIM = 4  # bytes of a number in the pipe, as in the script
_MOST = 4096  # claims that fit into a pipe; the rest is done here
_GLANCE = 0.001  # seconds between two looks whether helpers are done
_PATIENCE = 60.0  # seconds that a helper's last text may take

# Self-contained, and given as text: the child imports nothing of ours. OPEN needs a line that names the device; SERVE waits two
# minutes for a folder, and then whoever reads a number from the pipe of claims compiles that text.
OPEN = """
import json, os, sys, warnings
warnings.simplefilter("ignore")
import pyopencl as cl
devices = []
for platform in cl.get_platforms():
    try:
        devices += [(platform, device) for device in platform.get_devices()]
    except cl.Error:
        continue
wanted = json.loads(sys.stdin.readline() or sys.exit())
key = lambda p, d: [p.name.strip(), p.version.strip(), " ".join(d.name.split()), d.driver_version.strip()]
device = next((d for p, d in devices if key(p, d) == wanted), None) or sys.exit("the device is not there any more")
context = cl.Context([device])
"""
SERVE = """
import signal
signal.alarm(120)
folder = sys.stdin.readline().strip() or sys.exit()
signal.alarm(0)
with open(os.path.join(folder, "jobs.json")) as file:
    options, texts = json.load(file)
while claim := os.read(int(sys.argv[1]), 4):
    number = int.from_bytes(claim, "little")
    program = cl.Program(context, texts[number]).build(options, cache_dir=False)
    path = os.path.join(folder, str(number))
    with open(path + ".new", "wb") as file:
        file.write(program.get_info(cl.program_info.BINARIES)[0])
    os.replace(path + ".new", path)
os._exit(0)
"""
SCRIPT = OPEN + SERVE


class Crew:
    """Processes that take numbers from one pipe.

    Attributes
    ----------
    claims : int or None
        The pipe's end for reading; None where there are none.
    processes : list of subprocess.Popen
        They are told one line after another.
    """

    def __init__(self) -> None:
        self.claims: int | None = None
        self._numbers: int | None = None
        if POSIX:
            self.claims, self._numbers = os.pipe()
        self.processes: list[subprocess.Popen[bytes]] = []
        self._owner = os.getpid()

    def hire(self, script: str, stdout: int = subprocess.DEVNULL, stderr: int | IO[bytes] = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Start a process."""
        arguments = [sys.executable, "-c", script, str(self.claims)]
        passed = [] if self.claims is None else [self.claims]
        process = subprocess.Popen(arguments, pass_fds=passed, stdin=subprocess.PIPE, stdout=stdout, stderr=stderr)
        self.processes.append(process)
        return process

    def tell(self, line: str) -> None:
        """Give every process a line. One that has ended needs none."""
        for process in self.processes:
            say(process, line)

    def offer(self, count: int) -> None:
        """Put the numbers up to `count` into the pipe."""
        assert self._numbers is not None
        os.write(self._numbers, b"".join(n.to_bytes(_CLAIM, "little") for n in range(count)))
        os.close(self._numbers)
        self._numbers = None

    def close(self) -> None:
        """End the processes."""
        for end in (self.claims, self._numbers):
            if end is not None:
                os.close(end)
        self.claims = self._numbers = None
        for process in self.processes if os.getpid() == self._owner else ():
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):  # what was not read any more
                        stream.close()
        self.processes.clear()

    def works_for(self, found: Found) -> bool:
        """Tell whether this process left it waiting, with the device open, and it still waits."""
        return self._owner == os.getpid() and self.device == identity(found) and all(p.poll() is None for p in self.processes)

    device = ""  # the line that its processes opened


def say(process: subprocess.Popen[bytes], line: str) -> None:
    """Give a process a line. One that has ended needs none."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.write(f"{line}\n".encode())
        process.stdin.flush()


def identity(found: Found) -> str:
    """Return the line by which a script finds a device: indices change between processes."""
    return json.dumps([found.platform, found.platform_version, found.name, found.driver])


_waiting: list[Crew] = []  # at most one


def leave(crew: Crew | None) -> None:
    """Let a crew whose device is open wait for the first texts, in place of the one that waits."""
    while _waiting:
        _waiting.pop().close()
    if crew is not None:
        _waiting.append(crew)


atexit.register(leave, None)


def _crew_for(found: Found, count: int) -> Crew:
    """Return a crew that has the device open or is at it; the caller closes it."""
    crew = _waiting.pop() if _waiting else Crew()
    if crew.processes and not crew.works_for(found):
        crew.close()
        crew = Crew()
    try:
        while len(crew.processes) < count:
            say(crew.hire(SCRIPT), identity(found))
    except BaseException:
        crew.close()
        raise
    return crew


def processes_for(programs: int) -> int:
    """Return how many processes, this one among them, should compile so many programs."""
    if not POSIX or not sys.executable:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, programs // WORTH))


def share(found: Found, options: Sequence[str], texts: Sequence[str], here: Callable[[int], None], count: int) -> dict[int, bytes]:
    """Compile texts in this process and in helpers, each of which takes the next when it is done with one.

    Parameters
    ----------
    found : Found
        The device.
    options : sequence of str
        Of the compiler.
    texts : sequence of str
        Those that take longest first.
    here : callable
        ``here(number)`` compiles one in this process.
    count : int
        Helpers; see `processes_for`.

    Returns
    -------
    dict of int to bytes
        Binaries of those that helpers compiled. What a helper failed at was done here, where an error can be raised.
    """
    if count < 1:
        for number in range(len(texts)):
            here(number)
        return {}
    asked, done = min(len(texts), _MOST), set()
    with tempfile.TemporaryDirectory(prefix="portable_nn-") as name:
        folder = Path(name)
        (folder / "jobs.json").write_text(json.dumps([list(options), list(texts)]))
        crew = _crew_for(found, count)
        try:
            crew.offer(asked)
            crew.tell(name)
            assert crew.claims is not None
            while claim := os.read(crew.claims, _CLAIM):
                number = int.from_bytes(claim, "little")
                here(number)
                done.add(number)
            end = time.monotonic() + _PATIENCE
            while any(process.poll() is None for process in crew.processes) and time.monotonic() < end:
                time.sleep(_GLANCE)  # Popen.wait with a time limit looks every 50 ms
        finally:
            crew.close()
        binaries = {n: path.read_bytes() for n in range(asked) if n not in done and (path := folder / str(n)).is_file()}
    for number in range(len(texts)):
        if number not in done and number not in binaries:
            here(number)
    return binaries
