"""How much of the error bound an op uses on a backend: measured on its samples, written as data for the op pages.

    python -m portable_nn.testing.accuracy --backend opencl --out docs/reference/accuracy.json

The bound is `tolerance.allowed`, the truth the op's body in float64 on the exact operands, as in the tests. What is kept is
the largest ratio of error to bound over the op's samples: 1 would be a failing test.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ..core import dtypes, selection
from ..core.backend import Backend
from ..core.errors import NoKernel
from ..core.op import Op
from ..core.registry import OPS
from ..core.samples import Sample
from ..core.version import VERSION
from . import tolerance
from .cases import FLOATS, drawn, dtypes_of, largest, seed_of, widened
from .check import truth_of


def share(op: Op, sample: Sample, dtype: str, backend: Backend) -> float | None:
    """Return the largest ratio of error to bound among the outputs of one call; None if none is floating, finite and not empty."""
    given = drawn(sample, dtype, seed_of(op.name, sample.name, dtype))
    truth = truth_of(op, given)
    there = given.map(backend.from_numpy, np.ndarray)
    with selection.use_backend(backend):
        outputs, entry = op.apply(there.args, dict(there.settings))
        got = [backend.to_numpy(output) for output in outputs]
    op.forget()
    terms = op.reduces(entry.call) if op.reduces is not None else 1
    operands = largest(given.arrays())
    worst: float | None = None
    for value, wanted, spec in zip(got, truth, entry.call.outputs, strict=False):
        if dtypes.kind(spec.dtype) != "float":
            continue
        finite = np.isfinite(wanted) & np.isfinite(widened(value))
        limit = tolerance.allowed(wanted, spec.dtype, terms, operands, op.name)
        with np.errstate(all="ignore"):
            ratios = (np.abs(widened(value) - wanted) / limit)[finite]
        if ratios.size:
            worst = max(worst or 0.0, float(ratios.max()))
    return worst


def measured(op: Op, backend: Backend, most: int) -> dict[str, float]:
    """Return the worst ratio per dtype over the first `most` samples."""
    found: dict[str, float] = {}
    for sample in op.samples[:most]:
        for dtype in dtypes_of(op, sample):
            if dtype not in FLOATS or not backend.supports(dtypes.canonical(dtype)):
                continue
            try:
                ratio = share(op, sample, dtype, backend)
            except NoKernel:
                continue
            if ratio is not None:
                found[dtype] = max(found.get(dtype, 0.0), ratio)
    return {dtype: float(f"{ratio:.2g}") for dtype, ratio in found.items()}


def main() -> None:
    """Measure every op; print progress to the terminal, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="opencl")
    parser.add_argument("--samples", type=int, default=1000, help="at most so many samples of each op")
    parser.add_argument("--out", default="docs/reference/accuracy.json")
    given = parser.parse_args()
    backend = selection.get(given.backend)
    ops: dict[str, Any] = {}
    names = sorted(name for name, op in OPS.items() if op.samples)
    with np.errstate(all="ignore"):
        for at, name in enumerate(names):
            if sys.stderr.isatty():
                print(f"\r{at + 1}/{len(names)} {name:40}", end="", file=sys.stderr, flush=True)
            found = measured(OPS[name], backend, given.samples)
            if found:
                ops[name] = found
    if sys.stderr.isatty():
        print(file=sys.stderr)
    header = {"backend": backend.name, "device": backend.device, "version": VERSION, "date": datetime.now(UTC).date().isoformat(), "samples": given.samples}
    Path(given.out).write_text(json.dumps({**header, "ops": ops}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    worst = max(((ratio, name, dtype) for name, one in ops.items() for dtype, ratio in one.items()), default=None)
    print(f"{len(ops)} ops on {backend.name} ({backend.device}); the largest part of a bound: {worst}")


if __name__ == "__main__":
    main()
