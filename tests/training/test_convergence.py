"""Every family of models learns real images: scikit-learn's digits, and MNIST's 10,000 test images where they are given.

The short runs take seconds each and small sisters of some large models; the long ones (slow) have floors that were measured, and a ResNet
learns some of CIFAR-10. PORTABLE_NN_TEST_DATA names a folder with `mnist10k/` and `cifar10/`; without it the runs on them are left out.
"""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import VALUES

import portable_nn as pnn
from portable_nn import data, models, nn, ops, optim
from portable_nn.optim import schedules
from portable_nn.train import TrainState, train_step

pytestmark = pytest.mark.optimised  # training takes longer than compiling

pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
DEVICE = next((name for name in VALUES if name != "numpy"), "numpy")  # convergence is a matter of the model; one backend will do
GIVEN = Path(os.environ.get("PORTABLE_NN_TEST_DATA", ""))
MNIST, CIFAR = GIVEN / "mnist10k", GIVEN / "cifar10"  # the latter unpacked: train/<class>/ and test/<class>/


@dataclass(frozen=True)
class Case:
    """A run: how the model is made, by what it is trained, and what it must reach on the test images.

    Floors lie below what was measured by about twice the standard deviation of an accuracy over 359 images (1.5 points at
    90 %) and a margin for other rounding on other devices.
    """

    make: Any
    steps: int
    lr: float
    accuracy: float
    loss: float
    scale: int = 1  # pixels are repeated so often along each axis
    batch: int = 32
    learned: float = 9.9  # the last five training losses, on average; for nets whose running statistics lag in so few steps


SHORT = {
    "mlp": Case(models.MLP, 130, 5e-3, 0.93, 0.25),
    "lenet": Case(models.LeNet, 130, 5e-3, 0.91, 0.3),
    "allconv": Case(partial(models.AllConv, width=8), 90, 1e-2, 0.93, 0.3),
    "resnet": Case(partial(models.ResNet, depth=8), 60, 1e-2, 0.93, 0.3),
    "resnet_imagenet": Case(partial(models.ImageNetResNet, depth=18), 14, 2e-3, 0.3, 2.2, 1, 16, 1.8),
    "vgg11": Case(models.VGG11, 40, 1e-3, 0.65, 1.9, 1, 16, 1.5),
    "mobilenet_v2": Case(models.MobileNetV2, 80, 3e-3, 0.7, 0.9, 1, 32, 1.1),
    "convmixer": Case(partial(models.ConvMixer, dim=32, depth=3), 60, 1e-2, 0.76, 0.85),
    "convnext": Case(partial(models.ConvNeXt, layer_scale=0.1), 40, 2e-3, 0.87, 0.45),
    "mixer": Case(partial(models.MLPMixer, dim=32, depth=3), 110, 5e-3, 0.87, 0.55),
    "vit": Case(partial(models.VisionTransformer, patch=2, dim=48, depth=3, heads=3), 120, 3e-3, 0.48, 1.5),
    "speedrun": Case(partial(models.SpeedRun, widths=(16, 32, 32)), 60, 1e-2, 0.92, 1.8, 2),
}


def digits(scale):
    train, test = data.load("digits")
    normalise = data.measure_normalisation(train.images)
    images = [normalise(part.images).repeat(scale, 2).repeat(scale, 3) for part in (train, test)]
    return (images[0], train.labels), (images[1], test.labels)


