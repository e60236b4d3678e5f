"""The same script file, unchanged, on every backend under test: per-step gradients from equal weights agree."""

import os
import subprocess
import sys
from pathlib import Path

import conftest
import numpy as np
import pytest
from cuda_cpu import build as cuda_build
from numba_cpu import build as numba_build
from require import require

pytestmark = pytest.mark.optimised  # training takes longer than compiling

pytest.importorskip("sklearn", reason="the script trains on scikit-learn's digits")
TESTS = Path(__file__).parents[1]
SCRIPT = TESTS.parent / "examples" / "one_script.py"
STEPS = 5


# Where there is no GPU: CuPy's adapter on a fake CuPy, and numba's kernels compiled for the CPU (a backend that has no name to choose it by).
STAND_INS = {"cupy": "", "numba": "import numba_cpu, portable_nn as pnn; kept = pnn.use_backend(numba_cpu.backend()); kept.__enter__()"}


def run(backend: str, out: Path, *more: str, steps: int = STEPS, stand_in: bool = False) -> str:
    environment = {**os.environ, "PORTABLE_NN_BACKEND": backend, "OPENBLAS_NUM_THREADS": "1"}
    paths = [p for p in sys.path if p]
    command = [sys.executable, str(SCRIPT)]
    if stand_in:
        paths.insert(0, str(TESTS / "fake_cupy") if backend == "cupy" else str(TESTS))
        environment["PYTHONPATH"] = os.pathsep.join([*paths, str(TESTS)])
        if STAND_INS[backend]:
            del environment["PORTABLE_NN_BACKEND"]
            first = f"import sys, runpy; {STAND_INS[backend]}; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
            command = [sys.executable, "-c", first, str(SCRIPT)]
    else:
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    done = subprocess.run([*command, "--steps", str(steps), "--out", out, *more], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def compare(name: str, folder: Path, steps: int, stand_in: bool) -> str:
    reference = run("numpy", folder / "numpy.npz", steps=steps)
    told = run(name, folder / "other.npz", "--follow", str(folder / "numpy.npz"), steps=steps, stand_in=stand_in)
    assert reference.rsplit("script ")[1].split()[0] == told.rsplit("script ")[1].split()[0]
    expected, got = np.load(folder / "numpy.npz"), np.load(folder / "other.npz")
    assert set(expected.files) == set(got.files)
    for key in (k for k in expected.files if "/gradient/" in k):
        scale = np.abs(expected[key]).max()
        assert scale > 0, key
        # 1e-4 of the largest entry: float32 sums over a batch of 32 images in another order, through five layers.
        assert np.abs(expected[key] - got[key]).max() <= 1e-4 * scale, key
    return told


@pytest.mark.parametrize("name", [n for n in conftest.VALUES if n in ("opencl", "cupy", "numba")])
def test_gradients_of_each_step_agree(name, tmp_path):
    assert f" on {name}: " in compare(name, tmp_path, STEPS, False)


@pytest.mark.slow
@pytest.mark.parametrize("name", STAND_INS)
def test_gradients_of_each_step_agree_on_stand_ins(name, tmp_path):
    """Two steps: each kernel is compiled for the CPU once, and runs thread by thread."""
    require("g++" if name == "cupy" else "numba", (cuda_build if name == "cupy" else numba_build).missing())
    assert f" on {name}" in compare(name, tmp_path, 2, True)
