"""How large is the noise? The same copy measured again and again, as a history would measure it, and neighbouring runs compared.

    python asv_bench/noise.py FOLDER [--runs 10] [--profile history] [--backend opencl] [--match REGEX] [--every 3]

The first run goes over its cases in several passes, every other once; then what moved against the run before is measured again, the two
in turn, as the history does. Every run is kept in FOLDER, so it can be stopped and goes on; with all runs there, only the table is made
anew. A pair is one case in two runs one after the other. What the history would call a change without there being one is what lies beyond
its threshold.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import time
from typing import Any

from harness import beside, store
from harness.changes import THRESHOLD, steps
from harness.compare import Side
from harness.history import ONCE, measure_copy
from harness.measure import Budget, Case, Measured
from harness.repository import ROOT

import portable_nn.ops  # noqa: F401  (fills the registry)
from portable_nn.core.registry import OPS

Passes = list[list[Measured]]


@dataclass(frozen=True)
class Run:
    """What one run found: its passes, and its findings by the probe and against the run before."""

    passes: Passes
    written: list[Measured]
    seconds: float


def measured(folder: Path, runs: int, environment: dict[str, str], pattern: str) -> list[Run]:
    """Measure the runs that are not in the folder yet; return all."""
    folder.mkdir(parents=True, exist_ok=True)
    found: list[Run] = []
    for number in range(runs):
        path = folder / f"run-{number}.json"
        if path.is_file():
            found.append(_read(path))
            continue
        started = time()
        _, passes, _ = measure_copy(ROOT, environment, pattern, ONCE if found else Budget(), lambda at, of, m: None)
        written = store.merged(passes, _reference(found[0].passes if found else passes))
        doubtful: list[Case] = []
        if found:
            known = {beside.key(m.case): m.value for m in found[-1].written if m.value}
            doubtful = beside.moved(written, known)
            same = Side("same", ROOT)
            written = beside.settled(written, known, beside.in_turn(doubtful, same, same, environment))
        found.append(Run(passes, written, time() - started))
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(found[-1])), "utf-8")
        part.replace(path)
        print(f"run {number + 1} of {runs}: {sum(map(len, passes))} measurements, {len(doubtful)} again in turn, {found[-1].seconds:.0f} s", flush=True)
    return found


def _reference(passes: Passes) -> dict[str, float]:
    probes = [m.probe for made in passes for m in made if m.probe]
    return {kind: statistics.median(p[kind] for p in probes) for kind in probes[0]}


def _read(path: Path) -> Run:
    def one(m: dict[str, Any]) -> Measured:
        case = m["case"]
        return Measured(**{**m, "case": Case(case["name"], case["index"], tuple(case["params"]))})

    kept = json.loads(path.read_text("utf-8"))
    return Run([[one(m) for m in made] for made in kept["passes"]], [one(m) for m in kept["written"]], kept["seconds"])


def table(series: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Return the figures of neighbouring runs: the median and the 90th percentile of differences, and what lies beyond the threshold."""
    cases = [title for title in series[0] if all(title in s for s in series)]
    differences = [(max(a[t] / b[t], b[t] / a[t]) - 1, t) for a, b in itertools.pairwise(series) for t in cases]
    found = sorted(d for d, _ in differences)
    beyond = [t for d, t in differences if d > THRESHOLD]
    return {
        "cases": len(cases), "pairs": len(found), "median": statistics.median(found), "nine_in_ten": found[int(0.9 * len(found))],
        "beyond": len(beyond) / len(found), "worst": {t: beyond.count(t) for t in sorted(set(beyond), key=lambda t: -beyond.count(t))[:8]},
        "steps": sum(bool(steps([s[t] for s in series])) for t in cases) / len(cases),
    }  # fmt: skip


def plain(found: Sequence[Measured]) -> dict[str, float]:
    """Return the times of what was found."""
    return {m.case.title: m.value for m in found if m.value and m.kind == "time"}


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--profile", default="history")
    parser.add_argument("--backend", default="opencl")
    parser.add_argument("--match", default="^ops")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every Nth op by its name, which is a sample of all")
    given = parser.parse_args()
    environment = {"PORTABLE_NN_BENCH_PROFILE": given.profile, "PORTABLE_NN_BENCH_BACKENDS": given.backend, "OPENBLAS_NUM_THREADS": "1"}
    if given.every > 1:
        environment["PORTABLE_NN_BENCH_OPS"] = "|".join(sorted(OPS)[:: given.every])
    runs = measured(given.folder, given.runs, environment, given.match)
    if len(runs) < 2:
        return 0
    reference = _reference(runs[0].passes)
    print("| | cases | pairs | median difference | 90 % of pairs within | pairs beyond the threshold | cases with a step in the series |\n|---|---:|---:|---:|---:|---:|---:|")
    rows: dict[str, Callable[[Run], list[Measured]]] = {
        "as measured": lambda run: store.merged(run.passes, None),
        "by the probe": lambda run: store.merged(run.passes, reference),
        "as written: what moved, again in turn": lambda run: run.written,
    }
    for name, values in rows.items():
        t = table([plain(values(run)) for run in runs])
        print(f"| {name} | {t['cases']} | {t['pairs']} | {t['median']:.1%} | {t['nine_in_ten']:.1%} | {t['beyond']:.1%} | {t['steps']:.1%} |")
        for title, count in t["worst"].items():
            print(f"    {count} x {title}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
