"""Program text: prelude, defines and kernel file of one language, joined. Includes of our own `c/` folder are pasted in."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache, lru_cache
from importlib import resources
from typing import Literal

from portable_nn.core.expression import KernelExpression
from portable_nn_kernels.launch import Define, Term

Language = Literal["opencl", "cuda"]
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([\w.]+)"[^\n]*$', re.MULTILINE)


@cache
def kernel_file(name: str) -> str:
    """Return the text of `c/<name>` as it is written."""
    return (resources.files("portable_nn_kernels") / "c" / name).read_text(encoding="utf-8")


def pasted(text: str, seen: set[str]) -> str:
    """Return text with the files it includes in place of the lines that do, but for those in `seen`, to which they are added."""

    def paste(match: re.Match[str]) -> str:
        name = match.group(1)
        if name in seen:
            return ""
        seen.add(name)
        return pasted(kernel_file(name), seen)

    return _INCLUDE.sub(paste, text)


def _body(value: Define) -> Define:
    return f"({KernelExpression(value.text).render_c(value.tag)})" if isinstance(value, Term) else value


def defines_text(defines: Iterable[tuple[str, Define]]) -> list[str]:
    """Return a line for each compile-time constant."""
    return [f"#define {name} {_body(value)}" for name, value in defines]


@lru_cache(maxsize=1024)
def program_text(source: str, defines: tuple[tuple[str, Define], ...], language: Language) -> str:
    """Return what a compiler of `language` is given.

    Parameters
    ----------
    source : str
        A file name of `c/`, or kernel text itself (which contains a newline).
    defines : tuple of (name, value)
        Compile-time constants. Names that start with ``PNN_`` (``PNN_F64``) come before the prelude, which reads
        them; the others after it, so that they cannot disturb it.
    language : "opencl" or "cuda"
        HIP is given the CUDA text.
    """
    before = defines_text(x for x in defines if x[0].startswith("PNN_"))
    after = defines_text(x for x in defines if not x[0].startswith("PNN_"))
    seen = {"prelude_common.h"}
    text = source if "\n" in source else kernel_file(source)
    parts = [
        *before,
        kernel_file(f"prelude_{language}.h"),
        kernel_file("prelude_common.h"),
        *after,
        pasted(text, seen),
    ]
    return "\n".join(parts) + "\n"
