"""Joined text: several OpenCL programs as one, for compilers that need long before they look at the text.

Intel's for CPUs needs 40 ms per program, whatever is in it. Each program becomes a section of the joined text: its defines hold
to the section's end, and the functions, kernels and types that it defines are called ``pnn3_...`` in section 3. Prelude and
`math.h` are there once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from .launch import Define
from .source import defines_text, kernel_file, pasted

Defines = tuple[tuple[str, Define], ...]

_SHARED = ("prelude_opencl.h", "prelude_common.h", "math.h")  # do not depend on a program's own defines
_MACRO = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)", re.MULTILINE)
_FUNCTION = re.compile(r"\bDEVICE\b[^;{]*?\b(pnn_\w*)(##|[ \t]*\()")
_KERNEL = re.compile(r"\bKERNEL\((pnn_\w+)(),")
_STRUCT = re.compile(r"^[^\n]*\}[ \t]*(pnn_\w*)(##|[ \t]*;)", re.MULTILINE)
_NAME = re.compile(r"\bpnn_\w*")


@dataclass(frozen=True, slots=True)
class Section:
    """A program's own part of the text.

    Parameters
    ----------
    text : str
        Its defines and kernel text.
    macros : tuple of str
        The names it defines.
    functions : tuple of str
        What it defines that two programs might: functions, kernels, types. Those ending in ``_`` begin names that macros make.
    """

    text: str
    macros: tuple[str, ...]
    functions: tuple[str, ...]

    def numbered(self, number: int) -> str:
        """Return the text with names of its own, and without its macros afterwards."""
        whole = set(self.functions)
        begun = tuple(name for name in whole if name.endswith("_"))

        def renamed(match: re.Match[str]) -> str:
            name = match[0]
            return name_in(number, name) if name in whole or (begun and name.startswith(begun)) else name

        return "\n".join([_NAME.sub(renamed, self.text), *(f"#undef {name}" for name in self.macros)])


def name_in(number: int, name: str) -> str:
    """Return what a kernel is called in a section."""
    return f"pnn{number}_{name.removeprefix('pnn_')}"


@cache
def _shared_macros() -> frozenset[str]:
    return frozenset(name for file in _SHARED for name in _MACRO.findall(kernel_file(file)))


@lru_cache(maxsize=1024)
def _read(source: str) -> tuple[str, tuple[str, ...], tuple[str, ...], bool]:
    """Return a kernel text whole, the macros it defines, what else it defines, and whether each kernel has a name of its own, none that a macro makes."""
    body = pasted(source if "\n" in source else kernel_file(source), set(_SHARED))
    functions = tuple(dict.fromkeys(name for pattern in (_FUNCTION, _KERNEL, _STRUCT) for name, _ in pattern.findall(body)))
    return body, tuple(_MACRO.findall(body)), functions, body.count("KERNEL(") == len(_KERNEL.findall(body))


@lru_cache(maxsize=1024)
def section(source: str, defines: Defines, kernel: str) -> Section | None:
    """Return a program as a section; None if it cannot be one, since it defines anew what the others use.

    Parameters
    ----------
    source, defines
        As for `program_text`; defines that start with ``PNN_`` are left out: they come before the prelude.
    kernel : str
        The kernel that is wanted of it.
    """
    body, own, functions, every = _read(source)
    given = "\n".join(defines_text([(name, value) for name, value in defines if not name.startswith("PNN_")]))
    macros = tuple(dict.fromkeys((*_MACRO.findall(given), *own)))
    if not every or kernel not in functions or not _shared_macros().isdisjoint(macros):
        return None
    return Section(f"{given}\n{body}", macros, functions)


def joined_text(sections: Sequence[Section], first: Defines) -> str:
    """Return one text of all sections.

    Parameters
    ----------
    sections : sequence of Section
        Kernels of the section at position n are called as `name_in` says for n.
    first : tuple of (name, value)
        Defines that start with ``PNN_``: the same for all.
    """
    parts = [*defines_text(first), *map(kernel_file, _SHARED), *(part.numbered(n) for n, part in enumerate(sections))]
    return "\n".join(parts) + "\n"
