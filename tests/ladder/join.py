"""Records of runs and reports of devices, joined into what ships with the package and what the README says."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from portable_nn.testing import coverage

from .rungs import ROOT, RUNGS

RECORDS = ROOT / "docs" / "reference" / "coverage"
DEVICES = ROOT / "docs" / "reference" / "devices"
README = ROOT / "README.md"
MARKS = ("<!-- coverage -->", "<!-- /coverage -->")


def records() -> Iterator[dict[str, Any]]:
    """Yield the records of the ladder in the order of its rungs, then the reports of devices.

    Raises
    ------
    ValueError
        Naming the file, and what is wrong with it.
    """
    order = list(RUNGS)
    files = sorted(RECORDS.glob("*.json"), key=lambda path: order.index(path.stem) if path.stem in order else -1)
    for path in (*files, *sorted(DEVICES.glob("*.json"))):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path.relative_to(ROOT)} is not JSON: {error}") from error
        fault = coverage.fault_of(record)
        if not fault and path.parent == RECORDS and record.get("rung") not in (path.stem if path.stem in order else None,):
            fault = f"it is of rung {record.get('rung')!r}; the file must be named after a rung of {', '.join(order)}"
        if not fault and path.parent == DEVICES and "rung" in record:
            fault = "it is a record of the ladder; a device's report is made by `portable-nn verify`"
        if fault:
            raise ValueError(f"{path.relative_to(ROOT)}: {fault}")
        yield record


def summary_text() -> str:
    """Return what `portable_nn/testing/coverage.json` must hold."""
    made = coverage.summary(records())
    return coverage.record_text(made)


def tally(packed: dict[str, Any]) -> dict[str, dict[str, Counter[str]]]:
    """Return backend -> direction -> how many ops have each state, in float32 or the op's first dtype."""
    table = coverage.unpacked(packed)
    counted: dict[str, dict[str, Counter[str]]] = {b: {d: Counter() for d in coverage.DIRECTIONS} for b in coverage.BACKENDS}
    for op in table:
        known = {d for backend in table[op].values() for d in backend}
        for backend in coverage.BACKENDS:
            for direction in known:
                counted[backend][direction][coverage.state(table[op].get(backend, {}).get(direction, {}))] += 1
    return counted


def readme_text(packed: dict[str, Any]) -> str:
    """Return the lines between the README's marks."""
    lines = ["| backend | ops forward | ops backward |", "|---|---|---|"]
    for backend, directions in tally(packed).items():
        cells = []
        for direction in coverage.DIRECTIONS:
            found, total = directions[direction], sum(directions[direction].values())
            cells.append(", ".join(f"{found[s]} of {total} {coverage.STATES[s]}" for s in coverage.STATES if found[s]))
        lines.append(f"| `{backend}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def written(text: str, made: str) -> str:
    """Return the README with other lines between its marks."""
    first, last = map(re.escape, MARKS)
    changed, times = re.subn(f"{first}\n.*?{last}", lambda _: f"{MARKS[0]}\n{made}\n{MARKS[1]}", text, flags=re.DOTALL)
    if times != 1:
        raise ValueError(f"README.md has {times} pairs of {MARKS[0]} and {MARKS[1]}; it must have one")
    return changed


def write() -> list[Path]:
    """Write both; return the files that changed."""
    summary = summary_text()
    wanted = {coverage.SHIPPED: summary, README: written(README.read_text(encoding="utf-8"), readme_text(json.loads(summary)))}
    changed = []
    for path, text in wanted.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed
