"""Whose `numba.cuda` the shim takes: the rule, what it says when that is not there, and what each compiles to.

Under PORTABLE_NN_NUMBA=numba-cuda-mlir (or numba-hip, where it and ROCm are) this file tests that one's code.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fake_numba_hip
import pytest
from require import require

from portable_nn.core.errors import BackendError

ROOT = Path(__file__).parents[2]
MISSING = "" if find_spec("numba_cuda") or find_spec("numba_cuda_mlir") or find_spec("numba") else "no numba.cuda is installed"


@pytest.fixture(scope="module")
def shim() -> Any:
    require("numba", MISSING)
    from portable_nn_numba import shim

    return shim


@pytest.mark.parametrize(
    ("named", "cupy", "installed", "wanted"),
    [
        ("", "CUDA", ("numba-cuda",), "numba-cuda"),
        ("", "CUDA", ("numba-cuda", "numba-cuda-mlir"), "numba-cuda"),
        ("", "CUDA", ("numba-cuda-mlir",), "numba-cuda-mlir"),
        ("", "", ("numba-cuda-mlir", "numba-hip"), "numba-cuda-mlir"),
        ("", "ROCm", ("numba-cuda", "numba-hip"), "numba-hip"),
        ("numba-cuda-mlir", "CUDA", ("numba-cuda", "numba-cuda-mlir"), "numba-cuda-mlir"),
        ("numba-hip", "", ("numba-cuda", "numba-hip"), "numba-hip"),
        ("", "ROCm", ("numba-cuda",), ImportError(r'numba-hip not installed \(this CuPy is built for ROCm\); pip install "portable-nn\[numba-rocm\]"')),
        ("", "CUDA", (), ImportError(r'numba-cuda and numba-cuda-mlir not installed .*; pip install "portable-nn\[numba\]"')),
        ("numba-cuda-mlir", "", ("numba-cuda",), ImportError(r"numba-cuda-mlir not installed \(PORTABLE_NN_NUMBA names it\)")),
        ("numba-cuda", "ROCm", ("numba-cuda",), BackendError(r"is numba-cuda, but this CuPy is built for ROCm: set it to numba-hip, or not at all")),
        ("numba-hip", "CUDA", ("numba-hip",), BackendError(r"built for CUDA: set it to numba-cuda or numba-cuda-mlir")),
        ("numba", "CUDA", ("numba-cuda",), BackendError(r"is 'numba'; it must be one of numba-cuda, numba-cuda-mlir, numba-hip")),
    ],
)  # fmt: skip
def test_the_rule(named: str, cupy: str, installed: tuple[str, ...], wanted: Any, shim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTABLE_NN_NUMBA", named)
    monkeypatch.setattr(shim, "SIMULATED", False)
    monkeypatch.setattr(shim, "_built_for", lambda: cupy)
    monkeypatch.setattr(shim, "_installed", lambda package: package in installed)
    if isinstance(wanted, str):
        assert shim.chosen() == wanted
        return
    with pytest.raises(type(wanted), match=str(wanted)):
        shim.chosen()


def test_the_simulator_is_numba_cudas(shim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTABLE_NN_NUMBA", "numba-cuda-mlir")
    monkeypatch.setattr(shim, "SIMULATED", True)
    monkeypatch.setattr(shim, "_installed", lambda package: True)
    assert shim.chosen() == "numba-cuda"


def test_contraction_is_off(shim: Any) -> None:
    """A product and a sum stay two, so that every backend rounds alike, unless the kernel says FMA."""
    from portable_nn_numba.dialect import FMA, IN, OUT
    from portable_nn_numba.registry import parameters

    def separate(x: IN("f32"), x_offset, y: OUT("f32"), y_offset):
        y[y_offset] = x[x_offset] * x[x_offset + 1] + x[x_offset + 2]

    def fused(x: IN("f32"), x_offset, y: OUT("f32"), y_offset):
        y[y_offset] = FMA(x[x_offset], x[x_offset + 1], x[x_offset + 2])

    for kernel, wanted in ((separate, False), (fused, True)):
        kernel.__annotations__ = {"x": IN("f32"), "y": OUT("f32")}  # this file postpones annotations
        for target in ("gfx90a",) if shim.PACKAGE == "numba-hip" else ("sm_75", "sm_90", "sm_120"):
            made = shim.compile_kernel(kernel, parameters(kernel), 32, target)
            if shim.PACKAGE == "numba-hip":  # what AMD's own compiler is told besides: -ffp-contract=off
                body = made.llvm()[0]
                assert not re.search(r"f(mul|add) [\w ]*contract", body[body.index("amdgpu_kernel") :].partition("\n}")[0])
                continue
            text = made.code().decode()
            assert f".entry {made.entry}(" in text
            assert f".target {target}" in text
            assert ("fma.rn.f32" in text) is wanted
            assert ("mul.rn.f32" in text) is not wanted  # .rn: the assembler must not contract it either


def test_a_nan_differs_from_everything(shim: Any) -> None:
    from portable_nn_numba.dialect import IN, OUT, i32
    from portable_nn_numba.registry import parameters

    def differs(x, x_offset, y, y_offset):
        y[y_offset] = i32(1) if x[x_offset] != x[x_offset + 1] else i32(0)

    differs.__annotations__ = {"x": IN("f32"), "y": OUT("i32")}
    hip = shim.PACKAGE == "numba-hip"
    for target in ("gfx90a",) if hip else ("sm_90", "sm_120"):
        made = shim.compile_kernel(differs, parameters(differs), 32, target)
        assert ("fcmp une" in made.llvm()[0]) if hip else ("setp.neu.f32" in made.code().decode())  # unordered: true of a NaN


def test_the_error_word_has_as_many_arguments_as_parameters(shim: Any) -> None:
    from portable_nn_numba.dialect import ERROR_WORD, REPORT
    from portable_nn_numba.registry import parameters

    def report(err, err_code, n):
        REPORT(err, err_code, n, n)

    report.__annotations__ = {"err": ERROR_WORD, "err_code": "i32"}  # as above
    made = shim.compile_kernel(report, parameters(report), 32, "gfx90a" if shim.PACKAGE == "numba-hip" else "sm_90")
    if shim.PACKAGE == "numba-hip":
        taken = re.search(r"amdgpu_kernel void @[\w$.]+\((.*?)\)", made.llvm()[0])[1].count("%")
    else:
        taken = len(re.findall(r"\.param \.", made.code().decode().partition("{")[0]))
    assert taken == len(shim.word_arguments(None)) + 2


# -- numba-hip, where there is none -----------------------------------------------------------------------------------

ON_AMD = """
import json, sys
import numpy as np
import fake_numba_hip
fake_numba_hip.install()
import cupy
cupy.cuda.runtime.is_hip = True
before = cupy.cuda.runtime.getDeviceProperties
cupy.cuda.runtime.getDeviceProperties = lambda i: {**before(i), "gcnArchName": b"gfx90a:sramecc+:xnack-", "warpSize": 64}
launched = []

