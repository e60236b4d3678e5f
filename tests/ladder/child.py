"""The process of a rung: `python -m ladder.child RUNG SAMPLES [DTYPE ...]` reads names of ops, and writes what became of each as a line of JSON."""

from __future__ import annotations

import json
import os
import resource
import sys
import warnings
from dataclasses import asdict

import numpy as np

import portable_nn.ops  # noqa: F401 - fills the registry
from portable_nn.core.registry import OPS
from portable_nn.testing.verify import run_checks

from .rungs import RUNGS
from .runners import checks_for


def _cpu_seconds() -> float:
    """Return the processor time of this process, its threads and the compilers it has started: what a busy machine does not change."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(found.ru_utime + found.ru_stime for found in spent)


def main() -> None:
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what drivers and compilers print is not for the reader of our lines
    rung, samples = RUNGS[sys.argv[1]], int(sys.argv[2]) or None
    checks, dtypes = checks_for(rung.runner, rung.arguments), sys.argv[3:]
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")  # samples hold NaN, and some casts overflow on purpose
    for line in sys.stdin:
        op, start = OPS[line.strip()], _cpu_seconds()
        planned = checks(op, samples)
        chosen = [check for check in planned if check.dtype in dtypes]
        results = run_checks(chosen or [check for check in planned if not dtypes or check.dtype == planned[0].dtype])
        print(json.dumps({"op": op.name, "cpu_seconds": round(_cpu_seconds() - start, 2), **asdict(results)}), file=told, flush=True)


if __name__ == "__main__":
    main()
