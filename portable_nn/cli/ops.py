"""``portable-nn ops``: list the ops, or describe one."""

from __future__ import annotations

import argparse
import json

from ..core.registry import OPS, find
from .parser import RAW, Commands


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    """Add the command to the parser of all; return its own."""
    ops = commands.add_parser(
        "ops", help="list the ops, or describe one", formatter_class=RAW, description="List every op, or describe one.",
        epilog="example:\n  portable-nn ops conv2d\n",
    )  # fmt: skip
    ops.add_argument("name", nargs="?", metavar="OP", help="describe this op")
    ops.add_argument("--json", action="store_true", help="print JSON")
    return ops


def run(options: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from .. import ops as _  # fills the registry  # noqa: F401

    chosen = [find(options.name)] if options.name else [OPS[name] for name in sorted(OPS)]
    rows = [
        {
            "name": op.name, "signature": f"{op.name}{op.signature}", "gradient": op.vjp is not None,
            "summary": (op.__doc__ or "").strip().partition("\n")[0],
        } for op in chosen
    ]  # fmt: skip
    if options.json:
        print(json.dumps(rows, indent=2))
    elif options.name:
        import inspect

        print(f"{chosen[0].name}{chosen[0].signature}\n\n{inspect.cleandoc(chosen[0].__doc__ or '')}")
    else:
        width = max(len(op.name) for op in chosen)
        for row in rows:
            print(f"{row['name']:{width}}  {'∂' if row['gradient'] else ' '}  {row['summary']}")
        print(f"{len(rows)} ops; ∂ has a gradient rule; `portable-nn ops NAME` describes one")
    return 0
