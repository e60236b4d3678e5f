"""Where the time of a step goes, on a page: a flame graph and tables; for the report of a run, and as a page of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .flame import SCRIPT, STYLE, flame, tree
from .html import Raw, escape, figures, number, page, percent, section, table

SHOWN = 20  # rows of a table


def time_of_a_step(found: dict[str, Any], title: str) -> list[str]:
    """Return the sections of one profile, as `train.profile.described` gives it."""
    rows, total = found["rows"], found["busy_seconds"]
    if not rows or not total:
        return []
    way = "one call of an op after the other" if not found["captured"] else "replayed as it was captured"
    clock = (
        "the host waited for each call, so the sum is longer than a step that nobody watches" if found["waited"]
        else "times are of the device's own clock, of its kernels alone"
    )  # fmt: skip
    name = f"{1e3 * total:.2f} ms of {'calls' if found['waited'] else 'kernels'}"
    note = f'<p class="soft">A step, {way}; {clock}.</p>'
    parts = [section(title, note, STYLE, flame(tree(rows, name)), SCRIPT), section("Time per op", _table(rows, total, ("op",) if found["captured"] else ("op", "phase"), "kernel"))]
    if not found["waited"]:
        parts.append(section("Time per kernel", _table(rows, total, ("kernel",), "op")))
    return parts


def _table(rows: Sequence[dict[str, Any]], total: float, key: tuple[str, ...], of: str) -> str:
    sums: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        kept = sums.setdefault(tuple(row[k] for k in key), {"calls": 0.0, "seconds": 0.0, "bytes": 0.0, of: {}})
        for name in ("calls", "seconds", "bytes"):
            kept[name] += row[name]
        kept[of][row[of]] = None
    ordered = sorted(sums.items(), key=lambda item: -item[1]["seconds"])
    longest = ordered[0][1]["seconds"]
    timed = any(kept["bytes"] for _, kept in ordered)
    body = [
        (*names, f"{kept['calls']:g}", f"{1e3 * kept['seconds']:.3f} ms", percent(kept["seconds"] / total),
         *([number(kept["bytes"] / kept["seconds"] / 1e9, ".3g") if kept["bytes"] else ""] if timed else []),
         Raw(f'<span class="bar" style="width: {7 * kept["seconds"] / longest:.2f}rem"></span>'))
        for names, kept in ordered[:SHOWN]
    ]  # fmt: skip
    rest = ordered[SHOWN:]
    more = f'<p class="soft">The other {len(rest)} took {1e3 * sum(k["seconds"] for _, k in rest):.3f} ms.</p>' if rest else ""
    return table((*key, "launches" if timed else "calls", "time", "share", *(("GB/s",) if timed else ()), ""), body) + more


def write_page(title: str, profiles: Sequence[dict[str, Any]]) -> str:
    """Return a page of several profiles of the same step."""
    body = [f"<h1>{escape(title)}</h1>", f'<p class="soft">{escape(profiles[0]["backend"])}: {escape(profiles[0]["device"])}</p>']
    pairs = []
    for found in profiles:
        way = "captured" if found["captured"] else "call by call"
        if found["step_seconds"]:
            pairs.append((f"a step, {way}", f"{1e3 * found['step_seconds']:.3f} ms"))
        pairs.append((f"of it {'calls' if found['waited'] else 'kernels'}, {way}", f"{1e3 * found['busy_seconds']:.3f} ms"))
    body.append(figures(pairs))
    for found in reversed(profiles):  # captured first: that is how runs train
        body += time_of_a_step(found, "Captured" if found["captured"] else "Call by call")
    return page(title, body)
