"""A backend for tests: the CUDA text of every kernel, compiled by g++ and run on the CPU, thread by thread.

PORTABLE_NN_TEST_BACKENDS=cuda_cpu runs the generated suite on it; PORTABLE_NN_CUDA_CPU_ORDER chooses the order of
blocks and threads: forward, reverse, or alternate (the default: it changes at every synchronisation, and the suite
compares two runs of each call bit by bit). PORTABLE_NN_CUDA_CPU_FLUSH=1 takes subnormal numbers as zero, as -ftz=true does.
"""

from __future__ import annotations

from functools import cache

from portable_nn.core.backend import Backend, DeviceInfo, Status
from portable_nn.core.errors import BackendError
from portable_nn.core.version import VERSION as VERSION

from . import build

INSTALL = "apt install g++"


@cache
def backend(device: str | None = None) -> Backend:
    """Return the backend; there is one device, and its name is ignored."""
    from .engine import CudaOnCpu

    del device
    if build.missing():
        raise BackendError(build.missing())
    return CudaOnCpu()


def status() -> Status:
    """Return "ready" where g++ and an x86-64 processor are."""
    if build.missing():
        return Status("cuda_cpu", "not installed", build.missing(), install=INSTALL)
    return Status("cuda_cpu", "ready", devices=(DeviceInfo("fibers", "gpu", "g++"),), install=INSTALL)
