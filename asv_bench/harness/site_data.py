"""From results on disk to what the pages show: one plain value, written as `data.js` so that pages work from file:// too."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import changes, store
from .repository import Commit, commits

_NEAR = 1e-9
PEERS = "docs/reference/peers.json"  # where `bench libraries` writes


def result_files(results: Path) -> dict[str, list[dict[str, Any]]]:
    """Return asv's result files by machine."""
    found: dict[str, list[dict[str, Any]]] = {}
    for machine in sorted(results.glob("*/machine.json")):
        files = [json.loads(path.read_text("utf-8")) for path in sorted(machine.parent.glob("*.json")) if path.name != "machine.json"]
        if files:
            found[machine.parent.name] = files
    return found


def column(file: dict[str, Any], row: Sequence[Any], name: str) -> Any:
    """Return a column of a row of an asv result file; None where the row is cut short before it."""
    at = file["result_columns"].index(name)
    return row[at] if at < len(row) else None


def aligned(file: dict[str, Any], row: Sequence[Any], stat: str = "result") -> list[tuple[tuple[str, ...], float | None]]:
    """Return parameters and value of every case of a row, in its order."""
    made = column(file, row, stat)
    params = itertools.product(*(column(file, row, "params") or []))
    return [(tuple(p.strip("'") for p in key), v) for key, v in zip(params, made, strict=True)] if made else []


def values_of(file: dict[str, Any], name: str, stat: str = "result") -> dict[tuple[str, ...], float]:
    """Return what a file holds of a benchmark, by parameters."""
    row = file["results"].get(name)
    return {key: v for key, v in aligned(file, row, stat) if v is not None} if row else {}


def ceiling(peaks: Sequence[dict[str, Any]], flops: int, moved: int) -> float:
    """Return the least seconds a call can take: by arithmetic, and by memory at the rate of copies that move as much."""
    arithmetic = flops / max(p["flops"] for p in peaks)
    return max(arithmetic, moved / max(bandwidth(p["bandwidth"], moved) for p in peaks))


def bandwidth(rates: dict[str, float], moved: int) -> float:
    """Return the best rate of copies at least as large: a smaller one is bound by its launch, not by memory."""
    sizes = sorted((int(size), rate) for size, rate in rates.items())
    larger = [rate for size, rate in sizes if size >= moved]
    return max(larger) if larger else sizes[-1][1]


def _series(files: Sequence[dict[str, Any]]) -> dict[str, dict[tuple[str, ...], tuple[list[float | None], list[float | None]]]]:
    found: dict[str, dict[tuple[str, ...], tuple[list[float | None], list[float | None]]]] = {}
    for place, file in enumerate(files):
        for name in file["results"]:
            spread = values_of(file, name, "stats_q_75")
            for params, value in values_of(file, name).items():
                kept = found.setdefault(name, {}).setdefault(params, ([None] * len(files), [None] * len(files)))
                kept[0][place] = value
                kept[1][place] = spread.get(params)
    return found


def _confirmed(notes: dict[str, Any], name: str, params: Sequence[str], commit: str) -> str:
    for entry in notes.get("confirmations", []):
        if entry["benchmark"] == name and entry["params"] == list(params) and entry["commit"] == commit:
            return str(entry["verdict"])
    return "not measured again"


def machine_data(name: str, files: list[dict[str, Any]], notes: dict[str, Any], about: dict[str, Any], log: dict[str, Commit], recent: int) -> dict[str, Any]:
    """Return what is known of one machine."""
    order = {commit: place for place, commit in enumerate(log)}
    files = sorted((f for f in files if f["commit_hash"] in order), key=lambda f: order[f["commit_hash"]])
    hashes = [f["commit_hash"] for f in files]
    series = _series(files)
    units = {"time": "s"}
    rows, found = [], []
    for benchmark in sorted(series):
        for params, (values, spread) in series[benchmark].items():
            rows.append({"b": benchmark, "p": list(params), "v": values, "q": spread})
            if benchmark.startswith("probe."):
                continue
            for step in changes.steps(values):
                commit = hashes[step.at]
                found.append({
                    "b": benchmark, "p": list(params), "commit": commit, "before": step.before, "after": step.after,
                    "ratio": round(step.ratio, 4), "newest": len(hashes) - 1 - step.at, "again": _confirmed(notes, benchmark, params, commit),
                })  # fmt: skip
    return {
        "name": name, "about": about, "commits": hashes, "rows": rows, "units": units, "peaks": notes.get("peaks", {}),
        "changes": sorted(found, key=lambda c: (c["newest"], -abs(math.log(c["ratio"])))), "recent": recent,
        "roofline": _roofline(rows, notes), "libraries": notes.get("libraries", {}),
        "skipped": [{"commit": c, "reason": r} for c, r in notes.get("skipped", {}).items()],
        "failed": notes.get("failed", {}),
    }  # fmt: skip


def missed(notes: dict[str, Any], name: str, params: Sequence[str], seconds: float | None) -> float | None:
    """Return the part of the roofline that a case of an op missed; None where its work or the device's peaks are not known."""
    peaks, work = notes.get("peaks", {}), notes.get("work", {})
    if seconds is None or len(params) != 4 or params[0] not in peaks:
        return None
    counted = work.get("/".join((name.split(".")[1], *params[1:])))
    if not counted:
        return None
    kind = peaks[params[0]]["device"]["kind"]
    least = ceiling([p for p in peaks.values() if p["device"]["kind"] == kind], *counted)
    return round(max(0.0, 1 - least / max(seconds, _NEAR)), 4)


def _roofline(rows: Sequence[dict[str, Any]], notes: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for row in rows:
        latest = next((v for v in reversed(row["v"]) if v is not None), None)
        part = missed(notes, row["b"], row["p"], latest) if row["b"].startswith("ops.") else None
        if part is not None:
            op = row["b"].split(".")[1]
            flops, moved = notes["work"]["/".join((op, *row["p"][1:]))]
            found.append({"op": op, "p": row["p"], "s": latest, "flops": flops, "bytes": moved, "missed": part})
    return found


def beside(path: Path) -> dict[str, Any] | None:
    """Return what `bench libraries` measured, without its samples: seconds by row and peer; None where nothing was."""
    if not path.is_file():
        return None
    found = json.loads(path.read_text("utf-8"))
    rows = {
        name: {peer: said["value"] for peer, said in row["peers"].items() if said.get("value")} for name, row in found["rows"].items()
    }  # fmt: skip
    return {"machine": found["machine"], "peers": found["peers"], "rows": {name: row for name, row in rows.items() if row.get("ours")}}


def collect(results: Path, root: Path, recent: int = 10, project: str = "portable_nn", url: str = "") -> dict[str, Any]:
    """Return everything the pages show; commits in the order of the log, oldest first."""
    by_machine = result_files(results)
    log = {c.hash: c for c in reversed(commits("HEAD", root=root))}
    used: set[str] = set()
    machines = []
    for name, files in by_machine.items():
        about = json.loads((results / name / "machine.json").read_text("utf-8"))
        machines.append(machine_data(name, files, store.read_notes(name, results), about, log, recent))
        used.update(machines[-1]["commits"])
    order = {commit: place for place, commit in enumerate(log)}
    machines.sort(key=lambda m: -max(map(order.__getitem__, m["commits"]), default=-1))  # what was measured last comes first
    listed = [{"hash": c.hash, "date": c.date, "subject": c.subject} for c in log.values() if c.hash in used]
    return {"project": project, "url": url, "built": int(time.time()), "threshold": changes.THRESHOLD, "commits": listed, "machines": machines,
            "peers": beside(root / PEERS)}  # fmt: skip
