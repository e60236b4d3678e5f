"""The mapping kernel in Python, rendered from a launch's `Mapping`: the twin of `portable_nn_kernels/plans/mapping.py`."""

from __future__ import annotations

import linecache
import math
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from typing import Any

from portable_nn.core.expression import KernelExpression
from portable_nn_kernels.launch import Mapping, Term

from . import dialect
from .dialect import ACC_TAG, FMA, GROUP_ID, IN, LOAD, LOCAL_ID, NUM_GROUPS, OUT, STORE, TYPE
from .registry import Defines
from .scalar import FUNCTIONS, pnn_narrow_f64
from .shim import device


@lru_cache(maxsize=4096)
def text_of(m: Mapping) -> str:
    """Return the kernel in Python."""
    arrays = [*m.inputs, *m.outputs]
    names = [name for name, _ in arrays]
    parameters: list[str] = []
    for kind, group in (("IN", m.inputs), ("OUT", m.outputs)):
        for name, tag in group:
            parameters += [f'p_{name}: {kind}("{tag}")', f"p_{name}_offset"]
    parameters += [f'v_{name}: "{tag}"' for name, tag in m.scalars]
    parameters += [f"{name}_start" for name in m.shifted]
    parameters += ["span", "chunk", "parts", "tiles"]
    for axis in range(m.ndim):
        parameters += [f"size_{axis}", *(f"{name}_{axis}" for name in names)]
    base = {n: f"p_{n}_offset + {n}_start" if n in m.shifted else f"p_{n}_offset" for n in names}
    lines = [f"def pnn_map({', '.join(parameters)}):"]
    lines += [f"    base_{n} = {base[n]}" for n in names]
    lines.append("    for tile in range(GROUP_ID(0), tiles, NUM_GROUPS(0)):")
    if m.form == "rows":
        lines += ["        row = tile // parts", "        start = (tile - row * parts) * chunk"]
        for axis in reversed(range(m.ndim - 1)):
            lines += [f"        at_{axis} = row % size_{axis}", f"        row = row // size_{axis}"]
        lines += [f"        row_{n} = base_{n} + {' + '.join(f'at_{a} * {n}_{a}' for a in range(m.ndim - 1))}" for n in names]
    else:
        lines.append("        start = tile * chunk")
    lines.append(f"        for i in range(start + LOCAL_ID(0), min(start + chunk, span), {m.group}):")
    places = {}
    if m.form == "elements":
        index = m.index
        lines.append(f"            rest_{m.ndim} = {index}(i)")
        for axis in reversed(range(m.ndim)):
            rest = f"rest_{axis + 1}"
            if axis:
                lines.append(f"            at_{axis} = i64({rest} % {index}(size_{axis}))")
                lines.append(f"            rest_{axis} = {index}({rest} // {index}(size_{axis}))")
            else:
                lines.append(f"            at_0 = i64({rest})")
        for name in names:
            places[name] = " + ".join([f"base_{name}", *(f"at_{a} * {name}_{a}" for a in range(m.ndim))])
    else:
        last = m.ndim - 1
        for name, kind in zip(names, m.kinds, strict=True):
            inner = {"0": "", "1": " + i"}.get(kind, f" + i * {name}_{last}")
            places[name] = f"{'row' if m.form == 'rows' else 'base'}_{name}{inner}"
    lines += [f"            v_{name} = LOAD_{tag}(p_{name}, {places[name]})" for name, tag in m.inputs]
    for t in m.steps:
        lines.append(f"            v_{t.name} = {t.tag}({KernelExpression(t.text).render_python(t.tag, m.indices)})")
    for (name, tag), t in zip(m.outputs, m.values, strict=True):
        lines.append(f"            STORE_{tag}(p_{name}, {places[name]}, {KernelExpression(t.text).render_python(t.tag, m.indices)})")
    return "\n".join(lines) + "\n"


# What rendered text may name.
SCOPE: dict[str, Any] = {
    **{tag: kind for tag, kind in TYPE.items() if tag not in ("b8", "f16", "bf16")},
    **{f"LOAD_{tag}": load for tag, load in LOAD.items()},
    **{f"STORE_{tag}": store for tag, store in STORE.items()},
    **FUNCTIONS, "pnn_narrow_f64": pnn_narrow_f64, "pnn_c64": dialect.pnn_c64, "pnn_c128": dialect.pnn_c128,
    "math": math, "FMA": FMA, "IN": IN, "OUT": OUT, "GROUP_ID": GROUP_ID, "LOCAL_ID": LOCAL_ID, "NUM_GROUPS": NUM_GROUPS,
    "__name__": __name__,
}  # fmt: skip


def function_of(m: Mapping) -> Callable[..., Any]:
    """Return the kernel as a function, whose text tracebacks and numba's messages can show."""
    text = text_of(m)
    path = f"<pnn_map {sha256(text.encode()).hexdigest()[:12]}>"
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    scope = dict(SCOPE)
    exec(compile(text, path, "exec", dont_inherit=True), scope)
    made: Callable[..., Any] = scope["pnn_map"]
    return made


def macro(define: str, term: Term, tag: str) -> Callable[..., Any]:
    """Return a define such as ``("MAP_TERM(v_x, v_t, j)", Term(...))`` as a device function that returns type `tag`."""
    parameters = define[define.index("(") :]
    scope = dict(SCOPE)
    exec(f"def macro{parameters}: return {tag}({KernelExpression(term.text).render_python(term.tag)})", scope)
    return device(scope["macro"])


def epilogue(d: Defines, tag: str) -> Callable[..., Any]:
    """Return the define of `c/epilogue.h` as a device function of a sum of compute type; the identity without one."""
    term = d.get("EPILOGUE(v_x)")
    return device(lambda v: v) if term is None else macro("EPILOGUE(v_x)", term, ACC_TAG(tag))
