"""``portable-nn train``: train a model and write a run folder."""

from __future__ import annotations

import argparse

from ..core.errors import ArgumentError
from .parser import EXAMPLES, RAW, Commands


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    """Add the command to the parser of all; return its own."""
    from ..train.config import add_arguments

    train = commands.add_parser(
        "train", help="train a model and write a run folder", formatter_class=RAW, epilog=EXAMPLES,
        description="Train a model. Without options: LeNet on scikit-learn's digits, on the best device there is.",
    )  # fmt: skip
    train.add_argument("--resume", metavar="RUN", help="continue the run in this folder, with its own settings")
    train.add_argument("--quiet", action="store_true", help="print only the result")
    add_arguments(train)
    return train


def run(options: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from ..train import Evaluation, fit
    from ..train.config import FIELDS, from_arguments
    from ..train.progress import Silent, by_terminal

    progress = Silent() if options.quiet else by_terminal()
    if options.resume is None:
        result = fit(config=from_arguments(options), progress=progress)
    else:
        if getattr(options, "config", None) is not None:
            raise ArgumentError("--config was given with --resume, but a resumed run keeps its own settings; leave it out")
        given = {name: value for name, value in vars(options).items() if name in FIELDS}
        result = fit(resume=options.resume, progress=progress, **given)
    shares = "" if result.data_wait != result.data_wait else f"; waited for data {100 * result.data_wait:.1f} % of the time"
    if result.augmentation is not None:
        shares += f", augmentation took {100 * result.augmentation:.1f} % of a step"
    rate = "" if result.images_per_second != result.images_per_second else f", {result.images_per_second:,.0f} images/s"
    for told, found in (
        ("validation accuracy", result.valid if result.test is None else None),
        ("test accuracy", result.test),
        ("test accuracy of the epoch that validation chose", None if result.best_test is result.test else result.best_test),
    ):
        if isinstance(found, Evaluation):
            total = int(found.confusion.sum())
            print(f"{told} {100 * found.accuracy:.2f} % ({total - int(found.confusion.trace())} of {total} wrong)")
    print(f"{result.steps} steps in {result.seconds:.1f} s{rate}, on {result.backend}: {result.device}{shares}")
    page = ["report.html"] if (result.folder / "report.html").is_file() else []
    names = ", ".join([*page, *(path.name for path in result.pictures), "metrics.csv", "model.safetensors", "best.safetensors"])
    print(f"report in {result.folder}: {names}")
    return 0