def learn(model, train, steps, lr, batch, seed=0):
    """Train by AdamW with one cycle of the learning rate; return the model and the loss of each step."""
    images, labels = train
    optimizer, schedule = optim.adamw(lr, weight_decay=0.01), schedules.one_cycle(lr, steps)
    model = model.to()
    state, losses, key = TrainState(model, optimizer.init(nn.params(model))), [], pnn.random_key(seed)
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(len(labels)) for _ in range(-(-steps * batch // len(labels)))])
    for step in range(steps):
        chosen = order[step * batch : (step + 1) * batch]
        taken = train_step(state, optimizer, pnn.asarray(images[chosen]), pnn.asarray(labels[chosen]), lr=schedule(step), key=key)
        state, loss = taken[0], taken[1]
        losses.append(loss)
    return state.model, np.array([float(loss) for loss in losses])


def reached(case, train, test):
    with nn.seed(0):
        model = case.make(train[0].shape[1:], 10)
    if isinstance(model, models.SpeedRun):
        model = model.fitted_to(train[0][:500])
    with pnn.use_backend(DEVICE):
        trained, losses = learn(model, train, case.steps, case.lr, case.batch)
        scores = np.concatenate([pnn.to_numpy(trained(pnn.asarray(test[0][i : i + 256]))) for i in range(0, len(test[1]), 256)])
    scores = scores.astype(np.float64)
    scores -= scores.max(1, keepdims=True)
    logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    return float((scores.argmax(1) == test[1]).mean()), float(-logs[np.arange(len(logs)), test[1]].mean()), losses


@pytest.mark.parametrize("name", SHORT)
def test_each_family_learns_digits(name):
    case = SHORT[name]
    accuracy, loss, losses = reached(case, *digits(case.scale))
    assert losses[0] > 1.5, "the start is no better than a guess"
    assert losses[-5:].mean() <= case.learned
    assert accuracy >= case.accuracy
    assert loss <= case.loss


LONG = {
    "mlp": Case(models.MLP, 900, 3e-3, 0.955, 0.2),
    "lenet": Case(models.LeNet, 900, 3e-3, 0.955, 0.2),
    "allconv": Case(models.AllConv, 450, 5e-3, 0.97, 0.15),
    "resnet8": Case(partial(models.ResNet, depth=8), 450, 5e-3, 0.97, 0.15),
    "vit": Case(partial(models.VisionTransformer, patch=2, dim=48, depth=3, heads=3), 500, 3e-3, 0.93, 0.3),
    "resnet_imagenet": Case(partial(models.ImageNetResNet, depth=18), 150, 1e-3, 0.96, 0.15),
    "vgg11": Case(models.VGG11, 200, 1e-3, 0.955, 0.18),
    "mobilenet_v2": Case(models.MobileNetV2, 400, 3e-3, 0.93, 0.25),
    "convmixer": Case(partial(models.ConvMixer, dim=32, depth=3), 450, 5e-3, 0.97, 0.12),
    "convnext": Case(partial(models.ConvNeXt, layer_scale=0.1), 200, 2e-3, 0.94, 0.2),
    "mixer": Case(partial(models.MLPMixer, dim=32, depth=3), 600, 3e-3, 0.955, 0.18),
    "speedrun": Case(partial(models.SpeedRun, widths=(16, 32, 32)), 300, 5e-3, 0.97, 0.9, 2),  # its scores are scaled: the loss stays large
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_each_model_learns_digits_well(name):
    case = LONG[name]
    accuracy, loss, _ = reached(case, *digits(case.scale))
    assert accuracy >= case.accuracy
    assert loss <= case.loss


@pytest.mark.slow
@pytest.mark.skipif(not MNIST.is_dir(), reason="PORTABLE_NN_TEST_DATA names no folder with mnist10k/")
@pytest.mark.parametrize(("name", "floor"), [("lenet", 0.965)])
def test_mnist(name, floor):
    train, test = data.load(MNIST, counts=(8000, 2000))
    normalise = data.measure_normalisation(train.images)
    case = Case(models.MODELS[name].make, 500, 3e-3, floor, 0.12, batch=64)
    accuracy, loss, _ = reached(case, (normalise(train.images), train.labels), (normalise(test.images), test.labels))
    assert accuracy >= case.accuracy
    assert loss <= case.loss


@pytest.mark.slow
@pytest.mark.skipif(not CIFAR.is_dir(), reason="PORTABLE_NN_TEST_DATA names no folder with cifar10/")
def test_some_of_cifar10():
    """ResNet-8 sees 5000 images five times, without augmentation; chance is 10 %."""
    parts, rng = data.load(CIFAR), np.random.default_rng(0)
    chosen = [rng.permutation(len(part))[:count] for part, count in zip(parts, (5000, 2000), strict=True)]
    normalise = data.measure_normalisation(parts[0].images[chosen[0]])
    case = Case(partial(models.ResNet, depth=8), 400, 1e-2, 0.5, 1.5, batch=64)
    accuracy, loss, _ = reached(case, *((normalise(part.images[at]), part.labels[at]) for part, at in zip(parts, chosen, strict=True)))
    assert accuracy >= case.accuracy
    assert loss <= case.loss


def masks(count, seed=0):
    """Digits on a canvas of 16 x 16, and which pixels are the digit (its class + 1) or nothing (0)."""
    (images, labels), _ = digits(1)
    rng = np.random.default_rng(seed)
    canvas, wanted = np.full((count, 1, 16, 16), images.min(), np.float32), np.zeros((count, 16, 16), np.int64)
    for i, (top, left) in enumerate(rng.integers(0, 9, (count, 2))):
        canvas[i, :, top : top + 8, left : left + 8] = images[i]
        wanted[i, top : top + 8, left : left + 8] = np.where(images[i, 0] > 0, labels[i] % 2 + 1, 0)
    return canvas, wanted


def descend(model, loss_of, steps, batches, lr):
    """Train a model by any loss; return it and the loss of each step."""
    with pnn.use_backend(DEVICE):
        model = model.to()
        optimizer = optim.adamw(lr)
        state, losses = optimizer.init(nn.params(model)), []
        for step in range(steps):
            given = [pnn.asarray(x) for x in batches(step)]

            def loss(params, model=model, given=given):
                y, learned = nn.apply(nn.with_params(model, params), given[0], train=True)
                return loss_of(y, given[-1]), learned

            params = nn.params(model)
            (value, learned), grads = pnn.value_and_grad(loss, has_aux=True)(params)
            params, state = optimizer.update(params, grads, state)
            model = nn.with_state(model, params | learned)
            losses.append(float(value))
    return model, losses


@pytest.mark.parametrize(("steps", "least"), [(40, 0.75), pytest.param(160, 0.93, marks=pytest.mark.slow)])
def test_unet_finds_digits(steps, least):
    images, wanted = masks(256)
    with nn.seed(0):
        model = models.UNet((1, 16, 16), 3, width=8, levels=2)
    model, losses = descend(model, nn.segmentation_loss, steps, lambda i: (images[i % 7 * 32 :][:32], wanted[i % 7 * 32 :][:32]), 1e-2)
    with pnn.use_backend(DEVICE):
        found = pnn.to_numpy(model(pnn.asarray(images[224:]))).argmax(1)
    there, expected = found > 0, wanted[224:] > 0
    overlap = (there & expected).sum() / (there | expected).sum()
    assert losses[-1] < 0.5 * losses[0]
    assert overlap > least  # of 32 images it did not see; nothing found gives 0


@pytest.mark.parametrize(("steps", "most"), [(120, 0.5), pytest.param(600, 0.22, marks=pytest.mark.slow)])
def test_autoencoder_rebuilds_digits(steps, most):
    (images, _), (unseen, _) = digits(1)
    with nn.seed(0):
        model = models.Autoencoder((1, 8, 8), latent=16)
    model, losses = descend(model, nn.reconstruction_loss, steps, lambda i: (images[i * 32 % 1400 :][:32],), 5e-3)
    with pnn.use_backend(DEVICE):
        rebuilt = pnn.to_numpy(model(pnn.asarray(unseen)))
        error = float(((rebuilt - unseen) ** 2).mean())
        half = model.encode(pnn.asarray(unseen))
        again = pnn.to_numpy(model.decode(half))
    assert half.shape == (len(unseen), 16)
    np.testing.assert_array_equal(again, rebuilt)
    # The mean image leaves the variance of normalised pixels, about 0.5 per pixel of digits; 16 numbers must do far better.
    spread = float(((unseen - images.mean(0)) ** 2).mean())
    assert error < most * spread
    assert losses[-1] < 0.5 * losses[0]


def test_dice_alone_and_weights_of_the_loss(backend):
    rng = np.random.default_rng(0)
    scores, labels = rng.standard_normal((2, 3, 4, 5)).astype(np.float32), rng.integers(0, 3, (2, 4, 5))
    with pnn.use_backend(backend):
        x, t = pnn.asarray(scores), pnn.asarray(labels)
        plain, both = float(nn.segmentation_loss(x, t, dice=0.0)), float(nn.segmentation_loss(x, t, dice=2.0))
        cross = float(ops.cross_entropy(x, t))
    p = np.exp(scores.astype(np.float64))
    p /= p.sum(1, keepdims=True)
    q = np.eye(3)[labels].transpose(0, 3, 1, 2)
    dice = np.mean(1 - (2 * (p * q).sum((2, 3)) + 1e-5) / (p.sum((2, 3)) + q.sum((2, 3)) + 1e-5))
    assert plain == cross
    assert both == pytest.approx(cross + 2 * dice, rel=1e-5)
