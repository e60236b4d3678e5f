"""What is benchmarked: environment variables choose backends, dtypes and how much.

PORTABLE_NN_BENCH_PROFILE   "quick" (the default): the first case of every op in float32; "full": all cases and dtypes
PORTABLE_NN_BENCH_BACKENDS  names separated by commas; one that is named and not there is an error. By default the
                            backends below, and those that are not there are skipped
PORTABLE_NN_BENCH_DTYPES    names separated by commas, instead of the profile's

Nothing here touches a device: asv imports the benchmarks in a process that it forks, and drivers do not survive a fork.
"""

from __future__ import annotations

import os

from portable_nn.core import selection
from portable_nn.core.backend import Backend
from portable_nn.core.dtypes import canonical
from portable_nn.core.errors import BackendError

# NotImplementedError from `setup` makes asv skip a case; from the benchmark itself only this subclass does.
try:
    from asv_runner.benchmarks.mark import SkipNotImplemented as Skip
except ImportError:  # run without asv, by the tests
    Skip = NotImplementedError  # type: ignore[assignment,misc]

PROFILES = {"quick": ("float32",), "full": ("float32", "float16", "bfloat16", "float64")}
_BACKENDS = ("numpy", "opencl")


def _listed(name: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in os.environ.get(name, "").split(",") if part.strip())


PROFILE = os.environ.get("PORTABLE_NN_BENCH_PROFILE", "quick")
if PROFILE not in PROFILES:
    raise ValueError(f"PORTABLE_NN_BENCH_PROFILE is {PROFILE!r} but one of {', '.join(PROFILES)} is needed")
BACKENDS = _listed("PORTABLE_NN_BENCH_BACKENDS") or _BACKENDS
DTYPES = tuple(canonical(name).name for name in _listed("PORTABLE_NN_BENCH_DTYPES") or PROFILES[PROFILE])


def backend(name: str) -> Backend:
    """Return the backend, or raise `Skip` if nobody named it and it is not there."""
    try:
        return selection.get(name)
    except BackendError as error:
        if _listed("PORTABLE_NN_BENCH_BACKENDS"):
            raise
        raise Skip(str(error)) from error
