"""Every program that GPU-shaped plans launch: collected by planning each sample and benchmark case on the null backend."""

from __future__ import annotations

import warnings
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Literal

import numpy as np

import portable_nn.ops  # noqa: F401 - fills the registry
from portable_nn.core import dtypes, selection
from portable_nn.core.errors import DTypeError, NoKernel
from portable_nn.core.op import Op
from portable_nn.core.registry import OPS
from portable_nn.core.samples import A, Bench, Sample
from portable_nn.core.spec import Spec
from portable_nn.testing.cases import Drawn, drawn, dtypes_of
from portable_nn_kernels.launch import Define, Launch, Profile
from portable_nn_kernels.source import program_text
from portable_nn_null import NullBackend

from .target import Target, Vendor, profile

MOST = 1
Which = Literal["all", "in turn", "table"]
FLOATS = ("float32", "float16", "bfloat16", "float64")


@dataclass(frozen=True, slots=True)
class Program:
    """A text to compile, the kernels launched from it with the work-items of their groups, and the first op that does.

    `benched`: some benchmark launches it, so that it is what an array of real size meets.
    """

    source: str
    defines: tuple[tuple[str, Define], ...]
    items: Mapping[str, int] = field(hash=False)
    op: str
    benched: bool = False

    def text(self, target: Target) -> str:
        """Return the text that a target's compiler is given."""
        if target.language != "opencl":
            return program_text(self.source, self.defines, "cuda")
        first = (("PNN_F64", 1),) if target.float64 else ()
        return program_text(self.source, (*first, *self.defines), "opencl")

    @property
    def file(self) -> str:
        """Name of the file of kernel text; "elementwise" for rendered text."""
        return "elementwise" if "\n" in self.source else self.source

    def __str__(self) -> str:
        told = " ".join(f"{name}={value}" for name, value in self.defines)
        return f"{self.op}: {', '.join(self.items)} ({self.file} {told})".rstrip()


def _given(op: Op, case: Sample | Bench, dtype: str, null: Any) -> Drawn:
    if isinstance(case, Sample):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # samples of NaN as integers
            return drawn(case, dtype, 0).map(null.from_numpy, np.ndarray)
    # Benchmark arrays are large; only their specs are needed here.
    wanted = dtypes.canonical(dtype)
    return Drawn(case.args, case.settings).map(
        lambda a: null.allocate(Spec(a.shape, dtypes.canonical(a.dtype) if a.dtype else wanted)), A
    )


def launches(op: Op, case: Sample | Bench, dtype: str, null: Any) -> list[Launch]:
    """Return what the null backend launches for a case, with its residuals and without; nothing where it has no kernel or dtype."""
    found: list[Launch] = []
    for residuals in sorted({False, bool(op.residuals)}):
        op._cache.clear()
        try:
            there = _given(op, case, dtype, null)
            with selection.use_backend(null), null.recording() as recorded:
                op.apply(there.args, dict(there.settings), residuals)
        except (NoKernel, DTypeError):
            continue
        finally:
            op._cache.clear()
        found += [one.launch for one in recorded]
    return found


def collect(planned: Profile, only: Iterable[str] | None = None, ops: Iterable[str] | None = None) -> list[Program]:
    """Return the distinct programs of the registry, in the order of ops.

    Parameters
    ----------
    planned : Profile
        Of the device that plans are made for.
    only : iterable of str, optional
        dtypes under test; by default all that a sample takes.
    ops : iterable of str, optional
        Names; by default all.
    """
    null: Any = NullBackend(planned)
    chosen = None if only is None else set(only)
    found: dict[tuple[str, Any], tuple[str, dict[str, int]]] = {}
    benched = set()
    for name in sorted(OPS) if ops is None else ops:
        op = OPS[name]
        cases = [(sample, dtypes_of(op, sample)) for sample in op.samples]
        cases += [(case, FLOATS) for case in op.bench]  # type: ignore[misc]
        for case, legal in cases:
            for dtype in legal:
                if chosen is not None and dtype not in chosen:
                    continue
                for launch in launches(op, case, dtype, null):
                    items = found.setdefault((launch.source, launch.defines), (name, {}))[1]
                    items[launch.kernel] = max(items.get(launch.kernel, 0), prod(launch.size))
                    if isinstance(case, Bench):
                        benched.add((launch.source, launch.defines))
    return [Program(source, defines, items, op, (source, defines) in benched) for (source, defines), (op, items) in found.items()]


def jobs(
    vendor: Vendor, only: Iterable[str] | None = None, which: Which = "table", ops: Iterable[str] | None = None
) -> list[tuple[Program, Target]]:
    """Return what to compile for a vendor.

    Parameters
    ----------
    vendor : Vendor
    only : iterable of str, optional
        dtypes under test; by default all that a sample takes.
    which : "all", "in turn" or "table"
        Each program for all targets that launch it; for one of them, the same at every run; or for all targets MOST of
        the programs of each kernel, those that benchmarks launch first.
    ops : iterable of str, optional
        Names; by default all.
    """
    planned: dict[Profile, list[Program]] = {}
    chosen, names = None if only is None else tuple(only), None if ops is None else tuple(ops)
    made: dict[tuple[Any, ...], list[tuple[Program, Target]]] = {}
    for target in vendor.TARGETS:
        told = replace(profile(vendor.NAME, target), name=vendor.NAME)  # targets that differ by name alone have one list
        if told not in planned:
            planned[told] = collect(told, chosen, names)
            if which == "table":
                planned[told] = _typical(planned[told])
        for program in planned[told]:
            made.setdefault((program.source, program.defines), []).append((program, target))
    if which == "in turn":
        return [found[zlib.crc32(repr(key).encode()) % len(found)] for key, found in made.items()]
    return [job for found in made.values() for job in found]


def _typical(programs: list[Program]) -> list[Program]:
    """Return up to MOST programs of each kernel, those that benchmarks launch first."""
    seen: Counter[tuple[str, str]] = Counter()
    taken = []
    for program in sorted(programs, key=lambda program: not program.benched):
        own = [(program.file, kernel) for kernel in program.items]
        if any(seen[key] < MOST for key in own):
            taken.append(program)
            seen.update(own)
    return taken
