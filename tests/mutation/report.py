"""Results: a line of JSON per fault, what is counted, and the table of the docs page."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
PAGE = HERE.parents[1] / "docs" / "mutation.md"
_BEGIN, _END = "<!-- results: written by python -m mutation --page -->", "<!-- end of results -->"
Entry = dict[str, Any]


def read(path: Path = RESULTS) -> dict[str, Any]:
    """Return the results on disk."""
    if not path.exists():
        return {"faults": []}
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def added(results: dict[str, Any], entry: Entry, commit: str, date: str) -> dict[str, Any]:
    """Return the results with one more, in place of an older one of the same fault."""
    kept = [e for e in results["faults"] if e["id"] != entry["id"]]
    return {"faults": sorted([*kept, entry | {"commit": commit, "date": date}], key=lambda e: str(e["id"]))}


def confirmed(results: dict[str, Any], failing: set[str]) -> dict[str, Any]:
    """Return the results where each fault caught by a test that fails without it too is an error, and the others are confirmed."""
    found = []
    for e in results["faults"]:
        if e["outcome"] == "caught" and e["test"] in failing:
            e = e | {"outcome": "error", "message": f"fails on the unchanged tree too: {e.get('message', '')}"}
        found.append(e | {"confirmed": True} if e["outcome"] == "caught" else e)
    return {"faults": found}


def write(path: Path, results: dict[str, Any]) -> None:
    """Write the results: a line each, so that a change of one is a change of a line."""
    lines = ",\n".join(json.dumps(e) for e in results["faults"])
    path.write_text(f'{{"faults": [\n{lines}\n]}}\n')


def _reasons(name: str) -> dict[str, str]:
    return {e["id"]: e["reason"] for e in tomllib.loads((HERE / name).read_text()).get("fault", [])}


def equivalent() -> dict[str, str]:
    """Return why each of the faults of equivalent.toml changes no result."""
    return _reasons("equivalent.toml")


def survivors() -> dict[str, str]:
    """Return why each of the faults of survivors.toml is not caught."""
    return _reasons("survivors.toml")


def counted(results: dict[str, Any]) -> list[Entry]:
    """Return the faults that count: those that compile, that a plan launches, and that are not equivalent."""
    same = equivalent()
    return [e for e in results["faults"] if e["outcome"] in ("caught", "survived") and not (e["outcome"] == "survived" and e["id"] in same)]


def line(entry: Entry) -> str:
    """Return one result as a person reads it."""
    where = f"{entry.get('rung', '')} {entry.get('test', '')}" if entry["outcome"] == "caught" else entry.get("message", "")
    return f"{entry['outcome']:9} {entry['seconds']:6.1f} s  {entry['kind']:20} {entry['id']}  {where}"[:220]


def score(entries: Iterable[Entry]) -> tuple[int, int]:
    """Return how many are caught, of how many."""
    entries = list(entries)
    return sum(e["outcome"] == "caught" for e in entries), len(entries)


def _grouped(entries: list[Entry], key: Callable[[Entry], str], head: str) -> list[str]:
    lines = [f"| {head} | faults | caught | score |", "|---|---:|---:|---:|"]
    for name in sorted({key(e) for e in entries}):
        caught, of = score(e for e in entries if key(e) == name)
        lines.append(f"| {name} | {of} | {caught} | {100 * caught / of:.0f} % |")
    return lines


def table(results: dict[str, Any]) -> str:
    """Return what the docs page says of the results, in Markdown."""
    entries = counted(results)
    if not entries:
        return "No results."
    same = [e for e in results["faults"] if e["outcome"] == "survived" and e["id"] in equivalent()]
    left = Counter(e["outcome"] for e in results["faults"])
    caught, of = score(entries)
    dates, commits = sorted({e["date"] for e in entries}), {e["commit"] for e in entries}
    why = survivors()
    found = [
        f"**{caught} of {of} faults are caught: {100 * caught / of:.1f} %** ({dates[0]} to {dates[-1]}, {len(commits)} commits)."
        if dates[0] != dates[-1]
        else f"**{caught} of {of} faults are caught: {100 * caught / of:.1f} %** ({dates[0]}).",
        f"Not counted: {len(same)} that change no result, {left['invalid']} that a compiler or an import refuses, "
        f"{left['unreached']} in text that no plan of any sample selects.",
        "",
        *_grouped(entries, lambda e: str(e["family"]), "family"),
        "",
        *_grouped(entries, lambda e: str(e["layer"]), "layer"),
        "",
        *_grouped(entries, lambda e: str(e["kind"]), "kind"),
        "",
        "| caught first by | faults |",
        "|---|---:|",
        *(f"| {rung} | {n} |" for rung, n in Counter(str(e["rung"]) for e in entries if e["outcome"] == "caught").most_common()),
        "",
        "| how | faults |",
        "|---|---:|",
        *(f"| {how} | {n} |" for how, n in Counter(str(e["how"]) for e in entries if e["outcome"] == "caught").most_common()),
    ]
    alive = [e for e in entries if e["outcome"] == "survived"]
    if alive:
        found += ["", "### Not caught", "", "| fault | change | reason |", "|---|---|---|"]
        found += [f"| {e['id']} ({e['kind']}) | {_code(e['after'])} for {_code(e['before'])} | {why.get(e['id'], 'not looked at yet')} |" for e in alive]
    return "\n".join(found)


def _code(text: str) -> str:
    return f"`` {' '.join(text.split()).replace('|', chr(92) + '|')} ``"


def page(results: dict[str, Any]) -> str:
    """Return the docs page with the table of today."""
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    after = rest.partition(_END)[2]
    return f"{before}{_BEGIN}\n\n{table(results)}\n\n{_END}{after}"


def write_page(results: dict[str, Any]) -> None:
    """Write the docs page."""
    PAGE.write_text(page(results))
