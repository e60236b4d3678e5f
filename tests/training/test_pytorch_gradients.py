"""Losses and gradients along a run against PyTorch's, from stored references; see `tests/reference/pytorch/make.py`.

NumPy's run in float64 starts from the same weights by formula and takes the same SGD steps, so its weights at each step
are PyTorch's to within rounding; that is asserted first, by losses and gradients. Every other backend is then compared at
those weights: teacher-forced, so that chaos does not hide faults. MobileNetV2's run is chaotic in float64 already: its weights
are set by formula at each step, on both sides.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import VALUES
from reference.pytorch import formula

import portable_nn as pnn
from portable_nn import models, nn, ops, optim
from portable_nn.core import selection

pytestmark = pytest.mark.optimised  # training takes longer than compiling

STORED = json.loads((Path(__file__).parents[1] / "reference" / "pytorch" / "gradients.json").read_text())
STEPS = {"lenet": 50, "resnet20": 11, "mobilenet_v2": 3, "vit_tiny": 2}  # of the 50 that are stored; slow runs take them all
DEVICES = [name for name in VALUES if name != "numpy"]


def started(name, part=0.0):
    shape = tuple(STORED[name]["image"])
    if name == "mobilenet_v2":
        model = models.MobileNetV2(shape, 10, dropout=0.0)  # PyTorch draws other masks
    elif name == "vit_tiny":
        model = models.VisionTransformer(shape, 10, patch=2)
    else:
        model = models.create(name, shape, 10)
    return nn.load_state_dict(model, {n: formula.between(n, x.shape, part) for n, x in nn.state_dict(model).items()})


def gradients(model, images, labels):
    def loss_of(params):
        scores, learned = nn.apply(nn.with_params(model, params), images, train=True)
        return ops.cross_entropy(scores, labels), learned

    (loss, learned), grads = pnn.value_and_grad(loss_of, has_aux=True)(nn.params(model))
    return float(loss), grads, learned


def check(name, steps, device, dtype, tolerance):
    stored = STORED[name]
    optimizer = optim.sgd(stored["lr"], momentum=stored["momentum"])
    labels = formula.labels(stored["batch"])
    with pnn.use_backend("numpy"):
        model = started(name).to(dtype="float64")
        state = optimizer.init(nn.params(model))
    for step in range(steps):
        images = formula.images(f"{name} {step}", (stored["batch"], *stored["image"]))
        with pnn.use_backend("numpy"):
            if stored.get("forced"):
                model = started(name, step / len(stored["losses"])).to(dtype="float64")
            loss, grads, learned = gradients(model, images, labels)
        assert loss == pytest.approx(stored["losses"][step], rel=1e-8), f"step {step}"
        reference = stored["gradients"].get(str(step))
        if reference is not None:
            assert list(grads) == list(reference)
            for path, g in grads.items():
                norm = reference[path][0]
                # A bias before a normalisation has no gradient but rounding; 1e-6 of the largest norm is below every other.
                scale = max(norm, 1e-6 * max(values[0] for values in reference.values()))
                assert np.abs(formula.projections(path, g) - reference[path]).max() <= 1e-6 * scale, f"step {step}, {path}"
        if device is not None and reference is not None:
            with pnn.use_backend(device):
                moved = model.to(dtype=dtype)
                got_loss, got, _ = gradients(moved, pnn.asarray(images.astype(dtype)), pnn.asarray(labels))
                host = {path: pnn.to_numpy(g).astype(np.float64) for path, g in got.items()}
            assert got_loss == pytest.approx(loss, rel=tolerance)
            largest = max(np.linalg.norm(g) for g in grads.values())
            for path, g in grads.items():
                distance = np.linalg.norm(host[path] - g) / max(np.linalg.norm(g), 1e-6 * largest)
                assert distance <= tolerance, f"step {step}, {path}: relative distance {distance:.2e}"
        with pnn.use_backend("numpy"):
            params, state = optimizer.update(nn.params(model), grads, state)
            model = nn.with_state(model, params | learned)


@pytest.mark.parametrize("name", list(STEPS))
def test_the_run_is_pytorchs(name):
    check(name, STEPS[name], None, "float64", 0.0)


# float32 where no activation has a corner: LeNet's few ReLUs were nowhere near 0 along this run. The deep nets of ReLUs are
# compared in float64: in float32 one of their many ReLUs sits near enough to 0 to be open here and shut there, which moves a
# gradient by a hundredth and says nothing of the kernels.
DTYPES = {"lenet": ("float32", 1e-4), "vit_tiny": ("float32", 1e-4), "resnet20": ("float64", 1e-9), "mobilenet_v2": ("float64", 1e-9)}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in ("vit_tiny", "mobilenet_v2") else []) for n in STEPS])
def test_devices_give_pytorchs_gradients(name, device):
    dtype, tolerance = DTYPES[name]
    if not selection.get(device).supports(np.dtype(dtype)):
        pytest.skip(f"{device}: the device has no {dtype}")
    check(name, STEPS[name], device, dtype, tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", list(STEPS))
def test_fifty_steps(name, device):
    dtype, tolerance = DTYPES[name]
    if not selection.get(device).supports(np.dtype(dtype)):
        pytest.skip(f"{device}: the device has no {dtype}")
    check(name, 50, device, dtype, tolerance)
