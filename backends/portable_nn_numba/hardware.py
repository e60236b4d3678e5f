"""The numba backend on a device: the cupy backend's arrays, streams and launches, with numba's kernels in place of the C text.

Numba compiles to PTX and its part ends there. The kernel takes the arguments its twin in C takes (bare pointers and
scalars), so CuPy launches it like one of its own: 3 us instead of the tens of microseconds in which numba's launcher
looks at every array. This is the one adapter that stands on another; see docs/decisions.
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
import numpy as np

from portable_nn.core.errors import BackendError
from portable_nn_cupy import devices as cupy_devices
from portable_nn_cupy.adapter import CupyBackend
from portable_nn_kernels.launch import Launch, Profile

from .programs import Program, program_of

_ENTRY = re.compile(r"\.entry\s+([\w$]+)")


def cache_folder() -> Path:
    """Return where PTX is kept, under XDG_CACHE_HOME or ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "portable_nn" / "numba"


def ptx_file(program: Program, cc: tuple[int, int]) -> Path:
    """Return the file with a kernel's PTX, compiled now if it is not there."""
    path = cache_folder() / f"{program.name}-sm_{cc[0]}{cc[1]}-{program.digest}.ptx"
    if not path.exists():
        text = program.compile(cc).ptx(cc)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)  # whole or not at all
    return path


class Programs:
    """The kernels loaded on one device."""

    def __init__(self, cc: tuple[int, int]) -> None:
        self.cc = cc
        self._kept: dict[str, Callable[..., None]] = {}

    def kernel(self, launch: Launch) -> Callable[..., None]:
        """Return what launches a kernel, as CuPy's function objects do: (grid, block, arguments)."""
        program = program_of(launch)
        found = self._kept.get(program.digest)
        if found is None:
            found = self._kept[program.digest] = self._load(program)
        return found

    def _load(self, program: Program) -> Callable[..., None]:
        path = ptx_file(program, self.cc)
        entry = _ENTRY.search(path.read_text(encoding="utf-8"))
        if entry is None:
            raise BackendError(f"{program.name}: numba's PTX holds no kernel ({path})")
        try:
            function: Callable[..., None] = cupy.RawModule(path=str(path)).get_function(entry[1]).kernel
        except cupy.cuda.driver.CUDADriverError as error:
            raise BackendError(f"{program.name}: the driver refused the PTX in {path} ({error}); is it older than numba's toolkit?") from error
        words = [i for i, p in enumerate(program.parameters) if p.kind == "word"]
        return _with_words(function, words) if words else function


def _with_words(function: Callable[..., None], words: Sequence[int]) -> Callable[..., None]:
    """Return `function` given each error word as numba's array: owner, parent, length, item size, pointer, shape, strides."""
    nothing, length, size = np.int64(0), np.int64(3), np.int64(8)

    def launch(grid: tuple[int, ...], block: tuple[int, ...], args: list[Any]) -> None:
        full: list[Any] = []
        for i, value in enumerate(args):
            full += [nothing, nothing, length, size, value, length, size] if i in words else [value]
        function(grid, block, full)

    return launch


class NumbaBackend(CupyBackend):
    """Ops on a CUDA device, by numba's kernels."""

    name = "numba"

    def __init__(self, index: int, profile: Profile | None = None) -> None:
        if cupy_devices.is_hip():
            raise BackendError("on AMD the numba backend needs numba-hip, which nobody has verified; use cupy or opencl")
        super().__init__(index, profile)
        self.profile = replace(self.profile, capability=0)  # numba has no tensor cores: their kernels have no twin here
        found = cupy_devices.properties(index)
        self.programs = Programs((int(found["major"]), int(found["minor"])))  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<NumbaBackend on {self.device} ({self.index})>"
