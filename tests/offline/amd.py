"""AMD's compiler without ROCm or a GPU: clang for amdgcn, given OpenCL C with libclc, or HIP with ROCm's device library."""

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

NAME, TOOL = "amd", "amd"
GPUS = ("gfx90a", "gfx942", "gfx1030", "gfx1100", "gfx1201")  # MI200, MI300, RX 6000, RX 7000, RX 9000
TARGETS = tuple(Target(gpu, language) for gpu in GPUS for language in ("opencl", "hip"))
COLUMNS = {"vgprs": max, "sgprs": max, "sgpr_spills": max, "spill": max, "private": max, "local": max, "waves": min}
LOCAL_BYTES = 64 * 1024
# What the adapters ask for: -cl-... of OpenCL, the last of HIP.
OPTIONS = ("-cl-std=CL1.2", "-cl-fp32-correctly-rounded-divide-sqrt", "-ffp-contract=off")
INSTALL = "apt install clang-22 lld-22 libclc-22 rocm-device-libs; PORTABLE_NN_CLANG names another clang"

# ROCm's library knows processors up to its own date; the constants of the nearest one do for newer ones.
_NEAREST = {"gfx90a": "90a", "gfx942": "940", "gfx1030": "1030", "gfx1100": "1036", "gfx1201": "1036"}
_REMARK = re.compile(r"remark: +([\w ]+?)(?: \[[\w/]+\])?: (\w+) \[-Rpass-analysis=kernel-resource-usage\]")
# Of every OpenCL kernel, since clang 20: it makes a second body of a kernel, which other kernels could call.
_HARMLESS = "local memory global used by non-kernel function"


@cache
def clang() -> str | None:
    """Return the path of clang, or None."""
    wanted = os.environ.get("PORTABLE_NN_CLANG")
    names = (wanted,) if wanted else ("clang-22", "clang-21", "clang-20", "clang")
    return next((path for path in map(shutil.which, names) if path), None)


def _asked(*words: str) -> str:
    return subprocess.run([str(clang()), *words], capture_output=True, text=True, check=True).stdout


@cache
def _library(name: str) -> Path | None:
    """Return a file of libclc, or of ROCm's device library, where distributions put them."""
    roots = (Path("/usr/lib/clc"), Path("/usr/lib/x86_64-linux-gnu/amdgcn/bitcode"), Path("/opt/rocm/amdgcn/bitcode"))
    roots += (Path("/usr/share/clc"), Path("/usr/lib64/clc"))
    return next((root / name for root in roots if (root / name).is_file()), None)


@cache
def missing() -> str:
    """Return why nothing can be compiled for AMD; empty if it can."""
    if clang() is None:
        return f"clang is not installed ({INSTALL})"
    if "amdgcn" not in _asked("--print-targets"):
        return f"{clang()} was built without AMD's processors ({INSTALL})"
    if int(_asked("-dumpversion").split(".")[0]) < 20:
        return f"{clang()} is version {_asked('-dumpversion').strip()}; gfx1201 needs 20 or newer ({INSTALL})"
    if not Path(_asked("-print-prog-name=lld").strip()).is_absolute():
        return f"{clang()} has no lld, which links HIP ({INSTALL})"
    lacks = [name for name in ("amdgcn-amd-amdhsa.bc", "ocml.bc") if _library(name) is None]
    return f"no {' and no '.join(lacks)} ({INSTALL})" if lacks else ""


@cache
def version() -> str:
    """Return the compiler's version."""
    return f"clang {_asked('-dumpversion').strip()}"


@cache
def _command(target: Target) -> tuple[str, ...]:
    common = (str(clang()), "-c", "-O3", "-nogpulib", "-Rpass-analysis=kernel-resource-usage", "-fno-caret-diagnostics")
    if target.language == "opencl":
        # AMD's own OpenCL lets a work-group have 256 items unless the kernel says how many: ours do.
        return (*common, *OPTIONS[:2], "-x", "cl", "-target", "amdgcn-amd-amdhsa", f"-mcpu={target.name}", f"--libclc-lib=:{_library('amdgcn-amd-amdhsa.bc')}")
    wave64 = "on" if target.name.startswith("gfx9") else "off"
    names = (f"isa_version_{_NEAREST[target.name]}", "unsafe_math_off", "finite_only_off", "daz_opt_off", "correctly_rounded_sqrt_on", f"wavefrontsize64_{wave64}")
    linked = [str(_library(name)) for name in ("ocml.bc", *(f"oclc_{n}.bc" for n in names))]
    header = str(Path(__file__).with_name("hip.h"))
    return (
        *common, OPTIONS[2], "-x", "hip", f"--offload-arch={target.name}", "--offload-device-only", "--no-gpu-bundle-output",
        "-nogpuinc", "-D__HIPCC_RTC__", "-std=c++17", "-include", header,
        *(word for path in linked for word in ("-Xclang", "-mlink-builtin-bitcode", "-Xclang", path)),
    )  # fmt: skip


def compiled(text: str, target: Target, items: Mapping[str, int]) -> list[Resources]:
    """Compile a program; return what its kernels take.

    Raises
    ------
    Refused
        With the messages, also for a warning and for a function that no library has.
    """
    del items  # the text says how large groups are
    with tempfile.TemporaryDirectory(prefix="portable_nn-amd-") as folder:
        made = Path(folder) / "kernel.o"
        done = subprocess.run([*_command(target), "-", "-o", str(made)], input=text, capture_output=True, text=True, check=False)
        told = [line for line in done.stderr.splitlines() if "error:" in line or ("warning:" in line and _HARMLESS not in line)]
        if done.returncode or told:
            raise Refused("\n".join((told or done.stderr.splitlines())[:12]))
        lacks = sorted(set(elf.undefined(made.read_bytes())))
    if lacks:
        raise Refused(f"error: no library has {', '.join(lacks)}")
    return resources(done.stderr, target)


def resources(log: str, target: Target) -> list[Resources]:
    """Read clang's remarks. Registers that spill are counted there; here they are bytes."""
    found: list[dict[str, str]] = []
    for name, value in _REMARK.findall(log):
        if name == "Function Name":
            found.append({})
        found[-1][name] = value
    return [Resources(one["Function Name"], target, _figures(one)) for one in found]


def _figures(one: dict[str, str]) -> dict[str, int]:
    if one["Dynamic Stack"] != "False":
        raise Refused(f"error: {one['Function Name']} calls a function by its address, or recursively")
    return {
        "vgprs": int(one["VGPRs"]) + int(one.get("AGPRs", 0)),
        "sgprs": int(one["TotalSGPRs"]),
        "sgpr_spills": int(one["SGPRs Spill"]),
        "spill": 4 * int(one["VGPRs Spill"]),
        "private": int(one["ScratchSize"]),
        "local": int(one["LDS Size"]),
        "waves": int(one["Occupancy"]),
    }
