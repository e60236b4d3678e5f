"""The null backend: plans and dispatches like a device, has no memory, launches nothing.

It shows which launches a model makes for a CPU or GPU profile, and what a call costs on the host alone.
"""

from __future__ import annotations

from functools import cache

from portable_nn.core.backend import Backend, DeviceInfo, Status
from portable_nn.core.errors import BackendError
from portable_nn.core.version import VERSION as VERSION
from portable_nn_kernels.launch import Profile
from portable_nn_kernels.rehearsal import Recorded as Recorded
from portable_nn_kernels.rehearsal import Rehearsal

PROFILES = {
    "cpu": Profile("cpu", vendor="null", name="null cpu", units=8, vector=16),
    "gpu": Profile("gpu", vendor="null", name="null gpu", units=64, local_bytes=48 * 1024, float16=True, vector=1),
}


class NullBackend(Rehearsal):
    """A device without memory, on a CPU's or a GPU's profile."""

    name = "null"

    def devices(self) -> list[DeviceInfo]:
        """Return both profiles, the current one first."""
        ordered = sorted(PROFILES.values(), key=lambda p: p.shape != self.profile.shape)
        return [_info(p) for p in ordered]


def _info(profile: Profile) -> DeviceInfo:
    return DeviceInfo(profile.name, profile.shape, "null", units=profile.units, float16=profile.float16)


@cache
def _made(shape: str) -> NullBackend:
    return NullBackend(PROFILES[shape])


def backend(device: str | None = None) -> Backend:
    """Return the backend with the profile "cpu" (the default) or "gpu"."""
    shape = {"0": "cpu", "1": "gpu"}.get(device or "0", device or "cpu").lower().removeprefix("null ")
    if shape not in PROFILES:
        raise BackendError(
            f"the null backend has the devices cpu and gpu; {device!r} was asked for (PORTABLE_NN_DEVICE)"
        )
    return _made(shape)


def status() -> Status:
    """Return "ready"."""
    return Status("null", "ready", devices=tuple(_info(p) for p in PROFILES.values()))
