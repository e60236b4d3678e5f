"""What made a loss that is not finite: op, layer, step."""

import numpy as np
import pytest
from training.synthetic import batch, corners
from training.test_runs import FAST

import portable_nn as pnn
from portable_nn import nn, ops, optim
from portable_nn.core.errors import RunError
from portable_nn.core.op import Op
from portable_nn.train import Recipe, fit
from portable_nn.train.diagnosis import diagnose
from portable_nn.train.observe import observed
from portable_nn.train.step import train_step


class Net(nn.Module):
    """Divides by zero in its second layer when an input is large."""

    def __init__(self):
        self.first = nn.Linear(64, 8)
        self.norm = Scale()
        self.head = nn.Linear(8, 10)

    def __call__(self, x):
        return self.head(self.norm(self.first(ops.reshape(x, (x.shape[0], 64)))))


class Scale(nn.Module):
    def __init__(self):
        self.limit = 50.0

    def __call__(self, x):
        return ops.divide(x, ops.where(ops.greater(ops.max(ops.abs(x)), self.limit), 0.0, 1.0))


def step_of(optimizer, images, labels):
    def step(state):
        return train_step(state, optimizer, pnn.asarray(images), pnn.asarray(labels), lr=0.1)[0]

    return step


def test_the_first_op_that_is_not_finite_is_named(backend):
    images, labels = batch(16)
    optimizer = optim.sgd(0.1)
    with pnn.use_backend(backend):
        with nn.seed(0):
            state = Recipe().begin(Net().to(), optimizer)
        found, after = diagnose(state, step_of(optimizer, images, labels))
        assert found is None
        assert after.step == 1
        found, after = diagnose(after, step_of(optimizer, images * 1000, labels))
    assert after.step == 1
    assert "step 2, forward, op divide in layer norm, from inputs between" in found
    assert "was inf" in found or "was -inf" in found


def test_a_damaged_batch_and_the_optimizer_are_named(backend):
    images, labels = batch(16)
    optimizer = optim.sgd(1.0)
    with pnn.use_backend(backend):
        state = Recipe().begin(pnn.models.create("mlp", (1, 8, 8), 10).to(), optimizer)

        def augmented(state):
            bad = images.copy()
            bad[3, 0, 2, 2] = np.nan
            x = ops.multiply(pnn.asarray(bad), 1.0)
            return train_step(state, optimizer, x, pnn.asarray(labels), lr=0.1)[0]

        assert diagnose(state, augmented)[0] == "the batch of step 1 holds numbers that are not finite"

        def far(state):
            return train_step(state, optimizer, pnn.asarray(images), pnn.asarray(labels), lr=3e38, loss=lambda s, t: ops.multiply(ops.cross_entropy(s, t), 1e6))[0]

        found, _ = diagnose(state, far)
    assert "update, op sgd_step in parameter hidden.0.weight" in found


def test_looking_leaves_everything_as_it_was():
    before = Op.apply, pnn.Tape.record, pnn.Tape._pull, nn.Linear.__call__, nn.Conv2d.__call__
    with pytest.raises(ZeroDivisionError), observed(pnn.models.create("lenet", (1, 8, 8), 10), lambda seen: 1 / 0), pnn.use_backend("numpy"):
        ops.relu(np.float32([1.0]))
    assert before == (Op.apply, pnn.Tape.record, pnn.Tape._pull, nn.Linear.__call__, nn.Conv2d.__call__)
    assert "__call__" not in vars(nn.BatchNorm2d)  # inherited, and still so


def test_layers_and_phases_of_a_step():
    seen = []
    optimizer = optim.sgd(0.1)
    with pnn.use_backend("numpy"):
        state = Recipe().begin(pnn.models.create("resnet20", (1, 8, 8), 10).to(), optimizer)
        images, labels = batch(4)
        with observed(state.model, seen.append):
            step_of(optimizer, images, labels)(state)
    convolutions = [s.layer for s in seen if s.op == "conv2d"]
    assert convolutions[:3] == ["conv1", "layer1.0.conv1", "layer1.0.conv2"]
    assert [s.layer for s in seen if s.op == "conv2d_weight_grad"] == convolutions[::-1]
    assert {s.phase for s in seen if s.op == "conv2d"} == {"forward"}
    assert {s.phase for s in seen if s.op == "conv2d_weight_grad"} == {"backward"}
    assert {(s.phase, s.layer) for s in seen if s.op == "sgd_step"} == {("update", "")}
    assert {(s.phase, s.layer) for s in seen if s.op == "cross_entropy"} == {("forward", "")}


def test_a_run_that_comes_apart_says_where(tmp_path, monkeypatch):
    from portable_nn.train import loop

    monkeypatch.setattr(loop.Run, "draw", lambda self: ())
    with pytest.raises(RunError, match=r"step \d+: the loss is .* The first number that is not finite was .*: step \d+, \w+, op \w+ in .*Lower --lr"):
        fit(train=corners(), valid=corners(40, seed=1), **{**FAST, "backend": "numpy", "out": str(tmp_path / "run"), "optimizer": "sgd", "lr": 1e12, "schedule": "constant", "warmup": 0.0})