class Module:
    def __init__(self, *, path):
        self.path = path

    def get_function(self, entry):
        data = open(self.path, "rb").read()
        assert data.startswith(b"\\x7fELF") and entry.encode() + b".kd" in data

        def kernel(grid, block, args):
            kinds = ["pointer" if type(a).__name__ == "ndarray" else a.dtype.name for a in args]
            launched.append([self.path, entry, list(grid), list(block), kinds])

        return type("Kernel", (), {"kernel": staticmethod(kernel)})

cupy.RawModule = Module
import portable_nn_cupy.devices as devices
devices.probe = lambda index: None
import portable_nn as pnn
from portable_nn.core import selection
from portable_nn_numba import hardware, shim
from portable_nn import ops

backend = selection.get("numba")
with selection.use_backend(backend):
    ops.exp(backend.from_numpy(np.ones(1000, np.float32)))
    ops.take(backend.from_numpy(np.ones((4, 5), np.float32)), backend.from_numpy(np.zeros(3, np.int64)), axis=0)
status = selection.status("numba")
print(json.dumps({
    "package": shim.PACKAGE, "target": backend.programs.target, "vendor": backend.profile.vendor, "launched": launched,
    "options": [c[2] for c in fake_numba_hip.compiled], "signatures": [str(c[1]) for c in fake_numba_hip.compiled], "state": status.state,
    "platform": status.devices[0].platform,
}))
"""


WITHOUT_NUMBA_HIP = """
import json
import cupy
cupy.cuda.runtime.is_hip = True
from portable_nn.core import selection
found = selection.status("numba")
print(json.dumps({"state": found.state, "reason": found.reason, "install": found.install}))
"""


def _said(script: str, tmp_path: Path) -> Any:
    path = os.pathsep.join(str(ROOT / p) for p in ("tests/fake_cupy", "tests", "backends", "."))
    given = {**os.environ, "PYTHONPATH": path, "XDG_CACHE_HOME": str(tmp_path), "PORTABLE_NN_NUMBA": "", "NUMBA_ENABLE_CUDASIM": "0"}
    done = subprocess.run([sys.executable, "-c", script], env=given, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert not done.returncode, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(find_spec("numba") is not None and find_spec("numba.hip") is not None, reason="numba-hip is installed")
def test_a_rocm_cupy_without_numba_hip_says_what_to_install(tmp_path: Path) -> None:
    said = _said(WITHOUT_NUMBA_HIP, tmp_path)
    assert said["state"] == "not installed"
    assert said["reason"] == 'numba-hip not installed (this CuPy is built for ROCm); pip install "portable-nn[numba-rocm]"'
    assert "portable-nn[numba-rocm]" in said["install"]


def test_the_backend_on_amd(shim: Any, tmp_path: Path) -> None:
    """A ROCm build of CuPy: numba-hip is taken, makes code objects for the device's processor, and CuPy is given them like PTX."""
    require("numba", "" if find_spec("numba") else "numba is not installed")
    said = _said(ON_AMD, tmp_path)
    assert (said["package"], said["target"], said["vendor"], said["state"]) == ("numba-hip", "gfx90a", "amd", "ready")
    assert "numba-hip 0.2.1" in said["platform"]
    assert said["options"] == [["-ffp-contract=off", "-fno-vectorize"]] * 2
    (exp, take) = said["launched"]
    assert Path(exp[0]).parent == tmp_path / "portable_nn" / "numba"
    assert re.fullmatch(r"pnn_map-gfx90a-[0-9a-f]{40}\.hsaco", Path(exp[0]).name)
    assert exp[1] == "_ZN5hippy7pnn_mapE"
    assert exp[4][:4] == ["pointer", "int64", "pointer", "int64"]
    assert take[4].count("pointer") == 4  # two operands, the output and the error word: bare pointers all
    for signature, launch in zip(said["signatures"], said["launched"], strict=True):
        assert signature.count(",") + 1 == len(launch[4])


@pytest.mark.skipif(find_spec("numba") is None or find_spec("numba.hip") is None, reason="numba-hip is not installed")
def test_the_fake_has_the_real_ones_signatures() -> None:
    from numba import hip
    from numba.hip.util import llvmutils
    from rocm import comgr

    for real, fake in ((hip.compile_llvm_ir, fake_numba_hip.compile_llvm_ir), (comgr.compile_bc, fake_numba_hip.compile_bc), (llvmutils.to_bc, fake_numba_hip.to_bc)):
        assert list(inspect.signature(real).parameters) == list(inspect.signature(fake).parameters)
