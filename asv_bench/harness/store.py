"""Results on disk: asv's own files, so that `asv publish` and `asv compare` read them, and beside them one file of notes per machine.

    results/<machine>/machine.json              what the machine is, with driver and library versions
    results/<machine>/<commit>-existing-py*.json    asv's result file of a commit
    results/notes/<machine>.json                what asv has no place for: the reference of the probe, peaks, commits that were
                                                skipped and why, work per case, what was measured in turn with a neighbour,
                                                confirmed changes, ratios to other libraries

Times are divided by how slow the machine was when they were taken: the probe's time beside the case, by the probe's time when the
machine was first met, if that is a drift beyond `DRIFT`; a smaller one is not told from the probe's own noise, and dividing by it was measured
to make pairs of runs differ more. Both probes are benchmarks too (`probe.copy`, `probe.fma`), in plain seconds, so nothing is hidden by it.
"""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .measure import Case, Measured
from .repository import Commit
from .session import SUITE

RESULTS = SUITE / "results"
ENVIRONMENT = f"existing-py{platform.python_version().rpartition('.')[0]}"
COLUMNS = ("result", "params", "version", "started_at", "duration", "stats_ci_99_a", "stats_ci_99_b", "stats_q_25", "stats_q_75",
           "stats_number", "stats_repeat")  # fmt: skip
_FAR = 2 << 20  # bytes from which a call leaves the caches, and memory sets its pace
_RIDGE = 8.0  # flops per byte above which arithmetic sets it
DRIFT = 0.15  # how far the probe must be from its reference to count
_WINDOW = 5  # probes on either side that a case is divided by the median of


def write_json(path: Path, value: Any) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n" if path.parent.name == "notes" else json.dumps(value, separators=(",", ":")), "utf-8")
    os.replace(part, path)


@dataclass(frozen=True)
class Machine:
    """A machine as asv describes it."""

    machine: str
    cpu: str
    num_cpu: str
    ram: str
    arch: str
    os: str

    @property
    def params(self) -> dict[str, str]:
        """What asv tells graphs apart by."""
        return {**vars(self), "python": platform.python_version().rpartition(".")[0]}


def this_machine(name: str | None = None) -> Machine:
    """Describe the machine this runs on; its name is made of the processor's unless one is given."""
    cpu, ram = platform.processor() or platform.machine(), ""
    try:
        found = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
        cpu = found[1].strip() if found else cpu
        kib = re.search(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text("utf-8"), re.MULTILINE)
        ram = f"{round(int(kib[1]) / 2**20)} GiB" if kib else ""
    except OSError:
        pass
    count = os.cpu_count() or 1
    words = [w for w in re.sub(r"\(.*?\)|@.*", " ", cpu).lower().split() if w not in ("amd", "intel", "cpu", "processor")]
    slug = re.sub(r"[^a-z0-9]+", "-", " ".join(words[:3])).strip("-") or "cpu"
    return Machine(name or f"{slug}-{count}core", cpu, str(count), ram, platform.machine(), platform.system())


def save_machine(machine: Machine, versions: dict[str, str], devices: Sequence[dict[str, Any]], results: Path = RESULTS) -> None:
    """Write the machine's file: asv's fields, devices with their drivers, library versions."""
    about = {**vars(machine), "version": 1, "libraries": versions, "devices": list(devices)}
    path = results / machine.machine / "machine.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(about, indent=4, sort_keys=True) + "\n", "utf-8")


def notes_path(machine: str, results: Path = RESULTS) -> Path:
    """Return where the notes of a machine lie."""
    return results / "notes" / f"{machine}.json"


def read_notes(machine: str, results: Path = RESULTS) -> dict[str, Any]:
    """Return the notes of a machine; empty for a new one."""
    path = notes_path(machine, results)
    return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}


def result_path(machine: str, commit: str, results: Path = RESULTS) -> Path:
    """Return where asv keeps the results of a commit."""
    return results / machine / f"{commit[:8]}-{ENVIRONMENT}.json"


