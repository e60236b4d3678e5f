"""Programs: kernel text compiled once per device and kept, in the process and on disk."""

from __future__ import annotations

import hashlib
import os
import platform
import warnings
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pyopencl as cl

from portable_nn.core.errors import BackendError
from portable_nn_kernels.launch import Define, Launch
from portable_nn_kernels.source import program_text

from .devices import Found
from .files import cache_folder, write_whole
from .helpers import share

Key = tuple[str, tuple[tuple[str, Define], ...]]  # source, defines

_DIGEST = 32
_SWITCHES = ("PYOPENCL_BUILD_OPTIONS", "CL_CONFIG_", "POCL_")


@cache
def _host() -> str:
    """Return what a CPU binary depends on beside the driver: the processor's features."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return platform.node()


def _switches() -> list[str]:
    """Return the environment's settings that change what a compiler makes: PyOpenCL's options, Intel's and PoCL's switches."""
    return sorted(f"{name}={value}" for name, value in os.environ.items() if name.startswith(_SWITCHES))


class Programs:
    """The compiled programs of a context.

    Parameters
    ----------
    context : pyopencl.Context
    found : Found
        Its one device.
    float64 : bool
        Whether text may compute in it; the profile says so.
    more : sequence of str
        Options of the compiler beside those that every program gets.
    """

    def __init__(self, context: Any, found: Found, float64: bool, more: Sequence[str] = ()) -> None:
        device = found.device
        self._context, self._found, self._device = context, found, device
        self._kept: dict[Key, Any] = {}
        self._first: tuple[tuple[str, Define], ...] = (("PNN_F64", 1),) if float64 else ()
        self.options = ["-cl-std=CL1.2", *more]
        if device.single_fp_config & cl.device_fp_config.CORRECTLY_ROUNDED_DIVIDE_SQRT:
            self.options.append("-cl-fp32-correctly-rounded-divide-sqrt")
        self._salt = "\n".join([found.key, _host() if found.kind == "cpu" else "", *self.options, *_switches()])
        self.built = self.loaded = 0  # compiled from text, read from disk

    def __len__(self) -> int:
        return len(self._kept)

    def forget(self) -> None:
        """Drop the programs kept in the process; those on disk come back in a millisecond each."""
        self._kept.clear()

    def kernel(self, launch: Launch) -> Any:
        """Return a new kernel object of the launch (argument values belong to the object)."""
        key = (launch.source, launch.defines)
        program = self._kept.get(key)
        if program is None:
            program = self._kept[key] = self._program(launch)
        try:
            return cl.Kernel(program, launch.kernel)
        except cl.Error as error:
            raise BackendError(f"{launch.kernel}: {_where(launch)} holds no kernel of this name ({error})") from error

    def build(self, launches: Collection[Launch]) -> None:
        """Compile the programs of `launches` that are not there yet, on every core."""
        missing = {(x.source, x.defines): x for x in launches if (x.source, x.defines) not in self._kept and 0 not in x.groups}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", cl.CompilerWarning)  # here: the filters are shared by all threads
            if self._found.kind == "cpu":
                self._share(missing)
            else:
                with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
                    self._kept |= zip(missing, pool.map(self._compiled, missing.values()), strict=True)

    def _share(self, missing: Mapping[Key, Launch]) -> None:
        """Read programs from disk; compile the others with the help of other processes."""
        texts: list[tuple[str, Key]] = []
        for key, launch in missing.items():
            text, path = self._text(launch)
            program = self._load(path)
            if program is None:
                texts.append((text, key))
            else:
                self._kept[key] = program
        texts.sort(key=lambda x: -len(x[0]))  # the longest begin

        def here(number: int) -> None:
            key = texts[number][1]
            self._kept[key] = self._compiled(missing[key])

        for number, binary in share(self._found, self.options, [text for text, _ in texts], here).items():
            key = texts[number][1]
            self._keep(self._text(missing[key])[1], binary)
            program = self._of_binary(binary)
            self._kept[key] = self._compiled(missing[key]) if program is None else program
            self.built += program is not None

    def _program(self, launch: Launch) -> Any:
        with warnings.catch_warnings():
            # Some compilers always say something; PyOpenCL warns each time.
            warnings.simplefilter("ignore", cl.CompilerWarning)
            return self._compiled(launch)

    def _text(self, launch: Launch) -> tuple[str, Path]:
        """Return what the compiler is given, and where the binary is kept."""
        text = program_text(launch.source, (*self._first, *launch.defines), "opencl")
        digest = hashlib.sha256(f"{self._salt}\n{text}".encode()).hexdigest()
        return text, cache_folder() / f"{digest}.bin"

    def _compiled(self, launch: Launch) -> Any:
        text, path = self._text(launch)
        program = self._load(path)
        if program is not None:
            return program
        try:
            program = cl.Program(self._context, text).build(self.options, cache_dir=False)
        except cl.Error as error:
            raise BackendError(self._refusal(launch, str(error))) from error
        self.built += 1
        self._keep(path, program.get_info(cl.program_info.BINARIES)[0])
        return program

    def _keep(self, path: Path, binary: bytes) -> None:
        write_whole(path, hashlib.sha256(binary).digest() + binary)

    def _load(self, path: Path) -> Any:
        """Return the program kept in `path`, or None. Drivers may crash on damaged binaries, so a digest guards them."""
        try:
            kept = path.read_bytes()
        except OSError:
            return None
        digest, binary = kept[:_DIGEST], kept[_DIGEST:]
        if hashlib.sha256(binary).digest() != digest:
            return None
        program = self._of_binary(binary)
        self.loaded += program is not None
        return program

    def _of_binary(self, binary: bytes) -> Any:
        try:
            return cl.Program(self._context, [self._device], [binary]).build(self.options)
        except cl.Error:  # the driver wants the text again
            return None

    def _refusal(self, launch: Launch, log: str) -> str:
        lines = [line for line in log.splitlines() if line.strip()]
        errors = [i for i, line in enumerate(lines) if "error:" in line]
        shown = lines[errors[0] : errors[0] + 6] if errors else lines[:8]
        defines = " ".join(f"{name}={value}" for name, value in launch.defines)
        head = (
            f"{launch.kernel}: the compiler of {self._found} refused {_where(launch)} with {defines or 'no defines'}:"
        )
        return "\n  ".join([head, *shown])


def _where(launch: Launch) -> str:
    return "its rendered text" if "\n" in launch.source else launch.source
