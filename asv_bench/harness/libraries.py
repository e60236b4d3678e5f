"""portable_nn beside other libraries over the rows of `peers.rows`: each peer a process, all timed in turn, compared before they are timed.

A row is measured in rounds; in each round every peer has one burst, and who begins moves on by one. So what disturbs the machine for a
second disturbs all. Figures are medians of the bursts. Results go into one JSON file after every row, and a row that is in it with all
the peers asked for is not measured again: a run can be stopped and gone on with, or done in parts.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from .library import PEERS
from .peers.limits import limit
from .peers.rows import ROWS as ROWS
from .peers.rows import Row, row
from .repository import ROOT
from .session import Asked, Session, WorkerDied
from .store import write_json

ROUNDS, SECONDS = 9, 0.03
REST = 0.01  # seconds between bursts: threads of the last peer go to sleep
AGREEMENT = 2e-3  # largest difference from the first peer's result, by its largest value
FIRST_STEPS, MEMORY_STEPS = 3, 5
FORMAT = 1
Results = dict[str, Any]
Around = Callable[[Sequence[Session]], AbstractContextManager[Any]]


class Machine:
    """The peers' processes, started when a row first needs them.

    Parameters
    ----------
    pythons : mapping
        Peer to the interpreter that has it; the one that runs this where none is named.
    patience : float
        Seconds until a peer that prepares a row is given up.
    """

    def __init__(self, pythons: Mapping[str, str], patience: float) -> None:
        self.pythons, self.patience = pythons, patience
        self.sessions: dict[str, Session] = {}
        self.absent: dict[str, str] = {}
        self.versions: dict[str, str] = {}

    def start(self, peer: str, more: Mapping[str, str] | None = None) -> Session:
        """Start a new process of a peer."""
        plain = {"GLIBC_TUNABLES": ""}  # peers run as people run them, without the huge pages that the other sessions ask for
        return Session(ROOT, {**plain, **PEERS[peer].environment, **(more or {})}, self.pythons.get(peer), ("harness.library", peer))

    def session(self, peer: str) -> Session | str:
        """Return the peer's process, or why there is none."""
        if peer not in self.sessions and peer not in self.absent:
            try:
                made = self.start(peer)
                self.sessions[peer] = made
                self.versions[peer] = made.about["version"]
            except (WorkerDied, Asked) as error:
                self.absent[peer] = str(error).removeprefix("Unsupported: ")
        return self.sessions.get(peer) or self.absent[peer]

    def ready(self, peer: str, name: str, path: str = "") -> str:
        """Make a row ready in the peer's process; return why it is not, or nothing."""
        session = self.session(peer)
        if isinstance(session, str):
            return session
        try:
            said = session.ask("ready", name=name, path=path, timeout=self.patience)
            return str(said.get("reason", ""))
        except (WorkerDied, Asked) as error:
            if session.process.poll() is not None:
                session.close()
                del self.sessions[peer]
            return str(error)

    def forget(self) -> None:
        """Let every process drop the rows it has ready."""
        for peer, session in list(self.sessions.items()):
            try:
                session.ask("forget", timeout=self.patience)
            except (WorkerDied, Asked):
                session.close()
                del self.sessions[peer]

    def close(self) -> None:
        """End every process."""
        for session in self.sessions.values():
            session.close()


def measure(
    chosen: Sequence[Row], peers: Sequence[str], path: Path, *, pythons: Mapping[str, str] | None = None, again: bool = False,
    rounds: int = ROUNDS, patience: float = 240, together: int = 1, seen: Callable[[int, int, str], None] = lambda at, of, text: None,
    tell: Callable[[str], None] = lambda line: None, around: Around = lambda sessions: nullcontext(),
) -> Results:  # fmt: skip
    """Measure rows on peers, and keep the results in `path`.

    Parameters
    ----------
    again : bool
        Measure also what the file has.
    together : int
        Rows that are made ready before they are timed, one after the other: less waiting where `around` waits for its turn.
    around : callable
        Entered with the sessions while they are timed.
    """
    results = read(path)
    machine = Machine(pythons or {}, patience)
    left = [r for r in chosen if again or not set(peers) <= set(results["rows"].get(r.name, {}).get("peers", {}))]
    try:
        if left and "peaks" not in results and peers[0].startswith("ours") and not isinstance(ours := machine.session(peers[0]), str):
            with around([ours]):
                results["peaks"] = ours.ask("peaks", timeout=patience)
        for first in range(0, len(left), together):
            batch = left[first : first + together]
            prepared: list[tuple[Row, Results]] = []
            for number, wanted in enumerate(batch, first):
                seen(number, len(left), wanted.name)
                if wanted.family in ("start", "memory"):
                    with around([]):
                        prepared.append((wanted, {peer: _process(machine, wanted, peer) for peer in peers}))
                else:
                    prepared.append((wanted, _compared(machine, wanted, peers)))
            with around(list(machine.sessions.values())):
                for wanted, found in prepared:
                    if wanted.family not in ("start", "memory"):
                        _time(machine, wanted, found, rounds)
            for wanted, found in prepared:
                results["rows"][wanted.name] = {"peers": found, "at": datetime.now(UTC).isoformat(timespec="seconds")}
                results["peers"] |= {peer: {"says": PEERS[peer].says, "version": machine.versions[peer]} for peer in peers if peer in machine.versions}
                write_json(path, results)
                tell(line_of(wanted, results))
            machine.forget()
    finally:
        machine.close()
    return results


