"""Helpers: processes that compile beside this one.

Compilers of CPU runtimes take turns within a process: with Intel's, eight programs in two threads took longer than one after
another (1.1 against 0.6 s on two cores). A process of its own needs half a second before its first program, so few programs are
not worth one. The process of a build probe has spent that half second already: it waits for the first programs, and compiles meanwhile
what will probably be among them.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
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

# Self-contained, and given as text: the child imports nothing of ours. OPEN needs a line that names the device. In SERVE whoever reads
# a number from the pipe of claims compiles the text of that number in the folder; a helper waits two minutes for one.
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
while True:
    signal.alarm(120)
    claim = os.read(int(sys.argv[1]), 4)
    signal.alarm(0)
    if not claim:
        os._exit(0)
    path = os.path.join(sys.argv[2], str(int.from_bytes(claim, "little")))
    with open(path + ".json") as file:
        options, text = json.load(file)
    program = cl.Program(context, text).build(options, cache_dir=False)
    with open(path + ".new", "wb") as file:
        file.write(program.get_info(cl.program_info.BINARIES)[0])
    os.replace(path + ".new", path)
"""
SCRIPT = OPEN + SERVE


class Crew:
    """Processes that take numbers from one pipe, and texts of these numbers from one folder.

    Attributes
    ----------
    folder : Path
        Has the text of number n as ``n.json``, and its binary, when it is done, as ``n``.
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
        self.folder = Path(tempfile.mkdtemp(prefix="portable_nn-"))
        self._offered: dict[str, int] = {}
        self.processes: list[subprocess.Popen[bytes]] = []
        self._owner = os.getpid()

    def hire(self, script: str, stdout: int = subprocess.DEVNULL, stderr: int | IO[bytes] = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Start a process."""
        arguments = [sys.executable, "-c", script, str(self.claims), str(self.folder)]
        passed = [] if self.claims is None else [self.claims]
        process = subprocess.Popen(arguments, pass_fds=passed, stdin=subprocess.PIPE, stdout=stdout, stderr=stderr)
        self.processes.append(process)
        return process

    def tell(self, line: str) -> None:
        """Give every process a line. One that has ended needs none."""
        for process in self.processes:
            say(process, line)

    def offer(self, options: Sequence[str], texts: Sequence[str]) -> dict[int, int]:
        """Put texts into the folder and their numbers into the pipe, those that are not there; return positions in `texts` by number."""
        assert self._numbers is not None
        found = {}
        for position, text in enumerate(texts):
            job = json.dumps([list(options), text])
            number = self._offered.get(job)
            if number is None and len(self._offered) < _MOST:
                number = self._offered[job] = len(self._offered)
                (self.folder / f"{number}.json").write_text(job)
                os.write(self._numbers, number.to_bytes(_CLAIM, "little"))
            if number is not None:
                found[number] = position
        return found

    def no_more(self) -> None:
        """Let processes that find the pipe empty end."""
        assert self._numbers is not None
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
        if os.getpid() == self._owner:
            shutil.rmtree(self.folder, ignore_errors=True)

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


def waits(found: Found) -> bool:
    """Tell whether a helper waits, with this device open."""
    return bool(_waiting) and _waiting[0].works_for(found)


def ahead(found: Found, options: Sequence[str], texts: Sequence[str]) -> None:
    """Let a helper that waits compile texts that `share` will probably be asked for."""
    if waits(found):
        _waiting[0].offer(options, texts)


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
    done, binaries = set(), dict[int, bytes]()
    crew = _crew_for(found, count)
    try:
        positions = crew.offer(options, texts)
        crew.no_more()
        assert crew.claims is not None
        while claim := os.read(crew.claims, _CLAIM):
            position = positions.get(int.from_bytes(claim, "little"))
            if position is not None:  # else: what was expected and is not needed
                here(position)
                done.add(position)
        end = time.monotonic() + _PATIENCE
        while any(process.poll() is None for process in crew.processes) and time.monotonic() < end:
            time.sleep(_GLANCE)  # Popen.wait with a time limit looks every 50 ms
        for number, position in positions.items():
            path = crew.folder / str(number)
            if position not in done and path.is_file():
                binaries[position] = path.read_bytes()
    finally:
        crew.close()
    for position in range(len(texts)):
        if position not in done and position not in binaries:
            here(position)
    return binaries
