"""Free-running: whole runs of the trainer end where PyTorch's end, over five seeds; see `tests/reference/pytorch/band.py`."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from portable_nn import data
from portable_nn.train import fit

pytestmark = pytest.mark.optimised  # training takes longer than compiling

STORED = json.loads((Path(__file__).parents[1] / "reference" / "pytorch" / "band.json").read_text())
MNIST = Path(os.environ.get("PORTABLE_NN_TEST_DATA", "")) / "mnist10k"


def check(name, sets, backend, folder):
    stored = STORED[name]
    assert [len(part) for part in sets] == stored["sizes"]
    train, test = sets
    common = {"schedule": "cosine", "warmup": 0.0, "label_smoothing": 0.0, "report": False, "log_every": 1000, "backend": backend.name}
    found = [
        fit("lenet", train, test, seed=seed, **stored["settings"], **common, out=str(folder / str(seed))).valid_accuracy
        for seed in range(len(stored["accuracies"]))
    ]
    theirs = np.array(stored["accuracies"])
    told = f"ours {np.round(found, 4).tolist()}, PyTorch's {theirs.tolist()}"
    assert theirs.min() <= np.mean(found) <= theirs.max(), told
    # One run: within the interval that holds the next of PyTorch's own runs with 99.9 % (Student, 4 degrees of freedom).
    reach = 8.61 * theirs.std(ddof=1) * np.sqrt(1 + 1 / len(theirs))
    assert np.abs(found - theirs.mean()).max() <= reach, told


def test_digits_end_in_pytorchs_band(tmp_path, backend):
    pytest.importorskip("sklearn", reason="scikit-learn holds the digits")
    check("digits", data.load("digits"), backend, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not MNIST.is_dir(), reason="PORTABLE_NN_TEST_DATA names no folder with mnist10k/")
def test_mnist_ends_in_pytorchs_band(tmp_path, backend):
    check("mnist10k", data.load(MNIST, counts=(8000, 2000)), backend, tmp_path)
