"""Kernels by name: each is a factory that takes the compile-time defines of a launch and returns the function."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from portable_nn.core.errors import NoKernel
from portable_nn_kernels.launch import Define, Term

from .dialect import TYPE, Array, Word
from .shim import Parameter

Defines = Mapping[str, Any]
Factory = Callable[[Defines], Callable[..., Any]]


class _Read(dict[str, Any]):
    """Defines that remember which of them a factory asked for."""

    def __init__(self, defines: tuple[tuple[str, Define], ...]) -> None:
        super().__init__(defines)
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.asked.add(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self.asked.add(str(name))
        return super().__contains__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """Return the define, or `default`."""
        self.asked.add(name)
        return super().get(name, default)


@dataclass(frozen=True)
class Kernel:
    """A registered kernel: its name and file in `c/`, the factory, and defines that change only the C text."""

    name: str
    source: str
    factory: Factory
    ignores: tuple[str, ...] = ()

    def function(self, defines: tuple[tuple[str, Define], ...]) -> Callable[..., Any]:
        """Return the kernel with these compile-time constants.

        Raises
        ------
        NoKernel
            If a define is not known here: the C text has learned something that this twin has not.
        """
        given = _Read(defines)
        made = self.factory(given)
        unknown = [name for name, value in defines if name not in given.asked and name not in self.ignores and not isinstance(value, Term)]
        if unknown:
            raise NoKernel(f"{self.name}: numba's kernel knows no define {', '.join(unknown)}; port it from {self.source}")
        return made


KERNELS: dict[str, Kernel] = {}


def kernel(name: str, source: str, ignores: tuple[str, ...] = ()) -> Callable[[Factory], Factory]:
    """Register the decorated factory as the twin of kernel `name` in `c/<source>`.

    Every define of a launch must be read by the factory, or be named in `ignores`.
    """

    def register(factory: Factory) -> Factory:
        assert name not in KERNELS, f"two kernels named {name}"
        KERNELS[name] = Kernel(name, source, factory, ignores)
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


def without(function: Callable[..., Any], *absent: str) -> Callable[..., Any]:
    """Return a kernel without some of its parameters, for those that stand between #ifdef and #endif in C.

    The factory writes the kernel with all of them and names here those that its defines leave out (an array by its name
    alone: its offset goes with it). Each becomes a constant 0, and may be used only behind a plain ``if`` on
    the constant that says it is there: numba removes such a branch before it looks at types.
    """
    if not absent:
        return function
    names = inspect.signature(function).parameters
    gone = {*absent, *(f"{name}_offset" for name in absent if isinstance(names[name].annotation, Array))}
    # The same text with fewer parameters, not a function that calls it: numba-cuda-mlir loses a called function's shared arrays.
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    (definition,) = tree.body
    assert isinstance(definition, ast.FunctionDef)
    definition.args.args = [ast.arg(name.arg) for name in definition.args.args if name.arg not in gone]
    code = function.__code__
    ast.increment_lineno(ast.fix_missing_locations(tree), code.co_firstlineno - 1)
    scope = {**function.__globals__, **inspect.getclosurevars(function).nonlocals, **dict.fromkeys(gone, 0)}
    exec(compile(tree, code.co_filename, "exec", dont_inherit=True), scope)
    made: Any = scope[function.__name__]
    made.__annotations__ = {name: said for name, said in function.__annotations__.items() if name not in gone}
    return made  # type: ignore[no-any-return]
