"""Every fault there could be, and the ones that are planted: some of each family and layer, spread over kinds by a hash."""

from __future__ import annotations

import hashlib
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from .c_faults import c_faults
from .fault import Fault, family_of, made, named
from .python_faults import parses, python_faults

HERE = Path(__file__).parent
SEED = "portable_nn"
PER_CELL = 4  # faults per family and layer
# The core in Python: what every call goes through.
CORE = ("tape", "op", "spec", "geometry", "subscript", "elementwise", "expression", "compose", "random", "axes")
PLACES = (
    ("backends/portable_nn_kernels/c/*.[ch]", "kernel (C)"),
    ("backends/portable_nn_numba/kernels/*.py", "kernel (numba)"),
    ("backends/portable_nn_kernels/plans/*.py", "plan"),
    ("portable_nn/ops/*.py", "reference"),
    *((f"portable_nn/core/{name}.py", "core") for name in CORE),
)
# Preludes say the same thing in each language; a fault there stops every kernel.
_LEFT = ("__init__.py", "all.py", "prelude_opencl.h", "prelude_cuda.h")


def listed(root: Path) -> list[Fault]:
    """Return those of planted.toml; one whose text is gone, or is there twice, is told and left out."""
    found = []
    for entry in tomllib.loads((HERE / "planted.toml").read_text())["fault"]:
        path, old = entry["file"], entry["old"]
        text = (root / path).read_text()
        if text.count(old) != 1:
            print(f"planted.toml: {path} holds {old!r} {text.count(old)} times; once is needed", file=sys.stderr)
            continue
        at = text.index(old)
        found.append(made(path, text, at, at + len(old), entry["new"], entry["kind"], entry.get("scope", "planted"), entry["layer"]))
    return found


def generated(root: Path) -> list[Fault]:
    """Return every fault the rules make."""
    found: list[Fault] = []
    for pattern, layer in PLACES:
        for path in sorted(root.glob(pattern)):
            if path.name in _LEFT or not family_of(path.name):
                continue
            where, text = path.relative_to(root).as_posix(), path.read_text()
            found += c_faults(where, text) if layer == "kernel (C)" else python_faults(where, text, layer)
    return found


def _rank(fault: Fault) -> str:
    return hashlib.sha256(f"{SEED}/{fault.id}".encode()).hexdigest()


def spread(faults: Iterable[Fault], count: int, root: Path) -> list[Fault]:
    """Return `count` faults of one cell: the kinds in turn, each in the order of a hash."""
    kinds: dict[str, list[Fault]] = defaultdict(list)
    for fault in sorted(faults, key=_rank):
        kinds[fault.kind].append(fault)
    first = next((found[0] for found in kinds.values()), None)
    cell = f"{SEED}/{first.family}/{first.layer}" if first else ""  # frequent kinds must not always come first
    turns = [kinds[kind] for kind in sorted(kinds, key=lambda kind: hashlib.sha256(f"{cell}/{kind}".encode()).hexdigest())]
    chosen: list[Fault] = []
    while len(chosen) < count and any(turns):
        for found in turns:
            if found and len(chosen) < count:
                fault = found.pop(0)
                if not fault.path.endswith(".py") or parses(fault, (root / fault.path).read_text()):
                    chosen.append(fault)
    return chosen


def existing(root: Path) -> set[str]:
    """Return the names of all faults there are: a result of any other is one of text that has changed since."""
    return {fault.id for fault in (*named(generated(root)), *named(listed(root)))}


def chosen(root: Path, per_cell: int = PER_CELL) -> list[Fault]:
    """Return what is planted, in an order that visits all families early."""
    every = named(generated(root))
    cells: dict[tuple[str, str], list[Fault]] = defaultdict(list)
    for fault in every:
        cells[fault.family, fault.layer].append(fault)
    turns = [spread(cells[cell], per_cell, root) for cell in sorted(cells)]
    # The spread would plant a barrier or two: one of each file that has any.
    barriers: dict[str, list[Fault]] = defaultdict(list)
    for fault in every:
        if fault.kind == "missing barrier":
            barriers[fault.path].append(fault)
    found = [*named(listed(root)), *(min(faults, key=_rank) for faults in barriers.values())]
    for turn in range(per_cell):
        found += [faults[turn] for faults in turns if turn < len(faults)]
    return list({fault.id: fault for fault in found}.values())
