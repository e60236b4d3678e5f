"""Lines: how kernels that include `line.h` are launched: softmax and losses, one line per work-group or per work-item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from portable_nn.core.dtypes import DType, float32, float64
from portable_nn.core.spec import Spec, broadcast_strides
from portable_nn_kernels.launch import Const, Define, Launch, Profile, Ref, Scratch

from .copies import copy_launch

SHORT = 32  # a line shorter than this leaves most of a work-group idle: one work-item per line then


@dataclass(frozen=True, slots=True)
class Line:
    """An operand: its spec, broadcast to the shape walked over, and where it is. `per_line`: one element per line."""

    spec: Spec
    ref: Ref
    per_line: bool = False


@dataclass(frozen=True, slots=True)
class Lines:
    """What `lines` found.

    Parameters
    ----------
    copies, scratch
        Launches that bring operands into C order first, where their axes do not merge.
    refs : tuple of Ref
        Where the operands are after that.
    count, inner, length : int
        Number of lines, of lines along the inner kept axis, and elements of a line.
    strides : tuple of (i64, i64, i64)
        Per operand: outer kept axis, inner kept axis, along the line.
    defines : tuple
        G and what `line.h` reads.
    group, groups : int
        Work-items per group and groups.
    """

    copies: tuple[Launch, ...]
    scratch: tuple[Spec, ...]
    refs: tuple[Ref, ...]
    count: int
    inner: int
    length: int
    strides: tuple[tuple[int, int, int], ...]
    defines: tuple[tuple[str, Define], ...]
    group: int
    groups: int

    @property
    def sizes(self) -> tuple[Const, ...]:
        """The arguments lines, k0s and n."""
        return Const("i64", self.count), Const("i64", self.inner), Const("i64", self.length)

    def steps(self, operand: int) -> tuple[Const, ...]:
        """Return the arguments LINES(t)."""
        return tuple(Const("i64", s) for s in self.strides[operand])


def _merged(shape: Sequence[int], strides: Sequence[Sequence[int]], axis: int) -> list[tuple[int, list[int]]]:
    found: list[tuple[int, list[int]]] = []
    for i, n in enumerate(shape):
        if i == axis or n == 1:
            continue
        steps = [s[i] for s in strides]
        if found and all(a == b * n for a, b in zip(found[-1][1], steps, strict=True)):
            found[-1] = (found[-1][0] * n, steps)
        else:
            found.append((n, steps))
    return [(1, [0] * len(strides))] * (2 - len(found)) + found


def lines(shape: Sequence[int], axis: int, operands: Sequence[Line], profile: Profile, fixed: int = 1, alone: bool = False) -> Lines:
    """Return how the lines of `shape` along `axis` are walked.

    Parameters
    ----------
    operands : sequence of Line
        All that is walked. The last `fixed` are outputs and stay where they are; the others may be copied.
    alone : bool
        A work-item per line however long it is (kernels that read few elements of it).
    """
    strides = [broadcast_strides(o.spec, tuple(shape)) for o in operands]
    kept = _merged(shape, strides, axis)
    copies: list[Launch] = []
    scratch: list[Spec] = []
    refs = [o.ref for o in operands]
    if len(kept) > 2:
        for i, operand in enumerate(operands[: len(operands) - fixed]):
            target = Spec(tuple(shape), operand.spec.dtype)
            refs[i] = Scratch(len(scratch))
            copies.append(copy_launch(Spec(tuple(shape), operand.spec.dtype, strides[i]), operand.ref, target, refs[i], profile))
            scratch.append(target)
            strides[i] = target.strides
        kept = _merged(shape, strides, axis)
    (outer, outer_steps), (inner, inner_steps) = kept
    count, length = outer * inner, shape[axis]
    along = [s[axis] for s in strides]
    cpu = profile.shape == "cpu"
    walked = [a for a, o in zip(along, operands, strict=True) if not o.per_line]
    shared = not alone and length >= SHORT and (walked[-1] == 1 or count < 16)
    group = 16 if cpu else 64 if not shared or length < 512 else min(profile.size("gpu.line.group"), profile.group_limit)
    defines: list[tuple[str, Define]] = [("G", group)]
    if shared:
        defines.append(("LANES", 1))
    if all(a == 1 for a in walked):
        defines.append(("UNIT", 1))
    elif not shared and all(s == 1 for s in inner_steps):
        defines.append(("DENSE", 1))
    if outer == 1:
        defines.append(("FLAT", 1))
    tiles = count if shared else -(-count // group)
    groups = min(tiles, max(1, min(4 * profile.units, -(-count * length // profile.size("cpu.line.work"))))) if cpu else tiles
    each = tuple((a, b, c) for a, b, c in zip(outer_steps, inner_steps, along, strict=True))
    return Lines(tuple(copies), tuple(scratch), tuple(refs), count, inner, length, each, tuple(defines), group, max(groups, 1))


def vector_defines(found: Lines, dtype: DType, profile: Profile) -> tuple[tuple[str, Define], ...]:
    """Return what a kernel with `vector_cpu.h` defines instead of G and LANES; nothing where it does not serve.

    It serves long lines whose elements are neighbours, on a CPU.
    """
    if profile.shape != "cpu" or not {("LANES", 1), ("UNIT", 1)} <= set(found.defines):
        return ()
    return (("G", 1), ("VW", vector_lanes(dtype, profile)))


def vector_lanes(dtype: DType, profile: Profile) -> int:
    """Return the lanes of a CPU's vector in the compute type of `dtype`."""
    return max(4, min(16, profile.vector)) * 4 // compute(dtype).itemsize


def compute(dtype: DType) -> DType:
    """Return the dtype lines of `dtype` are computed in."""
    return float64 if dtype == float64 else float32


def empty(shape: Sequence[int]) -> bool:
    """Tell whether nothing is to be done."""
    return prod(shape) == 0
