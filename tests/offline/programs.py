"""Every program that GPU-shaped plans launch: collected by planning each sample and benchmark case on the null backend."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

import portable_nn.ops  # noqa: F401 - fills the registry
from portable_nn.core import dtypes, selection
from portable_nn.core.errors import DTypeError, NoKernel
from portable_nn.core.op import Op
from portable_nn.core.registry import OPS
from portable_nn.core.samples import A, Bench, Sample
from portable_nn.core.spec import Spec
from portable_nn.testing.cases import Drawn, drawn, dtypes_of
from portable_nn_kernels.launch import Define
from portable_nn_kernels.source import program_text

FLOATS = ("float32", "float16", "bfloat16", "float64")


@dataclass(frozen=True, slots=True)
class Program:
    """A text to compile, the kernels launched from it, and the first op that does."""

    source: str
    defines: tuple[tuple[str, Define], ...]
    kernels: tuple[str, ...]
    op: str

    def text(self) -> str:
        """Return the CUDA text."""
        return program_text(self.source, self.defines, "cuda")

    @property
    def file(self) -> str:
        """Name of the file of kernel text; "elementwise" for rendered text."""
        return "elementwise" if "\n" in self.source else self.source

    def __str__(self) -> str:
        told = " ".join(f"{name}={value}" for name, value in self.defines)
        return f"{self.op}: {', '.join(self.kernels)} ({self.file} {told})".rstrip()


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


def collect(only: Iterable[str] | None = None, ops: Iterable[str] | None = None) -> list[Program]:
    """Return the distinct programs of the registry, in the order of ops.

    Parameters
    ----------
    only : iterable of str, optional
        dtypes under test; by default all that a sample takes.
    ops : iterable of str, optional
        Names; by default all.
    """
    null: Any = selection.get("null", "gpu")
    chosen = None if only is None else set(only)
    found: dict[tuple[str, Any], tuple[str, list[str]]] = {}
    for name in sorted(OPS) if ops is None else ops:
        op = OPS[name]
        cases = [(sample, dtypes_of(op, sample)) for sample in op.samples]
        cases += [(case, FLOATS) for case in op.bench]  # type: ignore[misc]
        for case, legal in cases:
            for dtype in legal:
                if chosen is not None and dtype not in chosen:
                    continue
                for residuals in sorted({False, bool(op.residuals)}):
                    op._cache.clear()
                    try:
                        there = _given(op, case, dtype, null)
                        with selection.use_backend(null), null.recording() as launches:
                            op.apply(there.args, dict(there.settings), residuals)
                    except (NoKernel, DTypeError):
                        continue
                    finally:
                        op._cache.clear()
                    for launch in (recorded.launch for recorded in launches):
                        kernels = found.setdefault((launch.source, launch.defines), (name, []))[1]
                        if launch.kernel not in kernels:
                            kernels.append(launch.kernel)
    return [Program(source, defines, tuple(kernels), op) for (source, defines), (op, kernels) in found.items()]
