"""The numba backend: kernels in Python, compiled by a `numba.cuda`, on the user's own `cupy.ndarray` or, simulated, on NumPy arrays.

Nothing here imports numba until a backend or its status is asked for, so a missing numba is an ImportError that the
selection reports as "not installed".
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from portable_nn.core.backend import Backend, DeviceInfo, Status
from portable_nn.core.version import VERSION as VERSION

INSTALL = 'pip install "portable-nn[numba]" (on AMD: "portable-nn[numba-rocm]")'


@cache
def _simulated() -> Backend:
    from .simulator import SimulatedBackend

    return SimulatedBackend()


@cache
def _made(index: int) -> Backend:
    """Return the one backend object of a device."""
    from .hardware import NumbaBackend

    return NumbaBackend(index)


def backend(device: str | None = None) -> Backend:
    """Return the backend on a device.

    Parameters
    ----------
    device : str, optional
        CUDA's or HIP's index, "gpu", or part of a device's name; by default CuPy's current device. Under numba's simulator
        (NUMBA_ENABLE_CUDASIM=1) there is only that.
    """
    from .shim import SIMULATED

    if SIMULATED:
        return _simulated()
    from portable_nn_cupy.devices import choose

    return _made(choose(device))


def status() -> Status:
    """Return whether a device can be used, and every device found."""
    from .shim import SIMULATED, version

    if SIMULATED:
        note = "NUMBA_ENABLE_CUDASIM is set: plain Python, for tests"
        return Status("numba", "ready", devices=(DeviceInfo("simulator", "gpu", version(), note=note),), install=INSTALL)
    import portable_nn_cupy

    found = portable_nn_cupy.status()
    devices = tuple(replace(device, platform=f"{device.platform}, {version()}") for device in found.devices)
    return Status("numba", found.state, found.reason, devices, INSTALL)
