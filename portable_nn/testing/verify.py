"""verify: every op's checks on one device, with bandwidth and GEMM rate, as a report that can be contributed."""

from __future__ import annotations

import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from typing import Any
from unittest import SkipTest

import numpy as np

from ..core import registry
from ..core.backend import Backend
from ..core.errors import NoKernel, PortableNNError
from ..core.op import Op
from ..core.version import VERSION
from .cases import dtypes_of
from .check import check_op
from .gradient import check_gradient
from .suite import gradient_dtypes

_COPY_BYTES = (1 << 20, 16 << 20, 64 << 20)
_GEMM = (256, 1024)
_ROUNDS = 9


@dataclass
class Tally:
    """What became of the checks of one op in one dtype and direction."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    reasons: list[str] = field(default_factory=list)

    def add(self, state: str, reason: str = "") -> None:
        """Count one check; keep the first reasons, they are what a maintainer reads."""
        setattr(self, state, getattr(self, state) + 1)
        if reason and reason not in self.reasons and len(self.reasons) < 5:
            self.reasons.append(reason)


@dataclass(frozen=True)
class Check:
    """One check to run, and where it counts."""

    op: str
    direction: str
    dtype: str
    sample: str
    run: Callable[[], object]


def plan_checks(backend: Backend, names: Sequence[str] = (), quick: bool = False) -> list[Check]:
    """Return the checks of `names` (every op by default); `quick` takes the first sample of each op only."""
    import_module("portable_nn.ops")
    ops: list[Op] = [registry.find(name) for name in names] if names else [registry.OPS[n] for n in sorted(registry.OPS)]
    checks = []
    for op in ops:
        for sample in op.samples[:1] if quick else op.samples:
            checks += [
                Check(op.name, "forward", dtype, sample.name, partial(check_op, op, sample, dtype, backend))
                for dtype in dtypes_of(op, sample)
            ]
            checks += [
                Check(op.name, "gradient", dtype, sample.name, partial(check_gradient, op, sample, backend, dtype))
                for dtype in gradient_dtypes(op, sample)
            ]
    return checks


def run_checks(checks: Iterable[Check], advance: Callable[[Check], None] = lambda check: None) -> dict[str, dict[str, Any]]:
    """Run the checks; return, per ``op/direction/dtype``, what passed, failed and was skipped, and why."""
    tallies: dict[str, Tally] = defaultdict(Tally)
    for check in checks:
        advance(check)
        tally = tallies[f"{check.op}/{check.direction}/{check.dtype}"]
        try:
            check.run()
        except (SkipTest, NoKernel) as reason:
            tally.add("skipped", str(reason).partition("\n")[0])
        except (AssertionError, PortableNNError) as fault:
            tally.add("failed", f"{check.sample}: {type(fault).__name__}: {fault}"[:500])
        except Exception as fault:  # a driver's own error on one kernel must not lose the report of the others
            tally.add("failed", f"{check.sample}: {type(fault).__module__}.{type(fault).__name__}: {fault}"[:500])
        else:
            tally.add("passed")
    return {name: asdict(tally) for name, tally in tallies.items()}


def _median_seconds(backend: Backend, launch: Callable[[], object]) -> float:
    launch()
    backend.synchronize()
    times = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        launch()
        backend.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(backend: Backend) -> dict[str, float]:
    """Return copy bandwidth in GB/s (bytes read and written) and float32 GEMM rate in GFLOP/s, medians of nine, waiting included."""
    copy, matmul = registry.find("positive"), registry.find("matmul")
    rates = {}
    for nbytes in _COPY_BYTES:
        x = backend.from_numpy(np.ones(nbytes // 4, np.float32))
        seconds = _median_seconds(backend, partial(copy, x))
        rates[f"copy {nbytes >> 20} MiB (GB/s)"] = round(2 * nbytes / seconds / 1e9, 2)
    for n in _GEMM:
        x = backend.from_numpy(np.random.default_rng(n).standard_normal((n, n)).astype(np.float32))
        seconds = _median_seconds(backend, partial(matmul, x, x))
        rates[f"matmul {n} (GFLOP/s)"] = round(2 * n**3 / seconds / 1e9, 1)
    return rates


def report(backend: Backend, results: dict[str, dict[str, Any]], rates: dict[str, float], quick: bool) -> dict[str, Any]:
    """Return the report: device, driver, versions, date, rates and every tally."""
    device = backend.devices()[0]
    counts = {state: sum(r[state] for r in results.values()) for state in ("passed", "failed", "skipped")}
    return {
        "format": 1,
        "portable_nn": VERSION,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "backend": backend.name,
        "device": asdict(device),
        "system": {"python": platform.python_version(), "platform": platform.platform(), "numpy": np.__version__},
        "quick": quick,
        "counts": counts,
        "rates": rates,
        "results": results,
    }
