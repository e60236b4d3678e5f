"""``portable-nn compare``: runs side by side."""

from __future__ import annotations

import argparse
import json

from .parser import RAW, Commands


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    """Add the command to the parser of all; return its own."""
    compare = commands.add_parser(
        "compare", help="compare runs in a table and a page", formatter_class=RAW,
        description="Print what runs differ in and what they came to, and write a page with their curves.",
        epilog="example:\n  portable-nn compare runs/a runs/b --out compared.html\n",
    )  # fmt: skip
    compare.add_argument("runs", metavar="RUN", nargs="+", help="run folders")
    compare.add_argument("--out", metavar="FILE", default="compare.html", help="page to write (default: compare.html); 'none' for none")
    compare.add_argument("--json", action="store_true", help="print JSON")
    return compare


def run(options: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from ..train.compare import differing, listing, read_runs, text_table, write_comparison

    runs = read_runs(options.runs)
    if options.json:
        names = differing(runs)
        found = [{"run": str(r.folder), "settings": {n: getattr(r.config, n) for n in names}, "result": r.result} for r in runs]
        print(json.dumps(found, indent=2))
    else:
        print(text_table(*listing(runs)))
    if options.out.lower() != "none":
        path = write_comparison(runs, options.out)
        if not options.json:
            print(f"curves in {path}")
    return 0
