"""Does a device really work? Build and run one kernel in a process of its own, once per driver version.

Some drivers list a device whose every build fails, and some abort the process; neither may happen to the user's.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .files import cache_folder, write_whole

if TYPE_CHECKING:
    from .devices import Found

TIMEOUT = 60.0  # seconds; a GPU driver may compile its own built-ins at first use
_EXCEPTION = re.compile(r"[\w.]*(Error|Exception)\b")
_FORGET = 24 * 3600.0  # failures are tried again after a day: the cause may be gone, the driver version the same

# Self-contained, and given as text: the child imports nothing of ours.
SCRIPT = """
import sys, warnings
warnings.simplefilter("ignore")
import numpy as np
import pyopencl as cl
wanted = sys.argv[1:5]
for platform in cl.get_platforms():
    try:
        devices = platform.get_devices()
    except cl.Error:
        continue
    for device in devices:
        name = " ".join(device.name.split())
        if [platform.name.strip(), platform.version.strip(), name, device.driver_version.strip()] == wanted:
            context = cl.Context([device])
            queue = cl.CommandQueue(context)
            text = "__kernel void pnn_probe(__global int* y) { y[get_global_id(0)] = 3 * (int)get_global_id(0) + 1; }"
            kernel = cl.Program(context, text).build(["-cl-std=CL1.2"], cache_dir=False).pnn_probe
            y = np.zeros(64, np.int32)
            buffer = cl.Buffer(context, cl.mem_flags.READ_WRITE, y.nbytes)
            kernel(queue, (64,), (16,), buffer)
            cl.enqueue_copy(queue, y, buffer)
            if (y != 3 * np.arange(64) + 1).any():
                sys.exit("a kernel ran but gave wrong values")
            print("works")
            sys.exit(0)
sys.exit("the device is not there any more")
"""


@dataclass(frozen=True, slots=True)
class Result:
    """What a probe found."""

    ok: bool
    reason: str = ""


def path(device: Found) -> Path:
    """Return the file that remembers the result for this device and driver."""
    return cache_folder() / f"probe-{hashlib.sha256(device.key.encode()).hexdigest()[:16]}.json"


def cached(device: Found) -> Result | None:
    """Return what an earlier probe found, if it still counts."""
    try:
        kept = json.loads(path(device).read_text())
        if kept["key"] == device.key and (kept["ok"] or time.time() - kept["time"] < _FORGET):
            return Result(bool(kept["ok"]), str(kept["reason"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass  # never written, or by something else: probe again
    return None


def run(device: Found, timeout: float = TIMEOUT) -> Result:
    """Build and run a kernel on `device` in a child process."""
    if not sys.executable:
        return Result(True, "not probed: this Python is embedded in another program")
    arguments = [sys.executable, "-c", SCRIPT, device.platform, device.platform_version, device.name, device.driver]
    try:
        done = subprocess.run(
            arguments, capture_output=True, text=True, timeout=timeout, check=False, env=dict(os.environ)
        )
    except subprocess.TimeoutExpired:
        return Result(False, f"the build probe did not end within {timeout:.0f} s")
    except OSError as error:
        return Result(False, f"the build probe did not start: {error}")
    if done.returncode == 0 and "works" in done.stdout:
        return Result(True)
    if done.returncode < 0:
        return Result(False, f"the driver ended the probe process with signal {-done.returncode}")
    lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    # The compiler's own words if there are any, else the last line of the traceback that names an exception.
    compiler = [line for line in lines if line.startswith("error:") or ": error:" in line]
    raised = [line for line in lines if _EXCEPTION.match(line)]
    telling = (compiler or raised[-1:] or lines[-1:] or [f"exit status {done.returncode}"])[0]
    return Result(False, f"a test kernel failed: {telling[:200]}")


def passes(device: Found) -> Result:
    """Return whether `device` works, probing it if no result is remembered for its driver version."""
    result = cached(device)
    if result is None:
        result = run(device)
        kept = {"key": device.key, "ok": result.ok, "reason": result.reason, "time": time.time()}
        write_whole(path(device), json.dumps(kept).encode())
    return result
