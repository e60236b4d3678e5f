"""The registry: every op by its name. Tests, benchmarks, docs pages and the coverage table are loops over it."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from .errors import ArgumentError

if TYPE_CHECKING:
    from .op import Op

OPS: dict[str, Op] = {}


def add(op: Op) -> None:
    """Enter `op`; a second op of the same name is an error."""
    if op.name in OPS:
        raise ArgumentError(f"two ops are named {op.name!r}: {OPS[op.name].where} and {op.where}")
    OPS[op.name] = op


def find(name: str) -> Op:
    """Return the op called `name`."""
    try:
        return OPS[name]
    except KeyError:
        close = get_close_matches(name, OPS, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ArgumentError(f"there is no op named {name!r}{hint}") from None
