"""The command ``portable-nn``: one file per command, each with ``add_parser`` and ``run``.

Every error that portable_nn raises on purpose ends here as one message and exit code 2; Ctrl-C ends with 130.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from ..core.errors import PortableNNError
from ..core.version import VERSION
from . import (
    bench,
    compare,
    data,
    eval,
    info,
    lr_find,
    models,
    ops,
    predict,
    profile,
    report,
    show_augment,
    sweep,
    train,
    tune,
    verify,
)
from .parser import EXAMPLES, RAW

COMMANDS: dict[str, ModuleType] = {
    "train": train, "eval": eval, "predict": predict, "lr-find": lr_find, "sweep": sweep, "compare": compare, "report": report,
    "models": models, "data": data, "show-augment": show_augment, "info": info, "ops": ops, "verify": verify, "tune": tune,
    "profile": profile, "bench": bench,
}  # fmt: skip
"""The commands, in the order in which ``--help`` lists them."""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; the options of ``train`` are made from `TrainConfig`."""
    parser = argparse.ArgumentParser(
        prog="portable-nn", description="Train and use small vision models on any device.", epilog=EXAMPLES, formatter_class=RAW
    )
    parser.add_argument("--version", action="version", version=f"portable-nn {VERSION}")
    commands = parser.add_subparsers(dest="command", metavar=f"{{{','.join(COMMANDS)}}}")
    for command in COMMANDS.values():
        command.add_parser(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code: 0, 2 for an error that says what to do, 130 for Ctrl-C."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    try:
        code: int = COMMANDS[options.command].run(options)
        return code
    except PortableNNError as error:
        signum = getattr(error, "signum", None)
        if signum is not None:
            print(str(error), file=sys.stderr)
            return 128 + int(signum)
        print(f"portable-nn {options.command}: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `portable-nn ops | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
