"""The OpenCL backend, over PyOpenCL: memory, compilation and launch on NVIDIA, AMD, Intel and CPUs.

Nothing here imports pyopencl until a backend or its status is asked for, so a missing pyopencl is an ImportError that
the selection reports as "not installed".
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from portable_nn.core.backend import Backend, Status
from portable_nn.core.version import VERSION as VERSION

if TYPE_CHECKING:
    from .opencl import OpenCLBackend

INSTALL = 'pip install "portable-nn[opencl]"'


@cache
def _made(key: str) -> OpenCLBackend:
    """Return the one backend object of a device: two queues on one device would not share memory safely."""
    from .devices import by_key
    from .opencl import OpenCLBackend  # a module named `backend` would replace the function `backend` of this package

    return OpenCLBackend(by_key(key))


def backend(device: str | None = None) -> Backend:
    """Return the backend on a device.

    Parameters
    ----------
    device : str, optional
        Index in the list that `status().devices` shows, a kind (gpu, cpu), or part of a device's or platform's name.
        By default the device PYOPENCL_CTX names, else the first that passes a build probe: GPUs before CPUs.
    """
    from . import probe

    with probe.ahead():
        from .devices import choose

        found = choose(device)
    return _made(found.key)


def status() -> Status:
    """Return whether a device can be used, and every device found."""
    from .devices import choose, found, info
    from .probe import cached

    devices = found()
    if not devices:
        reason = "no OpenCL platform with a device was found (drivers are listed in /etc/OpenCL/vendors)"
        return Status("opencl", "no device", reason, install=INSTALL)
    state, reason = "ready", ""
    try:
        choose(None)
    except Exception as error:  # whatever a driver does, status reports it
        state, reason = "no device" if all(d.simulator for d in devices) else "broken", str(error)
    notes = {d.key: cached(d) for d in devices}
    listed = tuple(info(d, (n.reason if (n := notes[d.key]) is not None else "")) for d in devices)
    return Status("opencl", state, reason, listed, INSTALL)
