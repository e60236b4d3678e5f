"""The process of a rung: `python -m ladder.child RUNG SAMPLES [DTYPE ...]` reads names of ops, and writes what became of each as a line of JSON."""

from __future__ import annotations

import json
import os
import resource
import sys
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

import portable_nn.ops  # noqa: F401 - fills the registry
from portable_nn.core.registry import OPS
from portable_nn.testing.verify import Check, run_checks

from .rungs import RUNGS
from .runners import checks_for


def _cpu_seconds() -> float:
    """Return the processor time of this process, its threads and the compilers it has started: what a busy machine does not change."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(found.ru_utime + found.ru_stime for found in spent)


def chosen(planned: Sequence[Check], only: Sequence[str], each: int | None) -> list[Check]:
    """Return the checks in the dtypes asked for.

    `only` are dtypes; an op that knows none of them takes its first. Without them it takes `each` of its own (all for
    None): float32 or else the first, and others in turn, so that a rung meets every dtype, and each op few of them.
    """
    if only:
        return [c for c in planned if c.dtype in only] or [c for c in planned if c.dtype == planned[0].dtype]
    if each is None:
        return list(planned)
    kept = []
    for direction in dict.fromkeys(check.direction for check in planned):
        mine = [check for check in planned if check.direction == direction]
        others = list(dict.fromkeys(check.dtype for check in mine))
        first = others.pop(others.index("float32") if "float32" in others else 0)
        start = zlib.crc32(mine[0].op.encode()) % max(len(others), 1)
        taken = {first, *(others[start:] + others[:start])[: each - 1]}
        kept += [check for check in mine if check.dtype in taken]
    return kept


def main() -> None:
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what drivers and compilers print is not for the reader of our lines
    rung, samples = RUNGS[sys.argv[1]], int(sys.argv[2]) or None
    checks, dtypes = checks_for(rung.runner, rung.arguments), sys.argv[3:]
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")  # samples hold NaN, and some casts overflow on purpose
    before = 0.0  # the process's start belongs to its first op
    for line in sys.stdin:
        op = OPS[line.strip()]
        results = run_checks(chosen(checks(op, samples), dtypes, rung.dtypes_each))
        now = _cpu_seconds()
        print(json.dumps({"op": op.name, "cpu_seconds": round(now - before, 2), **asdict(results)}), file=told, flush=True)
        before = now


if __name__ == "__main__":
    main()
