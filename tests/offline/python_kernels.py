"""Which of the kernels in Python the chosen numba compiles, without a device: `PYTHONPATH=.:backends:tests python -m offline.python_kernels sm_90`.

PORTABLE_NN_NUMBA says whose `numba.cuda`; `without_rocm` is what numba-hip needs on a machine that has no ROCm.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from portable_nn.core import selection
from portable_nn.core.errors import BackendError, DTypeError, NoKernel
from portable_nn.core.registry import OPS
from portable_nn.testing.cases import dtypes_of
from portable_nn_kernels.launch import Launch
from portable_nn_null import NullBackend

from . import nvrtc, without_rocm
from .programs import _given
from .target import profile


def launches(ops: Iterable[str] = ()) -> Iterator[tuple[str, Launch]]:
    """Yield each op with what its samples launch, planned for a GPU of NVIDIA's as the numba backend plans."""
    target = next(t for t in nvrtc.TARGETS if t.name == "sm_90")
    null: Any = NullBackend(replace(profile(nvrtc.NAME, target), capability=0))
    for name in sorted(ops or OPS):
        op = OPS[name]
        for sample in op.samples:
            for dtype in dtypes_of(op, sample):
                for residuals in sorted({False, bool(op.residuals)}):
                    op._cache.clear()
                    try:
                        there = _given(op, sample, dtype, null)
                        with selection.use_backend(null), null.recording() as recorded:
                            op.apply(there.args, dict(there.settings), residuals)
                    except (NoKernel, DTypeError):
                        continue
                    finally:
                        op._cache.clear()
                    yield from ((name, one.launch) for one in recorded)


def jobs(most: int, ops: Iterable[str] = ()) -> list[tuple[str, Any]]:
    """Return up to `most` programs of each kernel, and of each op whose kernel is rendered; 0 for all."""
    from portable_nn_numba.programs import program_of

    seen: set[str] = set()
    counted: Counter[tuple[str, str]] = Counter()
    found = []
    for name, launch in launches(ops):
        program = program_of(launch)
        key = (launch.kernel, name if launch.mapping else "")
        if program.digest not in seen and (not most or counted[key] < most):
            seen.add(program.digest)
            counted[key] += 1
            found.append((name, program))
    return found


def refusal(program: Any, target: str) -> str:
    """Compile a program in a process of its own, which a compiler may abort; return why not."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            program.compile(target).code()
        except (BackendError, RuntimeError) as error:
            os.write(write, f"{program.name}: {error}"[:1500].encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        told = pipe.read().decode()
    _, ended = os.waitpid(child, 0)
    return told or (f"{program.name}: the compiler aborted the process (signal {os.WTERMSIG(ended)})" if os.WIFSIGNALED(ended) else "")


def main() -> int:
    """Compile; say how many were refused, and why."""
    parser = argparse.ArgumentParser(prog="python -m offline.python_kernels", description=__doc__)
    parser.add_argument("target", help="sm_90, gfx90a ...")
    parser.add_argument("--most", type=int, default=1, help="programs of each kernel (1); 0 for all")
    parser.add_argument("--ops", nargs="*", default=(), help="of these ops alone")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if os.environ.get("PORTABLE_NN_NUMBA") == "numba-hip" and without_rocm.wanted():
        without_rocm.prepare()
    from portable_nn_numba import shim

    found, refused = jobs(options.most, options.ops), 0
    found[0][1].compile(options.target).code()  # what all need is made once, before the processes part
    for name, program in found:
        told = refusal(program, options.target)
        refused += bool(told)
        if told:
            print(f"{name}: {told}", flush=True)
    print(f"{shim.version()}, {options.target}: {len(found)} programs, {refused} refused")
    return int(refused > 0)


if __name__ == "__main__":
    sys.exit(main())
