"""The numba backend on a device: the cupy backend's arrays, streams and launches, with numba's kernels in place of the C text.

Numba compiles to what the driver loads (PTX; on AMD a code object) and its part ends there. The kernel takes the arguments
its twin in C takes (bare pointers and scalars), so CuPy launches it like one of its own: 3 us instead of the tens of
microseconds in which numba's launcher looks at every array. This is the one adapter that stands on another; see docs/decisions.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cupy

from portable_nn.core.errors import BackendError
from portable_nn_cupy import devices as cupy_devices
from portable_nn_cupy.adapter import CupyBackend
from portable_nn_kernels.launch import Launch, Profile

from . import shim
from .programs import Program, program_of

# What names a kernel in PTX; in a code object its descriptor is a symbol, which has its name and ".kd".
_ENTRY = {".ptx": re.compile(rb"\.entry\s+([\w$]+)"), ".hsaco": re.compile(rb"\0([\w$.]+)\.kd\0")}


def target_of(index: int) -> str:
    """Return what kernels are compiled for on a device: "sm_90", or "gfx90a" (for any setting of its features)."""
    found = cupy_devices.properties(index)
    if cupy_devices.is_hip():
        name: bytes = found["gcnArchName"]
        return name.decode().partition(":")[0]
    return f"sm_{found['major']}{found['minor']}"


def cache_folder() -> Path:
    """Return where compiled kernels are kept, under XDG_CACHE_HOME or ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "portable_nn" / "numba"


def code_file(program: Program, target: str) -> Path:
    """Return the file with a compiled kernel, compiled now if it is not there."""
    path = cache_folder() / f"{program.name}-{target}-{program.digest}{shim.SUFFIX}"
    if not path.exists():
        code = program.compile(target).code()
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        with os.fdopen(handle, "wb") as file:
            file.write(code)
        os.replace(name, path)  # whole or not at all
    return path


class Programs:
    """The kernels loaded on one device."""

    def __init__(self, target: str) -> None:
        self.target = target
        self._kept: dict[str, Callable[..., None]] = {}

    def kernel(self, launch: Launch) -> Callable[..., None]:
        """Return what launches a kernel, as CuPy's function objects do: (grid, block, arguments)."""
        program = program_of(launch)
        found = self._kept.get(program.digest)
        if found is None:
            found = self._kept[program.digest] = self._load(program)
        return found

    def _load(self, program: Program) -> Callable[..., None]:
        path = code_file(program, self.target)
        entry = _ENTRY[path.suffix].search(path.read_bytes())
        if entry is None:
            raise BackendError(f"{program.name}: what {shim.PACKAGE} made holds no kernel ({path})")
        try:
            function: Callable[..., None] = cupy.RawModule(path=str(path)).get_function(entry[1].decode()).kernel
        except cupy.cuda.driver.CUDADriverError as error:
            raise BackendError(
                f"{program.name}: the driver refused {path}, compiled for {self.target} by {shim.version()} ({error}); "
                f"is it older than the toolkit that {shim.PACKAGE} compiles with?"
            ) from error
        words = [i for i, p in enumerate(program.parameters) if p.kind == "word"]
        return _with_words(function, words) if words else function


def _with_words(function: Callable[..., None], words: Sequence[int]) -> Callable[..., None]:
    """Return `function` given each error word as the array that a kernel takes it for."""

    def launch(grid: tuple[int, ...], block: tuple[int, ...], args: list[Any]) -> None:
        full: list[Any] = []
        for i, value in enumerate(args):
            full += shim.word_arguments(value) if i in words else [value]
        function(grid, block, full)

    return launch


class NumbaBackend(CupyBackend):
    """Ops on a CUDA or ROCm device, by numba's kernels."""

    name = "numba"

    def __init__(self, index: int, profile: Profile | None = None) -> None:
        super().__init__(index, profile)
        self.profile = replace(self.profile, capability=0)  # numba has no tensor cores: their kernels have no twin here
        self.programs = Programs(target_of(index))  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<NumbaBackend on {self.device} ({self.index})>"
