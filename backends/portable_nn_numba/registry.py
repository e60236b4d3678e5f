"""Kernels by name: each is a factory that takes the compile-time defines of a launch and returns the function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from portable_nn_kernels.launch import Define

from .dialect import TYPE, Array, Word
from .shim import Parameter

Defines = Mapping[str, Any]
Factory = Callable[[Defines], Callable[..., Any]]


@dataclass(frozen=True)
class Kernel:
    """A registered kernel: its name and file in `c/`, the factory, and the Python file it is in."""

    name: str
    source: str
    factory: Factory
    path: Path

    def function(self, defines: tuple[tuple[str, Define], ...]) -> Callable[..., Any]:
        """Return the kernel with these compile-time constants."""
        return self.factory(dict(defines))


KERNELS: dict[str, Kernel] = {}


def kernel(name: str, source: str) -> Callable[[Factory], Factory]:
    """Register the decorated factory as the twin of kernel `name` in `c/<source>`."""

    def register(factory: Factory) -> Factory:
        assert name not in KERNELS, f"two kernels named {name}"
        KERNELS[name] = Kernel(name, source, factory, Path(inspect.getfile(factory)))
        return factory

    return register


def parameters(function: Callable[..., Any]) -> tuple[Parameter, ...]:
    """Return a kernel's parameters, from its annotations: IN(T), OUT(T), INOUT(T), ERROR_WORD, a scalar's tag, or none (i64)."""
    found: list[Parameter] = []
    for name, parameter in inspect.signature(function).parameters.items():
        said = parameter.annotation
        if isinstance(said, Array):
            found.append(Parameter(name, "array", TYPE[said.tag]))
        elif said is Word:
            found.append(Parameter(name, "word", np.int64))
        elif isinstance(said, str):
            found.append(Parameter(name, "scalar", TYPE[said]))
        else:
            found.append(Parameter(name, "scalar", np.int64))
    return tuple(found)
