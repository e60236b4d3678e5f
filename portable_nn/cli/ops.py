"""``portable-nn ops``: list the ops and where each is proven to run, or describe one."""

from __future__ import annotations

import argparse
import json

from ..core.registry import OPS, find
from .parser import RAW, Commands

# One letter per state for the list; `coverage.STATES` says them in full.
LETTERS = {"hardware": "H", "cpu opencl": "C", "executed": "E", "compiled": "c", "failing": "!", "not yet": "-"}


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    """Add the command to the parser of all; return its own."""
    ops = commands.add_parser(
        "ops", help="list the ops, or describe one", formatter_class=RAW,
        description="List every op with its state on each backend, or describe one.\nStates are those of the runs that came with this version; `portable-nn verify` makes one here.",
        epilog="examples:\n  portable-nn ops\n  portable-nn ops conv2d\n  portable-nn ops --json | jq '.[] | select(.coverage.cupy.forward.float32 == \"compiled\") | .name'\n",
    )  # fmt: skip
    ops.add_argument("name", nargs="?", metavar="OP", help="describe this op")
    ops.add_argument("--json", action="store_true", help="print JSON: name, signature, summary, and coverage as backend, direction, dtype, state")
    return ops


def run(options: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from .. import ops as _  # fills the registry  # noqa: F401
    from ..testing import coverage

    chosen = [find(options.name)] if options.name else [OPS[name] for name in sorted(OPS)]
    table = coverage.unpacked(coverage.shipped())
    rows = [
        {
            "name": op.name, "signature": f"{op.name}{op.signature}", "gradient": op.vjp is not None,
            "summary": (op.__doc__ or "").strip().partition("\n")[0], "coverage": coverage.of(op.name, table),
        } for op in chosen
    ]  # fmt: skip
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    if options.name:
        import inspect

        print(f"{chosen[0].name}{chosen[0].signature}\n\n{inspect.cleandoc(chosen[0].__doc__ or '')}\n")
        print("\n".join(described(rows[0]["coverage"])))  # type: ignore[arg-type]
        return 0
    width = max(len(op.name) for op in chosen)
    print(f"{'':{width}}     {' '.join(f'{b:<6}' for b in coverage.BACKENDS)}")
    for row in rows:
        states: dict[str, dict[str, dict[str, str]]] = row["coverage"]  # type: ignore[assignment]
        cells = " ".join(f"{letters(states.get(backend, {}), bool(row['gradient'])):<6}" for backend in coverage.BACKENDS)
        print(f"{row['name']:{width}}  {'∂' if row['gradient'] else ' '}  {cells} {row['summary']}")
    told = ", ".join(f"{letter} {coverage.STATES[state]}" for state, letter in LETTERS.items())
    print(f"{len(rows)} ops; ∂ has a gradient rule; forward/gradient on each backend in float32: {told}; `portable-nn ops NAME` describes one")
    return 0


def letters(states: dict[str, dict[str, str]], gradient: bool) -> str:
    """Return the letters of forward and gradient."""
    from ..testing.coverage import state

    forward = LETTERS[state(states.get("forward", {}))]
    return f"{forward}/{LETTERS[state(states.get('gradient', {}))]}" if gradient else forward


def described(states: dict[str, dict[str, dict[str, str]]]) -> list[str]:
    """Return the lines that say in which dtypes an op is proven on each backend, and how."""
    from ..testing.coverage import BACKENDS, DIRECTIONS, STATES

    lines = ["Proven on"]
    for backend in BACKENDS:
        for direction in DIRECTIONS:
            found = states.get(backend, {}).get(direction, {})
            told = "; ".join(f"{STATES[s]}: {', '.join(d for d in found if found[d] == s)}" for s in STATES if s in found.values())
            if told or direction == "forward":
                lines.append(f"  {backend:<7} {direction:<9} {told or 'not yet'}")
    return lines
