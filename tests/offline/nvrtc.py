"""NVIDIA's compiler without a GPU: NVRTC through cuda-bindings, with what ptxas says of registers, spills and memory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from .target import Refused, Resources, Target

NAME, TOOL = "nvidia", "nvrtc"
TARGETS = tuple(Target(f"sm_{arch}", "cuda") for arch in (75, 80, 90, 120))  # Turing, Ampere (A100), Hopper, Blackwell (RTX 50)
COLUMNS = {"registers": max, "spill": max, "private": max, "local": max, "warps": min}
LOCAL_BYTES = 48 * 1024
# What the cupy adapter asks for, and what CuPy adds.
OPTIONS = ("--fmad=false", "--ftz=true", "--std=c++17")

# Of a multiprocessor, by compute capability (CUDA C++ Programming Guide, table of technical specifications): warps, groups, KiB of shared memory.
# All have 65536 registers, handed out by 256 to a warp.
_ROOM = {"sm_75": (32, 16, 64), "sm_80": (64, 32, 164), "sm_90": (64, 32, 228), "sm_120": (48, 24, 100)}

_ENTRY = re.compile(r"Compiling entry function '(\w+)'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


@cache
def missing() -> str:
    """Return why NVRTC cannot be used; empty if it can."""
    try:
        from cuda.bindings import nvrtc

        status, major, minor = nvrtc.nvrtcVersion()
    except Exception as error:  # an absent wheel raises ImportError, an absent library something else
        return f"NVRTC is not installed ({error}); pip install cuda-bindings nvidia-cuda-nvrtc"
    if int(status):
        return f"NVRTC {major}.{minor} does not answer ({status})"
    _, known = nvrtc.nvrtcGetSupportedArchs()
    unknown = [target.name for target in TARGETS if int(target.name.removeprefix("sm_")) not in known]
    return f"NVRTC {major}.{minor} does not know {', '.join(unknown)}" if unknown else ""


@cache
def version() -> str:
    """Return the compiler's version."""
    from cuda.bindings import nvrtc

    _, major, minor = nvrtc.nvrtcVersion()
    return f"NVRTC {major}.{minor}"


def compiled(text: str, target: Target, items: Mapping[str, int]) -> list[Resources]:
    """Compile a program; return what its kernels take.

    Raises
    ------
    Refused
        With the log, also for a warning.
    """
    from cuda.bindings import nvrtc as api

    _, program = api.nvrtcCreateProgram(text.encode(), b"kernel.cu", 0, [], [])
    options = [o.encode() for o in (f"--gpu-architecture={target.name}", *OPTIONS, "--ptxas-options=-v")]
    (status,) = api.nvrtcCompileProgram(program, len(options), options)
    log = b" " * api.nvrtcGetProgramLogSize(program)[1]
    api.nvrtcGetProgramLog(program, log)
    api.nvrtcDestroyProgram(program)
    told = log.decode().strip("\x00 \n")
    if int(status) or "warning" in told:
        lines = [line for line in told.splitlines() if "ptxas info" not in line]
        raise Refused("\n".join(lines[:12]))
    return resources(told, target, items)


def resources(log: str, target: Target, items: Mapping[str, int]) -> list[Resources]:
    """Read what ptxas -v wrote; for a kernel that is not in `items`, with one warp to a group."""
    found = []
    for part in log.split("ptxas info")[1:]:
        entry = _ENTRY.search(part)
        if entry:
            name = entry[1]
        stack = _STACK.search(part)
        if stack:
            frame, stored, _ = map(int, stack.groups())
        used = _USED.search(part)
        if used:
            shared = _SHARED.search(part)
            taken = {"registers": int(used[1]), "spill": stored, "private": frame, "local": int(shared[1]) if shared else 0}
            taken["warps"] = resident(target, taken["registers"], taken["local"], items.get(name, 32))
            found.append(Resources(name, target, taken))
    return found


def resident(target: Target, registers: int, local: int, items: int) -> int:
    """Return how many warps a multiprocessor holds at once (its occupancy), for groups of so many work-items."""
    warps, groups, shared = _ROOM[target.name]
    each = -(-items // 32)
    by_registers = 65536 // (-(-registers * 32 // 256) * 256) // each
    by_shared = shared * 1024 // (local + 1024)  # the system takes 1 KiB of each group
    return each * min(warps // each, groups, by_registers, by_shared)
