"""What every test shares: the backends under test, seeds, and a report of devices and skips.

PORTABLE_NN_TEST_BACKENDS names the backends (default "numpy,null,opencl"). One that is named and not there fails the
run: a suite that quietly tests less is worse than none.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

# Before NumPy is imported: a worker per core and a thread per core in each of them wait for one another, spinning.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest

from portable_nn.core import registry, selection
from portable_nn.core.backend import Backend
from portable_nn.testing.cases import seed_of

BACKENDS = tuple(
    name.strip() for name in os.environ.get("PORTABLE_NN_TEST_BACKENDS", "numpy,null,opencl").split(",") if name.strip()
)
# The other shape of kernel on the same device: a CPU runs what plans make for GPUs.
SHAPES = tuple(f"{name}:gpu" for name in ("null", "opencl") if name in BACKENDS)
VALUES = tuple(name for name in BACKENDS if name != "null")  # the backends that have values
if "cuda_cpu" in BACKENDS:  # runs the CUDA text on the CPU; of the tests, so the library does not know it
    selection.TABLE["cuda_cpu"] = ("cuda_cpu", "apt install g++")
if "numba_cpu" in BACKENDS:  # numba's kernels, compiled for the CPU; of the tests too
    selection.TABLE["numba_cpu"] = ("numba_cpu", "apt install g++")


_piles: list[Any] = []  # the programs of backends made here
_PILE = 300  # a CPU runtime holds about a megabyte per program, and the suite makes thousands


@cache
def find(name: str) -> Backend:
    """Return a backend of BACKENDS, or of SHAPES: "opencl:gpu" is given a profile whose shape is "gpu"."""
    base, _, shape = name.partition(":")
    found = selection.get(base)
    profile = getattr(found, "profile", None)
    if not shape or profile is None or profile.shape == shape:
        return found
    return selection.get("null", shape) if base == "null" else _unoptimised(found, shape)


def _unoptimised(found: Any, shape: str) -> Backend:
    from portable_nn_opencl.opencl import OpenCLBackend

    made = OpenCLBackend(found.found, replace(found.profile, shape=shape))
    made.programs = _text(made)
    _piles.append(made.programs)
    return made


def _text(backend: Any) -> Any:
    """Return programs that are compiled without optimisation, in a third of the time: enough where the text is under test."""
    from portable_nn_opencl.programs import Programs

    return Programs(backend.context, backend.found, backend.profile.float64, ["-cl-opt-disable"])


@cache
def _both() -> tuple[Any, Any, Any] | None:
    """Return the OpenCL backend, its programs without optimisation, and those that users have. None without a CPU's runtime."""
    backend: Any = selection.get("opencl") if "opencl" in BACKENDS else None
    if backend is None or backend.found.kind != "cpu":
        return None
    _piles.extend((backend.programs, text := _text(backend)))
    return backend, text, backend.programs


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let OpenCL's compiler optimise for CPUs only in tests marked so."""
    if (both := _both()) is None:
        return
    backend, *programs = both
    wanted = programs[item.get_closest_marker("optimised") is not None]
    if backend.programs is not wanted:
        backend.programs = wanted
        for op in registry.OPS.values():
            op.forget()


_skips: Counter[tuple[str, str]] = Counter()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--case", default="", metavar="TEXT", help="of the generated checks, run those with TEXT in their names (grouped.py)")


def pytest_report_header() -> list[str]:
    lines = []
    for name in BACKENDS:
        state = selection.status(name)
        devices = "; ".join(f"{d.name} ({d.platform}{f', {d.driver}' if d.driver else ''})" for d in state.devices[:1])
        lines.append(f"backend {name}: {state.state} {state.reason or devices}")
    return lines


def pytest_sessionstart() -> None:
    # The tests choose backends themselves; a choice from outside would make host arrays illegal.
    os.environ.pop("PORTABLE_NN_BACKEND", None)
    os.environ["PORTABLE_NN_TUNED"] = "off"  # what was tuned on this machine is not under test
    missing = [s for s in map(selection.status, BACKENDS) if s.state != "ready"]
    if missing:
        told = "; ".join(f"{s.name}: {s.state} ({s.reason}), install it with {s.install}" for s in missing)
        raise pytest.UsageError(f"PORTABLE_NN_TEST_BACKENDS asks for backends that are not ready: {told}")


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """Fail the test that leaves a backend chosen: it would change what the next ones run on."""
    before = selection.explicit()
    yield
    assert selection.explicit() == before, f"the test left the backend {selection.explicit()!r} chosen"


@pytest.fixture(autouse=True)
def _programs_do_not_pile_up() -> Iterator[None]:
    """Forget compiled programs now and then; they come back from disk."""
    yield
    full = [programs for programs in _piles if len(programs) > _PILE]
    for programs in full:
        programs.forget()
    for op in registry.OPS.values() if full else ():
        op.forget()


@pytest.fixture(params=VALUES)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend that has values."""
    return selection.get(request.param)


@pytest.fixture(params=BACKENDS)
def any_backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend, the null one included."""
    return selection.get(request.param)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let each worker take tests in a row, and steal when it has none: neighbours share compiled programs."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.getvalue("dist") == "load" else None


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    found = [b for b in BACKENDS if f"[{b}-" in report.nodeid or f"[{b}]" in report.nodeid]
    where = found[0] if found else "host"
    if report.skipped and isinstance(report.longrepr, tuple):
        _skips[where, report.longrepr[2].removeprefix("Skipped: ")] += 1
    if report.when == "teardown":  # checks that a test of several skipped; see grouped.py
        _skips.update((where, str(reason)) for name, reason in report.user_properties if name == "skipped")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _skips:
        return
    terminalreporter.section("skips by backend")
    for name in sorted({backend for backend, _ in _skips}):
        reasons = [(reason, n) for (backend, reason), n in _skips.most_common() if backend == name]
        terminalreporter.write_line(f"{name}: {sum(n for _, n in reasons)} skipped")
        for reason, n in reasons[:12]:
            terminalreporter.write_line(f"  {n:5d}  {reason[:150]}")


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator seeded by the test's own name: the same in every run, whatever ran before."""
    return np.random.default_rng(seed_of(request.node.nodeid))
