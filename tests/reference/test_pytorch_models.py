"""Every model against PyTorch's (torchvision's, timm's): parameter names and shapes, and scores from the same weights.

Weights and images come from `pytorch.formula` on both sides; `pytorch/make.py` made the stored scores, in float64.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import VALUES
from reference.pytorch import formula

import portable_nn as pnn
from portable_nn import models, nn

STORED = json.loads((Path(__file__).parent / "pytorch" / "models.json").read_text())
CASES = [case for case in STORED if case != "versions"]
LARGE = ("resnet18", "resnet20", "resnet32", "resnet34", "resnet50", "resnet44", "resnet56", "convnext_atto", "mobilenet_v2")  # the code is that of a smaller sister
QUICK = [c for c in CASES if c not in LARGE]


def filled(case):
    entry = STORED[case]
    model = models.create(entry["model"], tuple(entry["image"]), 10)
    return nn.load_state_dict(model, {n: formula.fill(n, x.shape) for n, x in nn.state_dict(model).items()})


def compare(case, backend, dtype, tolerance):
    entry = STORED[case]
    images = formula.images(case, (2, *entry["image"])).astype(dtype)
    with pnn.use_backend(backend):
        y = pnn.to_numpy(filled(case).to(dtype=dtype)(pnn.asarray(images))).astype(np.float64)
    if "scores" in entry:
        expected = np.array(entry["scores"])
        assert y.shape == expected.shape
        assert np.abs(y - expected).max() <= tolerance * np.abs(expected).max()
    else:
        assert list(y.shape) == entry["shape"]
        norm, *products = entry["projections"]
        assert norm > 0
        # A product with random vectors in [-1, 1) of an error of norm e is about e / sqrt(3); the bound holds for 5 of them.
        assert np.abs(formula.projections(case, y)[1:] - products).max() <= 5 * tolerance * norm


@pytest.mark.parametrize("case", CASES)
def test_names_shapes_and_count_are_pytorchs(case):
    # Missing, unknown or misshapen names would make the stored scores unreachable; the count guards `load_state_dict` too.
    model = models.create(STORED[case]["model"], tuple(STORED[case]["image"]), 10)
    frozen = 0 if STORED[case]["model"] != "speedrun" else sum(x.size for n, x in nn.buffers(model).items() if n.endswith("weight"))
    assert nn.count_params(model) + frozen == STORED[case]["parameters"]


@pytest.mark.parametrize("case", [*QUICK, *(pytest.param(c, marks=pytest.mark.slow) for c in LARGE)])
def test_scores_are_pytorchs(case):
    # float64 on both sides: what is left is the order of sums, through up to 56 layers.
    compare(case, "numpy", "float64", 1e-10)


@pytest.mark.parametrize("name", [n for n in VALUES if n != "numpy"])
@pytest.mark.parametrize("case", [*QUICK, *(pytest.param(c, marks=pytest.mark.slow) for c in LARGE)])
def test_scores_of_devices_are_pytorchs(case, name):
    # float32: 6e-8 per operation, some hundred of them in a row through the deepest nets, and sums of 4608 products.
    compare(case, name, "float32", 1e-4)
