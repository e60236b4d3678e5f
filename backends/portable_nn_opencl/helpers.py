"""Helpers: processes that compile beside this one.

Compilers of CPU runtimes take turns within a process: with Intel's, eight programs in two threads took longer than one after
another (1.1 against 0.6 s on two cores). A process of its own needs half a second before its first program, so few programs are
not worth one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .devices import Found

WORTH = 6  # programs per process
_CLAIM = 4  # bytes of a number in the pipe, as in the script
_MOST = 4096  # claims that fit into a pipe; the rest is done here
_PATIENCE = 60.0  # seconds that a helper's last program may take

# Self-contained, and given as text: the child imports nothing of ours. Whoever reads a number from the pipe compiles that text.
SCRIPT = """
import json, os, sys, warnings
warnings.simplefilter("ignore")
import pyopencl as cl
claims, folder = int(sys.argv[1]), sys.argv[2]
with open(os.path.join(folder, "jobs.json")) as file:
    wanted, options, texts = json.load(file)
devices = [(p, d) for p in cl.get_platforms() for d in p.get_devices()]
key = lambda p, d: [p.name.strip(), p.version.strip(), " ".join(d.name.split()), d.driver_version.strip()]
context = cl.Context([next(d for p, d in devices if key(p, d) == wanted)])
while claim := os.read(claims, 4):
    number = int.from_bytes(claim, "little")
    program = cl.Program(context, texts[number]).build(options, cache_dir=False)
    path = os.path.join(folder, str(number))
    with open(path + ".new", "wb") as file:
        file.write(program.get_info(cl.program_info.BINARIES)[0])
    os.replace(path + ".new", path)
"""


def share(found: Found, options: Sequence[str], texts: Sequence[str], here: Callable[[int], None]) -> dict[int, bytes]:
    """Compile programs in this process and in helpers, each of which takes the next when it is done with one.

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

    Returns
    -------
    dict of int to bytes
        Binaries of those that helpers compiled. What a helper failed at was done here, where an error can be raised.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = min(cores, len(texts) // WORTH) - 1 if os.name == "posix" and sys.executable else 0
    if count < 1:
        for number in range(len(texts)):
            here(number)
        return {}
    asked = min(len(texts), _MOST)
    with tempfile.TemporaryDirectory(prefix="portable_nn-") as name:
        folder = Path(name)
        wanted = [found.platform, found.platform_version, found.name, found.driver]
        (folder / "jobs.json").write_text(json.dumps([wanted, list(options), list(texts)]))
        claims, numbers = os.pipe()
        os.write(numbers, b"".join(n.to_bytes(_CLAIM, "little") for n in range(asked)))
        os.close(numbers)
        helpers: list[subprocess.Popen[bytes]] = []
        done = set()
        try:
            arguments = [sys.executable, "-c", SCRIPT, str(claims), name]
            for _ in range(count):
                helper = subprocess.Popen(arguments, pass_fds=[claims], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                helpers.append(helper)
            while claim := os.read(claims, _CLAIM):
                number = int.from_bytes(claim, "little")
                here(number)
                done.add(number)
            for helper in helpers:
                helper.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            pass
        finally:
            os.close(claims)
            for helper in helpers:
                helper.kill()
                helper.wait()
        binaries = {n: path.read_bytes() for n in range(asked) if n not in done and (path := folder / str(n)).is_file()}
    for number in range(len(texts)):
        if number not in done and number not in binaries:
            here(number)
    return binaries
