"""Compiling many programs, spills that nothing excuses, and the tables of the docs: what the programs of a kernel take at worst."""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from .programs import Program
from .target import Refused, Resources, Target, Vendor

EXCUSES = Path(__file__).parent / "spills.toml"
Taken = tuple[Program, Resources]


class Known:
    """What a compiler said earlier, kept in the user's cache: a table of ten thousand compiles is redone where text changed.

    Parameters
    ----------
    vendor : Vendor
    """

    def __init__(self, vendor: Vendor) -> None:
        self._vendor = vendor
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        self._path = root / "portable_nn" / "offline" / f"{vendor.NAME}.jsonl"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        self._kept: dict[str, list[Any]] = dict(map(json.loads, lines))

    def compiled(self, program: Program, target: Target) -> list[Resources]:
        """Return what kernels of a program take; raises Refused (refusals are not kept)."""
        text, items = program.text(target), sorted(program.items.items())
        asked = repr((self._vendor.version(), self._vendor.OPTIONS, list(self._vendor.COLUMNS), target, items, text))
        key = hashlib.sha256(asked.encode()).hexdigest()[:32]
        if key not in self._kept:
            made = self._vendor.compiled(text, target, program.items)
            self._kept[key] = [[r.kernel, dict(r.figures)] for r in made]
            with self._path.open("a") as file:  # one short write: whole lines, also from several processes
                file.write(json.dumps([key, self._kept[key]]) + "\n")
        return [Resources(kernel, target, figures) for kernel, figures in self._kept[key]]


def compile_all(
    vendor: Vendor, jobs: Sequence[tuple[Program, Target]], workers: int | None = None, told: Callable[[int], object] = lambda done: None
) -> tuple[list[Taken], list[str]]:
    """Compile programs, several at a time; return what they take, and refusals.

    Parameters
    ----------
    vendor : Vendor
    jobs : sequence of (Program, Target)
    workers : int, optional
        By default one per core.
    told : callable
        Given the number of programs done, after each.
    """
    taken: list[Taken] = []
    refused: list[str] = []
    known = Known(vendor)

    def one(job: tuple[Program, Target]) -> list[Resources] | str:
        program, target = job
        try:
            return known.compiled(program, target)
        except Refused as error:
            return f"{program} for {target}:\n{error}"

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        for done, ((program, _), result) in enumerate(zip(jobs, pool.map(one, jobs), strict=True), 1):
            if isinstance(result, str):
                refused.append(result)
            else:
                taken += [(program, r) for r in result]
            told(done)
    return taken, refused


def excuses(vendor: Vendor) -> list[dict[str, Any]]:
    """Return the lines of spills.toml that name targets of a vendor."""
    names = {target.name for target in vendor.TARGETS}
    return [line for line in tomllib.loads(EXCUSES.read_text()).get("spill", ()) if names & set(line["targets"])]


def _excused(program: Program, r: Resources, line: dict[str, Any]) -> bool:
    same = line["kernel"] == r.kernel and line["file"] == program.file and r.target.name in line["targets"]
    return same and r.figures["spill"] <= line["most"]


def spills(vendor: Vendor, taken: Iterable[Taken]) -> list[str]:
    """Return one line for each program that spills without an excuse."""
    lines = excuses(vendor)
    return [
        f"{program}: {r.kernel} on {r.target} spills: {', '.join(f'{n} {v}' for n, v in r.figures.items())}"
        for program, r in taken
        if r.figures["spill"] and not any(_excused(program, r, line) for line in lines)
    ]


def unneeded(vendor: Vendor, taken: Iterable[Taken]) -> list[str]:
    """Return the excuses that nothing needs."""
    found = [(p, r) for p, r in taken if r.figures["spill"]]
    return [f"{e['kernel']} ({e['file']})" for e in excuses(vendor) if not any(_excused(p, r, e) for p, r in found)]


def table(vendor: Vendor, taken: Iterable[Taken]) -> list[list[Any]]:
    """Return one row per file, kernel and target: those, the number of programs, and the worst of each figure."""
    rows: dict[tuple[str, str, int], list[Any]] = {}
    for program, r in taken:
        figures = [r.figures[name] for name in vendor.COLUMNS]
        key = (program.file, r.kernel, vendor.TARGETS.index(r.target))
        row = rows.setdefault(key, [program.file, r.kernel, r.target.name, r.target.language, 0, *figures])
        row[4] += 1
        row[5:] = [worst(old, new) for worst, old, new in zip(vendor.COLUMNS.values(), row[5:], figures, strict=True)]
    return [rows[key] for key in sorted(rows)]


def written(vendor: Vendor, dtypes: Sequence[str], which: str, programs: int, taken: Iterable[Taken]) -> str:
    """Return the JSON of docs/reference: a row of the table on each line."""
    head = {
        "vendor": vendor.NAME,
        "compiler": vendor.version(),
        "options": vendor.OPTIONS,
        "dtypes": dtypes,
        "which": which,
        "programs": programs,
        "targets": [[t.name, t.language] for t in vendor.TARGETS],
        "columns": ["file", "kernel", "target", "language", "programs", *vendor.COLUMNS],
    }
    lines = [f' "{name}": {json.dumps(value)}' for name, value in head.items()]
    rows = ",\n".join(f"  {json.dumps(row)}" for row in table(vendor, taken))
    return "{\n" + ",\n".join([*lines, f' "rows": [\n{rows}\n ]']) + "\n}\n"