def bound_by(work: dict[str, int] | None) -> str:
    """Return which probe is beside a case: memory's where it moves much and computes little."""
    if work and work["calls"] <= 4 and work["bytes"] >= _FAR and work["flops"] < _RIDGE * work["bytes"]:
        return "copy"
    return "fma"


def merged(passes: Sequence[Sequence[Measured]], reference: dict[str, float] | None) -> list[Measured]:
    """Return one finding per case: the samples of all passes, each divided by how slow the machine was then (not without `reference`)."""
    found: dict[Case, Measured] = {}
    for run in passes:
        scales = factors(run, reference) if reference else [1.0] * len(run)
        for m, scale in zip(run, scales, strict=True):
            scaled = replace(m, samples=[s / scale for s in m.samples])
            known = found.get(m.case)
            if known is not None and known.samples:
                scaled = replace(known, samples=known.samples + scaled.samples)
            found[m.case] = scaled
    return list(found.values())


def factors(run: Sequence[Measured], reference: dict[str, float]) -> list[float]:
    """Return, for each case, how many times slower than at first the machine was while it was measured."""
    found = []
    for at, measured in enumerate(run):
        if not measured.probe:
            found.append(1.0)
            continue
        kind = bound_by(measured.work)
        near = [m.probe[kind] for m in run[max(0, at - _WINDOW) : at + _WINDOW + 1] if m.probe]
        drift = statistics.median(near) / reference[kind]
        found.append(drift if max(drift, 1 / drift) > 1 + DRIFT else 1.0)
    return found


def result_file(
    about: dict[str, Any], run: Sequence[Measured], probes: Sequence[dict[str, float]], machine: Machine, commit: Commit, started: float
) -> dict[str, Any]:
    """Return the content of asv's result file for the findings of one run and the probes taken in it."""
    by_name: dict[str, list[Measured]] = {}
    for measured in run:
        by_name.setdefault(measured.case.name, []).append(measured)
    started_ms = int(started * 1000)
    rows: dict[str, list[Any]] = {}
    for benchmark in about["benchmarks"]:
        found = by_name.get(benchmark["name"])
        if not found or not any(m.samples for m in found):
            continue
        rows[benchmark["name"]] = _row(benchmark, found, started_ms)
    probes = [probe for probe in probes if probe]
    for kind in probes[0] if probes else ():
        values = sorted(p[kind] for p in probes)
        low, middle, high = (values[len(values) * q // 4] for q in (1, 2, 3))
        rows[f"probe.{kind}"] = [[_short(middle)], [], "1", started_ms, None, None, None, [_short(low)], [_short(high)], [1], [len(values)]]
    return {
        "commit_hash": commit.hash, "env_name": ENVIRONMENT, "date": commit.date_ms, "params": machine.params, "python": machine.params["python"],
        "requirements": {}, "env_vars": {}, "result_columns": list(COLUMNS), "results": rows, "durations": {}, "version": 2,
    }  # fmt: skip


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _row(benchmark: dict[str, Any], found: Sequence[Measured], started_ms: int) -> list[Any]:
    size = 1
    for values in benchmark["params"]:
        size *= len(values)
    columns: dict[str, list[Any]] = {name: [None] * size for name in ("value", "q25", "q75", "number", "repeat", "low", "high")}
    for m in found:
        if m.value is None:
            continue
        at, samples = m.case.index, sorted(m.samples)
        columns["value"][at] = _short(samples[0])
        if m.kind == "time":
            low, middle, high = (samples[min(len(samples) - 1, len(samples) * q // 4)] for q in (1, 2, 3))
            columns["q25"][at], columns["q75"][at] = _short(low), _short(high)
            columns["number"][at], columns["repeat"][at] = m.calls, len(samples)
            if middle > samples[0]:  # asv weighs a point by the width of this
                columns["low"][at], columns["high"][at] = _short(samples[0]), _short(middle)
    kept = [columns[name] if any(v is not None for v in columns[name]) else None for name in ("low", "high", "q25", "q75", "number", "repeat")]
    return [columns["value"], benchmark["params"], benchmark["version"], started_ms, None, *kept]
