"""Numba's kernels in numba's simulator: one small sample of each op, in float32, in a process of its own.

The simulator is chosen by an environment variable that is read when numba is imported. It runs the kernels as plain
Python, a thread per CUDA thread, so samples are small; `test_numba_cpu` runs the others. What it adds: indices past the
end of an array, which compiled code would follow, are errors here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any
from unittest import SkipTest

import pytest
from require import require

import portable_nn.ops  # noqa: F401 - fills the registry
from portable_nn.core import selection
from portable_nn.core.registry import OPS
from portable_nn.testing.check import check_op
from portable_nn.testing.suite import dtypes_of

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")
THREADS = 1500  # of all launches of a call together: a second or two
# Without `-m slow`: one op of each kind of kernel.
QUICK = {
    "add", "where", "sum", "argmax", "softmax", "softmax_grad", "layer_norm", "batch_norm_train", "matmul", "conv2d", "max_pool2d",
    "uniform", "cross_entropy", "take", "reshape", "astype",
}  # fmt: skip

if SIMULATED:
    from portable_nn_kernels.launch import Launch
    from portable_nn_numba.simulator import SimulatedBackend

    class Counting(SimulatedBackend):
        """Refuses calls that would take long."""

        threads = 0

        def bind(self, launch: Launch, slots: Sequence[int | None]) -> Callable[[Sequence[Any]], None]:
            self.threads += prod(launch.groups) * prod(launch.size)
            if self.threads > THREADS:
                raise SkipTest(f"more than {THREADS} threads")
            return super().bind(launch, slots)

    @pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in sorted(OPS)])
    def test_op(name: str) -> None:
        op, backend, reason = OPS[name], Counting(), "it has no sample"
        with selection.use_backend(backend):
            for sample in op.samples:
                dtypes = dtypes_of(op, sample)
                if not dtypes:
                    continue
                backend.threads = 0
                try:
                    check_op(op, sample, "float32" if "float32" in dtypes else dtypes[0], backend)
                except SkipTest as skip:
                    reason = str(skip)
                    continue
                if backend.threads:  # a view, or an empty output, launches nothing
                    return
        pytest.skip(f"no sample was run: {reason}")

else:

    @pytest.mark.parametrize("ops", ["quick", pytest.param("slow", marks=pytest.mark.slow)])
    def test_in_a_process_of_its_own(ops: str, tmp_path: Path) -> None:
        require("numba", "" if find_spec("numba_cuda") else "numba-cuda is not installed")
        env = os.environ | {"NUMBA_ENABLE_CUDASIM": "1", "PORTABLE_NN_TEST_BACKENDS": "numpy"}
        command = [sys.executable, "-m", "pytest", __file__, "-q", "-m", "slow" if ops == "slow" else "not slow", "-p", "no:cacheprovider"]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=1800, check=False)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert " passed" in done.stdout
