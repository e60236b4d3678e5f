"""``portable-nn sweep``: many runs over settings."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..core.errors import ArgumentError
from .parser import RAW, Commands

EPILOG = """examples:
  portable-nn sweep --grid lr=0.001,0.005,0.02 --grid optimizer=adamw,muon --epochs 5
  portable-nn sweep --random lr=log:1e-4:1e-1 --random label-smoothing=0:0.2 --trials 20 --out sweeps/a
  portable-nn sweep --resume sweeps/a
"""


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    """Add the command to the parser of all; return its own."""
    from ..train.config import add_arguments

    sweep = commands.add_parser(
        "sweep", help="train over a grid or a random choice of settings", formatter_class=RAW, epilog=EPILOG,
        description="Train one run per choice of settings; write one table (sweep.csv) and one page with plots (sweep.html).",
    )  # fmt: skip
    sweep.add_argument("--grid", metavar="NAME=A,B,...", action="append", default=[], help="every combination of these values; may be repeated")
    sweep.add_argument(
        "--random", metavar="NAME=RANGE", action="append", default=[],
        help="drawn for each trial: low:high, log:low:high, or values separated by commas; may be repeated",
    )  # fmt: skip
    sweep.add_argument("--trials", metavar="N", type=int, default=20, help="draws of --random (default: 20)")
    sweep.add_argument("--sweep-seed", metavar="N", type=int, default=0, help="seed of the draws (default: 0)")
    sweep.add_argument("--resume", metavar="SWEEP", help="go on with the sweep in this folder; finished trials are kept")
    sweep.add_argument("--quiet", action="store_true", help="print only the table")
    add_arguments(sweep)
    return sweep


def run(options: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from ..train.config import FIELDS, from_arguments
    from ..train.progress import Progress, Silent, by_terminal
    from ..train.sweep import TABLE, plan, print_table, run_sweep

    def hears(told: str) -> Progress:
        if options.quiet:
            return Silent()
        print(told, flush=True)
        return by_terminal()

    if options.resume is not None:
        given = [n for n in ("config", *FIELDS) if hasattr(options, n)] + [n for n in ("grid", "random") if getattr(options, n)]
        if given:
            raise ArgumentError(f"--{given[0].replace('_', '-')} was given with --resume, but a sweep keeps its own settings; leave it out")
        folder = Path(options.resume).expanduser()
        page = run_sweep(None, folder, hears)
    else:
        config = from_arguments(options)
        made = plan(config, options.grid, options.random, options.trials, options.sweep_seed)
        folder = _free(config.out)
        page = run_sweep(made, folder, hears)
    print(print_table(folder))
    print(f"plots in {page}, table in {folder / TABLE}")
    return 0


def _free(out: str | None) -> Path:
    """Return the folder asked for, or the first free one of sweeps/1, sweeps/2 ..."""
    if out is not None:
        return Path(out).expanduser()
    number = 1
    while (folder := Path("sweeps", str(number))).exists():
        number += 1
    return folder
