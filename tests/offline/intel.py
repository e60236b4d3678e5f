"""Intel's compiler without a GPU: ocloc, and what it writes of each kernel into the binary's section `.ze_info`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from . import elf
from .target import Refused, Resources, Target

NAME, TOOL = "intel", "ocloc"
# Integrated graphics of 2020 (no float64), Arc (none in hardware), data centre Max.
TARGETS = (Target("tgllp", "opencl", False), Target("dg2", "opencl", False), Target("pvc", "opencl", True))
COLUMNS = {"simd": min, "grf": max, "spill": max, "private": max, "local": max}
LOCAL_BYTES = 64 * 1024
OPTIONS = ("-cl-std=CL1.2", "-cl-fp32-correctly-rounded-divide-sqrt")
INSTALL = "apt install intel-opencl-icd, or intel-ocloc; or name it in PORTABLE_NN_OCLOC"

# A count of spills and fills. Of the widths that the compiler tries, the log tells the one it keeps.
_SPILLED = re.compile(r"warning: kernel (\w+) +compiled SIMD\d+ allocated \d+ regs and spilled around (\d+)")
_KERNEL = re.compile(r"^  - name: +(\w+)$", re.MULTILINE)


@cache
def ocloc() -> str | None:
    """Return the path of ocloc, or None."""
    return shutil.which(os.environ.get("PORTABLE_NN_OCLOC", "ocloc"))


@cache
def missing() -> str:
    """Return why nothing can be compiled for Intel; empty if it can."""
    return "" if ocloc() else f"ocloc is not installed ({INSTALL})"


@cache
def version() -> str:
    """Return the compiler's version."""
    with tempfile.TemporaryDirectory(prefix="portable_nn-intel-") as folder:  # it answers into a file
        subprocess.run([str(ocloc()), "query", "OCL_DRIVER_VERSION"], cwd=folder, capture_output=True, check=True)
        return f"ocloc {(Path(folder) / 'OCL_DRIVER_VERSION').read_text().strip()}"


def compiled(text: str, target: Target, items: Mapping[str, int]) -> list[Resources]:
    """Compile a program; return what its kernels take.

    Raises
    ------
    Refused
        With the messages, also for a warning.
    """
    del items  # the text says how large groups are
    with tempfile.TemporaryDirectory(prefix="portable_nn-intel-") as folder:
        (Path(folder) / "kernel.cl").write_text(text)
        command = [str(ocloc()), "compile", "-file", "kernel.cl", "-device", target.name, "-options", " ".join(OPTIONS)]
        command += ["-internal_options", "-cl-intel-allow-zebin"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        log = done.stdout + done.stderr
        told = [line for line in log.splitlines() if ("error:" in line or "warning:" in line) and not _SPILLED.search(line)]
        if done.returncode or told:
            raise Refused("\n".join((told or log.splitlines())[:12]))
        (made,) = Path(folder).glob("*.bin")
        info = elf.section(made.read_bytes(), ".ze_info").decode()
    return resources(info, log, target)


def resources(info: str, log: str, target: Target) -> list[Resources]:
    """Read `.ze_info`, which is YAML of few forms, and the log, which alone tells spills from arrays in memory.

    What is not named is zero. Memory is given per thread of `simd` work-items.
    """
    spills = {name: int(count) for name, count in _SPILLED.findall(log)}
    kernels = info.partition("kernels_misc_info:")[0]
    found = []
    for part in re.split(r"(?m)^(?=  - name: )", kernels)[1:]:
        name = _KERNEL.search(part)
        assert name, part[:80]
        simd = _number("simd_size", part)
        private = sum(map(int, re.findall(r"usage: +\w+\n +size: +(\d+)", part))) // simd
        found.append(
            Resources(
                name[1],
                target,
                {
                    "simd": simd,
                    "grf": _number("grf_count", part),
                    "spill": spills.get(name[1], 0),
                    "private": private,
                    "local": _number("slm_size", part),
                },
            )
        )
    return found


def _number(name: str, part: str) -> int:
    found = re.search(rf"^ +{name}: +(\d+)$", part, re.MULTILINE)
    return int(found[1]) if found else 0
