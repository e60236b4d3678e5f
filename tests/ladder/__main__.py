"""`python -m ladder`: run rungs of the verification ladder and write docs/reference/coverage/<rung>.json, the package's table and the README's."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from require import VARIABLE, required
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import portable_nn.ops  # noqa: F401 - fills the registry
from portable_nn.core.registry import OPS, find
from portable_nn.testing.coverage import fault_of, record_text

from . import join, pool, record
from .join import RECORDS as OUT
from .rungs import ROOT, RUNGS, STEPS, Rung, commit, named

EXAMPLES = """examples:
  python -m ladder                     every rung, as CI does (.ci/run ladder)
  python -m ladder a d                 the rungs of two steps
  python -m ladder --ops conv2d        after a change of its kernel: into the records that are there
  python -m ladder pocl --ops conv2d softmax --samples all --out /tmp/closer
  python -m ladder cuda-forward --resume
"""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m ladder", description="Run the verification ladder: every op on every backend, as far as this machine can tell.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.add_argument("rungs", nargs="*", metavar="RUNG", help="names of rungs, or letters of steps; all by default")
    made.add_argument("--list", action="store_true", help="name the rungs, and say which cannot run here")
    made.add_argument("--ops", nargs="+", metavar="OP", default=[], help="only these ops: they take their places in the record")
    made.add_argument("--samples", default="", metavar="N", help="samples of each op, or 'all'; each rung has its own default")
    made.add_argument("--dtypes", nargs="+", metavar="DTYPE", default=[], help="only these dtypes (of ops that know none of them, the first)")
    made.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 4), help="processes at a time (one per core, up to four)")
    made.add_argument("--resume", action="store_true", help="go on with rungs that were interrupted at this commit")
    made.add_argument("--join", action="store_true", help="run nothing; make the package's table and the README's from the records")
    made.add_argument("--out", type=Path, default=OUT, help="where the records go (docs/reference/coverage)")
    return made


def journal(rung: Rung, head: dict[str, Any]) -> Path:
    """Return the file that keeps what a run of a rung has done so far: of this commit, tool and selection."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "portable_nn" / "ladder" / f"{rung.name}-{zlib.crc32(json.dumps(head).encode()):08x}.jsonl"


def earlier(rung: Rung, head: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the results of an interrupted run with the same commit, tool and selection."""
    try:
        lines = [json.loads(line) for line in journal(rung, head).read_text().splitlines()]
    except (OSError, ValueError):
        return []
    return lines[1:] if lines and lines[0] == head else []


def run(rung: Rung, ops: list[str], samples: int | None, options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Run a rung; return its record."""
    began, start = datetime.now(UTC), time.monotonic()
    head = {"rung": rung.name, "commit": commit(), "tool": rung.version(), "samples": samples, "dtypes": options.dtypes, "ops": ops}
    found = earlier(rung, head) if options.resume else []
    path = journal(rung, head)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in (head, *found)))
    columns = (TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[now]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar, path.open("a") as kept:
        task = bar.add_task(rung.name, total=len(ops), completed=len(found), now="")
        left = [op for op in ops if op not in {line["op"] for line in found}]
        for line in pool.run(rung, left, samples, options.dtypes, max(options.jobs, 1), lambda op: bar.update(task, now=op)):
            found.append(line)
            kept.write(json.dumps(line) + "\n")
            kept.flush()
            bar.advance(task)
    path.unlink(missing_ok=True)
    return record.made(rung, head, found, began.isoformat(timespec="seconds"), time.monotonic() - start)


def keep(made: dict[str, Any], folder: Path, part: bool) -> str:
    """Write a record, or, of a part of the ops, into the record that is there; return why it could not be."""
    assert not (fault := fault_of(made)), fault
    path = folder / f"{made['rung']}.json"
    if part and path.exists():
        old = json.loads(path.read_text(encoding="utf-8"))
        if why := record.unlike(old, made):
            return f"not recorded: {why}; run the whole rung so, or choose another folder with --out"
        made = record.joined(old, made)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(record_text(made), encoding="utf-8")
    return ""


def main(arguments: list[str] | None = None) -> int:
    """Run the ladder; return 1 if a check failed or a required tool is missing."""
    options = parser().parse_args(arguments)
    console = Console()
    rungs = named(options.rungs)
    if options.join:
        print(*(path.relative_to(ROOT) for path in join.write()), sep="\n")
        return 0
    if options.list:
        for rung in rungs:
            print(f"{rung.step}  {rung.name:<18} {rung.title}{f'  [not here: {why}]' if (why := rung.missing()) else ''}")
        return 0
    ops = sorted(op for op in ([find(name).name for name in options.ops] or OPS) if OPS[op].samples)
    bad = 0
    start = time.monotonic()
    for rung in rungs:
        why = rung.missing()
        if why:
            state = "FAILED" if required(rung.tool) else "skipped"
            bad += required(rung.tool)
            print(f"{rung.step}  {rung.name:<18} {state}: {why}{f' ({VARIABLE} asks for {rung.tool})' if state == 'FAILED' else ''}", flush=True)
            continue
        samples = rung.samples if not options.samples else None if options.samples == "all" else int(options.samples)
        made = run(rung, ops, samples, options, console)
        totals = made["totals"]
        print(f"{rung.step}  {rung.name:<18} {totals['passed']} passed, {totals['failed']} failed, {totals['skipped']} skipped in {made['seconds']:.0f} s, {made['cpu_seconds']:.0f} s of processors", flush=True)
        for failure in made["failures"]:
            print(f"   FAILED {failure}")
        bad += bool(made["failures"])
        if why := keep(made, options.out, bool(options.ops)):
            print(f"   {why}")
    if options.out == OUT:
        join.write()
    print(f"{len(rungs)} of {len(RUNGS)} rungs on {len(STEPS)} steps in {(time.monotonic() - start) / 60:.0f} min")
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
