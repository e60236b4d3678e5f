"""`PYTHONPATH=.:backends:tests python -m mutation`: plant faults, run what concerns them, write results.json and the table."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from . import report, stage
from .choice import PER_CELL, chosen, existing
from .concern import Concerns
from .fault import FAMILIES, LAYERS, Fault

_place: stage.Stage | None = None
_known = Concerns()


def _open(working: bool, like: Path, known: Concerns) -> None:
    global _place, _known
    _place, _known = stage.Stage(working, like), known
    _place.warm()
    multiprocessing.util.Finalize(_place, _place.close, exitpriority=10)


def _one(task: tuple[Fault, float]) -> dict[str, Any]:
    assert _place is not None
    fault, budget = task
    return stage.entry(fault, _place.run(fault, _known, budget))


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m mutation", description="Plant faults, one at a time and in copies of the repository, and count how many the tests catch."
    )
    made.add_argument("--family", nargs="*", choices=list(FAMILIES), help="faults of these families only")
    made.add_argument("--layer", nargs="*", choices=list(LAYERS), help="faults of these layers only")
    made.add_argument("--kind", nargs="*", help="faults of these kinds only")
    made.add_argument("--id", nargs="*", help="faults whose name contains one of these")
    made.add_argument("--outcome", nargs="*", help="faults that had this outcome last time: survived, error ...")
    made.add_argument("--limit", type=int, help="at most so many")
    made.add_argument("--per-cell", type=int, default=PER_CELL, help=f"generated faults per family and layer ({PER_CELL})")
    made.add_argument("--resume", action="store_true", help="leave out those that have a result")
    made.add_argument("--list", action="store_true", help="print the faults and plant none")
    made.add_argument("--table", action="store_true", help="print the table of the results there are, and plant none")
    made.add_argument("--page", action="store_true", help="write the table into the docs page, and plant none")
    made.add_argument("--workers", type=int, default=1, help="copies at work at the same time (1)")
    made.add_argument("--budget", type=float, default=10.0, help="processor seconds of checks after which a fault counts as survived (10)")
    made.add_argument("--old-record", action="store_true", help="do not record again which sample runs what, since the last commit")
    made.add_argument("--working", action="store_true", help="the files as they are, not the last commit")
    made.add_argument("--out", type=Path, default=report.RESULTS, help="another file of results")
    return made


def wanted(options: argparse.Namespace, root: Path, before: dict[str, dict[str, Any]]) -> list[Fault]:
    """Return the faults that were asked for."""
    faults = chosen(root, options.per_cell)
    for name in ("family", "layer", "kind"):
        values = getattr(options, name)
        faults = [f for f in faults if not values or getattr(f, name) in values]
    if options.id:
        faults = [f for f in faults if any(part in f.id for part in options.id)]
    if options.outcome:
        faults = [f for f in faults if before.get(f.id, {}).get("outcome") in options.outcome]
    if options.resume:
        faults = [f for f in faults if f.id not in before]
    return faults[: options.limit]


def main() -> int:
    options = parser().parse_args()
    results = report.read(options.out)
    if options.table or options.page:
        if options.page:
            report.write_page(results)
        print(report.table(results))
        return 0
    stage.preload()
    with closing(stage.Stage(options.working)) as first:
        faults = wanted(options, first.root, {e["id"]: e for e in results["faults"]})
        if options.list:
            for fault in faults:
                print(f"{fault.id}  [{fault.kind}]\n    {fault.path}:{fault.line}\n    - {fault.before}\n    + {fault.after}")
            print(f"{len(faults)} faults")
            return 0
        return plant(faults, first, results, options)


def plant(faults: list[Fault], first: stage.Stage, results: dict[str, Any], options: argparse.Namespace) -> int:
    """Plant the faults and write each result as it comes."""
    there = existing(first.root)
    results = {"faults": [e for e in results["faults"] if e["id"] in there]}
    known = first.record(not options.old_record)
    console = Console(stderr=True)
    start = time.monotonic()
    with (
        multiprocessing.get_context("fork").Pool(options.workers, _open, (options.working, first.root, known)) as pool,
        Progress(console=console, disable=not sys.stderr.isatty()) as bar,
    ):
        task = bar.add_task("faults", total=len(faults))
        for entry in pool.imap_unordered(_one, [(fault, options.budget) for fault in faults]):
            results = report.added(results, entry, stage.commit(), datetime.now(UTC).strftime("%Y-%m-%d"))
            report.write(options.out, results)
            print(report.line(entry), flush=True)
            bar.advance(task)
        pool.close()
        pool.join()
    tests = sorted({e["test"] for e in results["faults"] if e["outcome"] == "caught" and e["how"] in ("values", "error") and not e.get("confirmed")})
    console.print(f"{len(tests)} tests on the unchanged tree")
    results = report.confirmed(results, set(first.failing(tests)))
    report.write(options.out, results)
    print(f"{len(faults)} faults in {time.monotonic() - start:.0f} s")
    print(report.table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
