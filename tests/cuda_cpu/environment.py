"""What a process must be started with so that its kernels can be sanitized."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from . import build

_ROOT = Path(__file__).parents[2]


def sanitized() -> tuple[Mapping[str, str], str]:
    """Return the environment of a process whose kernels are sanitized, or why there is none."""
    if build.missing():
        return {}, build.missing()
    found = []
    for name in ("libasan.so", "libubsan.so"):
        done = subprocess.run([str(build.compiler()), f"-print-file-name={name}"], capture_output=True, text=True, check=True)
        found.append(done.stdout.strip())
        if not Path(found[-1]).is_absolute():
            return {}, f"g++ has no {name}"
    # Fibers change stacks behind the sanitizer's back, and Python never frees everything.
    options = "detect_leaks=0:detect_stack_use_after_return=0:halt_on_error=1:verify_asan_link_order=0"
    paths = os.pathsep.join(str(_ROOT / p) for p in ("", "backends", "tests"))
    return {"LD_PRELOAD": " ".join(found), "ASAN_OPTIONS": options, "PYTHONPATH": paths}, ""
