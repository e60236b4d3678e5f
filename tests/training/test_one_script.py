"""The same script file, unchanged, on every backend under test: per-step gradients from equal weights agree."""

import os
import subprocess
import sys
from pathlib import Path

import conftest
import numpy as np
import pytest

pytestmark = pytest.mark.optimised  # training takes longer than compiling

pytest.importorskip("sklearn", reason="the script trains on scikit-learn's digits")
SCRIPT = Path(__file__).parents[2] / "examples" / "one_script.py"
STEPS = 5


def run(backend: str, out: Path, *more: str) -> str:
    environment = {**os.environ, "PORTABLE_NN_BACKEND": backend, "OPENBLAS_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, SCRIPT, "--steps", str(STEPS), "--out", out, *more], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", [n for n in conftest.VALUES if n in ("opencl", "cupy", "numba")])
def test_gradients_of_each_step_agree(name, tmp_path):
    reference = run("numpy", tmp_path / "numpy.npz")
    told = run(name, tmp_path / "other.npz", "--follow", str(tmp_path / "numpy.npz"))
    assert reference.rsplit("script ")[1].split()[0] == told.rsplit("script ")[1].split()[0]
    expected, got = np.load(tmp_path / "numpy.npz"), np.load(tmp_path / "other.npz")
    assert set(expected.files) == set(got.files)
    for key in (k for k in expected.files if "/gradient/" in k):
        scale = np.abs(expected[key]).max()
        assert scale > 0, key
        # 1e-4 of the largest entry: float32 sums over a batch of 32 images in another order, through five layers.
        assert np.abs(expected[key] - got[key]).max() <= 1e-4 * scale, key
