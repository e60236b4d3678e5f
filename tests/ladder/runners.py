"""Runners: what a rung does with an op. Each returns the function that lists an op's checks; called in the rung's own process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from math import prod
from typing import Any
from unittest import SkipTest

import numpy as np

from portable_nn.core import selection
from portable_nn.core.backend import Backend
from portable_nn.core.op import Op
from portable_nn.core.samples import Sample
from portable_nn.testing.cases import drawn, dtypes_of, place, seed_of
from portable_nn.testing.check import check_op
from portable_nn.testing.verify import Check, checks_of

Checks = Callable[[Op, int | None], list[Check]]
PROGRAMS = 200  # kept in the process; a CPU runtime holds about a megabyte for each
THREADS = 1500  # of a call in numba's simulator: a second or two
# Work-items of a call in Oclgrind, which does some hundred thousand operations per second, and of ops whose work-items do a whole tile.
INTERPRETED, TILED, TILES = 4000, 600, ("scaled_dot_product_attention", "attention_grad")


def _on(backend: Backend) -> Checks:
    """Return what lists all checks of an op on a backend, and forgets programs now and then."""

    def checks(op: Op, samples: int | None) -> list[Check]:
        programs = getattr(backend, "programs", None)
        if hasattr(programs, "forget") and len(programs) > PROGRAMS:  # type: ignore[arg-type]
            programs.forget()  # type: ignore[union-attr]
        return checks_of(op, backend, samples)

    return checks


def _representative(op: Op, sample: Sample) -> tuple[str, ...]:
    """Return float32, or else the first dtype the sample takes: for rungs where time allows one."""
    legal = dtypes_of(op, sample)
    return ("float32",) if "float32" in legal else legal[:1]


def _opencl_backend(part: str, shape: str) -> Any:
    from portable_nn_opencl.devices import found
    from portable_nn_opencl.opencl import OpenCLBackend
    from portable_nn_opencl.profile import profile_of

    device = next(d for d in found() if part in d.platform.lower())
    seen = profile_of(device)
    made = {
        "cpu": replace(seen, shape="cpu", vector=max(seen.vector, 4)),
        "gpu": replace(seen, shape="gpu", vector=1, local_bytes=32 * 1024),
        "limits": replace(seen, shape="gpu", vector=1, group_limit=256, local_bytes=32 * 1024, float64=False, float16=False),
    }[shape]
    return OpenCLBackend(device, made)


def opencl(part: str, shape: str) -> Checks:
    """Return the checks on an OpenCL platform, with kernels of a shape ("limits": of a small GPU)."""
    return _on(_opencl_backend(part, shape))


def opencl_gpu() -> Checks:
    """Return the checks on the first OpenCL GPU."""
    from portable_nn_opencl.devices import choose
    from portable_nn_opencl.opencl import OpenCLBackend

    return _on(OpenCLBackend(choose("gpu")))


def named(name: str) -> Checks:
    """Return the checks on a backend of the library, on its own choice of device."""
    return _on(selection.get(name))


def cuda_cpu(order: str) -> Checks:
    """Return the checks of the CUDA text on fibers, in an order of threads."""
    from cuda_cpu.engine import CudaOnCpu

    return _on(CudaOnCpu(order))


def numba_cpu() -> Checks:
    """Return the checks of numba's kernels on fibers; the order alternates, and two runs of each call must agree."""
    from numba_cpu.engine import NumbaOnCpu

    return _on(NumbaOnCpu("alternate"))


def sanitized() -> Checks:
    """Return calls whose arrays end where the sanitizer sees it; a fault ends the process. Values are not compared."""
    from cuda_cpu.engine import CudaOnCpu
    from cuda_cpu.sanitize import place as exactly

    backend = CudaOnCpu("alternate", sanitized=True)

    def run(op: Op, sample: Sample, dtype: str) -> None:
        given = drawn(sample, dtype, seed_of(op.name, sample.name, dtype))
        op._cache.clear()
        with selection.use_backend(backend):
            there = given.map(partial(exactly, backend), np.ndarray)
            op.apply(there.args, dict(there.settings), bool(op.residuals))
            backend.synchronize()
        op._cache.clear()

    return partial(_forward, run)


def _launches(op: Op, sample: Sample, dtype: str, shape: str) -> tuple[int, set[tuple[str, str]]]:
    """Return how many work-items a call launches and which kernels of which files, by planning it."""
    dry: Any = selection.get("null", shape)
    given = drawn(sample, dtype, 0)
    op._cache.clear()
    with selection.use_backend(dry), dry.recording() as recorded:
        there = given.map(dry.from_numpy, np.ndarray)
        op.apply(there.args, dict(there.settings), bool(op.residuals))
    op._cache.clear()
    made = [r.launch for r in recorded]
    return sum(prod(launch.groups) * prod(launch.size) for launch in made), {(shape, launch.kernel) for launch in made}