def read(path: Path) -> Results:
    """Return the results in a file, or empty ones."""
    if path.exists():
        found: Results = json.loads(path.read_text("utf-8"))
        if found.get("format") != FORMAT:
            raise ValueError(f"{path} has format {found.get('format')}, but {FORMAT} is needed; name another file with --json")
        return found
    return {"format": FORMAT, "machine": {"processor": _processor(), "cores": len(os.sched_getaffinity(0)), "python": platform.python_version()}, "peers": {}, "rows": {}}


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), platform.machine())


def _compared(machine: Machine, wanted: Row, peers: Sequence[str]) -> Results:
    """Make a row ready on every peer; return who may be timed, and why others may not."""
    found: Results = {}
    truth: list[np.ndarray[Any, Any]] | None = None
    with tempfile.TemporaryDirectory() as folder:
        for peer in peers:
            path = os.path.join(folder, "results.npz")
            reason = machine.ready(peer, wanted.name, path)
            if reason:
                found[peer] = {"without": reason}
                continue
            with np.load(path) as file:
                made = [file[name] for name in file.files]
            truth = truth or made
            error = difference(made, truth)
            found[peer] = {"error": float(f"{error:.2g}")}
            if not error <= AGREEMENT:
                found[peer] = {"without": f"its result differs from {peers[0]}'s by {error:.2g} of the largest value"}
    return found


def _time(machine: Machine, wanted: Row, found: Results, rounds: int) -> None:
    """Time a row on the peers that are ready, in turn; note what was found of each."""
    samples: dict[str, list[float]] = {peer: [] for peer in found if "without" not in found[peer] and peer in machine.sessions}
    calls = dict.fromkeys(samples, 0)
    for turn in range(rounds + 1):  # the first finds how many calls make a burst, and is not counted
        timed = [peer for peer in samples if "without" not in found[peer]]
        for place in range(len(timed)):
            peer = timed[(place + turn) % len(timed)]
            try:
                burst = machine.sessions[peer].ask("burst", name=wanted.name, seconds=SECONDS, calls=calls[peer], timeout=machine.patience)
            except (WorkerDied, Asked) as error:
                found[peer] = {"without": str(error)}
                continue
            calls[peer] = burst["calls"]
            if turn:
                samples[peer].append(burst["seconds"])
            time.sleep(REST)
    for peer, its in samples.items():
        if its and "without" not in found[peer]:
            found[peer] |= {"value": float(f"{median(its):.4g}"), "samples": [float(f"{s:.4g}") for s in its], "calls": calls[peer]}


def difference(made: Sequence[np.ndarray[Any, Any]], truth: Sequence[np.ndarray[Any, Any]]) -> float:
    """Return the largest difference of two lists of arrays, by the largest value of each; infinite if shapes differ."""
    if [x.shape for x in made] != [x.shape for x in truth]:
        return float("inf")
    worst = 0.0
    for x, y in zip(made, truth, strict=True):
        scale = float(np.abs(y).max(initial=0.0)) or 1.0
        gap = float(np.abs(x.astype(np.float64) - y).max(initial=0.0))
        worst = max(worst, gap / scale) if np.isfinite(gap) else float("inf")
    return worst


def _process(machine: Machine, wanted: Row, peer: str) -> Results:
    """Measure a fresh process: seconds to the end of its first training step, or memory after some with programs compiled by an earlier one."""
    training = f"train {wanted.about['model']} b{wanted.about['batch']}"
    assert row(training).family == "train"

    def run(cache: str, steps: int) -> tuple[float, dict[str, Any]]:
        caches = {"XDG_CACHE_HOME": cache, "TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor", "TRITON_CACHE_DIR": f"{cache}/triton", "POCL_CACHE_DIR": cache, "CUDA_CACHE_PATH": cache}
        start = time.perf_counter()
        with machine.start(peer, caches) as session:
            machine.versions[peer] = session.about["version"]
            said = session.ask("ready", name=training, timeout=machine.patience)
            if said["state"] != "ready":
                raise Asked(said["reason"])
            for _ in range(steps):
                said = session.ask("step", name=training, timeout=machine.patience)
            return time.perf_counter() - start, said

    try:
        with tempfile.TemporaryDirectory() as cache:
            if wanted.family == "memory":
                run(cache, 1)  # what compiles in the process that is measured stays in it: 165 MiB for Intel's runtime
                return {"value": round(run(cache, MEMORY_STEPS)[1]["peak_mib"], 1)}
            first = run(cache, 1)[0]
            times = [first] if wanted.about["cold"] else [run(cache, 1)[0] for _ in range(FIRST_STEPS)]
            return {"value": round(min(times), 3), "samples": [round(t, 3) for t in times]}
    except (WorkerDied, Asked) as error:
        return {"without": str(error).removeprefix("Unsupported: ")}


