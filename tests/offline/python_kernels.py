"""Which of the kernels in Python the chosen numba compiles, without a device: `PYTHONPATH=.:backends:tests python -m offline.python_kernels sm_90`.

PORTABLE_NN_NUMBA says whose `numba.cuda`; `without_rocm` is what numba-hip needs on a machine that has no ROCm.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, NoReturn

from portable_nn.core.errors import BackendError
from portable_nn.core.registry import OPS
from portable_nn.testing.cases import dtypes_of
from portable_nn_kernels.launch import Launch
from portable_nn_null import NullBackend

from . import nvrtc, programs, without_rocm
from .target import profile


def launches(ops: Iterable[str] = ()) -> Iterator[tuple[str, Launch]]:
    """Yield each op with what its samples launch, planned for a GPU of NVIDIA's as the numba backend plans."""
    target = next(t for t in nvrtc.TARGETS if t.name == "sm_90")
    null: Any = NullBackend(replace(profile(nvrtc.NAME, target), capability=0))
    for name in sorted(ops or OPS):
        op = OPS[name]
        for sample in op.samples:
            for dtype in dtypes_of(op, sample):
                yield from ((name, launch) for launch in programs.launches(op, sample, dtype, null))


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


def refusals(found: list[tuple[str, Any]], target: str) -> Iterator[str]:
    """Compile programs; yield of each why not, or nothing. In a process beside this one, which a compiler may abort."""
    done = 0
    while done < len(found):
        read, write = os.pipe()
        child = os.fork()
        if not child:
            _compile(found[done:], target, write)
        os.close(write)
        with os.fdopen(read, encoding="utf-8") as pipe:
            for line in pipe:
                yield json.loads(line)
                done += 1
        _, ended = os.waitpid(child, 0)
        if done < len(found):
            yield f"{found[done][1].name}: the compiler ended the process ({ended})"
            done += 1


def _compile(found: list[tuple[str, Any]], target: str, write: int) -> NoReturn:
    with os.fdopen(write, "w", encoding="utf-8") as pipe:
        for _, program in found:
            told = ""
            try:
                program.compile(target).code()
            except (BackendError, RuntimeError) as error:
                told = f"{program.name}: {error}"[:1500]
            print(json.dumps(told), file=pipe, flush=True)
    os._exit(0)


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
    for (name, _), told in zip(found, refusals(found, options.target), strict=True):
        refused += bool(told)
        if told:
            print(f"{name}: {told}", flush=True)
    print(f"{shim.version()}, {options.target}: {len(found)} programs, {refused} refused")
    return int(refused > 0)


if __name__ == "__main__":
    sys.exit(main())
