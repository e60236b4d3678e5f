"""The resource table of the docs: per kernel and architecture, what its programs take at most."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from .nvrtc import Refused, Resources, compiled
from .programs import Program

EXCUSES = Path(__file__).parent / "spills.toml"


def compile_all(programs: Iterable[tuple[Program, int]], workers: int = 2) -> tuple[list[tuple[Program, Resources]], list[str]]:
    """Compile programs for architectures (NVRTC works in several threads); return what they take, and refusals."""
    jobs = list(programs)
    taken: list[tuple[Program, Resources]] = []
    refused: list[str] = []

    def one(job: tuple[Program, int]) -> list[Resources] | str:
        program, arch = job
        try:
            return compiled(program.text(), arch)
        except Refused as error:
            return f"{program} for sm_{arch}:\n{error}"

    with ThreadPoolExecutor(workers) as pool:
        for (program, _), result in zip(jobs, pool.map(one, jobs), strict=True):
            if isinstance(result, str):
                refused.append(result)
            else:
                taken += [(program, r) for r in result]
    return taken, refused


def excuses() -> list[dict[str, Any]]:
    """Return the lines of spills.toml."""
    return list(tomllib.loads(EXCUSES.read_text()).get("spill", ()))


def _excused(program: Program, r: Resources, line: dict[str, Any]) -> bool:
    same = line["kernel"] == r.kernel and line["file"] == program.file and r.arch in line["archs"]
    return same and r.spill_stores <= line["bytes"]


def spills(taken: Iterable[tuple[Program, Resources]]) -> list[str]:
    """Return one line for each program that spills without an excuse."""
    lines = excuses()
    return [
        f"{program}: {r.kernel} on sm_{r.arch} spills {r.spill_stores} bytes per thread ({r.registers} registers)"
        for program, r in taken
        if r.spill_stores and not any(map(partial(_excused, program, r), lines))
    ]


def unneeded(taken: Iterable[tuple[Program, Resources]]) -> list[str]:
    """Return the excuses that nothing needs."""
    found = [(p, r) for p, r in taken if r.spill_stores]
    return [f"{e['kernel']} ({e['file']})" for e in excuses() if not any(_excused(p, r, e) for p, r in found)]


def table(taken: Iterable[tuple[Program, Resources]]) -> list[dict[str, Any]]:
    """Return one row per file, kernel and architecture: the number of programs and the largest of each resource."""
    rows: dict[tuple[str, str, int], dict[str, Any]] = {}
    for program, r in taken:
        key = (program.file, r.kernel, r.arch)
        new = {"file": program.file, "kernel": r.kernel, "arch": f"sm_{r.arch}", "programs": 0, "registers": 0, "stack": 0, "spill": 0, "shared": 0}
        row = rows.setdefault(key, new)
        row["programs"] += 1
        for name, value in (("registers", r.registers), ("stack", r.stack), ("spill", r.spill_stores), ("shared", r.shared)):
            row[name] = max(row[name], value)
    return [rows[key] for key in sorted(rows)]