# -- what is shown -------------------------------------------------------------------------------------------------------


def least(wanted: Row, results: Results) -> float | None:
    """Return the least seconds that the machine's measured rates allow; None where nothing is counted."""
    if "peaks" not in results or not (wanted.flops or wanted.bytes):
        return None
    data = 4.0 * sum(x.size for x in wanted.arrays().values()) if wanted.family in ("op", "gemv") else wanted.bytes
    return limit(results["peaks"], wanted.flops, wanted.bytes, data, wanted.family == "gemv" or "cross_entropy" in wanted.name)


def text(value: float) -> str:
    """Write a figure with three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def cells(wanted: Row, results: Results, peers: Sequence[str], base: str) -> Iterator[str]:
    """Yield, for each peer, its figure and how many times as fast it is as `base`."""
    found = results["rows"].get(wanted.name, {}).get("peers", {})
    of = found.get(base, {}).get("value")
    for peer in peers:
        value = found.get(peer, {}).get("value")
        if value is None:
            yield "-"
            continue
        ratio = f" ({of / value:.2f})" if of and peer != base else ""
        yield text(wanted.figure(value)) + ratio


def line_of(wanted: Row, results: Results) -> str:
    """Say a row in one line."""
    found = results["rows"][wanted.name]["peers"]
    said = [f"{peer} {text(wanted.figure(one['value']))}" for peer, one in found.items() if "value" in one]
    return f"{wanted.name} [{wanted.unit}]: " + ", ".join(said)


def table(chosen: Sequence[Row], peers: Sequence[str], results: Results, base: str) -> list[list[str]]:
    """Return head and rows of the table: what, unit, limit, how much of it the first peer reaches, and every peer."""
    made = [["work", "unit", "limit", f"{peers[0]} reaches", *peers]]
    for wanted in chosen:
        if wanted.name not in results["rows"]:
            continue
        bound = least(wanted, results)
        mine = results["rows"][wanted.name]["peers"].get(peers[0], {}).get("value")
        reached = f"{bound / mine:.0%}" if bound and mine else "-"
        made.append([wanted.name, wanted.unit, text(wanted.figure(bound)) if bound else "-", reached, *cells(wanted, results, peers, base)])
    return made


def markdown(made: Sequence[Sequence[str]], peers: Sequence[str], results: Results, base: str) -> str:
    """Return the table as an include of the documentation, with what the columns are."""
    about = results["machine"]
    lines = ["<!-- made by `portable-nn bench libraries`; do not edit -->", ""]
    lines += [f"{about['cores']} cores of {about['processor']}; medians of bursts in turn; in brackets, how many times as fast as `{base}`.", ""]
    lines += ["| " + " | ".join(line) + " |" for line in (made[0], ["---"] * len(made[0]), *made[1:])]
    lines += ["", *(f"- `{peer}`: {said['says']}, {said['version']}" for peer in peers if (said := results["peers"].get(peer)))]
    if "peaks" in results:
        peaks = results["peaks"]
        lines += ["", f"Limits: {peaks['flops'] / 1e9:.0f} GFLOP/s of float32 FMA; " + "; ".join(
            f"{what} " + ", ".join(f"{int(size) >> 10} KiB {rate / 1e9:.0f}" for size, rate in peaks[what].items()) + " GB/s" for what in ("copy", "read") if peaks[what]
        ) + "."]  # fmt: skip
    return "\n".join(lines) + "\n"


def page(results: Results, base: str = "torch") -> str:
    """Return the include for all rows and peers that `results` has."""
    names = [name for name in PEERS if name in results["peers"]]
    chosen = [r for r in ROWS if r.name in results["rows"]]
    return markdown(table(chosen, names, results, base), names, results, base)


def records(chosen: Sequence[Row], results: Results) -> list[dict[str, Any]]:
    """Return one flat record per row and peer, for CSV."""
    made = []
    for wanted in chosen:
        for peer, one in results["rows"].get(wanted.name, {}).get("peers", {}).items():
            figure = wanted.figure(one["value"]) if "value" in one else None
            made.append({"work": wanted.name, "peer": peer, "value": one.get("value"), "figure": figure, "unit": wanted.unit, "error": one.get("error"), "without": one.get("without", "")})
    return made

