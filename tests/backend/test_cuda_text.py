"""Every kernel that GPU-shaped plans launch for the samples compiles as CUDA, by NVRTC, without a GPU.

A minute and a half, so it runs where PORTABLE_NN_TEST_NVRTC=1 asks for it (.ci/run does), and then nothing is skipped.
Needs `pip install nvidia-cuda-nvrtc nvidia-cuda-runtime cuda-bindings`.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import numpy as np
import pytest

import portable_nn.ops  # noqa: F401  (fills the registry)
from portable_nn.core import selection
from portable_nn.core.errors import NoKernel
from portable_nn.core.registry import OPS
from portable_nn.testing.cases import drawn, dtypes_of
from portable_nn_kernels.source import program_text

ARCH = os.environ.get("PORTABLE_NN_TEST_NVRTC_ARCH", "75")
DTYPES = ("float32", "float16")  # storage types differ in macros only; test_dialect compiles all of them


if os.environ.get("PORTABLE_NN_TEST_NVRTC") != "1":
    pytest.skip("PORTABLE_NN_TEST_NVRTC=1 runs it", allow_module_level=True)


@cache
def compiled(text: str) -> str:
    """Return what the compiler has to say; nothing if all is well."""
    from cuda.bindings import nvrtc as api

    _, program = api.nvrtcCreateProgram(text.encode(), b"kernel.cu", 0, [], [])
    options = [f"--gpu-architecture=sm_{ARCH}".encode(), b"--fmad=false"]
    (status,) = api.nvrtcCompileProgram(program, len(options), options)
    log = b" " * api.nvrtcGetProgramLogSize(program)[1]
    api.nvrtcGetProgramLog(program, log)
    api.nvrtcDestroyProgram(program)
    told = log.decode().strip("\x00 \n")
    return told if int(status) or "warning" in told else ""


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", sorted(OPS))
def test_op(name: str) -> None:
    op, null = OPS[name], selection.get("null", "gpu")
    programs: dict[tuple[Any, ...], str] = {}
    for sample in op.samples:
        for dtype in DTYPES:
            if dtype not in dtypes_of(op, sample):
                continue
            there = drawn(sample, dtype, 0).map(null.from_numpy, np.ndarray)
            op._cache.clear()
            try:
                with selection.use_backend(null), null.recording() as launches:  # type: ignore[attr-defined]
                    op.apply(there.args, dict(there.settings), bool(op.residuals))
            except NoKernel:
                continue
            finally:
                op._cache.clear()
            for launch in (recorded.launch for recorded in launches):
                programs[launch.source, launch.defines] = launch.kernel
    for (source, defines), kernel in programs.items():
        told = compiled(program_text(source, defines, "cuda"))
        assert not told, f"{name}: {kernel} {dict(defines)}\n{told}"


def test_a_fault_is_found() -> None:
    told = compiled(program_text("KERNEL(pnn_bad, 1, 1, 1)(OUT(f32, y)) {\n    AT_OUT(f32, y);\n    y[0] = missing;\n}\n", (), "cuda"))
    assert "missing" in told
