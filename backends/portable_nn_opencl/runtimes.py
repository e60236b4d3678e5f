"""Where OpenCL drivers are found: the system's, and the CPU runtime that `portable-nn[opencl]` installs as a wheel.

The wheel `intel-opencl-rt` puts a driver into the environment but tells no loader about it. We write a folder of
`.icd` files (one line each: the path of a driver) with the system's entries and the wheel's, and name it in
OCL_ICD_VENDORS. The loader reads that variable at the first platform query, so this runs before it.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import sys
import tempfile
from functools import cache
from importlib import metadata
from pathlib import Path

from .files import cache_folder, write_whole

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


def _folder(entries: dict[str, bytes]) -> Path:
    """Return a folder that holds exactly these files, in the cache: named by content, so that no process changes it.

    Where the cache cannot be written, a temporary folder that goes when this process ends.
    """
    digest = hashlib.sha256(repr(sorted(entries.items())).encode()).hexdigest()[:16]
    folder = cache_folder() / f"icd-{digest}"
    for name, text in entries.items():
        if not (folder / name).is_file():
            write_whole(folder / name, text)
    if all((folder / name).is_file() for name in entries):
        return folder
    folder = Path(tempfile.mkdtemp(prefix="portable_nn-icd-"))
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # a forked child must not take its parent's folder away
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    for name, text in entries.items():
        (folder / name).write_bytes(text)
    return folder


@cache
def register() -> Path | None:
    """Make the wheel's drivers known to the OpenCL loader of this process and its children; return the folder."""
    if not sys.platform.startswith("linux") or any(os.environ.get(name) for name in VARIABLES):
        return None
    drivers = wheel_drivers()
    if not drivers:
        return None
    entries = {entry.name: entry.read_bytes() for entry in _SYSTEM.glob("*.icd")}
    entries |= {f"portable_nn-{driver.name}.icd": f"{driver}\n".encode() for driver in drivers}
    folder = _folder(entries)
    os.environ["OCL_ICD_VENDORS"] = str(folder)  # ocl-icd (pip's pyopencl) and the Khronos loader: a folder
    return folder
