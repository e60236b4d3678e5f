"""From a launch to the Python function it means, checked against the launch's arguments, and a digest for caches."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from portable_nn.core.errors import ArgumentError, BackendError, NoKernel
from portable_nn_kernels.launch import Const, Define, ErrorWord, Launch, Mapping, Ref, Value

from . import kernels as _every_kernel  # noqa: F401  (fills KERNELS)
from . import shim
from .dialect import TYPE
from .registry import KERNELS, parameters
from .rendered import function_of, text_of
from .shim import Parameter

_PACKAGE = __name__.partition(".")[0]


@dataclass(frozen=True)
class Program:
    """A kernel with its compile-time constants: ready to be compiled or simulated.

    `digest` names what its machine code depends on: every source file involved, defines, group size and versions.
    """

    name: str
    function: Callable[..., Any]
    parameters: tuple[Parameter, ...]
    threads: int
    digest: str

    def compile(self, target: str) -> shim.Library:
        """Compile the kernel for a target such as "sm_90" or "gfx90a"."""
        try:
            return shim.compile_kernel(self.function, self.parameters, self.threads, target)
        except Exception as error:  # numba's errors are many, and long: name the kernel first
            raise BackendError(f"numba refused the kernel {self.name} ({shim.PACKAGE}): {type(error).__name__}: {error}") from error


@lru_cache(maxsize=4096)
def _program(name: str, source: str, defines: tuple[tuple[str, Define], ...], threads: int, mapping: Mapping | None) -> Program:
    if mapping is not None:
        function = function_of(mapping)
        return Program(name, function, parameters(function), threads, _digest(name, text_of(mapping), threads, function.__module__))
    found = KERNELS.get(name)
    if found is None:
        raise NoKernel(f"backend numba has no kernel {name} yet (its text is in {source})")
    function = found.function(defines)
    return Program(name, function, parameters(function), threads, _digest(name, repr(defines), threads, function.__module__))


def _digest(name: str, constants: str, threads: int, module: str) -> str:
    text = "\n".join([shim.version(), name, constants, str(threads), *_sources(module)])
    return hashlib.sha256(text.encode()).hexdigest()[:40]


@cache
def _sources(module: str) -> tuple[str, ...]:
    """Return the text of a module and of the modules of this package that it takes names from."""
    seen: dict[str, str] = {}

    def visit(name: str) -> None:
        if name in seen or name.partition(".")[0] != _PACKAGE:
            return
        found = sys.modules[name]
        seen[name] = Path(inspect.getfile(found)).read_text(encoding="utf-8")
        for value in vars(found).values():
            visit(value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None) or "")

    visit(module)
    return tuple(seen[name] for name in sorted(seen))


def program_of(launch: Launch) -> Program:
    """Return the program of a launch.

    Raises
    ------
    NoKernel
        Where the kernel is not ported.
    BackendError
        Where the launch's arguments are not the kernel's.
    """
    found = _program(launch.kernel, launch.source, launch.defines, prod(launch.size), launch.mapping)
    wanted: list[tuple[str, Any]] = []
    for arg in launch.args:
        if isinstance(arg, Ref):
            wanted += [("array", None), ("scalar", np.int64)]
        elif isinstance(arg, ErrorWord):
            wanted += [("word", None), ("scalar", np.int32)]
        else:
            wanted.append(("scalar", TYPE[arg.tag]))
    given = [(p.kind, p.dtype if p.kind == "scalar" else None) for p in found.parameters]
    if given != wanted:
        at = next((i for i, (a, b) in enumerate(zip(given, wanted, strict=False)) if a != b), min(len(given), len(wanted)))
        names = [p.name for p in found.parameters]
        raise BackendError(
            f"{launch.kernel}: the launch gives {len(wanted)} arguments and the kernel has {len(given)} parameters; they differ "
            f"from number {at} ({names[at] if at < len(names) else 'none'}) on: "
            f"{wanted[at] if at < len(wanted) else 'nothing'} is given for {given[at] if at < len(given) else 'nothing'}"
        )
    return found


def converted(kind: type[np.generic], value: Any, kernel: str) -> Any:
    """Return a Python scalar in the type of a parameter; floats round and overflow as in NumPy."""
    try:
        with np.errstate(over="ignore"):
            return kind(value)
    except OverflowError:
        raise ArgumentError(f"{kernel}: the scalar {value!r} does not fit {kind.__name__}") from None


@dataclass(frozen=True)
class Slots:
    """Where a bound launch finds its arguments.

    Parameters
    ----------
    arrays : tuple of (parameter, slot)
        The array of slot goes to this parameter, its offset to the next.
    values : tuple of (parameter, slot, type)
        Python scalars.
    constants : tuple of (parameter, value)
        Known now.
    words : tuple of int
        Parameters that take the error word.
    """

    arrays: tuple[tuple[int, int], ...]
    values: tuple[tuple[int, int, type[np.generic]], ...]
    constants: tuple[tuple[int, Any], ...]
    words: tuple[int, ...]


def slots_of(launch: Launch, slots: Sequence[int | None]) -> Slots:
    """Return where the arguments of `launch` come from."""
    arrays: list[tuple[int, int]] = []
    values: list[tuple[int, int, type[np.generic]]] = []
    constants: list[tuple[int, Any]] = []
    words: list[int] = []
    at = 0
    for arg, slot in zip(launch.args, slots, strict=True):
        if isinstance(arg, Ref):
            assert slot is not None
            arrays.append((at, slot))
            at += 1
        elif isinstance(arg, Value):
            assert slot is not None
            values.append((at, slot, TYPE[arg.tag]))
        elif isinstance(arg, Const):
            constants.append((at, converted(TYPE[arg.tag], arg.value, launch.kernel)))
        elif isinstance(arg, ErrorWord):
            words.append(at)
            constants.append((at + 1, np.int32(arg.code)))
            at += 1
        at += 1
    return Slots(tuple(arrays), tuple(values), tuple(constants), tuple(words))
