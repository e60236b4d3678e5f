"""Write docs/reference/resources-<vendor>.json: `PYTHONPATH=.:backends:tests python -m offline amd`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import get_args

from rich.progress import Progress

from . import VENDORS
from .programs import Which, jobs
from .table import compile_all, spills, unneeded, written

OUT = Path(__file__).parents[2] / "docs" / "reference"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m offline", description="Compile every kernel program for GPUs that are not here, and write what they take into the docs.")
    parser.add_argument("vendor", choices=list(VENDORS), help="whose compiler")
    parser.add_argument("--dtype", nargs="*", default=["float32"], help="dtypes under test (float32); no names for all")
    parser.add_argument("--which", default="table", choices=get_args(Which), help="table (the default): the programs of benchmarks, for all targets; in turn: every program, for one target; all")
    parser.add_argument("--workers", type=int, help="compilers at a time; one per core by default")
    parser.add_argument("--out", type=Path, help="another file; - for none, only the report")
    options = parser.parse_args()
    vendor = VENDORS[options.vendor]
    if vendor.missing():
        print(vendor.missing(), file=sys.stderr)
        return 2
    found = jobs(vendor, options.dtype or None, options.which)
    with Progress(disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(f"{vendor.version()}", total=len(found))
        taken, refused = compile_all(vendor, found, options.workers, lambda done: bar.update(task, completed=done))
    programs = len({program for program, _ in found})
    spilled = spills(vendor, taken)
    out = options.out or OUT / f"resources-{vendor.NAME}.json"
    if str(out) != "-":
        out.write_text(written(vendor, options.dtype or ["all"], options.which, programs, taken))
    print(f"{programs} programs, {len(found)} compiles: {len(refused)} refused, {len(spilled)} spill without an excuse")
    print(*refused, *spilled, sep="\n")
    if options.which != "in turn":
        print(*(f"spills.toml excuses what does not spill: {line}" for line in unneeded(vendor, taken)), sep="\n")
    return int(bool(refused or spilled))


if __name__ == "__main__":
    sys.exit(main())
