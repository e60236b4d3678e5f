"""The rungs: what each runs, with which tool, in which environment, and what passing it means."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

from . import oclgrind

ROOT = Path(__file__).parents[2]
# Intel's switch for how many work-items of a kernel go into one vector: what the sub-group width of a GPU is.
WIDTH = "CL_CONFIG_CPU_VECTORIZER_MODE"


@dataclass(frozen=True)
class Rung:
    """One way to try every op.

    Attributes
    ----------
    name : str
    step : str
        Its letter on the ladder; several rungs may stand on one step.
    title : str
    backend : str
        Whose kernels it proves.
    state : str
        What passing means, in the words of `coverage.STATES`.
    tool : str
        What PORTABLE_NN_TEST_REQUIRE calls it.
    runner : str
        Function of `ladder.runners` that makes the checks.
    arguments : tuple of str
        Of the runner.
    samples : int or None
        How many samples of each op it takes by default; None for all.
    dtypes_each : int or None
        In how many dtypes, if `--dtypes` does not say (see `child.chosen`); None for all.
    missing, version : callable
        Why the tool cannot be used here (empty if it can), and which it is.
    environment : callable
        What the processes that run it are given; "{folder}" stands for a folder of the process.
    prefix : tuple of str
        A command that starts the process.
    left_out : str
        What it leaves out by default.
    """

    name: str
    step: str
    title: str
    backend: str
    state: str
    tool: str
    runner: str
    missing: Callable[[], str]
    version: Callable[[], str]
    arguments: tuple[str, ...] = ()
    samples: int | None = None
    dtypes_each: int | None = None
    environment: Callable[[], Mapping[str, str]] = field(default=lambda: {})
    prefix: tuple[str, ...] = ()
    left_out: str = ""


def _first_line(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0].strip()
    except (OSError, subprocess.CalledProcessError, IndexError):
        return ""


def _numpy_version() -> str:
    import numpy

    return f"NumPy {numpy.__version__}"


# -- OpenCL ------------------------------------------------------------------------------------------------------------


@cache
def _opencl_devices() -> dict[str, str]:
    """Return name, version and driver of the first working device of each platform: asked in a process of its own.

    The list of drivers is frozen at the first query, and this process has no use for them.
    """
    code = """
import json
from portable_nn_opencl.devices import found
from portable_nn_opencl import probe
told = {}
for d in found():
    result = probe.passes(d)
    told.setdefault(d.platform.lower(), [result.ok, result.reason or f"{d.platform_version}, {d.name}, driver {d.driver}", d.kind])
