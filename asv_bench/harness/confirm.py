"""The second look: every change that the history shows is measured again, the two commits in turn, before it is believed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import compare, site_data, store
from .repository import ROOT, commit


def flagged(machine: str, results: Path, root: Path = ROOT) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Return the changes nobody has measured again, by the pair of commits around them (the one before, the one that changed)."""
    data = site_data.collect(results, root)
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for known in data["machines"]:
        if known["name"] != machine:
            continue
        for change in known["changes"]:
            at = known["commits"].index(change["commit"])
            if change["again"] == "not measured again" and at:
                found.setdefault((known["commits"][at - 1], change["commit"]), []).append(change)
    return found


def confirm(machine: str, environment: dict[str, str], results: Path, tell: Callable[[str], None], root: Path = ROOT) -> None:
    """Measure every flagged change again; write the verdicts into the notes of the machine."""
    for (before, after), changes in flagged(machine, results, root).items():
        titles = {f"{c['b']}({', '.join(c['p'])})": c for c in changes}
        pattern = "^(?:" + "|".join(re.escape(title) for title in titles) + ")$"
        with compare.sides(before, after, root=root) as (base, head):
            found, _, _ = compare.compare(base, head, environment, pattern=pattern)
        notes = store.read_notes(machine, results)
        kept = notes.setdefault("confirmations", [])
        for verdict in found:
            change = titles.get(verdict.case.title)
            if change is None or verdict.ratio is None:
                continue
            said = "slower" if change["ratio"] > 1 else "faster"
            word = "confirmed" if verdict.verdict == said else f"not confirmed ({verdict.verdict})"
            kept.append({"benchmark": change["b"], "params": change["p"], "commit": after, "verdict": f"{word}, {verdict.ratio - 1:+.0%}"})
        store.write_json(store.notes_path(machine, results), notes)
        tell(f"{after[:8]} {commit(after, root).subject[:60]}: {len(changes)} changes measured again")
