"""The CuPy backend: our kernels as CUDA C++ (HIP on CuPy's ROCm build), on the user's own `cupy.ndarray`.

CuPy gives memory, compilation and launch; nothing is computed by its array functions. Nothing here imports cupy until
a backend or its status is asked for, so a missing cupy is an ImportError that the selection reports as
"not installed".
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from portable_nn.core.backend import Backend, Status
from portable_nn.core.version import VERSION as VERSION

if TYPE_CHECKING:
    from .adapter import CupyBackend

INSTALL = 'pip install "portable-nn[cuda13]" (or cuda12, or rocm)'


@cache
def _made(index: int) -> CupyBackend:
    """Return the one backend object of a device."""
    from .adapter import CupyBackend

    return CupyBackend(index)


def backend(device: str | None = None) -> Backend:
    """Return the backend on a device.

    Parameters
    ----------
    device : str, optional
        CUDA's index, "gpu", or part of a device's name. By default CuPy's current device.
    """
    from .devices import choose

    return _made(choose(device))


def status() -> Status:
    """Return whether a device can be used, and every device found."""
    try:
        from . import devices
    except ModuleNotFoundError:
        raise  # the selection says "not installed"
    except ImportError as error:  # cupy is there but a library of CUDA is not
        return Status("cupy", "broken", _first_line(error), install=INSTALL)
    try:
        count = devices.count()
    except Exception as error:  # no driver, or one that is too old
        return Status("cupy", "no device", f"CuPy finds no usable driver: {_first_line(error)}", install=INSTALL)
    if not count:
        return Status("cupy", "no device", "CuPy finds no device", install=INSTALL)
    state, reason = "ready", ""
    try:
        devices.probe(devices.choose(None))
    except Exception as error:  # whatever a driver or compiler does, status reports it
        state, reason = "broken", _first_line(error)
    return Status("cupy", state, reason, tuple(devices.info(i) for i in range(count)), INSTALL)


def _first_line(error: Exception) -> str:
    lines = [line.strip(" =") for line in str(error).splitlines()]
    return next((line for line in lines if line), type(error).__name__)
