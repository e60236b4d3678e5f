"""closed.toml: the check that was written, or found, for a fault that had survived. It is tried first."""

from __future__ import annotations

import tomllib
from pathlib import Path

from .concern import Case


def closes(fault: str) -> Case | str | None:
    """Return the check that is said to catch the fault of this name: a case, or the name of a test; None if nothing is said."""
    entries = tomllib.loads((Path(__file__).parent / "closed.toml").read_text())["fault"]
    entry = next((e for e in entries if e["id"] == fault), None)
    if entry is None:
        return None
    if "test" in entry:
        return str(entry["test"])
    from portable_nn.core.registry import OPS

    op, way = OPS[entry["op"]], entry.get("way", "forward")
    names = [sample.name for sample in (op.bad if way == "bad" else op.samples)]
    return Case(entry["rung"], op.name, names.index(entry["sample"]), entry.get("dtype", "float32"), way)
