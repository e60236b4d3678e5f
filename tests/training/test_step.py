"""The training step: it learns a batch by heart, and every backend takes the same step from the same weights."""

import numpy as np
import pytest
from conftest import VALUES
from training.synthetic import batch

import portable_nn as pnn
from portable_nn import models, nn, ops, optim
from portable_nn.core import selection
from portable_nn.train import TrainState, train_step

DEVICES = [name for name in VALUES if name != "numpy"]


def start(name, shape, optimizer, seed=0, model=None):
    model = (models.create(name, shape, 10, seed=seed) if model is None else model).to()
    return TrainState(model, optimizer.init(nn.params(model)))


@pytest.mark.parametrize("name", ["mlp", "lenet", "resnet20"])
def test_one_batch_is_learned_by_heart(backend, name):
    shape = (1, 8, 8)
    optimizer = optim.sgd(0.05, momentum=0.9, nesterov=True) if name == "resnet20" else optim.adamw(5e-3)
    with pnn.use_backend(backend):
        state = start(name, shape, optimizer)
        images, labels = (pnn.asarray(x) for x in batch(10 if name == "resnet20" else 16, shape))
        steps = 12 if name == "resnet20" else 80
        losses = []
        for _ in range(steps):
            state, loss, scores = train_step(state, optimizer, images, labels, lr=optimizer.lr)
            losses.append(loss)
        assert state.step == steps
        assert float(losses[-1]) < (0.4 if name == "resnet20" else 0.02) * float(losses[0])
        if name != "resnet20":
            assert (pnn.to_numpy(scores).argmax(1) == pnn.to_numpy(labels)).all()


class WithDropout(nn.Module):
    def __init__(self):
        self.net = models.MLP((1, 8, 8), 10)
        self.drop = nn.Dropout(0.3)

    def __call__(self, x):
        return self.net(self.drop(x))


def gradients(model, images, labels, key):
    def loss_of(params):
        scores, learned = nn.apply(nn.with_params(model, params), images, train=True, key=key)
        return ops.cross_entropy(scores, labels, label_smoothing=0.05), learned

    (loss, learned), grads = pnn.value_and_grad(loss_of, has_aux=True)(nn.params(model))
    host = {name: pnn.to_numpy(x) for name, x in (grads | learned).items()}
    return float(loss), host


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize(
    ("model", "steps", "dtype", "tolerance"),
    [("lenet", 50, "float32", 1e-4), ("dropout", 10, "float32", 1e-4), ("resnet20", 4, "float64", 1e-11)],
)
def test_backends_give_the_same_gradients_step_by_step(name, model, steps, dtype, tolerance):
    # Teacher-forced: NumPy's weights are what both see at every step, so that differences do not add up.
    # The residual net is compared in float64: in float32 one of its many ReLUs sits near enough to 0 to be open on one
    # backend and shut on the other, which moves a gradient by a hundredth and says nothing of the kernels.
    if not selection.get(name).supports(np.dtype(dtype)):
        pytest.skip(f"{name}: the device has no {dtype}")
    optimizer = optim.adamw(5e-3)
    with nn.seed(0):
        own = WithDropout() if model == "dropout" else models.create(model, (1, 8, 8), 10)
    with pnn.use_backend("numpy"):
        state = start("", (), optimizer, model=own.to(dtype=dtype))
    for step in range(steps):
        images, labels = batch(16, seed=step)
        images = images.astype(dtype)
        with pnn.use_backend("numpy"):
            key = ops.fold_in(pnn.random_key(7), step)
            loss, expected = gradients(state.model, images, labels, key)
        with pnn.use_backend(name):
            moved = state.model.to()
            key = ops.fold_in(pnn.random_key(7), step)
            got_loss, got = gradients(moved, pnn.asarray(images), pnn.asarray(labels), key)
        assert got_loss == pytest.approx(loss, rel=1e-5)
        assert list(got) == list(expected)
        for path, g in expected.items():
            distance = np.linalg.norm((got[path] - g).ravel()) / max(np.linalg.norm(g.ravel()), 1e-7)
            assert distance < tolerance, f"step {step}, {path}: relative distance {distance:.2e}"
        with pnn.use_backend("numpy"):
            params, remembered = optimizer.update(nn.params(state.model), {n: expected[n] for n in nn.params(state.model)}, state.optimizer)
            state = TrainState(nn.with_params(state.model, params), remembered, step + 1)


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("optimizer", [optim.sgd(0.1), optim.sgd(0.1, 0.9, 0.01, nesterov=True), optim.adamw(0.01), optim.adam(0.01, weight_decay=0.1), optim.lion(0.01, weight_decay=0.1), optim.muon(0.01)])
def test_backends_take_the_same_optimiser_step(name, optimizer):
    rng = np.random.default_rng(0)
    params = {"w": rng.standard_normal((33, 7)).astype(np.float32), "b": rng.standard_normal(7).astype(np.float32)}
    grads = [{n: rng.standard_normal(x.shape).astype(np.float32) for n, x in params.items()} for _ in range(3)]
    made = {}
    for where in ("numpy", name):
        with pnn.use_backend(where):
            p = {n: pnn.asarray(x) for n, x in params.items()}
            state = optimizer.init(p)
            for g in grads:
                p, state = optimizer.update(p, {n: pnn.asarray(x) for n, x in g.items()}, state)
            made[where] = {n: pnn.to_numpy(x) for n, x in p.items()}
    for n in params:
        np.testing.assert_allclose(made[name][n], made["numpy"][n], rtol=2e-6, atol=1e-7)


def test_a_step_changes_nothing_of_the_state_it_got(backend):
    optimizer = optim.adamw(0.1)
    with pnn.use_backend(backend):
        state = start("resnet20", (1, 8, 8), optimizer)
        before = {n: pnn.to_numpy(x) for n, x in nn.state_dict(state.model).items()}
        images, labels = (pnn.asarray(x) for x in batch())
        after, _, _ = train_step(state, optimizer, images, labels, lr=0.1)
        for n, x in nn.state_dict(state.model).items():
            np.testing.assert_array_equal(pnn.to_numpy(x), before[n])
        changed = [n for n, x in nn.state_dict(after.model).items() if (pnn.to_numpy(x) != before[n]).any()]
    assert "bn1.running_var" in changed
    assert "conv1.weight" in changed


def test_dropout_differs_from_step_to_step_and_repeats_with_the_key(backend):
    optimizer = optim.sgd(0.0)
    with nn.seed(0):
        own = WithDropout()
    with pnn.use_backend(backend):
        state = start("", (), optimizer, model=own)
        images, labels = (pnn.asarray(x) for x in batch())

        def losses(key):
            now, made = state, []
            for _ in range(3):
                now, loss, _ = train_step(now, optimizer, images, labels, lr=0.0, key=key)
                made.append(float(loss))
            return made

        first = losses(pnn.random_key(1))
        assert len(set(first)) == 3
        assert losses(pnn.random_key(1)) == first
        assert losses(pnn.random_key(2)) != first
