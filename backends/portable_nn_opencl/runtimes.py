"""Where OpenCL drivers are found: the system's, and the CPU runtime that `portable-nn[opencl]` installs as a wheel.

The wheel `intel-opencl-rt` puts a driver into the environment but tells no loader about it. We write a folder of
`.icd` files (one line each: the path of a driver) with the system's entries and the wheel's, and name it in
OCL_ICD_VENDORS. The loader reads that variable at the first platform query, so this runs before it.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from functools import cache
from importlib import metadata
from pathlib import Path

# Any of these set by the user decides alone.
VARIABLES = ("OCL_ICD_VENDORS", "OPENCL_VENDOR_PATH", "OCL_ICD_FILENAMES")
_SYSTEM = Path("/etc/OpenCL/vendors")
# distribution -> the driver in it
_WHEELS = {"intel-opencl-rt": "libintelocl.so"}


def wheel_drivers() -> list[Path]:
    """Return the drivers that pip installed into this environment."""
    drivers = []
    for distribution, library in _WHEELS.items():
        try:
            files = metadata.files(distribution) or []
        except metadata.PackageNotFoundError:
            continue
        drivers += [Path(str(f.locate())).resolve() for f in files if f.name == library]
    return [path for path in drivers if path.is_file()]


@cache
def register() -> Path | None:
    """Make the wheel's drivers known to the OpenCL loader of this process and its children; return the folder."""
    if not sys.platform.startswith("linux") or any(os.environ.get(name) for name in VARIABLES):
        return None
    drivers = wheel_drivers()
    if not drivers:
        return None
    folder = Path(tempfile.mkdtemp(prefix="portable_nn-icd-"))
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # a forked child must not take its parent's folder away
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    for entry in sorted(_SYSTEM.glob("*.icd")):
        (folder / entry.name).write_bytes(entry.read_bytes())
    for driver in drivers:
        (folder / f"portable_nn-{driver.name}.icd").write_text(f"{driver}\n")
    os.environ["OCL_ICD_VENDORS"] = str(folder)  # ocl-icd (pip's pyopencl) and the Khronos loader: a folder
    return folder