print(json.dumps(told))
"""
    import json

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": python_path()}, check=False)
    lines = done.stdout.splitlines()
    return json.loads(lines[-1]) if done.returncode == 0 and lines else {}


def _platform(part: str) -> tuple[bool, str, str]:
    for name, (ok, told, kind) in _opencl_devices().items():
        if part in name:
            return bool(ok), str(told), str(kind)
    return False, "", ""


def _no_opencl(part: str, install: str) -> str:
    if find_spec("pyopencl") is None:
        return 'PyOpenCL is not installed (pip install "portable-nn[opencl]")'
    ok, told, _ = _platform(part)
    if not told:
        return f"there is no OpenCL platform with {part!r} in its name ({install})"
    return "" if ok else f"the driver does not work: {told}"


def _opencl(name: str, title: str, part: str, *arguments: str, samples: int | None, dtypes_each: int | None = None, width: int = 0) -> Rung:
    tool, install = {"intel": ("intel", 'pip install "portable-nn[opencl]"'), "portable": ("pocl", "apt install pocl-opencl-icd")}[part]
    return Rung(
        name, "a", title, "opencl", "cpu opencl", tool, "opencl", partial(_no_opencl, part, install), lambda: _platform(part)[1],
        (part, *arguments), samples, dtypes_each, (lambda: {WIDTH: str(width)}) if width else dict,
    )  # fmt: skip


def _no_oclgrind() -> str:
    if find_spec("pyopencl") is None:
        return 'PyOpenCL is not installed (pip install "portable-nn[opencl]")'
    return "" if _platform("oclgrind")[1] else 'Oclgrind is not installed (pip install "pyopencl[oclgrind]")'


# -- CUDA text and numba on the CPU -----------------------------------------------------------------------------------------


def _no_fibers() -> str:
    from cuda_cpu import build

    return build.missing()


def _compiler_version() -> str:
    from cuda_cpu import build

    return _first_line(str(build.compiler()), "--version")


def _no_sanitizer() -> str:
    from cuda_cpu.environment import sanitized

    return sanitized()[1]


def _sanitizer_environment() -> Mapping[str, str]:
    from cuda_cpu.environment import sanitized

    return sanitized()[0]


def _no_numba() -> str:
    from numba_cpu import build

    return build.missing()


def _no_simulator() -> str:
    return "" if find_spec("numba_cuda") else "numba-cuda is not installed (pip install numba-cuda)"


def _numba_version() -> str:
    from importlib.metadata import version

    return f"numba-cuda {version('numba-cuda')}, numba {version('numba')}"


# -- offline compiles ---------------------------------------------------------------------------------------------------


def _compiler_of(vendor: str) -> object:
    from offline import VENDORS

    return VENDORS[vendor]


def _offline(vendor: str, backend: str, tool: str, title: str) -> Rung:
    return Rung(
        f"compile-{vendor}", "e", title, backend, "compiled", tool, "offline", lambda: _compiler_of(vendor).missing(),  # type: ignore[attr-defined]
        lambda: _compiler_of(vendor).version(), (vendor,), dtypes_each=2,  # type: ignore[attr-defined]
        left_out="each program for one target in turn; `python -m offline` compiles for all, and writes the tables of resources",
    )  # fmt: skip


# -- hardware -------------------------------------------------------------------------------------------------------------


@cache
def _no_backend(name: str) -> str:
    """Return why a backend has no device here, asked in a process of its own."""
    code = f"from portable_nn.core.selection import status; s = status({name!r}); print(s.state, '|', s.reason.partition(chr(10))[0])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": python_path()}, check=False)
    state, _, reason = done.stdout.strip().partition("|")
    return "" if state.strip() == "ready" else f"{state.strip() or 'broken'}: {reason.strip()[:160]}"


def _no_opencl_gpu() -> str:
    return "" if any(kind == "gpu" for _, _, kind in _opencl_devices().values()) else "no OpenCL platform has a GPU"


def _no_memcheck() -> str:
    return _no_backend("cupy") or ("" if shutil.which("compute-sanitizer") else "compute-sanitizer is not on the path (it comes with the CUDA toolkit)")


def _driver() -> str:
    return _first_line("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader") or "driver unknown"


RUNGS: dict[str, Rung] = {
    rung.name: rung
    for rung in (
        Rung(
            "numpy", "0", "references and overrides on NumPy, gradient rules by finite differences", "numpy", "executed", "numpy", "named",
            lambda: "", _numpy_version, ("numpy",),
        ),
        _opencl("opencl", "OpenCL text on Intel's CPU runtime, CPU-shaped kernels", "intel", "cpu", samples=2),
        _opencl("opencl-gpu", "the same, GPU-shaped kernels, 16 work-items to a vector", "intel", "gpu", samples=2, dtypes_each=3, width=16),
        _opencl("opencl-gpu-8", "the same, 8 work-items to a vector", "intel", "gpu", samples=1, dtypes_each=1, width=8),
        _opencl("opencl-gpu-32", "the same, 32 work-items to a vector", "intel", "gpu", samples=1, dtypes_each=1, width=32),
        _opencl("opencl-limits", "the same, as a small GPU: 256 work-items, 32 KiB of local memory, no float64", "intel", "limits", samples=1, dtypes_each=2),
        _opencl("pocl", "OpenCL text on PoCL, CPU-shaped kernels", "portable", "cpu", samples=1, dtypes_each=2),
        _opencl("pocl-gpu", "OpenCL text on PoCL, GPU-shaped kernels", "portable", "gpu", samples=1, dtypes_each=2),
        Rung("cuda-forward", "b", "CUDA text by g++, threads as fibers in forward order", "cupy", "executed", "g++", "cuda_cpu", _no_fibers, _compiler_version, ("forward",), 1, 3),
        Rung("cuda-reverse", "b", "the same, threads in reverse order", "cupy", "executed", "g++", "cuda_cpu", _no_fibers, _compiler_version, ("reverse",), 1, 3),
        Rung(
            "cuda-asan", "b", "the same under the address and undefined-behaviour sanitizers", "cupy", "sanitized", "asan", "sanitized",
            _no_sanitizer, _compiler_version, samples=1, environment=_sanitizer_environment, left_out="every dtype but float32; gradients run as the ops they are",
        ),
        Rung("numba", "c", "numba's kernels by LLVM, threads as fibers in both orders", "numba", "executed", "numba", "numba_cpu", _no_numba, _numba_version, samples=1, dtypes_each=2),
        Rung(
            "numba-simulator", "c", "numba's kernels in numba's simulator", "numba", "executed", "numba", "simulator", _no_simulator, _numba_version,
            environment=lambda: {"NUMBA_ENABLE_CUDASIM": "1"}, left_out="all but the first sample of each op that launches at most 1500 threads, in float32",
        ),
        Rung(
            "oclgrind", "d", "OpenCL text in Oclgrind: races, uninitialised reads, accesses out of bounds, divergent barriers", "opencl", "sanitized",
            "oclgrind", "oclgrind", _no_oclgrind, lambda: _platform("oclgrind")[1], samples=2, environment=lambda: oclgrind.ENVIRONMENT | oclgrind.PLACES,
            left_out="every dtype but float32, and samples that launch more than 4000 work-items (attention: 600); gradients run as the ops they are",
        ),
        _offline("nvidia", "cupy", "nvrtc", "CUDA text compiled by NVRTC"),
        _offline("amd", "opencl", "amd", "OpenCL and HIP text compiled by clang for AMD"),
        _offline("intel", "opencl", "ocloc", "OpenCL text compiled by ocloc for Intel"),
        Rung("hardware-cupy", "f", "cupy on an NVIDIA or AMD GPU", "cupy", "hardware", "gpu", "named", partial(_no_backend, "cupy"), _driver, ("cupy",)),
        Rung("hardware-numba", "f", "numba on an NVIDIA GPU", "numba", "hardware", "gpu", "named", partial(_no_backend, "numba"), _driver, ("numba",)),
        Rung("hardware-opencl", "f", "OpenCL on a GPU", "opencl", "hardware", "gpu", "opencl_gpu", _no_opencl_gpu, _driver),
        Rung(
            "hardware-memcheck", "f", "cupy on a GPU under compute-sanitizer", "cupy", "sanitized", "gpu", "named", _no_memcheck, _driver, ("cupy",), 1,
            prefix=("compute-sanitizer", "--error-exitcode", "86", "--log-file", os.devnull),
        ),
    )
}  # fmt: skip
STEPS = {
    "0": "the reference itself",
    "a": "OpenCL text executed on CPU runtimes", "b": "CUDA text executed on the CPU", "c": "numba's kernels executed on the CPU",
    "d": "memory and races checked by a simulator", "e": "compiled for GPUs that are not here", "f": "on a GPU",
}  # fmt: skip


def named(wanted: list[str]) -> list[Rung]:
    """Return rungs by name or by the letter of their step; all of them for an empty list."""
    unknown = [name for name in wanted if name not in RUNGS and name not in STEPS]
    if unknown:
        raise SystemExit(f"there is no rung {', '.join(unknown)}; the rungs are {', '.join(RUNGS)}, or a step: {', '.join(STEPS)}")
    return [rung for rung in RUNGS.values() if not wanted or rung.name in wanted or rung.step in wanted]


def python_path() -> str:
    """Return where the processes of rungs find the library, the backends and the tests."""
    return os.pathsep.join(str(ROOT / part) for part in ("", "backends", "tests"))


def machine() -> dict[str, str | int]:
    """Return what the machine is, as far as results depend on it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
    return {"processor": model, "cores": os.cpu_count() or 1, "system": platform.system(), "architecture": platform.machine()}


def commit() -> str:
    """Return the commit, with "+" if the kernels, the library or the tests differ from it; empty outside a checkout."""
    here = _first_line("git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD")
    changed = _first_line("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no", "--", "portable_nn", "backends", "tests")
    return here + "+" if here and changed else here
