"""CUDA kernel text to a function that runs on the CPU: shim + text + stub, compiled by g++, kept in the user's cache."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from portable_nn.core.errors import BackendError
from portable_nn_kernels.launch import Define
from portable_nn_kernels.source import program_text

# -ffp-contract=off as DIALECT.md demands; -march=native for fused multiply-add and half conversions in hardware.
OPTIONS = ("-std=c++20", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fno-strict-aliasing", "-fPIC", "-shared")
FAST = ("-O1", "-pipe", "-w")
# A sanitizer finds what poison and canaries do not: reads outside an array, undefined shifts, overflow and conversions.
# (Functions are inlined by hand in the text; -O1 keeps the compile short.)
SANITIZED = (
    "-O1", "-g", "-w", "-DPNN_SANITIZED", "-fsanitize=address,undefined", "-fno-sanitize=alignment,vptr",
    "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer",
)  # fmt: skip
LOCAL_BYTES = 48 * 1024


@cache
def compiler() -> str | None:
    """Return the path of g++, or None. PORTABLE_NN_CXX names another compiler that takes g++'s options."""
    return shutil.which(os.environ.get("PORTABLE_NN_CXX", "g++"))


@cache
def missing() -> str:
    """Return why CUDA text cannot run on this machine; empty if it can."""
    if platform.machine() not in ("x86_64", "AMD64") or os.name != "posix":
        return f"the shim switches stacks in x86-64 assembly (this is {platform.machine()})"
    if compiler() is None:
        return "g++ is not installed (apt install g++, or name a compiler in PORTABLE_NN_CXX)"
    return ""


def cache_folder() -> Path:
    """Return where compiled kernels are kept."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "portable_nn" / "cuda_cpu"


@cache
def _salt() -> str:
    """Return what a binary depends on beside its text: the compiler and the processor."""
    version = subprocess.run([str(compiler()), "--version"], capture_output=True, text=True, check=True).stdout
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return version.splitlines()[0] + next((line for line in lines if line.startswith("flags")), platform.node())


def around(kernel: str, text: str) -> str:
    """Return the C++ file that runs `kernel`, which is in `text`: CUDA C++, as NVRTC would be given."""
    return "\n".join([_shim(), text, f"PNN_STUB({kernel})", ""])


@cache
def _shim() -> str:
    return (Path(__file__).parent / "shim.h").read_text(encoding="utf-8")


def library(text: str, sanitized: bool = False) -> Path:
    """Compile the C++ file of a kernel, or find it in the cache; return the shared library.

    Raises
    ------
    BackendError
        With the compiler's first errors.
    """
    options = (*OPTIONS, *(SANITIZED if sanitized else FAST))
    digest = hashlib.sha256("\n".join([_salt(), *options, text]).encode()).hexdigest()[:40]
    path = cache_folder() / f"{digest}.so"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".new-") as folder:
        made = Path(folder) / path.name
        command = [str(compiler()), *options, "-x", "c++", "-", "-o", str(made), "-lm"]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if "error:" in line][:6] or done.stderr.splitlines()[:6]
            raise BackendError("\n  ".join(["g++ refused the text:", *errors]))
        os.replace(made, path)  # whole or not at all: another process may look at this moment
    return path


class Kernel:
    """A compiled kernel: call it with the grid, the block and the values of its arguments.

    Parameters
    ----------
    name : str
    text : str
        CUDA C++ that holds it.
    sanitized : bool
        With the address and undefined-behaviour sanitizers.
    """

    def __init__(self, name: str, text: str, sanitized: bool = False) -> None:
        self.name = name
        loaded = ctypes.CDLL(str(library(around(name, text), sanitized)))
        sizes = (ctypes.c_int * 256)()
        self.sizes = tuple(sizes[: loaded.pnn_stub_sizes(sizes)])
        loaded.pnn_stub_shared.restype = ctypes.c_ulong
        self.local_bytes = int(loaded.pnn_stub_shared())
        if self.local_bytes > LOCAL_BYTES:
            raise BackendError(f"{name}: {self.local_bytes} bytes of local memory; GPUs have {LOCAL_BYTES} for a work-group")
        self._run = loaded.pnn_stub
        self._report = (ctypes.c_int * 2)()

    def __call__(self, grid: Sequence[int], block: Sequence[int], values: Sequence[Any], reverse: bool = False, flush: bool = False) -> None:
        """Run the kernel.

        Parameters
        ----------
        grid, block : sequence of int
        values : sequence
            ctypes objects of the sizes the kernel declares.
        reverse : bool
            Blocks and threads last to first.
        flush : bool
            Take subnormal numbers as zero, as GPUs do under -ftz=true, which CuPy asks for.
        """
        if tuple(map(ctypes.sizeof, values)) != self.sizes:
            given = [type(v).__name__ for v in values]
            raise BackendError(f"{self.name}: its arguments have {self.sizes} bytes, but the launch gives {given}")
        addresses = (ctypes.c_void_p * max(len(values), 1))(*map(ctypes.addressof, values))
        missed = self._run(_three(grid), _three(block), addresses, int(reverse) | 2 * int(flush), self._report)
        if missed:
            came, of = self._report
            raise BackendError(f"{self.name}: barrier divergence: {came} of {of} threads came to the barrier on line {missed}")


def _three(size: Sequence[int]) -> Any:
    return (ctypes.c_uint * 3)(*size, *(1,) * (3 - len(size)))


@cache
def kernel_of(name: str, source: str, defines: tuple[tuple[str, Define], ...], sanitized: bool = False) -> Kernel:
    """Return the compiled kernel of a launch, loading it once per process."""
    try:
        return Kernel(name, program_text(source, defines, "cuda"), sanitized)
    except BackendError as error:
        where = "its rendered text" if "\n" in source else source
        told = " ".join(f"{key}={value}" for key, value in defines)
        raise BackendError(f"{name}: {where} with {told or 'no defines'}: {error}") from error
