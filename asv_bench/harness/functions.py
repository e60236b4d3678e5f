"""Our ops beside other libraries' functions: two processes, timed in turn, forward, in float32. The ratio is ours by theirs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from . import store
from .measure import PATIENCE, Budget, cases
from .repository import ROOT
from .session import Asked, Session, WorkerDied

LIBRARIES = ("numpy", "torch", "jax", "cupy")
BUDGET = Budget(bursts=7)


def measure(
    pythons: Mapping[str, str | None], machine: str, environment: Mapping[str, str], results: Path, tell: Callable[[str], None],
    seen: Callable[[int, int, str], None] = lambda at, of, title: None, pattern: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Measure every case that a library has a function for; write the ratios into the notes of the machine.

    Parameters
    ----------
    pythons : mapping
        Library to the interpreter that has it; None for the one that runs this.
    """
    found: dict[str, Any] = {}
    with Session(ROOT, environment) as ours, tempfile.TemporaryDirectory() as folder:
        chosen = [c for c in cases(ours.about, pattern) if c.name.startswith("ops.") and c.params[3] == "'forward'"]
        for name, python in pythons.items():
            try:
                theirs = Session(ROOT, environment, python, ("harness.function", name))
            except (WorkerDied, Asked) as error:
                absent = "No module named" in str(error)
                found[name] = {"state": "not installed" if absent else f"not usable here ({error})"}
                tell(f"{name}: {found[name]['state']}")
                continue
            with theirs:
                ratios, reasons = {}, dict[str, str]()
                for number, case in enumerate(chosen, 1):
                    seen(number, len(chosen), f"{name}: {case.title}")
                    key = "/".join((case.params[0].strip("'"), case.name.split(".")[1], *(p.strip("'") for p in case.params[1:])))
                    try:
                        said = _one(ours, theirs, case, Path(folder) / "case.npz")
                    except (WorkerDied, Asked) as error:
                        said = str(error)
                        for session in (ours, theirs):
                            if session.process.poll() is not None:
                                session.restart()
                    if isinstance(said, str):
                        reasons[key] = said
                    else:
                        ratios[key] = said
                found[name] = {"state": theirs.about["version"], "ratios": ratios, "without": reasons}
                tell(f"{name} {theirs.about['version']}: {len(ratios)} of {len(chosen)} cases have a function that agrees")
    notes = store.read_notes(machine, results)
    notes["libraries"] = {**notes.get("libraries", {}), **found}
    store.write_json(store.notes_path(machine, results), notes)
    return found


def _one(ours: Session, theirs: Session, case: Any, path: Path) -> dict[str, Any] | str:
    ready = ours.ask("prepare", name=case.name, index=case.index, timeout=PATIENCE)
    if ready["state"] != "ready":
        return str(ready["reason"])
    ours.ask("dump", name=case.name, index=case.index, path=str(path), timeout=PATIENCE)
    other = theirs.ask("find", op=case.name.split(".")[1], path=str(path), timeout=PATIENCE)
    if other["state"] != "ready":
        return str(other["reason"])
    calls, times = [0, 0], ([], [])  # type: tuple[list[int], tuple[list[float], list[float]]]
    for number in range(BUDGET.bursts):
        for side in (0, 1) if number % 2 else (1, 0):
            burst = (ours, theirs)[side].ask("burst", seconds=BUDGET.seconds, calls=calls[side], timeout=PATIENCE)
            calls[side] = burst["calls"]
            times[side].append(burst["seconds"])
    mine, yours = min(times[0]), min(times[1])
    spread = median(abs(a / b / (mine / yours) - 1) for a, b in zip(*times, strict=True))
    return {"ratio": float(f"{mine / yours:.4g}"), "ours": float(f"{mine:.4g}"), "theirs": float(f"{yours:.4g}"), "spread": round(spread, 3), "function": other["function"]}
