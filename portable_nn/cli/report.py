"""``portable-nn report``: write the page of a run again."""

from __future__ import annotations

import argparse

from .parser import RAW, Commands


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    """Add the command to the parser of all; return its own."""
    report = commands.add_parser(
        "report", help="write report.html of a run", formatter_class=RAW,
        description="Write report.html of a run folder from its files: also of a run that still goes, or was stopped.",
        epilog="example:\n  portable-nn report runs/digits-lenet\n",
    )  # fmt: skip
    report.add_argument("run", metavar="RUN", help="run folder")
    return report


def run(options: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from ..train.pages.run import write_page

    print(f"report in {write_page(options.run)}")
    return 0
