"""NVIDIA's compiler without a GPU: NVRTC through cuda-bindings, with what ptxas says of registers, spills and memory."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

ARCHS = (75, 80, 90, 120)
# What the cupy adapter asks for, and what CuPy adds.
OPTIONS = ("--fmad=false", "--ftz=true", "--std=c++17")

_ENTRY = re.compile(r"Compiling entry function '(\w+)'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


@dataclass(frozen=True, slots=True)
class Resources:
    """What one kernel takes on one architecture; bytes per thread, but shared memory per block."""

    kernel: str
    arch: int
    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int

    def as_dict(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


class Refused(Exception):
    """The compiler refused the text, or had something to say about it."""


@cache
def missing() -> str:
    """Return why NVRTC cannot be used; empty if it can."""
    try:
        from cuda.bindings import nvrtc

        status, major, minor = nvrtc.nvrtcVersion()
    except Exception as error:  # an absent wheel raises ImportError, an absent library something else
        return f"NVRTC is not installed ({error}); pip install cuda-bindings nvidia-cuda-nvrtc"
    return "" if not int(status) else f"NVRTC {major}.{minor} does not answer ({status})"


@cache
def version() -> str:
    """Return the compiler's version."""
    from cuda.bindings import nvrtc

    _, major, minor = nvrtc.nvrtcVersion()
    return f"{major}.{minor}"


@cache
def archs() -> tuple[int, ...]:
    """Return those of ARCHS that this NVRTC knows."""
    from cuda.bindings import nvrtc

    _, known = nvrtc.nvrtcGetSupportedArchs()
    return tuple(a for a in ARCHS if a in known)


def compiled(text: str, arch: int) -> list[Resources]:
    """Compile a program; return what its kernels take.

    Raises
    ------
    Refused
        With the log, also for a warning.
    """
    from cuda.bindings import nvrtc as api

    _, program = api.nvrtcCreateProgram(text.encode(), b"kernel.cu", 0, [], [])
    options = [o.encode() for o in (f"--gpu-architecture=sm_{arch}", *OPTIONS, "--ptxas-options=-v")]
    (status,) = api.nvrtcCompileProgram(program, len(options), options)
    log = b" " * api.nvrtcGetProgramLogSize(program)[1]
    api.nvrtcGetProgramLog(program, log)
    api.nvrtcDestroyProgram(program)
    told = log.decode().strip("\x00 \n")
    if int(status) or "warning" in told:
        lines = [line for line in told.splitlines() if "ptxas info" not in line]
        raise Refused("\n".join(lines[:12]))
    return resources(told, arch)


def resources(log: str, arch: int) -> list[Resources]:
    """Read what ptxas -v wrote."""
    found = []
    for part in log.split("ptxas info")[1:]:
        entry = _ENTRY.search(part)
        if entry:
            name = entry[1]
        stack = _STACK.search(part)
        if stack:
            frame = tuple(map(int, stack.groups()))
        used = _USED.search(part)
        if used:
            shared = _SHARED.search(part)
            found.append(Resources(name, arch, int(used[1]), *frame, int(shared[1]) if shared else 0))
    return found
