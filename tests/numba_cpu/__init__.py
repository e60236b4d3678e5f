"""A backend for tests: numba's kernels, compiled by numba-cuda to LLVM IR and from there for this processor.

PORTABLE_NN_TEST_BACKENDS=numba_cpu runs the generated suite on it; threads are the fibers of `tests/cuda_cpu`, in an
order that PORTABLE_NN_CUDA_CPU_ORDER chooses. It uses a private function of numba-cuda: see `build.missing`.
"""

from __future__ import annotations

from functools import cache

from portable_nn.core.backend import Backend, DeviceInfo, Status
from portable_nn.core.errors import BackendError
from portable_nn.core.version import VERSION as VERSION

from . import build

INSTALL = 'pip install "portable-nn[numba]" llvmlite; apt install g++'


@cache
def backend(device: str | None = None) -> Backend:
    """Return the backend; there is one device, and its name is ignored."""
    from .engine import NumbaOnCpu

    del device
    if build.missing():
        raise BackendError(build.missing())
    return NumbaOnCpu()


def status() -> Status:
    """Return "ready" where numba-cuda, llvmlite and g++ are."""
    if build.missing():
        return Status("numba_cpu", "not installed", build.missing(), install=INSTALL)
    return Status("numba_cpu", "ready", devices=(DeviceInfo("fibers", "gpu", "numba-cuda, llvmlite"),), install=INSTALL)
