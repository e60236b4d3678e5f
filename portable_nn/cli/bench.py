"""``portable-nn bench``: measure, compare and show how fast ops and models are. The work is done by `asv_bench/` of a checkout."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from ..core.errors import ArgumentError, PortableNNError
from .parser import RAW, Commands

_EXAMPLES = """examples:
  portable-nn bench op conv2d --shape 8,16,32,32 --shape 16,16,3,3 --set padding=1
  portable-nn bench run --profile quick --ops "conv2d|matmul" --csv times.csv
  portable-nn bench compare main HEAD              two commits, timed in turn
  portable-nn bench compare main .                 a commit and the working copy
  portable-nn bench libraries --rows train --peers ours,torch,jax
  portable-nn bench history --last 30              results of commits that change kernels or dispatch
  portable-nn bench site                           build the pages from the results, and open them
"""


class BenchError(PortableNNError):
    """A benchmark command cannot do what was asked; the message says what is needed."""


def _checkout(given: str | None) -> Path:
    """Return the root of the checkout whose `asv_bench` is used: the one named, the one around here, the one this runs from."""
    if given is not None:
        root = Path(given).expanduser().resolve()
        if not (root / "asv_bench" / "harness").is_dir():
            raise ArgumentError(f"--checkout {given}: has no asv_bench/harness; give the root of a checkout of portable_nn")
        return root
    for start in (Path.cwd(), Path(__file__).resolve().parent):
        for folder in (start, *start.parents):
            if (folder / "asv_bench" / "harness").is_dir():
                return folder
    raise BenchError(
        "the suite is asv_bench/ of portable_nn's repository, which a wheel does not hold; run this in a checkout (git clone "
        'https://github.com/portable-nn/portable_nn, then pip install -e ".[opencl,bench]"), or name one with --checkout FOLDER'
    )


def _choice(parser: argparse.ArgumentParser, profile: str) -> None:
    parser.add_argument("--profile", choices=("quick", "history", "full"), default=profile, help=f"how much is run (default {profile})")
    parser.add_argument("--ops", metavar="REGEX", help="ops whose whole name matches")
    parser.add_argument("--match", metavar="REGEX", default="", help="cases whose title, such as models.Inference.time_forward(opencl, ...), matches")
    parser.add_argument("--backend", metavar="NAMES", help="backends, separated by commas")
    parser.add_argument("--dtype", metavar="NAMES", help="dtypes, separated by commas")
    parser.add_argument("--direction", metavar="NAMES", help="of forward, backward, full, separated by commas")
    parser.add_argument("--cases", metavar="FILE", help="TOML file with cases of your own, in place of the records'")


def _export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", metavar="FILE", help="write the results as JSON")
    parser.add_argument("--csv", metavar="FILE", help="write the results as CSV")


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    """Add the command to the parser of all; return its own."""
    bench = commands.add_parser(
        "bench", help="measure and compare speed", formatter_class=RAW, epilog=_EXAMPLES,
        description="Measure, compare and show how fast ops and models are. Needs a checkout: the suite is its asv_bench/.",
    )  # fmt: skip
    bench.add_argument("--checkout", metavar="FOLDER", help="root of the checkout whose suite is used (default: the one around here)")
    found = bench.add_subparsers(dest="bench", metavar="{op,run,compare,libraries,history,site}", required=True)

    op = found.add_parser("op", help="one call: time, spread, roofline, launches")
    op.add_argument("op", metavar="OP")
    op.add_argument("--shape", action="append", default=[], metavar="N,N", help="shape of the next operand (default: the record's first case)")
    op.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting, such as stride=2")
    op.add_argument("--backend", default="opencl")
    op.add_argument("--dtype", default="float32")
    op.add_argument("--direction", default="forward", choices=("forward", "backward", "full"))
    op.add_argument("--json", action="store_true", help="print JSON")

    run = found.add_parser("run", help="measure this checkout")
    _choice(run, "quick")
    _export(run)
    run.add_argument("--save", action="store_true", help="keep the results of the commit that is checked out; its files must be unchanged")
    run.add_argument("--machine", help="name of this machine (default: made of its processor)")

    compare = found.add_parser("compare", help="two commits or checkouts, timed in turn")
    compare.add_argument("base", metavar="A", help="commit, or folder with a checkout")
    compare.add_argument("head", metavar="B", help="likewise; its ratio to A is shown")
    _choice(compare, "quick")
    _export(compare)
    compare.add_argument("--python-a", metavar="PROGRAM", help="interpreter for A: another set of dependencies")
    compare.add_argument("--python-b", metavar="PROGRAM", help="interpreter for B")
    compare.add_argument("--threshold", type=float, default=0.15, help="a change smaller than this is none (default 0.15)")
    compare.add_argument("--markdown", metavar="FILE", help="write the table of a pull request")
    compare.add_argument("--results", metavar="FOLDER", help="write asv's result files of both commits there")
    compare.add_argument("--fail-on-slower", action="store_true", help="exit with 1 if a case became slower")

    libraries = found.add_parser(
        "libraries", help="portable_nn beside PyTorch, JAX, NumPy, tinygrad and CLBlast, timed in turn", formatter_class=RAW,
        description="Measure rows of work (products, convolutions, memory-bound ops, training steps, latency, start, memory) on every peer that\n"
        "is installed, each in a process of its own, in turn. A peer counts only where its result agrees with ours. Results are kept\n"
        "in a JSON file after each row; a second run goes on where the first was stopped.",
        epilog="examples:\n  portable-nn bench libraries --rows '^(gemm|gemv)' --peers ours,torch,jax\n"
        "  portable-nn bench libraries --with torch=venv/bin/python --csv peers.csv\n  portable-nn bench libraries --show --markdown peers.inc\n",
    )  # fmt: skip
    libraries.add_argument("--rows", metavar="REGEX", default="", help="rows whose name matches (default: all)")
    libraries.add_argument("--peers", metavar="NAMES", help="peers, separated by commas; the first is what others must agree with (default: all)")
    libraries.add_argument("--list", action="store_true", help="list rows and peers")
    libraries.add_argument("--base", metavar="PEER", default="torch", help="whom ratios are to (default torch)")
    libraries.add_argument("--with", dest="pythons", action="append", default=[], metavar="PEER=PROGRAM", help="interpreter that has a peer: torch=/some/venv/bin/python")
    libraries.add_argument("--rounds", type=int, default=9, help="bursts of each peer (default 9)")
    libraries.add_argument("--patience", type=float, default=240, metavar="SECONDS", help="until a peer that prepares a row is given up (default 240)")
    libraries.add_argument("--again", action="store_true", help="measure also rows that the JSON file has")
    libraries.add_argument("--show", action="store_true", help="measure nothing: print what the JSON file has")
    libraries.add_argument("--markdown", metavar="FILE", help="write the table for a page")
    _export(libraries)

    functions = found.add_parser("functions", help="our ops and other libraries' functions of the same name, timed in turn")
    _choice(functions, "history")
    functions.add_argument("--with", dest="pythons", action="append", default=[], metavar="LIBRARY=PROGRAM", help="interpreter that has a library: torch=/some/venv/bin/python")
    functions.add_argument("--machine", help="name of this machine (default: made of its processor)")

    history = found.add_parser("history", help="measure commits that have no results yet; stop and go on at will")
    history.add_argument("range", nargs="?", default="HEAD", help="commits, as for git log (default HEAD)")
    _choice(history, "history")
    history.add_argument("--last", type=int, default=30, help="at most so many commits that change kernels or dispatch (default 30)")
    history.add_argument("--path", action="append", metavar="PATH", help="count commits that change this, in place of the built-in list")
    history.add_argument("--machine", help="name of this machine (default: made of its processor)")
    history.add_argument("--results", metavar="FOLDER", help="folder of results (default asv_bench/results)")
    history.add_argument("--passes", type=int, default=4, metavar="N", help="at most so many passes over the cases of the first commit, until two agree (default 4)")
    history.add_argument("--most", type=int, metavar="N", help="measure at most so many commits now")
    history.add_argument("--dry-run", action="store_true", help="list what would be measured")
    history.add_argument("--confirm", action="store_true", help="measure again, in turn, the commits around each change that was flagged")

    site = found.add_parser("site", help="build the pages from the results, and open them")
    site.add_argument("--out", metavar="FOLDER", help="where to build (default asv_bench/html)")
    site.add_argument("--results", metavar="FOLDER", help="folder of results (default asv_bench/results)")
    site.add_argument("--recent", type=int, default=10, metavar="N", help="what counts as recent, in commits (default 10)")
    site.add_argument("--libraries", metavar="FOLDER", action="append", default=[], help="folder with the scripts that asv's pages load, for building offline")
    site.add_argument("--no-asv", action="store_true", help="only our own pages")
    site.add_argument("--no-open", action="store_true", help="do not open a browser")
    return bench


def run(options: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    root = _checkout(options.checkout)
    sys.path.insert(0, str(root / "asv_bench"))
    commands: Any = import_module("harness.commands")
    try:
        code: int = getattr(commands, options.bench)(options)
        return code
    except commands.Refused as error:
        raise BenchError(str(error)) from error
