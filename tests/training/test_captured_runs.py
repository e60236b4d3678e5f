"""Captured runs: the same numbers to the last bit, the state kept that a diagnosis needs, and a word where a step cannot be captured."""

import numpy as np
import pytest
from safetensors.numpy import load_file
from training.synthetic import corners

from portable_nn import nn, ops, stop_gradient, to_numpy
from portable_nn.train import fit, loop
from portable_nn.train.progress import Silent

SETTINGS = {"epochs": 2, "batch_size": 16, "log_every": 4, "report": False}


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    monkeypatch.setattr(loop.Run, "draw", lambda self: ())


class Notes(Silent):
    """Keeps what is said."""

    def __init__(self):
        self.said = []

    def note(self, text):
        self.said.append(text)


def train(folder, model, progress=None, **more):
    return fit(model, corners(), corners(40, seed=1), out=str(folder), progress=progress, **{**SETTINGS, **more})


class Dropping(nn.Module):
    """What most models are made of, with a draw in every step."""

    def __init__(self):
        self.conv, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.drop, self.head = nn.Dropout(0.3), nn.Linear(4 * 64, 4)

    def __call__(self, x):
        x = ops.relu(self.norm(self.conv(x)))
        return self.head(self.drop(x.reshape(x.shape[0], -1)))


RECIPES = {
    "adamw": {"optimizer": "adamw", "clip_norm": 1.0},
    "sgd, averaged weights, accumulated": {"optimizer": "sgd", "lr": 0.05, "ema": 0.9, "accumulate": 2},
    "float16": {"optimizer": "adamw", "precision": "float16"},
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_captured_run_is_the_same_run(tmp_path, backend, recipe):
    notes, model = Notes(), Dropping()
    for name, captured in (("with", True), ("without", False)):
        train(tmp_path / name, model, notes, backend=backend.name, capture=captured, **RECIPES[recipe])
    assert notes.said == []
    for kept in ("model.safetensors", "checkpoint.safetensors"):
        ours, theirs = load_file(tmp_path / "with" / kept), load_file(tmp_path / "without" / kept)
        assert ours.keys() == theirs.keys()
        assert [name for name in ours if ours[name].tobytes() != theirs[name].tobytes()] == []


class Watched(Dropping):
    """Looks at a value in the middle of the step."""

    def __call__(self, x):
        y = super().__call__(x)
        return y * 2.0 if to_numpy(ops.max(stop_gradient(y))) > 1e9 else y


def test_what_cannot_be_captured_says_why(tmp_path, backend):
    notes = Notes()
    result = train(tmp_path / "run", Watched(), notes, backend=backend.name)
    assert len(notes.said) == 1
    assert "steps are not captured, which makes them slower" in notes.said[0]
    assert "asks for the values of an array" in notes.said[0]
    assert np.isfinite(result.evaluation.loss)
