"""Profiles as a Chrome trace: a JSON file that chrome://tracing and ui.perfetto.dev draw over time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from .profile import Profile, Work

HOST, DEVICE = 1, 2  # threads of a profile


def trace(profiles: Sequence[Profile]) -> dict[str, Any]:
    """Return the trace: a process per profile, with a thread of the host's calls and one of the device's kernels.

    Times are microseconds from the first step of each profile. Phases lie around the calls of the host.
    """
    events: list[dict[str, Any]] = []
    for number, profile in enumerate(profiles, 1):
        way = "captured" if profile.captured else "call by call"
        events += [
            {"name": "process_name", "ph": "M", "pid": number, "args": {"name": f"{profile.backend}, {way}"}},
            {"name": "thread_name", "ph": "M", "pid": number, "tid": HOST, "args": {"name": "host"}},
        ]
        if profile.kernels:
            events.append({"name": "thread_name", "ph": "M", "pid": number, "tid": DEVICE, "args": {"name": profile.device}})
        events += _events(profile, number)
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _events(profile: Profile, pid: int) -> Iterator[dict[str, Any]]:
    zero = profile.began[0]

    def event(name: str, kind: str, tid: int, start: float, seconds: float, **args: Any) -> dict[str, Any]:
        told = {k: v for k, v in args.items() if v}
        return {"name": name, "cat": kind, "ph": "X", "pid": pid, "tid": tid, "ts": round(1e6 * (start - zero), 3), "dur": round(1e6 * seconds, 3), "args": told}

    for number, (began, after) in enumerate(zip(profile.began, (*profile.began[1:], float("inf")), strict=True), 1):
        calls = [w for w in profile.host if began <= w.start < after]
        if calls:
            yield event(f"step {number}", "step", HOST, began, _end(calls) - began)
        for phase, group in groupby(calls, lambda w: w.phase):
            inside = list(group)
            if phase:
                yield event(phase, "phase", HOST, inside[0].start, _end(inside) - inside[0].start)
            for w in inside:
                yield event(w.op, "op", HOST, w.start, w.seconds, layer=w.layer, flops=w.flops)
    for w in profile.kernels:
        yield event(w.kernel, "kernel", DEVICE, w.start, w.seconds, op=w.op, phase=w.phase, layer=w.layer, bytes=w.nbytes)


def _end(work: Sequence[Work]) -> float:
    return work[-1].start + work[-1].seconds
