"""``portable-nn lr-find``: find a learning rate before a run."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from .parser import RAW, Commands


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    """Add the command to the parser of all; return its own."""
    from ..train.config import add_arguments

    finder = commands.add_parser(
        "lr-find", help="find a learning rate", formatter_class=RAW,
        description="Train for some steps while the learning rate grows, and say where the loss falls fastest. Writes lr-find.json and a plot.",
        epilog="example:\n  portable-nn lr-find --model resnet20 --data ./photos --optimizer sgd --to 10\n",
    )  # fmt: skip
    finder.add_argument("--from", dest="low", metavar="X", type=float, default=1e-6, help="first learning rate (default: 1e-06)")
    finder.add_argument("--to", dest="high", metavar="X", type=float, default=1.0, help="last learning rate (default: 1)")
    finder.add_argument("--steps", metavar="N", type=int, default=100, help="training steps (default: 100)")
    finder.add_argument("--json", action="store_true", help="print JSON")
    add_arguments(finder)
    return finder


def run(options: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from ..train.config import from_arguments
    from ..train.lr_find import find_lr, write_found
    from ..train.progress import Silent, by_terminal

    config = from_arguments(options)
    found = find_lr(config, low=options.low, high=options.high, steps=options.steps, progress=Silent() if options.json else by_terminal())
    written, picture = write_found(found, config.out or ".")
    if options.json:
        print(json.dumps(asdict(found), indent=2))
        return 0
    print(f"the loss falls fastest at {found.steepest:.2e}: a highest learning rate to try first")
    print(f"it is lowest at {found.lowest:.2e}; " + ("above it training came apart" if found.diverged else "training did not come apart: try a higher --to"))
    print(f"plot in {picture}, numbers in {written}")
    return 0
