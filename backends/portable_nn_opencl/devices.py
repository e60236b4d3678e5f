"""Which device: all platforms, best kind first, the first that passes a build probe, or the one the user names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import Any

import pyopencl as cl

from portable_nn.core.backend import DeviceInfo
from portable_nn.core.errors import BackendError

from . import probe, runtimes

KIB = 1024
# What tiles are laid out for: CPU runtimes allow thousands of work-items, GPUs do not; what has less is refused.
GROUP_LIMIT, LOCAL_BYTES = 256, 32 * KIB

_KINDS = ("gpu", "accelerator", "cpu", "other")


@dataclass(frozen=True, slots=True)
class Found:
    """A device of a platform, described by names and versions: platform indices change between runs."""

    name: str
    kind: str
    platform: str
    platform_version: str
    driver: str
    device: Any

    @property
    def key(self) -> str:
        """What identifies device and driver, for caches."""
        return "|".join((self.platform, self.platform_version, self.name, self.driver))

    @property
    def simulator(self) -> bool:
        """Whether it interprets kernels to check them, thousands of times slower than a CPU runs them."""
        return "oclgrind" in self.platform.lower()

    def __str__(self) -> str:
        return f"{self.name} ({self.kind}, {self.platform})"


def _kind(device: Any) -> str:
    # Simulators set several bits; a device that says it is a CPU is treated as one.
    for kind in ("cpu", "gpu", "accelerator"):
        if device.type & getattr(cl.device_type, kind.upper()):
            return kind
    return "other"


def _rank(found: Found) -> tuple[int, ...]:
    platform = found.platform.lower()
    pocl = "portable computing language" in platform
    # Discrete GPUs before those that share the host's memory, then by size.
    shared = bool(found.device.host_unified_memory)
    return found.simulator, _KINDS.index(found.kind), pocl, shared, -found.device.global_mem_size


@cache
def found() -> tuple[Found, ...]:
    """Return every device of every platform, in order of preference."""
    runtimes.register()
    try:
        platforms = cl.get_platforms()
    except cl.Error:  # PLATFORM_NOT_FOUND_KHR: no driver at all
        return ()
    everything = []
    for platform in platforms:
        try:
            devices = platform.get_devices()
        except cl.Error:  # a driver without its hardware
            continue
        for device in devices:
            name = " ".join(device.name.split())
            versions = platform.version.strip(), device.driver_version.strip()
            everything.append(Found(name, _kind(device), platform.name.strip(), *versions, device))
    return tuple(sorted(everything, key=_rank))


def by_key(key: str) -> Found:
    """Return the device with this key."""
    return next(d for d in found() if d.key == key)


def _listed() -> str:
    lines = [f"  {i}: {d}" for i, d in enumerate(found())]
    return "\n".join(lines) or "  none"


def _wanted(wanted: str) -> tuple[Found, ...]:
    devices = found()
    text = wanted.strip().lower()
    if text.isdecimal():
        if int(text) >= len(devices):
            raise BackendError(f"there is no OpenCL device {wanted}; the devices are\n{_listed()}")
        return (devices[int(text)],)
    if text in _KINDS:
        matching = tuple(d for d in devices if d.kind == text and not d.simulator)
    else:
        matching = tuple(d for d in devices if text in d.name.lower() or text in d.platform.lower())
    if not matching:
        raise BackendError(f"no OpenCL device or platform has {wanted!r} in its name; the devices are\n{_listed()}")
    return matching


def _of_pyopencl_ctx() -> tuple[Found, ...]:
    """Return the devices that PYOPENCL_CTX names, in PyOpenCL's own reading."""
    text = os.environ["PYOPENCL_CTX"]
    try:
        chosen = cl.choose_devices(interactive=False)
    except (RuntimeError, IndexError, cl.Error) as error:
        raise BackendError(f"PYOPENCL_CTX={text!r} names no device: {error}; the devices are\n{_listed()}") from error
    return tuple(d for d in found() if d.device in chosen)


def too_small(found: Found) -> str:
    """Return why no kernel for GPUs fits a device; empty where they do."""
    items, local = found.device.max_work_group_size, found.device.local_mem_size
    if found.kind == "cpu" or (items >= GROUP_LIMIT and local >= LOCAL_BYTES):
        return ""
    return (
        f"work-groups have at most {items} items and {local // KIB} KiB of local memory; "
        f"kernels for GPUs need {GROUP_LIMIT} and {LOCAL_BYTES // KIB} KiB: use another device"
    )


def choose(wanted: str | None) -> Found:
    """Return the device to use.

    Parameters
    ----------
    wanted : str or None
        Index, kind, or part of a device or platform name; None for PYOPENCL_CTX or else the best that works. A simulator
        is taken by index or name alone.

    Raises
    ------
    BackendError
        Naming what exists, or why each candidate failed its probe.
    """
    if wanted:
        candidates = _wanted(wanted)
    else:
        candidates = ()
        if os.environ.get("PYOPENCL_CTX"):
            runtimes.register()
            candidates = _of_pyopencl_ctx()
        candidates = candidates or tuple(d for d in found() if not d.simulator)
        if not candidates and found():
            raise BackendError(f"no OpenCL device but a simulator was found, which is used only if PORTABLE_NN_DEVICE names it:\n{_listed()}")
    if not candidates:
        raise BackendError("no OpenCL platform with a device was found")
    failures = []
    for candidate in candidates:
        if why := too_small(candidate):
            failures.append(f"  {candidate}: {why}")
            continue
        result = probe.passes(candidate)
        if result.ok:
            return candidate
        failures.append(
            f"  {candidate}: {result.reason} (remembered in {probe.path(candidate)}; delete it to try again)"
        )
    raise BackendError("no OpenCL device is large enough and passed the build probe:\n" + "\n".join(failures))


def info(found: Found, note: str = "") -> DeviceInfo:
    """Return what `portable-nn info` shows of a device."""
    device = found.device
    return DeviceInfo(
        name=found.name,
        kind=found.kind,
        platform=found.platform,
        driver=found.driver,
        units=device.max_compute_units,
        memory_bytes=device.global_mem_size,
        float64=bool(device.double_fp_config),
        float16="cl_khr_fp16" in device.extensions.split(),
        note=note,
    )
