"""The weights that come along: they load, say how to prepare images, and classify CIFAR-10 where it is given."""

import os
from pathlib import Path

import numpy as np
import pytest

import portable_nn as pnn
from portable_nn import data, models, nn
from portable_nn.core.errors import SettingError
from portable_nn.models.pretrained import FOLDER

CIFAR = Path(os.environ.get("PORTABLE_NN_TEST_DATA", "")) / "cifar10"  # unpacked: train/<class>/ and test/<class>/


def test_what_comes_along():
    assert ("resnet20", "cifar10") in models.available()
    assert (FOLDER / "resnet20-cifar10.safetensors").stat().st_size < 1_300_000
    known = models.describe("resnet20", "cifar10")
    assert known.in_shape == (3, 32, 32)
    assert known.classes == data.PUBLISHED["cifar10"].classes
    # The mean and deviation of CIFAR-10's training images, to two places, as everyone has them.
    np.testing.assert_allclose(known.mean, (0.49, 0.48, 0.45), atol=0.005)
    np.testing.assert_allclose(known.std, (0.25, 0.24, 0.26), atol=0.005)


def test_trained_weights_are_finite_and_not_fresh():
    model = models.create("resnet20", pretrained="cifar10")
    fresh = nn.state_dict(models.create("resnet20", (3, 32, 32), 10))
    for name, x in nn.state_dict(model).items():
        assert x.dtype == np.float32
        assert np.isfinite(x).all()
        assert (x != fresh[name]).any(), name


def test_another_number_of_classes_keeps_a_fresh_head():
    model, trained = models.create("resnet20", classes=3, pretrained="cifar10"), models.create("resnet20", pretrained="cifar10")
    assert model.fc.weight.shape == (3, 64)
    assert (nn.state_dict(model)["layer3.2.conv2.weight"] == nn.state_dict(trained)["layer3.2.conv2.weight"]).all()
    with pytest.raises(SettingError, match=r"does not fit this ResNet: .*misshapen"):
        models.create("resnet20", (1, 32, 32), 10, pretrained="cifar10")


def test_a_run_starts_from_them(tmp_path):
    rng = np.random.default_rng(0)
    made = data.Dataset(rng.integers(0, 256, (8, 3, 8, 8)).astype(np.uint8), np.arange(8) % 2, ("a", "b"), "noise")
    result = pnn.train.fit(
        train=made, valid=made, model="resnet20", pretrained="cifar10", epochs=1, batch_size=4, lr=1e-9, weight_decay=0.0, warmup=0.0,
        backend="numpy", out=str(tmp_path / "run"),
    )  # fmt: skip
    trained = nn.params(models.create("resnet20", pretrained="cifar10"))
    got = nn.params(result.model)
    for name in ("conv1.weight", "layer3.2.conv2.weight"):
        np.testing.assert_allclose(pnn.to_numpy(got[name]), trained[name], atol=1e-7)
    _, info = pnn.train.read_model(result.folder)
    known = models.describe("resnet20", "cifar10")
    assert (info.normalisation.mean, info.normalisation.std) == (known.mean, known.std), "noise is prepared as CIFAR-10 was"


@pytest.mark.slow
@pytest.mark.skipif(not CIFAR.is_dir(), reason="PORTABLE_NN_TEST_DATA names no folder with cifar10/")
def test_accuracy_is_what_the_readme_says(backend):
    _, test = data.load(CIFAR)
    known = models.describe("resnet20", "cifar10")
    images = data.Normalisation(known.mean, known.std)(test.images)
    with pnn.use_backend(backend):
        model = models.create("resnet20", pretrained="cifar10").to()
        scores = [pnn.to_numpy(model(pnn.asarray(images[i : i + 500]))) for i in range(0, len(images), 500)]
    accuracy = 100 * (np.concatenate(scores).argmax(1) == test.labels).mean()
    told = (FOLDER / "README.md").read_text().partition("test accuracy ")[2].partition(" %")[0]
    assert accuracy == pytest.approx(float(told), abs=0.03)  # an image or three at the border between two classes
