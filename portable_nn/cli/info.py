"""``portable-nn info``: backends, devices, versions and environment."""

from __future__ import annotations

import argparse
import json
import os
import platform
from dataclasses import asdict
from importlib import metadata
from typing import Any

from ..core import selection
from ..core.errors import PortableNNError
from ..core.version import VERSION
from .parser import Commands

VARIABLES = ("PORTABLE_NN_", "PYOPENCL_", "OCL_ICD_", "POCL_", "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "NUMBA_")
LIBRARIES = ("numpy", "ml_dtypes", "array-api-compat", "safetensors", "rich", "pyopencl", "intel-opencl-rt", "cupy", "numba",
             "scikit-learn", "pillow", "matplotlib")  # fmt: skip


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    """Add the command to the parser of all; return its own."""
    info = commands.add_parser("info", help="list backends, devices, versions and environment", description="What is there, what would be used, and why.")
    info.add_argument("--json", action="store_true", help="print JSON")
    return info


def collect_info() -> dict[str, Any]:
    """Return what ``portable-nn info`` shows, as plain values."""
    environment = {k: v for k, v in sorted(os.environ.items()) if k.startswith(VARIABLES)}  # before a backend adds to it
    chosen: dict[str, str] = {}
    try:
        backend = selection.default()
        chosen = {"backend": backend.name, "device": backend.device}
    except PortableNNError as error:
        chosen = {"error": str(error)}
    return {
        "portable_nn": VERSION,
        "python": platform.python_version(),
        "system": platform.platform(),
        "chosen": chosen,
        "backends": [asdict(status) for status in selection.backends()],
        "versions": {name: _version(name) for name in LIBRARIES},
        "environment": environment,
        "config_file": str(selection.config_path()) if selection.config_path().is_file() else None,
    }


def _version(name: str) -> str | None:
    wanted = [name, *(f"cupy-{kind}" for kind in ("cuda13x", "cuda12x", "rocm-7-0"))] if name == "cupy" else [name]
    for one in wanted:
        try:
            return metadata.version(one)
        except metadata.PackageNotFoundError:
            continue
    return None


def run(options: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    found = collect_info()
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    print(f"portable-nn {found['portable_nn']}, Python {found['python']}, {found['system']}")
    chosen = found["chosen"]
    print(f"chosen: {chosen['backend']} on {chosen['device']}" if "backend" in chosen else f"chosen: none\n{chosen['error']}")
    print("\nbackends")
    for status in found["backends"]:
        print(f"  {status['name']}: {status['state']}{': ' + status['reason'] if status['reason'] else ''}")
        if status["state"] != "ready" and status["install"]:
            print(f"      to install: {status['install']}")
        for number, device in enumerate(status["devices"]):
            print(f"      [{number}] {device['name']} ({device['kind']}{', ' + device['platform'] if device['platform'] else ''})")
            details = [
                f"driver {device['driver']}" if device["driver"] else "",
                f"{device['units']} units" if device["units"] else "",
                f"{device['memory_bytes'] / 2**30:.1f} GiB" if device["memory_bytes"] else "",
                "" if device["float64"] else "no float64",
                "float16" if device["float16"] else "",
                device["note"],
            ]
            if any(details):
                print(f"          {', '.join(d for d in details if d)}")
    print("\nversions")
    print("  " + ", ".join(f"{name} {version or 'not installed'}" for name, version in found["versions"].items()))
    print("\nenvironment (set PORTABLE_NN_BACKEND and PORTABLE_NN_DEVICE to choose)")
    for name, value in found["environment"].items() or [("nothing set", "")]:
        print(f"  {name}{'=' + value if value else ''}")
    if found["config_file"]:
        print(f"  config file {found['config_file']}")
    return 0
