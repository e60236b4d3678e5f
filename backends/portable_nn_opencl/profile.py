"""What plans are told of an OpenCL device."""

from __future__ import annotations

from portable_nn_kernels.launch import Profile

from .devices import GROUP_LIMIT, KIB, LOCAL_BYTES, Found


def _vendor(found: Found) -> str:
    platform = found.platform.lower()
    for sign, vendor in (("portable computing", "pocl"), ("oclgrind", "oclgrind"), ("rusticl", "mesa")):
        if sign in platform:
            return vendor
    text = found.device.vendor.lower()
    signs = {
        "nvidia": "nvidia",
        "advanced micro": "amd",
        "amd": "amd",
        "intel": "intel",
        "apple": "apple",
        "arm": "arm",
    }
    return next(
        (vendor for sign, vendor in signs.items() if sign in text), text.split()[0] if text.strip() else "unknown"
    )


def profile_of(found: Found) -> Profile:
    """Return the profile of a device.

    Local memory is capped at 32 KiB, or 48 KiB on GPUs that have it: CPU runtimes report far more than any GPU, and
    a plan that used it would not be portable.
    """
    device = found.device
    shape = "cpu" if found.kind == "cpu" else "gpu"
    cap = 48 * KIB if shape == "gpu" and device.local_mem_size >= 48 * KIB else LOCAL_BYTES
    return Profile(
        shape="cpu" if shape == "cpu" else "gpu",
        vendor=_vendor(found),
        name=found.name,
        units=device.max_compute_units,
        group_limit=min(GROUP_LIMIT, device.max_work_group_size),
        local_bytes=min(cap, device.local_mem_size),
        float64=bool(device.double_fp_config),
        float16="cl_khr_fp16" in device.extensions.split(),
        vector=max(1, device.native_vector_width_float),
        prefetch=shape == "cpu" and "intel" in found.platform.lower(),  # Oclgrind stops at it, PoCL was not tried
    )
