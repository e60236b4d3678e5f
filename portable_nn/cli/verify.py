"""``portable-nn verify``: check every op on your device."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from ..core import selection
from .parser import RAW, Commands, add_device


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
    from rich.progress import track

    from ..testing import coverage, verify
    from ..train.records import atomic_path

    wished = selection.wish() if options.backend is None else tuple(options.backend.split(","))
    backend = selection.resolve(wished, options.device)
    checks = verify.plan_checks(backend, options.names, options.quick)
    console = Console()
    print(f"{len(checks)} checks on {backend.name}: {backend.device}", flush=True)
    start = time.monotonic()
    results = verify.run_checks(track(checks, "checking", console=console, transient=True, disable=not console.is_terminal))
    made = verify.report(backend, results, verify.measure(backend), options.quick, time.monotonic() - start)
    slug = "".join(c if c.isalnum() else "-" for c in f"{backend.name}-{backend.device}").strip("-").lower()
    path = Path(options.out or f"verify-{slug}.json")
    with atomic_path(path) as part:
        part.write_text(coverage.record_text(made), encoding="utf-8")
    for failure in results.failures:
        print(f"FAILED {failure}")
    for name, rate in made["rates"].items():
        print(f"{name}: {rate:,}")
    for reason, ops in sorted(results.skips.items(), key=lambda item: -sum(item[1].values())):
        print(f"skipped {sum(ops.values())}: {reason}")
    totals = made["totals"]
    print(f"{totals['passed']} passed, {totals['failed']} failed, {totals['skipped']} skipped in {made['seconds']:.0f} s; report in {path}")
    if not options.names and coverage.state_of(made) == "hardware":
        print("please contribute it: docs/reference/devices/README.md says how")
    return 1 if totals["failed"] else 0
