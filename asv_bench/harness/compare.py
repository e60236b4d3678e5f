"""Two copies side by side: base and head, a commit and the working copy, one set of dependencies and another.

Both run at once in a process each, and are timed burst by burst in turn, so that whatever else the machine does happens to both. What
differs by more than the threshold and the noise is measured again in new processes, and counts only if that says so too.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any

from . import store
from .changes import THRESHOLD
from .measure import Budget, Case, Pair, cases, pair
from .repository import ROOT, Commit, checkout, commit
from .session import Session

BUDGET = Budget(bursts=9)


@dataclass(frozen=True)
class Side:
    """One of the two: what to call it, where its copy is, and the interpreter that runs it."""

    name: str
    copy: Path
    python: str | None = None
    commit: Commit | None = None

    @property
    def title(self) -> str:
        """Return the commit's short hash, or the name of the folder or interpreter."""
        return self.commit.hash[:8] if self.commit else self.python or self.name


@dataclass(frozen=True)
class Verdict:
    """What became of a case: "slower", "faster", "same", "noise" (said once, not again), "new", "gone" or "failed".

    `ratio` is that of the first measurement, `again` of the second, where there was one.
    """

    case: Case
    verdict: str
    base: float | None = None
    head: float | None = None
    ratio: float | None = None
    noise: float = 0.0
    reason: str = ""
    again: float | None = None

    @property
    def agreed(self) -> float | None:
        """The ratio that both measurements vouch for: the one nearer to 1, and 1 where they are on either side of it."""
        if self.ratio is None or self.again is None:
            return self.ratio
        if (self.ratio > 1) != (self.again > 1):
            return 1.0
        return min(self.ratio, self.again, key=lambda r: max(r, 1 / r))


@contextmanager
def sides(base: str, head: str, pythons: tuple[str | None, str | None] = (None, None), root: Path = ROOT) -> Iterator[tuple[Side, Side]]:
    """Open both: a folder with a checkout is taken as it is, anything else is a name that git knows."""
    with ExitStack() as stack:
        made = []
        for name, python in zip((base, head), pythons, strict=True):
            folder = Path(name).expanduser()
            if folder.is_dir() and (folder / "portable_nn").is_dir():
                made.append(Side(name, folder.resolve(), python))
                continue
            found = commit(name, root)
            made.append(Side(name, stack.enter_context(checkout(found.hash, root)), python, found))
        yield made[0], made[1]


def judge(made: Pair, threshold: float = THRESHOLD) -> str:
    """Return "slower", "faster" or "same": beyond the threshold, and beyond twice the noise of the rounds."""
    if made.ratio is None:
        return "failed"
    limit = 1 + max(threshold, 2 * made.noise)
    return "slower" if made.ratio > limit else "faster" if made.ratio < 1 / limit else "same"


def compare(
    base: Side, head: Side, environment: dict[str, str], *, pattern: str = "", threshold: float = THRESHOLD, budget: Budget = BUDGET,
    seen: Callable[[int, int, Pair], None] = lambda at, of, made: None,
) -> tuple[list[Verdict], dict[str, Any], list[Pair]]:  # fmt: skip
    """Measure both; return the verdicts, what the suite is, and the pairs behind the verdicts."""
    first, about = _round(base, head, environment, pattern, budget, seen)
    kinds = {made.case: judge(made, threshold) for made in first["pairs"]}
    doubtful = [made.case for made in first["pairs"] if kinds[made.case] in ("slower", "faster")]
    again: dict[Case, Pair] = {}
    if doubtful:
        second, _ = _round(base, head, environment, pattern, budget, seen, doubtful)
        again = {made.case: made for made in second["pairs"]}
    found = []
    for made in first["pairs"]:
        kind = kinds[made.case]
        other = again.get(made.case)
        if kind in ("slower", "faster") and (other is None or judge(other, threshold) != kind):
            kind = "noise"
        states = {made.a.state, made.b.state}
        if states == {"skipped"}:
            continue
        reason = made.b.reason or made.a.reason
        found.append(Verdict(made.case, kind, made.a.value, made.b.value, made.ratio, made.noise, reason, other.ratio if other else None))
    found += [Verdict(case, "gone") for case in first["gone"]] + [Verdict(case, "new") for case in first["new"]]
    return found, about, first["pairs"]


