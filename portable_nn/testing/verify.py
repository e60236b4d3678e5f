"""verify: every op's checks on one device, with bandwidth and GEMM rate, as a report that can be contributed.

The same checks, counted in the same way, are the rungs of the verification ladder (tests/ladder).
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from typing import Any
from unittest import SkipTest

import numpy as np

from ..core import registry
from ..core.backend import Backend
from ..core.errors import PortableNNError
from ..core.op import Op
from ..core.version import VERSION
from .cases import dtypes_of
from .check import check_op
from .gradient import check_gradient
from .suite import gradient_dtypes

FORMAT = 3
"""Of reports and of the ladder's records; 3 tells for each reason to skip which ops gave it."""

_COPY_BYTES = (1 << 20, 16 << 20, 64 << 20)
_GEMM = (256, 1024)
_ROUNDS = 9
_STATES = ("passed", "failed", "skipped")
_TOLD = 500  # characters of a fault's message that are kept

Counts = dict[str, dict[str, dict[str, list[int]]]]
"""op -> direction ("forward", "gradient") -> dtype -> [passed, failed, skipped]."""


@dataclass
class Results:
    """What became of checks: counts, the message of every failure, and how often each op gave which reason to skip."""

    counts: Counts = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    skips: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, check: Check, state: str, reason: str = "") -> None:
        """Count one check."""
        self.row(check.op, check.direction, check.dtype)[_STATES.index(state)] += 1
        if state == "failed":
            self.failures.append(f"{check.op}/{check.direction}/{check.dtype} {check.sample}: {reason}"[:_TOLD])
        elif state == "skipped":
            self._skip(reason, check.op, 1)

    def row(self, op: str, direction: str, dtype: str) -> list[int]:
        """Return the three counts of an op, direction and dtype, made if they are not there."""
        return self.counts.setdefault(op, {}).setdefault(direction, {}).setdefault(dtype, [0, 0, 0])

    def merge(self, other: Mapping[str, Any]) -> None:
        """Add results in the form of `asdict`."""
        for op, direction, dtype, counts in rows(other["counts"]):
            mine = self.row(op, direction, dtype)
            mine[:] = [a + b for a, b in zip(mine, counts, strict=True)]
        self.failures += other["failures"]
        for reason, ops in other["skips"].items():
            for op, times in ops.items():
                self._skip(reason, op, times)

    def forget(self, ops: Iterable[str]) -> None:
        """Take out what is known of some ops."""
        for op in ops:
            self.counts.pop(op, None)
            self.failures = [told for told in self.failures if not told.startswith((f"{op}/", f"{op}:"))]
            for found in self.skips.values():
                found.pop(op, None)
        self.skips = {reason: found for reason, found in self.skips.items() if found}

    def _skip(self, reason: str, op: str, times: int) -> None:
        found = self.skips.setdefault(reason, {})
        found[op] = found.get(op, 0) + times

    def totals(self) -> dict[str, int]:
        """Return how many checks passed, failed and were skipped."""
        every = [counts for *_, counts in rows(self.counts)]
        return {state: sum(c[i] for c in every) for i, state in enumerate(_STATES)}


def rows(counts: Counts) -> Iterator[tuple[str, str, str, list[int]]]:
    """Yield (op, direction, dtype, [passed, failed, skipped])."""
    for op, directions in counts.items():
        for direction, dtypes in directions.items():
            for dtype, found in dtypes.items():
                yield op, direction, dtype, found


@dataclass(frozen=True)
class Check:
    """One check to run, and where it counts."""

    op: str
    direction: str
    dtype: str
    sample: str
    run: Callable[[], object]


def checks_of(op: Op, backend: Backend, samples: int | None = None) -> list[Check]:
    """Return the checks of an op: its first `samples` samples (all by default) x dtype x direction.

    Where none of these takes float32, the first sample that does comes with them; where none has a gradient, the first that has.
    """
    checks = []
    chosen = list(op.samples[:samples])
    for wanted in (lambda sample: "float32" in dtypes_of(op, sample), lambda sample: gradient_dtypes(op, sample)):
        if not any(map(wanted, chosen)):
            chosen += [*filter(wanted, op.samples)][:1]
    for sample in chosen:
        checks += [
            Check(op.name, "forward", dtype, sample.name, partial(check_op, op, sample, dtype, backend))
            for dtype in dtypes_of(op, sample)
        ]
        checks += [
            Check(op.name, "gradient", dtype, sample.name, partial(check_gradient, op, sample, backend, dtype))
            for dtype in gradient_dtypes(op, sample)
        ]
    return checks


def plan_checks(backend: Backend, names: Sequence[str] = (), quick: bool = False) -> list[Check]:
    """Return the checks of `names` (every op by default); `quick` takes the first sample of each op only."""
    import_module("portable_nn.ops")
    ops: list[Op] = [registry.find(name) for name in names] if names else [registry.OPS[n] for n in sorted(registry.OPS)]
    return [check for op in ops for check in checks_of(op, backend, 1 if quick else None)]


def run_checks(checks: Iterable[Check], tell: Callable[[str], object] = str) -> Results:
    """Run the checks, each to its end whatever became of those before; `tell` is told of a failure as it comes."""
    results = Results()
    for check in checks:
        try:
            check.run()
        except SkipTest as reason:
            results.add(check, "skipped", str(reason).partition("\n")[0])
        except Exception as fault:  # a driver's own error on one kernel must not lose the report of the others
            ours = isinstance(fault, AssertionError | PortableNNError)
            results.add(check, "failed", f"{'' if ours else f'{type(fault).__module__}.'}{type(fault).__name__}: {fault}")
            tell(results.failures[-1])
        else:
            results.add(check, "passed")
    return results


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


def system() -> dict[str, str]:
    """Return the versions a result depends on beside the device and its driver."""
    return {"python": platform.python_version(), "platform": platform.platform(), "numpy": np.__version__}


def report(backend: Backend, results: Results, rates: dict[str, float], quick: bool, seconds: float = 0.0) -> dict[str, Any]:
    """Return the report: device, driver, versions, date, rates and all results. `coverage.fault_of` says what one must hold."""
    device = backend.devices()[0]
    return {
        "format": FORMAT,
        "portable_nn": VERSION,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "backend": backend.name,
        "device": asdict(device),
        "system": system(),
        "quick": quick,
        "seconds": round(seconds, 1),
        "totals": results.totals(),
        "rates": rates,
        **asdict(results),
    }
