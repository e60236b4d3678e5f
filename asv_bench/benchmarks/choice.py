"""What is benchmarked: a profile, and environment variables that override parts of it.

PORTABLE_NN_BENCH_PROFILE     quick (the default), history or full: the table `PROFILES` below
PORTABLE_NN_BENCH_BACKENDS    names separated by commas; one that is named and not there is an error. By default the
                              backends below, and those that are not there are skipped
PORTABLE_NN_BENCH_DTYPES      names separated by commas, instead of the profile's
PORTABLE_NN_BENCH_DIRECTIONS  of forward, backward, full
PORTABLE_NN_BENCH_OPS         a regular expression that the op's whole name must match
PORTABLE_NN_BENCH_CASES       a TOML file with cases of your own; see `own_cases.py`

Nothing here touches a device: asv imports the benchmarks in a process that it forks, and drivers do not survive a fork.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from portable_nn.core import selection
from portable_nn.core.backend import Backend
from portable_nn.core.dtypes import canonical
from portable_nn.core.errors import BackendError

# NotImplementedError from `setup` makes asv skip a case; from the benchmark itself only this subclass does.
try:
    from asv_runner.benchmarks.mark import SkipNotImplemented as Skip
except ImportError:  # run without asv, by the tests
    Skip = NotImplementedError  # type: ignore[assignment,misc]


@dataclass(frozen=True)
class Profile:
    """How much of the suite is run.

    Parameters
    ----------
    dtypes, directions : tuple of str
        What every op is timed in.
    ops : "all" or "benched"
        Every op, or those whose record names benchmark sizes.
    cases : "first" or "all"
        Of each op.
    models : int
        How many of the models, in the order of `models.py`.
    patience : float
        Processor seconds after which NumPy is given up where it has nothing but the op's reference, whose loops may take a minute; 0 leaves these out.
    slow : bool
        Whether fresh processes are started (cold start, compile time) and epochs trained.
    seconds : float
        asv's budget for one case and round.
    pace : float
        Seconds that a case takes in it, measured on two cores with nothing else to do: what a run is expected to take.
    """

    dtypes: tuple[str, ...]
    directions: tuple[str, ...]
    ops: str
    cases: str
    models: int
    patience: float
    slow: bool
    seconds: float
    pace: float


PROFILES = {
    "quick": Profile(("float32",), ("forward", "backward"), "all", "first", 2, 0.5, False, 0.05, 0.25),
    "history": Profile(("float32",), ("forward", "backward"), "benched", "first", 2, 0.0, False, 0.1, 0.2),
    "full": Profile(("float32", "float16", "bfloat16", "float64"), ("forward", "backward", "full"), "all", "all", 99, 0.0, True, 0.5, 0.12),
}
_BACKENDS = ("numpy", "opencl")


def _listed(name: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in os.environ.get(name, "").split(",") if part.strip())


_CHOSEN = os.environ.get("PORTABLE_NN_BENCH_PROFILE", "quick")
if _CHOSEN not in PROFILES:
    raise ValueError(f"PORTABLE_NN_BENCH_PROFILE is {_CHOSEN!r} but one of {', '.join(PROFILES)} is needed")
PROFILE = PROFILES[_CHOSEN]
BACKENDS = _listed("PORTABLE_NN_BENCH_BACKENDS") or _BACKENDS
DTYPES = tuple(canonical(name).name for name in _listed("PORTABLE_NN_BENCH_DTYPES") or PROFILE.dtypes)
DIRECTIONS = _listed("PORTABLE_NN_BENCH_DIRECTIONS") or PROFILE.directions
OPS_PATTERN = os.environ.get("PORTABLE_NN_BENCH_OPS", ".*")


def backend(name: str) -> Backend:
    """Return the backend, or raise `Skip` if nobody named it and it is not there."""
    try:
        return selection.get(name)
    except BackendError as error:
        if _listed("PORTABLE_NN_BENCH_BACKENDS"):
            raise
        raise Skip(str(error)) from error
