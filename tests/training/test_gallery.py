"""Every example of the gallery runs as it stands in the documentation, in an empty folder, with warnings as errors."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="scikit-learn holds the digits")
ROOT = Path(__file__).parents[2]
GALLERY = ROOT / "examples" / "gallery"
QUICK = ("custom_loss", "custom_op")  # seconds; the others are marked slow
EXAMPLES = sorted(path.stem for path in GALLERY.glob("*.py"))


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in EXAMPLES])
def test_an_example_runs(name, tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PORTABLE_NN_")}
    environment["PYTHONPATH"] = os.pathsep.join((str(ROOT), str(ROOT / "backends")))
    if name in QUICK:
        environment["PORTABLE_NN_BACKEND"] = "numpy"  # compiles nothing
    script = GALLERY / f"{name}.py"
    done = subprocess.run([sys.executable, "-W", "error", script], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1  # the one line that the example ends with


def test_the_page_shows_every_example():
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    assert EXAMPLES
    for name in EXAMPLES:
        assert f"../examples/gallery/{name}.py" in page, name
