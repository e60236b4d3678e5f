"""The history of a machine: commits measured one after the other, newest first, stopped and resumed at will.

A commit is a temporary worktree, measured by the suite of this checkout in the environment that is active. The first of a machine is
measured in several passes; every other in one, and what differs from its neighbour is measured again, the two in turn (`beside`).
What a commit's library does not have yet is left out of its results; a commit that cannot be measured at all is noted with the reason
and not tried again.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import time
from typing import Any

from . import beside, store
from .compare import Side
from .measure import Budget, Case, Measured, alone, cases
from .repository import ROOT, Commit, checkout
from .session import Asked, Session, WorkerDied

Tell = Callable[[str], None]
ONCE = Budget(passes=1, most=0.1)  # of a commit whose neighbour has results


def missing(wanted: Sequence[Commit], machine: str, results: Path) -> list[Commit]:
    """Return the commits without results that were not found unmeasurable before."""
    skipped = store.read_notes(machine, results).get("skipped", {})
    return [c for c in wanted if c.hash not in skipped and not store.result_path(machine, c.hash, results).is_file()]


def neighbour(commit: Commit, wanted: Sequence[Commit], machine: str, results: Path) -> Commit | None:
    """Return the nearest commit of those wanted that has results, the newer of two; None without any."""
    here = wanted.index(commit)
    known = [at for at, c in enumerate(wanted) if at != here and store.result_path(machine, c.hash, results).is_file()]
    return wanted[min(known, key=lambda at: (abs(at - here), at))] if known else None


def measure_copy(
    copy: Path, environment: dict[str, str], pattern: str, budget: Budget, tell: Callable[[int, int, Measured], None], python: str | None = None
) -> tuple[dict[str, Any], list[list[Measured]], dict[str, Any]]:
    """Measure one copy of the library; return what the suite is, what was found, and the peaks of each backend.

    Raises
    ------
    WorkerDied, Asked
        If the copy cannot run the suite at all.
    """
    with Session(copy, environment, python) as session:
        about = session.about
        chosen = cases(about, pattern)
        if "ops" in about["broken"] and not any(c.name.startswith("ops.") for c in chosen):
            raise Asked(f"the suite does not run on this copy: {about['broken']['ops']}")
        count = itertools.count(1)
        total = len(chosen) * min(2, budget.passes)  # most cases agree by then
        passes = alone(session, chosen, budget, lambda m: tell(next(count), total, m))
        peaks = {}
        for backend in sorted({_backend_of(c) for c in chosen} - {""}):
            try:
                peaks[backend] = session.ask("peaks", backend=backend, timeout=300)
            except (Asked, WorkerDied):
                continue  # not there: its cases were skipped too
        return about, passes, peaks


def _backend_of(case: Case) -> str:
    return case.params[0].strip("'") if case.params and case.name.startswith("ops.") else ""


def record(
    about: dict[str, Any], passes: Sequence[Sequence[Measured]], peaks: dict[str, Any], commit: Commit, machine: store.Machine, results: Path, started: float,
    again: Callable[[list[Measured]], tuple[list[Measured], dict[str, Any]]] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write the results of one commit, and what the notes of the machine learn from them.

    `again` measures once more what it doubts, once times are divided by the probe; what it answers beside them is noted, and returned.
    """
    notes = store.read_notes(machine.machine, results)
    probes = [m.probe for made in passes for m in made if m.probe]
    if "reference" not in notes and probes:
        notes["reference"] = {kind: sorted(p[kind] for p in probes)[len(probes) // 2] for kind in probes[0]}
    run = store.merged(passes, notes.get("reference"))
    doubted: dict[str, Any] = {}
    if again is not None:
        run, doubted = again(run)
    if doubted:
        notes.setdefault("in_turn", {})[commit.hash] = doubted
    for backend, found in peaks.items():
        known = notes.setdefault("peaks", {}).setdefault(backend, found)
        if found["device"] == known["device"]:  # a peak is the best ever seen: whoever else used the machine only lowers it
            known["flops"] = max(known["flops"], found["flops"])
            known["bandwidth"] = {size: max(rate, found["bandwidth"].get(size, 0.0)) for size, rate in known["bandwidth"].items()}
    work = notes.setdefault("work", {})
    for m in run:
        if m.work and m.case.name.startswith("ops."):
            work["/".join((m.case.name.split(".")[1], *(p.strip("'") for p in m.case.params[1:])))] = [m.work["flops"], m.work["bytes"]]
    store.save_machine(machine, about["versions"], [p["device"] for p in peaks.values()], results)
    failed = {m.case.title: m.reason for m in run if m.state == "failed"}
    notes.setdefault("failed", {})[commit.hash] = failed
    if not failed:
        del notes["failed"][commit.hash]
    store.write_json(store.notes_path(machine.machine, results), notes)
    store.write_json(store.result_path(machine.machine, commit.hash, results), store.result_file(about, run, probes, machine, commit, started))
    return doubted


def fill(
    wanted: Sequence[Commit], machine: store.Machine, environment: dict[str, str], budget: Budget, tell: Tell, results: Path, *,
    pattern: str = "", root: Path = ROOT, seen: Callable[[int, int, Measured], None] = lambda at, of, m: None, most: int | None = None,
) -> list[Commit]:  # fmt: skip
    """Measure the commits that have no results yet, at most `most` of them; return those that now have. `budget` is for the first of a machine."""
    done = []
    todo = missing(wanted, machine.machine, results)
    tell(f"{machine.machine}: {len(wanted)} commits, {len(wanted) - len(todo)} of them known")
    for number, commit in enumerate(todo[:most], 1):
        started = time()
        head = f"[{number}/{len(todo)}] {commit.hash[:8]} {commit.subject[:70]}"
        near = neighbour(commit, wanted, machine.machine, results)
        try:
            with checkout(commit.hash, root) as copy:
                about, passes, peaks = measure_copy(copy, environment, pattern, ONCE if near else budget, seen)
                if not any(m.samples for made in passes for m in made):
                    tell(f"{head}: nothing could be measured; try again")
                    continue
                again = None
                if near is not None:
                    known = json.loads(store.result_path(machine.machine, near.hash, results).read_text("utf-8"))
                    again = partial(beside.again, file=known, near=near, head=Side(commit.hash, copy, commit=commit), environment=environment, root=root)
                doubted = record(about, passes, peaks, commit, machine, results, started, again)
        except (WorkerDied, Asked) as error:
            notes = store.read_notes(machine.machine, results)
            notes.setdefault("skipped", {})[commit.hash] = str(error)
            store.write_json(store.notes_path(machine.machine, results), notes)
            tell(f"{head}: skipped, {error}")
            continue
        run = store.merged(passes, None)
        states = {state: sum(m.state == state for m in run) for state in ("ready", "skipped", "failed")}
        moved = f", {len(doubted['ratios'])} measured in turn with {doubted['with'][:8]}" if doubted else ""
        tell(f"{head}: {states['ready']} cases, {states['skipped']} skipped, {states['failed']} failed, {len(passes)} passes{moved}, {time() - started:.0f} s")
        done.append(commit)
    return done
