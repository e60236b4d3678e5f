"""Programs: kernel text compiled once per device and kept, in the process and on disk.

Over 250 lines: what is compiled apart, joined, shared with helpers and read back are the same few steps on the same two tables.
"""

from __future__ import annotations

import hashlib
import os
import platform
import warnings
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pyopencl as cl

from portable_nn.core.errors import BackendError
from portable_nn_kernels.joined import Defines, joined_text, name_in, section
from portable_nn_kernels.launch import Launch
from portable_nn_kernels.source import program_text

from .devices import Found
from .files import cache_folder, write_whole
from .helpers import ahead, processes_for, share

Key = tuple[str, Defines]  # source, defines

_DIGEST = 32
_ELSEWHERE = b"section "  # begins the file of a program whose binary is one with others: its number in it, the other file's name
_TOGETHER = 8  # programs of a joined text: an interrupt waits for the compiler, and a broken one costs the others a second time
_EXPECTED = 2  # texts that programs which are expected come in: a wrong guess costs the rest of one
_PARTS = 3  # texts per process: few, so that compilers start seldom, but enough for processes to end together
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


class Made(NamedTuple):
    """A program, and which section of it a launch's text became; None: it is all of it."""

    program: Any
    section: int | None = None


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
        self._kept: dict[Key, Made] = {}
        self._shared: dict[str, Any] = {}  # programs of joined texts, by the file's name
        self._expected: list[list[Launch]] = []  # being compiled together, in advance
        self._first: Defines = (("PNN_F64", 1),) if float64 else ()
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
        self._shared.clear()

    def kernel(self, launch: Launch) -> Any:
        """Return a new kernel object of the launch (argument values belong to the object)."""
        key = _key(launch)
        made = self._kept.get(key)
        if made is None:
            with warnings.catch_warnings():
                # Some compilers always say something; PyOpenCL warns each time.
                warnings.simplefilter("ignore", cl.CompilerWarning)
                made = self._kept[key] = self._compiled(launch)
        try:
            return cl.Kernel(made.program, launch.kernel if made.section is None else name_in(made.section, launch.kernel))
        except cl.Error as error:
            raise BackendError(f"{launch.kernel}: {_where(launch)} holds no kernel of this name ({error})") from error

    def build(self, launches: Collection[Launch]) -> None:
        """Compile the programs of `launches` that are not there yet, on every core."""
        missing = {_key(x): x for x in launches if _key(x) not in self._kept and 0 not in x.groups}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", cl.CompilerWarning)  # here: the filters are shared by all threads
            if self._found.kind == "cpu":
                self._share([x for x in missing.values() if not self._found_on_disk(x)])
            else:
                with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
                    self._kept |= zip(missing, pool.map(self._compiled, missing.values()), strict=True)

    def expect(self, launches: Collection[Launch]) -> None:
        """Let a helper that waits compile the programs of `launches`, which will probably be built next."""
        self._expected = self._batches([x for x in launches if not self._text(x)[1].exists()], _EXPECTED)
        ahead(self._found, self.options, [self._text_of(batch) for batch in self._expected])

    def _share(self, launches: Sequence[Launch]) -> None:
        """Compile programs, some as one, with the help of other processes."""
        wanted = set(map(_key, launches))
        expected = [batch for batch in self._expected if not wanted.isdisjoint(map(_key, batch))]
        self._expected = []
        rest = wanted.difference(*(map(_key, batch) for batch in expected))
        processes = max(processes_for(len(launches)), 2 if expected else 1)
        parts = max(processes, _PARTS * processes - len(expected)) if processes > 1 else 1
        batches = expected + self._batches([x for x in launches if _key(x) in rest], parts)
        texts = [self._text_of(batch) for batch in batches]

        def here(number: int) -> None:
            try:
                program = cl.Program(self._context, texts[number]).build(self.options, cache_dir=False)
            except cl.Error:  # each alone: then the error names its kernel
                self._kept |= {_key(x): self._compiled(x) for x in batches[number]}
            else:
                self._take_in(batches[number], texts[number], program, program.get_info(cl.program_info.BINARIES)[0])

        for number, binary in share(self._found, self.options, texts, here, processes - 1).items():
            program = self._of_binary(binary)
            if program is None:
                here(number)
            else:
                self._take_in(batches[number], texts[number], program, binary)

    def _batches(self, launches: Sequence[Launch], parts: int) -> list[list[Launch]]:
        """Return what is compiled as one text each, about `parts` of them: those that take longest first, so that processes end together."""
        alone, groups = list[list[Launch]](), dict[Defines, list[Launch]]()
        for launch in launches:
            if section(launch.source, launch.defines, launch.kernel) is None:
                alone.append([launch])
            else:
                groups.setdefault(self._before(launch), []).append(launch)
        whole = sum(map(_weight, launches)) / parts
        batches = list[list[Launch]]()
        for group in groups.values():
            weight = whole
            for launch in sorted(group, key=_weight, reverse=True):
                if weight + _weight(launch) > whole or len(batches[-1]) == _TOGETHER:
                    batches.append([])
                    weight = 0
                batches[-1].append(launch)
                weight += _weight(launch)
        return sorted([*alone, *batches], key=lambda batch: -sum(map(_weight, batch)))

    def _take_in(self, batch: Sequence[Launch], text: str, program: Any, binary: bytes) -> None:
        """Keep a program that was just compiled of one launch's text or of several, in the process and on disk."""
        self.built += len(batch)
        path = self._path(text)
        _keep(path, binary)
        for number, launch in enumerate(batch):
            joined = len(batch) > 1
            self._kept[_key(launch)] = Made(program, number if joined else None)
            if joined:
                _keep(self._text(launch)[1], _ELSEWHERE + f"{number} {path.name}".encode())

    def _before(self, launch: Launch) -> Defines:
        """Return the defines that the prelude reads."""
        return (*self._first, *(x for x in launch.defines if x[0].startswith("PNN_")))

    def _text_of(self, batch: Sequence[Launch]) -> str:
        return self._text(batch[0])[0] if len(batch) == 1 else self._joined(batch)

    def _joined(self, batch: Sequence[Launch]) -> str:
        sections = [part for x in batch if (part := section(x.source, x.defines, x.kernel)) is not None]
        return joined_text(sections, self._before(batch[0]))

    def _path(self, text: str) -> Path:
        """Return where the binary of a text is kept."""
        digest = hashlib.sha256(f"{self._salt}\n{text}".encode()).hexdigest()
        return cache_folder() / f"{digest}.bin"

    def _text(self, launch: Launch) -> tuple[str, Path]:
        """Return what the compiler is given for a launch alone, and where the binary is kept, or in which one it is."""
        text = program_text(launch.source, (*self._first, *launch.defines), "opencl")
        return text, self._path(text)

    def _found_on_disk(self, launch: Launch) -> bool:
        made = self._load(self._text(launch)[1])
        if made is not None:
            self._kept[_key(launch)] = made
        return made is not None

    def _compiled(self, launch: Launch) -> Made:
        """Return a launch's program from disk, or compile it alone."""
        text, path = self._text(launch)
        made = self._load(path)
        if made is not None:
            return made
        try:
            program = cl.Program(self._context, text).build(self.options, cache_dir=False)
        except cl.Error as error:
            raise BackendError(self._refusal(launch, str(error))) from error
        self.built += 1
        _keep(path, program.get_info(cl.program_info.BINARIES)[0])
        return Made(program)

    def _load(self, path: Path) -> Made | None:
        """Return the program kept in `path` or in the file that it names."""
        kept = _read(path)
        if kept is None:
            return None
        number, shared = None, path.name
        if kept.startswith(_ELSEWHERE):
            place, shared = kept.removeprefix(_ELSEWHERE).decode().split(" ")
            number = int(place)
        program = self._shared.get(shared)
        if program is None:
            binary = kept if number is None else _read(path.parent / shared)
            program = None if binary is None else self._of_binary(binary)
            if program is None:
                return None
            if number is not None:
                self._shared[shared] = program
        self.loaded += 1
        return Made(program, number)

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


def _key(launch: Launch) -> Key:
    return launch.source, launch.defines


def _weight(launch: Launch) -> int:
    """Return a guess of how long a program takes to compile: with Intel's compiler about 4 ms for each argument of its kernel."""
    return 1 + len(launch.args)


def _keep(path: Path, data: bytes) -> None:
    """Write a file of the cache, with a digest: drivers may crash on damaged binaries."""
    write_whole(path, hashlib.sha256(data).digest() + data)


def _read(path: Path) -> bytes | None:
    """Return what was kept in `path`, if it is whole."""
    try:
        kept = path.read_bytes()
    except OSError:
        return None
    digest, data = kept[:_DIGEST], kept[_DIGEST:]
    return data if hashlib.sha256(data).digest() == digest else None


def _where(launch: Launch) -> str:
    return "its rendered text" if "\n" in launch.source else launch.source