def _round(
    base: Side, head: Side, environment: dict[str, str], pattern: str, budget: Budget, seen: Callable[[int, int, Pair], None],
    only: Sequence[Case] | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:  # fmt: skip
    with Session(base.copy, environment, base.python) as a, Session(head.copy, environment, head.python) as b:
        before = {(c.name, c.params): c for c in cases(a.about, pattern)}
        after = {(c.name, c.params): c for c in cases(b.about, pattern)}
        both = [(c, after[key]) for key, c in before.items() if key in after and (only is None or c in only)]
        pairs = []
        for number, (case, other) in enumerate(both, 1):
            pairs.append(pair(a, b, case, other, budget))
            seen(number, len(both), pairs[-1])
        gone = [c for key, c in before.items() if key not in after]
        new = [c for key, c in after.items() if key not in before]
        return {"pairs": pairs, "gone": gone, "new": new}, {"base": a.about, "head": b.about}


def save(about: dict[str, Any], pairs: Sequence[Pair], base: Side, head: Side, results: Path, machine: store.Machine) -> list[Path]:
    """Write asv's result files of those sides that are commits."""
    written = []
    for side, mine, key in ((base, "a", "base"), (head, "b", "head")):
        if side.commit is None:
            continue
        run = [getattr(made, mine) for made in pairs]
        path = store.result_path(machine.machine, side.commit.hash, results)
        store.write_json(path, store.result_file(about[key], run, [m.probe for m in run], machine, side.commit, time()))
        store.save_machine(machine, about[key]["versions"], [], results)
        written.append(path)
    return written


def text_of(value: float | None) -> str:
    """Return seconds as people read them."""
    if value is None:
        return "-"
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value * 1e6:.3g} µs"


_ORDER = {"slower": 0, "faster": 1, "failed": 2, "noise": 3, "new": 4, "gone": 5, "same": 6}


def markdown(found: Sequence[Verdict], base: Side, head: Side, threshold: float = THRESHOLD) -> str:
    """Return the table of a pull request: what changed, and a line that counts the rest."""
    counts = {kind: sum(v.verdict == kind for v in found) for kind in _ORDER}
    lines = [
        f"### Benchmarks: {counts['slower']} slower, {counts['faster']} faster, {counts['same']} the same",
        "",
        f"`{head.title}` against `{base.title}`, timed in turn on one machine; a change counts from {threshold:.0%}, and if a second measurement agrees.",
        "",
    ]
    shown = sorted((v for v in found if v.verdict in ("slower", "faster", "failed", "noise")), key=lambda v: (_ORDER[v.verdict], -abs((v.ratio or 1) - 1)))
    if shown:
        lines += ["| benchmark | parameters | base | head | ratio | noise | verdict |", "|---|---|---:|---:|---:|---:|---|"]
    for v in shown[:60]:
        name = v.case.name.removeprefix("ops.").removesuffix(".time_call")
        word = f"**{v.verdict}**" if v.verdict in ("slower", "faster") else v.verdict if v.verdict == "noise" else f"failed: {v.reason}"
        cells = (f"`{name}`", ", ".join(p.strip("'") for p in v.case.params), text_of(v.base), text_of(v.head), f"{v.ratio:.2f}" if v.ratio else "-", f"±{v.noise:.0%}", word)
        lines.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
    if len(shown) > 60:
        lines.append(f"\n{len(shown) - 60} more rows are in the file of results.")
    rest = [f"{counts[kind]} {kind}" for kind in ("new", "gone") if counts[kind]]
    return "\n".join([*lines, *(["", ", ".join(rest)] if rest else [])]) + "\n"


def rows(found: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Return the verdicts as plain values, for JSON and CSV."""
    return [
        {"benchmark": v.case.name, "parameters": ", ".join(p.strip("'") for p in v.case.params), "base": v.base, "head": v.head,
         "ratio": v.ratio, "noise": v.noise, "verdict": v.verdict, "reason": v.reason}
        for v in found
    ]  # fmt: skip


def as_csv(found: Sequence[Verdict]) -> str:
    """Return the verdicts as CSV."""
    out = io.StringIO()
    names = ("benchmark", "parameters", "base", "head", "ratio", "noise", "verdict", "reason")
    table = csv.DictWriter(out, names, lineterminator="\n")
    table.writeheader()
    table.writerows(rows(found))
    return out.getvalue()
