"""Which device, what plans are told of it, and whether it can compile and run."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import cupy
import numpy as np

from portable_nn.core.backend import DeviceInfo
from portable_nn.core.errors import BackendError
from portable_nn_kernels.launch import Profile

GROUP_LIMIT = 256  # the library's own: one limit for CUDA, HIP and OpenCL GPUs keeps their plans alike
_KIB = 1024

PROBE = 'extern "C" __global__ void pnn_probe(int* y) { y[threadIdx.x] = 3 * (int)threadIdx.x + 1; }'


def count() -> int:
    """Return the number of devices; raises what CUDA raises when there is no driver."""
    return int(cupy.cuda.runtime.getDeviceCount())


@cache
def properties(index: int) -> dict[str, Any]:
    """Return what the runtime says of a device."""
    return dict(cupy.cuda.runtime.getDeviceProperties(index))


def is_hip() -> bool:
    """Tell whether this is CuPy's ROCm build."""
    return bool(cupy.cuda.runtime.is_hip)


def name_of(index: int) -> str:
    """Return a device's name."""
    name = properties(index)["name"]
    return " ".join((name.decode() if isinstance(name, bytes) else str(name)).split())


def choose(wanted: str | None) -> int:
    """Return the index of the device to use.

    Parameters
    ----------
    wanted : str or None
        An index, "gpu", or part of a device's name; None for CuPy's current device.

    Raises
    ------
    BackendError
        Naming the devices that exist.
    """
    try:
        total = count()
    except Exception as error:
        raise BackendError(f"CuPy finds no usable driver: {error}") from error
    if not total:
        raise BackendError("CuPy finds no device")
    text = (wanted or "").strip().lower()
    if text in ("", "gpu"):
        return int(cupy.cuda.runtime.getDevice())
    names = [name_of(i) for i in range(total)]
    listed = "; ".join(f"{i}: {n}" for i, n in enumerate(names))
    if text.isdecimal():
        if int(text) >= total:
            raise BackendError(f"there is no CUDA device {text}; the devices are {listed}")
        return int(text)
    for index, name in enumerate(names):
        if text in name.lower():
            return index
    raise BackendError(f"no CUDA device has {wanted!r} in its name; the devices are {listed}")


def profile_of(index: int) -> Profile:
    """Return the profile of a device."""
    found = properties(index)
    local = int(found["sharedMemPerBlock"])
    return Profile(
        shape="gpu",
        vendor="amd" if is_hip() else "nvidia",
        name=name_of(index),
        units=int(found["multiProcessorCount"]),
        group_limit=min(GROUP_LIMIT, int(found["maxThreadsPerBlock"])),
        local_bytes=min(48 * _KIB, local),
        float64=True,
        float16=True,
        vector=1,
        warp=int(found["warpSize"]),
        capability=0 if is_hip() else 10 * int(found["major"]) + int(found["minor"]),
    )


def info(index: int) -> DeviceInfo:
    """Return what `portable-nn info` shows of a device."""
    found = properties(index)
    return DeviceInfo(
        name=name_of(index),
        kind="gpu",
        platform=f"{'ROCm' if is_hip() else 'CUDA'} {_version(cupy.cuda.runtime.runtimeGetVersion())}, CuPy {cupy.__version__}",
        driver=_version(cupy.cuda.runtime.driverGetVersion()),
        units=int(found["multiProcessorCount"]),
        memory_bytes=int(found["totalGlobalMem"]),
        float16=True,
        note=str(found.get("gcnArchName", b"").decode() if is_hip() else f"sm_{found['major']}{found['minor']}"),
    )


def _version(number: int) -> str:
    if is_hip():
        return f"{number // 10**7}.{number // 10**5 % 100}"
    return f"{number // 1000}.{number % 1000 // 10}"


@cache
def probe(index: int) -> None:
    """Compile and run a kernel on a device, once per process; raises what goes wrong.

    In this process: unlike OpenCL's, a CUDA driver that does not work says so instead of ending the process.
    """
    with cupy.cuda.Device(index):
        kernel = cupy.RawModule(code=PROBE).get_function("pnn_probe")
        y = cupy.ndarray((64,), np.int32)
        kernel((1,), (64,), (y,))
        if (y.get() != 3 * np.arange(64) + 1).any():
            raise BackendError(f"a test kernel ran on {name_of(index)} but gave wrong values")


def stores_bfloat16() -> bool:
    """Tell whether CuPy has arrays of ml_dtypes.bfloat16: since version 14."""
    return int(cupy.__version__.split(".")[0]) >= 14


def sole() -> bool:
    """Tell whether there is one device only, so that it is always the current one."""
    return count() == 1 and not os.environ.get("PORTABLE_NN_ASSUME_DEVICES")
