"""Writes the coverage table and the ladder's latest results, from the summary that ships with the package."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from op_pages import _write, table
from sphinx.application import Sphinx

import portable_nn.ops  # noqa: F401  (fills the registry)
from portable_nn.core.registry import OPS
from portable_nn.testing import coverage

sys.path.append(str(Path(__file__).parents[2] / "tests"))
from ladder.join import tally
from ladder.rungs import RUNGS, STEPS


def cell(states: dict[str, str]) -> str:
    """Return what a backend is proven to do in one direction; dtypes are named where they differ."""
    found = [s for s in coverage.STATES if s in states.values()]
    if len(found) < 2:
        return coverage.STATES[found[0]] if found else "not yet"
    return "; ".join(f"{coverage.STATES[s]}: {', '.join(d for d in states if states[d] == s)}" for s in found)


def coverage_page(packed: dict[str, Any]) -> str:
    """Return the table op x backend x direction."""
    known = coverage.unpacked(packed)
    lines = [
        "Coverage", "========", "",
        "What each op is proven to do on each backend, forward and backward, and how. Made from the records of the",
        ":doc:`verification ladder </verification>` and from :doc:`reports of devices <devices/README>`; nothing here is written by hand.",
        "Where dtypes differ they are named; the page of each op lists them. A backend's gaps are in its ``unsupported.toml``, with reasons.", "",
    ]  # fmt: skip
    summary = []
    for backend, directions in tally(packed).items():
        for direction, counted in directions.items():
            told = ", ".join(f"{counted[s]} {coverage.STATES[s]}" for s in coverage.STATES if counted[s])
            summary.append((f"``{backend}``", direction, str(sum(counted.values())), told))
    lines += ["Ops by state, in float32 (or in the first dtype of an op that has none)", "-" * 71, ""]
    lines += table(("backend", "direction", "ops", "of which"), summary)
    lines += ["Every op", "--------", ""]
    rows = []
    for op in (OPS[name] for name in sorted(OPS)):
        states = coverage.of(op.name, known)
        gradient = op.vjp is not None
        cells = [cell(states.get(b, {}).get("forward", {})) for b in coverage.BACKENDS]
        backward = [cell(states.get(b, {}).get("gradient", {})) if gradient else "" for b in coverage.BACKENDS]
        rows.append((f":doc:`{op.name} <ops/{op.name}>`", *(f"{f} / {g}" if g else f for f, g in zip(cells, backward, strict=True))))
    lines += ["The state forward, and behind the stroke that of the gradient where the op has a rule.", ""]
    lines += table(("op", *coverage.BACKENDS), rows)
    return "\n".join(lines)


def results_page(packed: dict[str, Any]) -> str:
    """Return the latest result of every rung, as Markdown that docs/verification.md includes."""
    runs = {run["rung"]: run for run in packed["runs"]}
    lines = ["| step | rung | ops | passed | failed | skipped | samples of each op, dtypes | minutes of processors | date | commit | tool |", "|---|---|---|---|---|---|---|---|---|---|---|"]
    for rung in RUNGS.values():
        run = runs.get(rung.name)
        if run is None:
            lines.append(f"| {rung.step} | `{rung.name}` | | | | | | | not run yet | | |")
            continue
        totals = run["totals"]
        dtypes = " ".join(run["dtypes"]) or {None: "all", 1: "one"}.get(rung.dtypes_each, str(rung.dtypes_each))
        commits = ", ".join([f"`{run['commit']}`", *(f"`{commit}` ({len(ops.split())})" for commit, ops in run["later"].items())])
        cells = (run["ops"], f"{totals['passed']:,}", f"{totals['failed']:,}", f"{totals['skipped']:,}", f"{run['samples'] or 'all'}, {dtypes}", f"{run['cpu_seconds'] / 60:.1f}", run["date"][:10], commits, run["tool"])
        lines.append(f"| {rung.step} | `{rung.name}` | {' | '.join(map(str, cells))} |")
    machines = sorted({run["machine"] for run in runs.values()})
    spent = sum(run["cpu_seconds"] for run in runs.values())
    lines += ["", f"Machines: {'; '.join(machines) or 'none'}. Minutes are of the processors' time, compilers included, which a busy machine hardly changes: {spent / 60:.0f} in all, so half of that on two quiet cores. Of dtypes, one is float32, or else the op's first, and others in turn from op to op come with it. Behind a second commit stands how many ops were run at it. What else each rung leaves out by default:", ""]
    lines += [f"- `{rung.name}`: {rung.left_out}." for rung in RUNGS.values() if rung.left_out]
    return "\n".join([*lines, ""])


def rungs_page() -> str:
    """Return the list of rungs by step, as Markdown."""
    lines = []
    for step, title in STEPS.items():
        lines += [f"- **{step}: {title}**"]
        lines += [f"  - `{rung.name}`: {rung.title}" for rung in RUNGS.values() if rung.step == step]
    return "\n".join([*lines, ""])


def write_pages(app: Sphinx) -> None:
    """Write the generated pages below reference/."""
    folder = Path(app.srcdir) / "reference"
    packed = json.loads(coverage.SHIPPED.read_text(encoding="utf-8"))
    _write(folder / "coverage.rst", coverage_page(packed))
    _write(folder / "ladder-results.inc", results_page(packed))
    _write(folder / "ladder-rungs.inc", rungs_page())


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True}