def _few(op: Op) -> list[Sample]:
    """Return the samples that launch something, and few work-items in either shape; the cheapest where none does.

    Those that launch a kernel which none before them does come first: the fewer are run, the more these count.
    """
    cost: dict[str, int] = {}
    kernels: dict[str, set[tuple[str, str]]] = {}
    for sample in op.samples:
        for dtype in _representative(op, sample):
            told = [_launches(op, sample, dtype, shape) for shape in ("cpu", "gpu")]
            cost[sample.name] = max(count for count, _ in told)
            kernels[sample.name] = set.union(*(names for _, names in told))
    most = TILED if op.name.startswith(TILES) else INTERPRETED
    launching = [sample for sample in op.samples if cost.get(sample.name)]
    few = [s for s in launching if cost[s.name] <= most] or sorted(launching, key=lambda s: cost[s.name])[:1]
    seen: set[tuple[str, str]] = set()
    first = []
    for sample in few:
        if not kernels[sample.name] <= seen:
            first.append(sample)
            seen |= kernels[sample.name]
    return first + [sample for sample in few if sample not in first]


def _forward(run: Callable[[Op, Sample, str], None], op: Op, samples: int | None, among: Sequence[Sample] | None = None) -> list[Check]:
    return [
        Check(op.name, "forward", dtype, sample.name, partial(run, op, sample, dtype))
        for sample in (op.samples if among is None else among)[:samples]
        for dtype in _representative(op, sample)
    ]


def simulator() -> Checks:
    """Return, per op, its first sample that launches few threads; checked in numba's simulator."""
    from portable_nn_kernels.launch import Launch
    from portable_nn_numba.simulator import SimulatedBackend

    class Counting(SimulatedBackend):
        """Refuses calls that would take long."""

        threads = 0

        def bind(self, launch: Launch, slots: Sequence[int | None]) -> Callable[[Sequence[Any]], None]:
            self.threads += prod(launch.groups) * prod(launch.size)
            if self.threads > THREADS:
                raise SkipTest(f"more than {THREADS} threads")
            return super().bind(launch, slots)

    backend = Counting()

    def run(op: Op) -> None:
        reason = "it has no sample"
        for sample in op.samples:
            for dtype in _representative(op, sample):
                backend.threads = 0
                try:
                    with selection.use_backend(backend):
                        check_op(op, sample, dtype, backend)
                except SkipTest as skip:
                    reason = str(skip)
                    continue
                if backend.threads:  # a view, or an empty output, launches nothing
                    return
        raise SkipTest(reason if backend.threads else "it launches nothing")

    def checks(op: Op, samples: int | None) -> list[Check]:
        dtype = next((d for sample in op.samples for d in _representative(op, sample)), "float32")
        return [Check(op.name, "forward", dtype, "the first that launches few threads", partial(run, op))]

    return checks


def offline(vendor: str) -> Checks:
    """Return, per dtype of an op, the compile of the programs its samples and benchmarks launch, each for one target in turn."""
    from offline import VENDORS
    from offline.checks import excesses
    from offline.programs import jobs
    from offline.table import Known

    compiler = VENDORS[vendor]
    known = Known(compiler)

    def run(op: Op, dtype: str) -> None:
        made = jobs(compiler, (dtype,), "in turn", (op.name,))
        found = excesses(compiler, [(program, r) for program, target in made for r in known.compiled(program, target)])
        assert not found, "\n".join(found)

    def checks(op: Op, samples: int | None) -> list[Check]:
        found = dict.fromkeys(dtype for sample in op.samples[:samples] for dtype in dtypes_of(op, sample))
        return [Check(op.name, "forward", dtype, "every program", partial(run, op, dtype)) for dtype in found]

    return checks


# -- Oclgrind -------------------------------------------------------------------------------------------------------------


def oclgrind() -> Checks:
    """Return calls in Oclgrind, CPU-shaped and GPU-shaped, after each of which its log must be empty.

    Operands are written by the host, and nothing is poisoned, because a poisoned byte counts as initialised. For the same reason no
    memory is used twice, and none is given back: for what lies where something shorter lay, Oclgrind keeps no record of what kernels write
    behind the old end. Besides, an array's end is so the end of its memory.
    """
    from .oclgrind import Log

    backends = {shape: _opencl_backend("oclgrind", shape) for shape in ("cpu", "gpu")}
    backends["cpu"].profile = replace(backends["cpu"].profile, vector=16)
    for backend in backends.values():
        backend._take = partial(_kept, [], backend.context)  # not the pool's
    log = Log()

    def run(shape: str, op: Op, sample: Sample, dtype: str) -> None:
        backend = backends[shape]
        host = drawn(sample, dtype, 0)
        given = host.map(lambda x: backend.from_numpy(x) if x.flags.c_contiguous else place(x, backend).array, np.ndarray)
        op._cache.clear()
        with selection.use_backend(backend):
            outputs, _ = op.apply(given.args, dict(given.settings), bool(op.residuals))
            for output in outputs:
                backend.to_numpy(output)
        op._cache.clear()
        faults = log.faults()
        assert not faults, f"{shape}-shaped: {faults}"

    def checks(op: Op, samples: int | None) -> list[Check]:
        few = 1 if op.expression is not None else samples  # elementwise ops share one plan
        among = _few(op)
        return [check for shape in backends for check in _forward(partial(run, shape), op, few, among)]

    return checks


def _kept(every: list[Any], context: Any, nbytes: int) -> Any:
    import pyopencl as cl

    every.append(cl.Buffer(context, cl.mem_flags.READ_WRITE, nbytes))
    return every[-1]


@cache
def checks_for(runner: str, arguments: tuple[str, ...]) -> Checks:
    """Return what lists the checks of an op for a rung's runner."""
    made: Checks = globals()[runner](*arguments)
    return made
