"""Mapping: one kernel that reads operands elementwise at any strides and writes outputs; the text is rendered, the sizes are arguments.

What is computed is said in the language of `core/expression.py` (`KernelExpression`), never in C: the launch carries it
as a `Mapping`, from which this file renders C and the numba backend Python.

Four forms, chosen from the strides after merging axes that lie together in memory:

- flat: one axis, every operand contiguous or a scalar; no index arithmetic at all.
- rows: the outer axes are taken apart once per row, the inner axis is a plain loop (bias add, channel scale).
- grid (CPUs): two axes, of which the inner is short; a chunk is some rows, so that a row costs no division.
- elements: short inner axes; every element takes its index apart, in 32 bits when it fits.

A work-group walks over a chunk with a stride of its own size, so that a GPU reads whole lines and a CPU runtime makes
vectors of the work-items. CPU profiles get few large groups (a group costs about 10 ns there, an enqueue 2 us) of one
vector each: a CPU runtime runs a group vector by vector, each through the whole loop, so a group of four vectors would
pass over the chunk four times (measured on arrays of 32 MiB: 4 to 6 times slower).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

from portable_nn.core.dtypes import TAGS
from portable_nn.core.expression import KernelExpression
from portable_nn.core.spec import Spec, broadcast_strides
from portable_nn_kernels.launch import Arg, Const, Launch, Mapping, Profile, Ref, Term, Value

from .index_width import index_tag

_ROW_MIN = 32  # below this inner length a row no longer fills a vector
_GRID_MIN, _GRID_MAX = 8, 512  # lengths of rows that are taken some at a time
_LANES = 16  # a group no larger is one vector of a CPU


@dataclass(frozen=True, slots=True)
class Operand:
    """An array of the mapping: the name its value has in expressions, its spec, and where it is.

    `start` is the element its spec begins at, counted from the array's first: a part of an output is written so.
    """

    name: str
    spec: Spec
    ref: Ref
    start: int = 0


@dataclass(frozen=True, slots=True)
class ScalarArg:
    """A scalar of the mapping."""

    name: str
    tag: str
    arg: Const | Value


@dataclass(frozen=True, slots=True)
class Recipe:
    """The arguments of a `map_launch`, for whoever computes more for each element before it is stored."""

    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    steps: tuple[Term, ...]
    values: tuple[Term, ...]
    scalars: tuple[ScalarArg, ...]


def merged(shape: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """Return shape and strides with axes of length 1 dropped and axes that continue each other merged.

    Axes are first ordered by the last operand's strides (the output), so that the innermost axis is contiguous there.
    """
    axes = [i for i, n in enumerate(shape) if n != 1]
    axes.sort(key=lambda i: -abs(strides[-1][i]))
    sizes: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for axis in axes:
        n = shape[axis]
        mine = [s[axis] for s in strides]
        if sizes and all(step[-1] == m * n for step, m in zip(steps, mine, strict=True)):
            sizes[-1] *= n
            for step, m in zip(steps, mine, strict=True):
                step[-1] = m
        else:
            sizes.append(n)
            for step, m in zip(steps, mine, strict=True):
                step.append(m)
    if not sizes:
        return [1], [[0] if i < len(strides) - 1 else [1] for i in range(len(strides))]
    return sizes, steps


def map_launch(
    shape: Sequence[int],
    inputs: Sequence[Operand],
    outputs: Sequence[Operand],
    steps: Sequence[Term],
    values: Sequence[Term],
    profile: Profile,
    scalars: Sequence[ScalarArg] = (),
    indexed: bool = False,
) -> Launch:
    """Return the launch that computes `values[k]` for every element of `shape` and stores it to `outputs[k]`.

    Parameters
    ----------
    shape : sequence of int
        The shape mapped over; operands are broadcast to it. Must not be empty of elements.
    steps : sequence of Term
        Named values computed first. Names are those of operands (loaded to their compute type), scalars and earlier steps.
    values : sequence of Term
        One per output.
    indexed : bool
        Terms read the indices `at_0`, `at_1`, ... (i64) along the axes of `shape`, so no axes are merged.
    """
    arrays = [*inputs, *outputs]
    wanted = [broadcast_strides(a.spec, tuple(shape)) for a in arrays]
    if indexed:
        sizes, strides = list(shape) or [1], [list(s) or [0] for s in wanted]
    else:
        sizes, strides = merged(shape, wanted)
    inner = sizes[-1]
    rows = prod(sizes[:-1])
    by_grid = not indexed and profile.shape == "cpu" and len(sizes) == 2 and _GRID_MIN <= inner < _GRID_MAX
    by_elements = not by_grid and (indexed or (rows > 1 and inner < _ROW_MIN))
    count = prod(sizes)
    group = profile.vector if profile.shape == "cpu" else min(profile.size("gpu.map.group"), profile.group_limit)
    kinds = tuple({0: "0", 1: "1"}.get(s[-1], "s") for s in strides)
    mapping = Mapping(
        tuple((a.name, TAGS[a.spec.dtype]) for a in inputs), tuple((a.name, TAGS[a.spec.dtype]) for a in outputs),
        tuple((s.name, s.tag) for s in scalars), tuple(steps), tuple(values), len(sizes), kinds,
        "grid" if by_grid else "elements" if by_elements else "rows" if rows > 1 else "flat", index_tag(count), group,
        tuple(a.name for a in arrays if a.start),
    )  # fmt: skip
    args: list[Arg] = [a.ref for a in arrays]
    args += [s.arg for s in scalars]
    args += [Const("i64", a.start) for a in arrays if a.start]
    span = count if by_elements else inner
    if profile.shape == "cpu":
        workers = min(-(-count // profile.size("cpu.map.work")), profile.size("cpu.map.groups") * profile.units)
        if by_grid:
            chunk = -(-rows // workers)
        else:
            chunk = -(-span // max(1, -(-workers // (1 if by_elements else rows))))
            chunk = -(-chunk // group) * group
    else:
        chunk = group * profile.size("gpu.map.items")
    parts = -(-(rows if by_grid else span) // chunk)
    tiles = parts if by_elements or by_grid else parts * rows
    groups = tiles if profile.shape == "gpu" else min(tiles, max(1, workers))
    args += [Const("i64", span), Const("i64", chunk), Const("i64", parts), Const("i64", tiles)]
    for axis, n in enumerate(sizes):
        args.append(Const("i64", n))
        args += [Const("i64", s[axis]) for s in strides]
    recipe = None
    if not indexed and not mapping.shifted:
        recipe = Recipe(tuple(inputs), tuple(outputs), tuple(steps), tuple(values), tuple(scalars))
    return Launch("pnn_map", rendered(mapping), (min(groups, 2**31 - 1),), (group,), tuple(args), mapping=mapping, recipe=recipe)


@lru_cache(maxsize=4096)
def rendered(m: Mapping) -> str:
    """Return the kernel in C."""
    arrays = [*m.inputs, *m.outputs]
    names = [name for name, _ in arrays]
    ndim, form, index, group = m.ndim, m.form, m.index, m.group
    parameters = [f"IN({tag}, {name})" for name, tag in m.inputs] + [f"OUT({tag}, {name})" for name, tag in m.outputs]
    parameters += [f"const {tag} v_{name}" for name, tag in m.scalars]
    parameters += [f"const i64 {name}_start" for name in m.shifted]
    parameters += ["const i64 span", "const i64 chunk", "const i64 parts", "const i64 tiles"]
    for axis in range(ndim):
        parameters += [f"const i64 size_{axis}", *(f"const i64 {name}_{axis}" for name in names)]
    steps = [f"const {t.tag} v_{t.name} = {KernelExpression(t.text).render_c(t.tag, m.indices)};" for t in m.steps]
    values = [KernelExpression(t.text).render_c(t.tag, m.indices) for t in m.values]
    lines = ['#include "math.h"'] if any("pnn_" in text for text in (*steps, *values)) else []
    lines += [f"KERNEL(pnn_map, {group}, 1, 1)({', '.join(parameters)}) {{"]
    lines += [f"    AT_IN({tag}, {name});" for name, tag in m.inputs]
    lines += [f"    AT_OUT({tag}, {name});" for name, tag in m.outputs]
    lines += [f"    {name} += {name}_start;" for name in m.shifted]
    lines.append("    for (i64 tile = GROUP_ID(0); tile < tiles; tile += NUM_GROUPS(0)) {")
    if form == "grid":
        lines.append("        const i64 end = (tile + 1) * chunk < size_0 ? (tile + 1) * chunk : size_0;")
        lines.append("        for (i64 at_0 = tile * chunk; at_0 < end; ++at_0) {")
        lines.append("        const i64 start = 0, stop = span;")
        lines += [f"        const i64 {n}_row = at_0 * {n}_0;" for n in names]
    elif form == "rows":
        lines.append("        i64 row = tile / parts;")
        lines.append("        const i64 start = (tile - row * parts) * chunk;")
        for axis in reversed(range(ndim - 1)):
            lines.append(f"        const i64 at_{axis} = row % size_{axis}; row /= size_{axis};")
        lines += [f"        const i64 {n}_row = {' + '.join(f'at_{a} * {n}_{a}' for a in range(ndim - 1))};" for n in names]
    else:
        lines.append("        const i64 start = tile * chunk;")
    if form != "grid":
        lines.append("        const i64 stop = start + chunk < span ? start + chunk : span;")
    inside: list[str] = []
    places = {}
    if form == "elements":
        inside.append(f"            {index} rest = ({index})i;")
        for axis in reversed(range(ndim)):
            if axis:
                inside.append(
                    f"            const i64 at_{axis} = (i64)(rest % ({index})size_{axis}); rest /= ({index})size_{axis};"
                )
            else:
                inside.append("            const i64 at_0 = (i64)rest;")
        for name in names:
            places[name] = " + ".join(f"at_{a} * {name}_{a}" for a in range(ndim))
    else:
        last = ndim - 1
        for name, kind in zip(names, m.kinds, strict=True):
            inner = {"0": "0", "1": "i"}.get(kind, f"i * {name}_{last}")
            places[name] = f"{name}_row + {inner}" if form in ("rows", "grid") else inner
    inside += [f"            const ACC({tag}) v_{name} = LOAD({tag}, {name}, {places[name]});" for name, tag in m.inputs]
    inside += [f"            {step}" for step in steps]
    for (name, tag), value in zip(m.outputs, values, strict=True):
        inside.append(f"            STORE({tag}, {name}, {places[name]}, {value});")
    if group > _LANES:
        lines += [f"        for (i64 i = start + LOCAL_ID(0); i < stop; i += {group}) {{", *inside, "        }"]
    else:  # whole vectors without a mask, which took 40 % of the time of gelu, and then what is left
        lines += ["        i64 whole = start;", f"        for (; whole + {group} <= stop; whole += {group}) {{"]
        lines += ["            const i64 i = whole + LOCAL_ID(0);", *inside, "        }"]
        lines += ["        const i64 i = whole + LOCAL_ID(0);", "        if (i < stop) {", *inside, "        }"]
    lines += [*(["        }"] if form == "grid" else []), "    }", "}", ""]
    return "\n".join(lines)
