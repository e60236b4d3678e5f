"""Small samples of every op in Oclgrind, a simulator that finds races, uninitialised reads and accesses out of bounds.

    pip install "pyopencl[oclgrind]" && python .ci/oclgrind_samples.py [op ...]

Oclgrind's exit code and API results say nothing; its log must be empty. CPU-shaped and GPU-shaped kernels both run. One
child process per structured op and shape (elementwise ops share one), which says after which op the log has grown; operands are written by the host, and nothing is poisoned, because a
poisoned byte counts as initialised.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LARGEST = 3000  # elements of all operands: the simulator does some hundred thousand operations per second
SAMPLES = 6  # per op
SECONDS = 60  # after which an op gets no further sample; the first always runs to its end
ELEMENTWISE = 2  # samples of an elementwise op: all come from one plan
TIMEOUT = 900
TOGETHER = 16  # elementwise ops in one child
# (kernel, how the fault begins) -> why it is none
EXPECTED = {
    ("pnn_conv_panels", "Uninitialized value written to global memory"): "pixels are turned in registers by partial writes to a vector, which Oclgrind takes for unset lanes; with all scratch poisoned by NaN (the test suite) every output is right",
    ("pnn_conv_lines", "Controlflow depends on uninitialized value"): "loads whole vectors; the spare lanes behind a row are not stored",
}


def run_op(name: str, shape: str) -> None:
    """Run the samples of one op; called in a child process."""
    import numpy as np

    import portable_nn.ops as _  # noqa: F401
    from portable_nn.core import selection
    from portable_nn.core.registry import find
    from portable_nn.testing.cases import drawn, dtypes_of, place
    from portable_nn_kernels.launch import Profile
    from portable_nn_opencl.devices import found
    from portable_nn_opencl.opencl import OpenCLBackend
    from portable_nn_opencl.profile import profile_of

    device = next(d for d in found() if "oclgrind" in d.platform.lower())
    seen: Profile = profile_of(device)
    profile = replace(seen, shape="gpu", vector=1, local_bytes=32768) if shape == "gpu" else replace(seen, shape="cpu", vector=16)
    backend = OpenCLBackend(device, profile)
    op = find(name)
    count, start = 0, time.time()
    for sample in op.samples:
        host = drawn(sample, "float32", 0)
        allowed = dtypes_of(op, sample)
        if "float32" not in allowed and not (allowed and all(a == allowed[0] for a in allowed)):
            continue
        if sum(x.size for x in host.arrays()) > LARGEST:
            continue

        def there(x: Any) -> Any:
            return backend.from_numpy(x) if x.flags.c_contiguous else place(x, backend).array

        given = host.map(there, np.ndarray)
        with selection.use_backend(backend):
            try:
                outputs, _entry = op.apply(given.args, dict(given.settings), bool(op.residuals))
            except NotImplementedError:
                continue
            for output in outputs:
                backend.to_numpy(output)
        count += 1
        if time.time() - start > SECONDS or count == (ELEMENTWISE if op.expression is not None else SAMPLES):
            break


def faults_in(log: str) -> str:
    """Return the blocks of an Oclgrind log that are not expected. A block is a line and the indented ones below it."""
    blocks: list[list[str]] = []
    for line in log.splitlines():
        if line.startswith("\t") and blocks:
            blocks[-1].append(line)
        elif line.strip():
            blocks.append([line])
    told = []
    for block in blocks:
        kernel = next((line.split(":")[1].strip() for line in block if line.strip().startswith("Kernel:")), "")
        expected = any(kernel == k and block[0].strip().startswith(fault) for k, fault in EXPECTED)
        if not expected and not block[0].startswith("Oclgrind:"):
            told.append("\n".join(line for line in block if line.strip()))
    return "\n".join(told)


def run_ops(names: list[str], shape: str) -> None:
    """Run ops one after another; called in a child process. Say after which the log has faults."""
    log, seen = Path(os.environ["OCLGRIND_LOG"]), ""
    for name in names:
        run_op(name, shape)
        faults = faults_in(log.read_text(errors="replace")) if log.is_file() else ""
        if faults != seen:
            print(f"{name}:\n{faults.removeprefix(seen).strip()[:3000]}", file=sys.stderr)
        seen = faults
    if seen:
        sys.exit(1)


def child(job: tuple[tuple[str, ...], str]) -> tuple[str, str, float]:
    """Run some ops in a child; return (what, faults, seconds)."""
    names, shape = job
    start = time.time()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        environment = os.environ | {
            # Unoptimised: the optimiser removes dead faulty accesses, and inserts `freeze`, which Oclgrind does not know.
            "PYOPENCL_BUILD_OPTIONS": "-cl-opt-disable",
            "OCLGRIND_DATA_RACES": "1", "OCLGRIND_UNINITIALIZED": "1", "OCLGRIND_UNIFORM_WRITES": "1",
            "OCLGRIND_MAX_ERRORS": "5", "OCLGRIND_LOG": str(log), "XDG_CACHE_HOME": folder, "PYOPENCL_NO_CACHE": "1",
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "backends"))),
        }  # fmt: skip
        try:
            done = subprocess.run([sys.executable, __file__, "--child", shape, *names], env=environment, capture_output=True, text=True, timeout=TIMEOUT)
            faults = done.stderr if done.returncode else ""
        except subprocess.TimeoutExpired:
            faults = f"more than {TIMEOUT} s"
    return f"{names[0]}{' ...' if names[1:] else ''} ({shape})", faults.strip(), time.time() - start


def main(names: list[str]) -> int:
    """Run all ops, or those named; return how many have faults."""
    sys.path[:0] = [str(ROOT), str(ROOT / "backends")]
    import portable_nn.ops as _  # noqa: F401
    from portable_nn.core.registry import OPS

    wanted = sorted(names or OPS)
    structured = [name for name in wanted if OPS[name].expression is None and OPS[name].samples]
    elementwise = [name for name in wanted if OPS[name].expression is not None and OPS[name].samples]
    jobs = [((name,), shape) for name in structured for shape in ("cpu", "gpu")]
    jobs += [(tuple(elementwise[i : i + TOGETHER]), "gpu") for i in range(0, len(elementwise), TOGETHER)]
    bad, slow = 0, []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for what, faults, seconds in pool.map(child, jobs):
            slow.append((seconds, what))
            if faults:
                bad += 1
                print(f"--- {what}\n{faults[:3000]}", flush=True)
    print(f"{len(structured)} structured ops in two shapes and {len(elementwise)} elementwise ones in Oclgrind, {bad} of {len(jobs)} runs with faults; slowest: " + ", ".join(f"{w} {s:.0f} s" for s, w in sorted(slow)[:-4:-1]))
    return bad


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        run_ops(sys.argv[3:], sys.argv[2])
    else:
        sys.exit(min(main(sys.argv[1:]), 1))
