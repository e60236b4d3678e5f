"""The history of a machine: commits measured one after the other, evenly spread first, stopped and resumed at will.

A commit is a temporary worktree, measured by the suite of this checkout in the environment that is active. What a commit's library
does not have yet is left out of its results; a commit that cannot be measured at all is noted with the reason and not tried again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from time import time
from typing import Any

from . import store
from .measure import Budget, Case, Measured, alone, cases
from .repository import ROOT, Commit, checkout
from .session import Asked, Session, WorkerDied

Tell = Callable[[str], None]


def missing(wanted: Sequence[Commit], machine: str, results: Path) -> list[Commit]:
    """Return the commits without results that were not found unmeasurable before."""
    skipped = store.read_notes(machine, results).get("skipped", {})
    return [c for c in wanted if c.hash not in skipped and not store.result_path(machine, c.hash, results).is_file()]


def spread(wanted: Sequence[Commit]) -> list[Commit]:
    """Return commits so that those measured first lie evenly: both ends, the middle, the quarters, and so on."""
    last = len(wanted) - 1
    order = [0, last]
    step = last
    while step > 1:
        step = (step + 1) // 2
        order += range(0, last, step)
    return [wanted[at] for at in dict.fromkeys(order)] if wanted else []


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
        passes = alone(session, chosen, budget, lambda m: tell(next(count), len(chosen), m))
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
    about: dict[str, Any], passes: Sequence[Sequence[Measured]], peaks: dict[str, Any], commit: Commit, machine: store.Machine, results: Path, started: float
) -> None:
    """Write the results of one commit, and what the notes of the machine learn from them."""
    notes = store.read_notes(machine.machine, results)
    run = store.merged(passes, None)
    probes = [m.probe for made in passes for m in made if m.probe]
    if "reference" not in notes and probes:
        notes["reference"] = {kind: sorted(p[kind] for p in probes)[len(probes) // 2] for kind in probes[0]}
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
    made = store.result_file(about, passes, machine, commit, started, notes.get("reference"))
    store.write_json(store.notes_path(machine.machine, results), notes)
    store.write_json(store.result_path(machine.machine, commit.hash, results), made)


def fill(
    wanted: Sequence[Commit], machine: store.Machine, environment: dict[str, str], budget: Budget, tell: Tell, results: Path, *,
    pattern: str = "", root: Path = ROOT, seen: Callable[[int, int, Measured], None] = lambda at, of, m: None,
) -> list[Commit]:  # fmt: skip
    """Measure the commits that have no results yet; return those that now have."""
    done = []
    todo = spread(missing(wanted, machine.machine, results))
    tell(f"{machine.machine}: {len(wanted)} commits, {len(wanted) - len(todo)} of them known")
    for number, commit in enumerate(todo, 1):
        started = time()
        head = f"[{number}/{len(todo)}] {commit.hash[:8]} {commit.subject[:70]}"
        try:
            with checkout(commit.hash, root) as copy:
                about, passes, peaks = measure_copy(copy, environment, pattern, budget, seen)
        except (WorkerDied, Asked) as error:
            notes = store.read_notes(machine.machine, results)
            notes.setdefault("skipped", {})[commit.hash] = str(error)
            store.write_json(store.notes_path(machine.machine, results), notes)
            tell(f"{head}: skipped, {error}")
            continue
        run = store.merged(passes, None)
        if not any(m.samples for m in run):
            tell(f"{head}: nothing could be measured; try again")
            continue
        record(about, passes, peaks, commit, machine, results, started)
        states = {state: sum(m.state == state for m in run) for state in ("ready", "skipped", "failed")}
        tell(f"{head}: {states['ready']} cases, {states['skipped']} skipped, {states['failed']} failed, {len(passes)} passes, {time() - started:.0f} s")
        done.append(commit)
    return done
