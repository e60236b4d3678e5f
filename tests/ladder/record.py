"""The record of a rung: made of what became of each op, and joined with an older one where only some ops were run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from portable_nn.core.version import VERSION
from portable_nn.testing.verify import FORMAT, Results, system

from .rungs import Rung, machine


def made(rung: Rung, head: Mapping[str, Any], lines: Iterable[Mapping[str, Any]], date: str, seconds: float) -> dict[str, Any]:
    """Return the record of a run.

    Parameters
    ----------
    rung : Rung
    head : mapping
        Commit, tool and selection.
    lines : iterable of mapping
        What `ladder.child` said of each op.
    date : str
    seconds : float
        By the wall clock.
    """
    results, cpu = Results(), {}
    for line in sorted(lines, key=lambda line: str(line["op"])):
        results.merge(line)
        cpu[line["op"]] = line["cpu_seconds"]
    record = {
        "format": FORMAT, "rung": rung.name, "step": rung.step, "title": rung.title, "backend": rung.backend, "state": rung.state,
        "date": date, "commit": head["commit"], "later": {}, "portable_nn": VERSION, "tool": head["tool"], "machine": machine(), "system": system(),
        "samples": head["samples"], "dtypes": head["dtypes"], "left_out": rung.left_out, "seconds": round(seconds, 1),
    }  # fmt: skip
    return _with(record, results, cpu)


def _with(record: dict[str, Any], results: Results, cpu: Mapping[str, float]) -> dict[str, Any]:
    total = {"cpu_seconds": round(sum(cpu.values()), 1), "totals": results.totals()}
    return record | total | {"cpu": dict(sorted(cpu.items(), key=lambda item: -item[1]))} | asdict(results)


def unlike(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Return why the ops of a new record cannot go into an old one; empty if they can."""
    for name in ("format", "samples", "dtypes", "tool", "left_out"):
        if old.get(name) != new[name]:
            return f"{name} was {old.get(name)!r} there and is {new[name]!r} now"
    return ""


def joined(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return an old record with the ops of a new one in their places; `later` tells the commits of ops from others than most."""
    results = Results(dict(old["counts"]), list(old["failures"]), {reason: dict(ops) for reason, ops in old["skips"].items()})
    results.forget(new["counts"])
    results.merge(new)
    commits = dict.fromkeys(old["counts"], old["commit"])
    commits |= {op: commit for commit, ops in old["later"].items() for op in ops.split()}
    commits |= dict.fromkeys(new["counts"], new["commit"])
    among = list(commits.values())
    most = max(among, key=lambda commit: (among.count(commit), commit == old["commit"]))
    later = {commit: " ".join(op for op in sorted(commits) if commits[op] == commit) for commit in sorted({*among} - {most})}
    return _with(dict(new) | {"commit": most, "later": later, "seconds": old["seconds"]}, results, dict(old["cpu"]) | dict(new["cpu"]))
