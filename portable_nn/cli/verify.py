"""``portable-nn verify``: check every op on your device."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..core import selection
from .parser import RAW, Commands, add_device

if TYPE_CHECKING:
    from rich.progress import Progress

    from ..testing.verify import Check

_EVERY = 10.0  # seconds between lines where there is no terminal


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    """Add the command to the parser of all; return its own."""
    verify = commands.add_parser(
        "verify", help="check every op on your device", formatter_class=RAW,
        description="Run the value and gradient checks of every op on one device, measure bandwidth and GEMM, and write a\n"
        "report. Please contribute the report of a device that the coverage table does not have.",
        epilog="examples:\n  portable-nn verify --backend opencl\n  portable-nn verify conv2d softmax --backend numpy\n",
    )  # fmt: skip
    verify.add_argument("names", nargs="*", metavar="OP", help="only these ops")
    verify.add_argument("--quick", action="store_true", help="one sample per op: seconds instead of minutes")
    verify.add_argument("--out", metavar="FILE", help="the report (default: verify-BACKEND-DEVICE.json)")
    add_device(verify)
    return verify


def run(options: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ..testing import coverage, verify
    from ..train.records import atomic_path

    wished = selection.wish() if options.backend is None else tuple(options.backend.split(","))
    backend = selection.resolve(wished, options.device)
    checks = verify.plan_checks(backend, options.names, options.quick)
    console = Console()
    print(f"{len(checks)} checks on {backend.name}: {backend.device}", flush=True)
    start = time.monotonic()
    columns = (TextColumn("{task.description:32.32}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        results = verify.run_checks(_shown(checks, bar), lambda failure: _say(bar, f"FAILED {failure}"))
    made = verify.report(backend, results, verify.measure(backend), options.quick, time.monotonic() - start)
    slug = "".join(c if c.isalnum() else "-" for c in f"{backend.name}-{backend.device}").strip("-").lower()
    path = Path(options.out or f"verify-{slug}.json")
    with atomic_path(path) as part:
        part.write_text(coverage.record_text(made), encoding="utf-8")
    for name, rate in made["rates"].items():
        print(f"{name}: {rate:,}")
    for reason, ops in sorted(results.skips.items(), key=lambda item: -sum(item[1].values())):
        print(f"skipped {sum(ops.values())}: {reason}")
    totals = made["totals"]
    print(f"{totals['passed']} passed, {totals['failed']} failed, {totals['skipped']} skipped in {made['seconds']:.0f} s; report in {path}")
    if not options.names and coverage.state_of(made) == "hardware":
        print("please contribute it: docs/reference/devices/README.md says how")
    return 1 if totals["failed"] else 0


def _shown(checks: Sequence[Check], bar: Progress) -> Iterator[Check]:
    """Yield the checks, and show which op is at work: the last thing to be seen should its driver take the process down."""
    task = bar.add_task("starting", total=len(checks))
    start = said = time.monotonic()
    for at, check in enumerate(checks):
        bar.update(task, completed=at, description=check.op)
        now = time.monotonic()
        if not bar.console.is_terminal and now - said >= _EVERY:
            print(f"{at} of {len(checks)} in {now - start:.0f} s, at {check.op}", flush=True)
            said = now
        yield check


def _say(bar: Progress, line: str) -> None:
    if bar.console.is_terminal:
        bar.console.print(line, highlight=False, markup=False, soft_wrap=True)
    else:
        print(line, flush=True)
