"""Which backend is chosen. The environment is read by fresh processes, so most of these run one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from portable_nn.core import selection
from portable_nn.core.errors import BackendError

ROOT = Path(__file__).parents[2]
DEFAULT = "from portable_nn.core import selection; b = selection.default(); print(b.name, b.device)"
# As if the package were not installed, whatever this machine has.
WITHOUT_PYOPENCL = "import sys; sys.modules['pyopencl'] = None\n"


def run(code, home, **env):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PORTABLE_NN_", "XDG_CONFIG"))}
    paths = os.pathsep.join([str(ROOT), str(ROOT / "backends")])
    given = kept | {"PYTHONPATH": paths, "XDG_CONFIG_HOME": str(home)} | env
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=given, check=False, timeout=300
    )


def test_named(tmp_path):
    assert run(DEFAULT, tmp_path, PORTABLE_NN_BACKEND="numpy").stdout.split() == ["numpy", "cpu"]


def test_device_variable(tmp_path):
    done = run(DEFAULT, tmp_path, PORTABLE_NN_BACKEND="null", PORTABLE_NN_DEVICE="gpu")
    assert done.stdout.strip() == "null null gpu"


def test_list_takes_the_first_that_is_ready(tmp_path):
    done = run(WITHOUT_PYOPENCL + DEFAULT, tmp_path, PORTABLE_NN_BACKEND="opencl, numpy")
    assert done.stdout.split() == ["numpy", "cpu"], done.stderr
    done = run(DEFAULT, tmp_path, PORTABLE_NN_BACKEND="numpy,opencl")
    assert done.stdout.split() == ["numpy", "cpu"], done.stderr


def test_auto_never_fails_without_gpu_packages(tmp_path):
    code = "import sys; sys.modules['cupy'] = None\n" + WITHOUT_PYOPENCL + DEFAULT
    assert run(code, tmp_path).stdout.split() == ["numpy", "cpu"]


def test_typo_gets_a_close_match(tmp_path):
    done = run(DEFAULT, tmp_path, PORTABLE_NN_BACKEND="opencI")
    assert "there is no backend named 'opencI'; did you mean 'opencl'?" in done.stderr


def test_named_and_missing_says_everything(tmp_path):
    done = run(WITHOUT_PYOPENCL + DEFAULT, tmp_path, PORTABLE_NN_BACKEND="opencl")
    assert done.returncode != 0
    for words in (
        "backend 'opencl' was asked for but is not available",
        "opencl: not installed",
        "numpy: ready",
        'pip install "portable-nn[opencl]"',
        "set PORTABLE_NN_BACKEND to one that is ready",
    ):
        assert words in done.stderr


def test_list_of_missing_ones(tmp_path):
    code = "import sys; sys.modules['cupy'] = None\n" + WITHOUT_PYOPENCL + DEFAULT
    done = run(code, tmp_path, PORTABLE_NN_BACKEND="cupy,opencl")
    assert "none of the backends asked for is ready" in done.stderr
    assert "cupy: not installed" in done.stderr
    assert "opencl: not installed" in done.stderr


def test_config_file_below_environment(tmp_path):
    (tmp_path / "portable_nn").mkdir()
    (tmp_path / "portable_nn" / "config.toml").write_text('backend = "null"\ndevice = "gpu"\n')
    assert run(DEFAULT, tmp_path).stdout.strip() == "null null gpu"
    assert run(DEFAULT, tmp_path, PORTABLE_NN_DEVICE="cpu").stdout.strip() == "null null cpu"
    (tmp_path / "portable_nn" / "config.toml").write_text("backend = \n")
    assert "is not valid TOML" in run(DEFAULT, tmp_path).stderr


def test_import_brings_no_gpu_library(tmp_path):
    code = "import sys, portable_nn; print([m for m in ('pyopencl', 'cupy', 'numba', 'portable_nn_opencl') if m in sys.modules])"
    assert run(code, tmp_path).stdout.strip() == "[]"


def test_use_backend_is_innermost_and_restored(monkeypatch):
    monkeypatch.setenv("PORTABLE_NN_BACKEND", "numpy")
    before = selection.default()
    with selection.use_backend("null", "gpu") as outer:
        assert selection.explicit() == "null"
        with selection.use_backend("numpy"):
            assert selection.default().name == "numpy"
        assert selection.default() is outer
    assert selection.default() is before
    with pytest.raises(BackendError, match="did you mean 'numpy'"), selection.use_backend("numy"):
        pass


def test_numpy_has_one_device():
    with pytest.raises(BackendError, match="one device, cpu; 'gpu'"):
        selection.get("numpy", "gpu")
