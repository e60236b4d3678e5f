"""What moved against the neighbouring commit is measured again, the two in turn, before it is written.

A machine that others use drifts from hour to hour, memory most, and no probe sees all of it; of two commits timed in turn both see the same.
So a time is written as it was measured where it lies within the threshold of the neighbour's; elsewhere the neighbour's time is written,
times the ratio that the two measurements of `compare` agree on. The price: a change that comes just when the machine drifts by as much the
other way is not noticed then. `compare` of two commits that are further apart finds it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import compare, site_data
from .changes import THRESHOLD
from .measure import Case, Measured
from .repository import ROOT, Commit, checkout

Known = Mapping[tuple[str, tuple[str, ...]], float]


def known_of(file: dict[str, Any]) -> Known:
    """Return the values of a result file, by benchmark and parameters."""
    return {(name, params): value for name in file["results"] for params, value in site_data.values_of(file, name).items()}


def key(case: Case) -> tuple[str, tuple[str, ...]]:
    """Return what a case is called in a result file."""
    return case.name, tuple(p.strip("'") for p in case.params)


def moved(run: Sequence[Measured], known: Known) -> list[Case]:
    """Return the cases whose time differs from the one known by more than the threshold."""
    pairs = ((m.case, m.value, known.get(key(m.case))) for m in run if m.kind == "time")
    return [case for case, now, then in pairs if now and then and max(now / then, then / now) > 1 + THRESHOLD]


def settled(run: Sequence[Measured], known: Known, ratios: Mapping[Case, float]) -> list[Measured]:
    """Return the findings with those cases that have a ratio to the neighbour at its time multiplied by it; their samples keep their spread."""
    found = []
    for m in run:
        scale = known[key(m.case)] * ratios[m.case] / m.value if m.case in ratios and m.value else 1.0
        found.append(replace(m, samples=[s * scale for s in m.samples]))
    return found


def in_turn(cases: Sequence[Case], base: compare.Side, head: compare.Side, environment: dict[str, str]) -> dict[Case, float]:
    """Return the ratios of head to base of these cases of head; what cannot be measured on both is left out."""
    if not cases:
        return {}
    pattern = "^(?:" + "|".join(re.escape(case.title) for case in cases) + ")$"
    found, _, _ = compare.compare(base, head, environment, pattern=pattern)
    named = {(case.name, case.params): case for case in cases}
    return {named[v.case.name, v.case.params]: v.agreed for v in found if v.agreed}


def again(
    run: list[Measured], file: dict[str, Any], near: Commit, head: compare.Side, environment: dict[str, str], root: Path = ROOT
) -> tuple[list[Measured], dict[str, Any]]:
    """Measure again what moved against the neighbour's result file; return the findings, and what was measured in turn."""
    known = known_of(file)
    cases = moved(run, known)
    if not cases:
        return run, {}
    with checkout(near.hash, root) as copy:
        ratios = in_turn(cases, compare.Side(near.hash, copy, commit=near), head, environment)
    return settled(run, known, ratios), {"with": near.hash, "ratios": {case.title: round(ratio, 3) for case, ratio in ratios.items()}}
