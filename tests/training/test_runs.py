"""Whole runs: accuracy floor, resume to the last bit, interruptions and failures that keep earlier checkpoints."""

import dataclasses
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file
from training.synthetic import corners

import portable_nn as pnn
from portable_nn import nn, ops
from portable_nn.core.errors import RunError, SettingError
from portable_nn.data import Batches
from portable_nn.train import Interrupted, evaluate, fit, loop, predict, read_model
from portable_nn.train.progress import Silent
from portable_nn.train.records import read_metrics

FAST = {"model": "mlp", "epochs": 4, "batch_size": 16, "augment": "shift:1", "optimizer": "adamw", "lr": 0.01, "log_every": 4, "report": False}

DATA = {"train": corners(), "valid": corners(40, seed=1), "test": corners(32, seed=2)}


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    monkeypatch.setattr(loop.Run, "draw", lambda self: ())


class At(Silent):
    """Does something when a number of steps was taken."""

    def __init__(self, step, action):
        self.left, self.action = step, action

    def advance(self):
        self.left -= 1
        if self.left == 0:
            self.action()


def train(folder, **more):
    return fit(**DATA, **{**FAST, "out": str(folder), **more})


def resume(folder, **more):
    return fit(**DATA, resume=folder, **more)


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def optimizer_arrays(folder):
    return {n: x for n, x in load_file(folder / "checkpoint.safetensors").items() if n.startswith("optimizer.")}


def test_a_run_learns_and_leaves_its_folder(tmp_path, backend):
    result = train(tmp_path / "run", backend=backend.name)
    assert result.test_accuracy == 1.0
    assert result.steps == 24
    assert result.backend == backend.name
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {
        "config.json", "metrics.csv", "metrics.jsonl", "checkpoint.safetensors", "model.safetensors", "best.safetensors", "predictions.npz",
        "result.json",
    }  # fmt: skip
    rows = read_metrics(tmp_path / "run")
    assert [r["step"] for r in rows if r.get("valid_loss") is not None] == [6, 12, 18, 24]
    assert [r["step"] for r in rows if r.get("test_loss") is not None] == [24]  # once, at the end
    assert result.valid_accuracy == 1.0
    assert [r["step"] for r in rows if r.get("train_loss") is not None] == [1, 4, 6, 8, 12, 16, 18, 20, 24]
    assert list(load_file(tmp_path / "run" / "model.safetensors")) == sorted(nn.state_dict(result.model))


def test_digits_reach_an_accuracy_floor(tmp_path, backend):
    pytest.importorskip("sklearn", reason="scikit-learn holds the digits")
    result = fit(epochs=5, lr=0.005, backend=backend.name, out=str(tmp_path / "run"))
    assert result.test_accuracy > 0.95


def test_a_saved_model_gives_the_same_answers(tmp_path, backend):
    result = train(tmp_path / "run", backend=backend.name)
    with pnn.use_backend(backend):
        model, info = read_model(tmp_path / "run")
        again = evaluate(model, Batches(DATA["test"], 7, info.normalisation, shuffle=False))
        np.testing.assert_array_equal(again.predictions, result.evaluation.predictions)
        assert again.loss == pytest.approx(result.evaluation.loss, rel=1e-5)
        chances = predict(model, info.normalisation(DATA["test"].images), batch_size=9)
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    np.testing.assert_allclose(chances.max(axis=1), result.evaluation.confidence, rtol=1e-4)
    assert info.classes == ("ul", "ur", "ll", "lr")


def test_two_runs_are_equal_to_the_last_bit(tmp_path, backend):
    for name in "ab":
        train(tmp_path / name, backend=backend.name)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


@pytest.mark.parametrize("step", [1, 9, 12, 24])
def test_ctrl_c_then_resume_is_the_run_that_never_stopped(tmp_path, backend, step):
    train(tmp_path / "whole", backend=backend.name)
    with pytest.raises(Interrupted, match=f"--resume {tmp_path / 'cut'}") as caught:
        train(tmp_path / "cut", backend=backend.name, progress=At(step, lambda: os.kill(os.getpid(), signal.SIGINT)))
    assert caught.value.step == step
    assert not list((tmp_path / "cut").glob(".*"))  # no temporary file is left
    result = resume(tmp_path / "cut")
    assert result.steps == 24
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")
    for name, x in optimizer_arrays(tmp_path / "whole").items():
        np.testing.assert_array_equal(optimizer_arrays(tmp_path / "cut")[name], x)
    rows = [[{k: v for k, v in row.items() if k not in ("seconds", "images_per_second", "data_wait")} for row in read_metrics(tmp_path / name)] for name in ("cut", "whole")]
    measured = [[r for r in part if "valid_loss" in r or "test_loss" in r] for part in rows]
    assert [r["step"] for r in measured[0]] == [6, 12, 18, 24, 24]
    assert measured[0] == measured[1]


def test_the_handler_of_ctrl_c_is_given_back(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    train(tmp_path / "run", backend="numpy", epochs=1)
    assert signal.getsignal(signal.SIGINT) is before


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from training.test_runs import At, train
from pathlib import Path
train(Path({folder!r}), backend="numpy", progress=At(15, lambda: os.kill(os.getpid(), signal.SIGKILL)))
"""


def test_a_killed_run_goes_on_from_its_last_epoch(tmp_path):
    train(tmp_path / "whole", backend="numpy")
    tests = os.path.dirname(os.path.dirname(__file__))
    code = KILLED.format(tests=tests, folder=str(tmp_path / "cut"))
    path = os.pathsep.join([tests, *(p for p in sys.path if p)])
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert resume(tmp_path / "cut").steps == 24
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_a_run_that_failed_before_its_first_checkpoint_starts_again(tmp_path):
    def fail():
        raise OSError("the power went")

    train(tmp_path / "whole", backend="numpy")
    with pytest.raises(OSError, match="the power went"):
        train(tmp_path / "cut", backend="numpy", progress=At(3, fail))
    resume(tmp_path / "cut")
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_a_loss_that_is_not_finite_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    real = loop.train_step

    def broken(state, *args, **kwargs):
        state, loss, scores = real(state, *args, **kwargs)
        return state, loss * (np.float32("nan") if state.step >= 14 else np.float32(1)), scores

    train(tmp_path / "whole", backend="numpy")
    monkeypatch.setattr(loop, "train_step", broken)
    with pytest.raises(RunError, match=r"step 16: the loss is nan at learning rate 0\.00\d+; the checkpoint of step 12"):
        train(tmp_path / "cut", backend="numpy")
    monkeypatch.undo()
    monkeypatch.setattr(loop.Run, "draw", lambda self: ())
    resume(tmp_path / "cut")
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_a_rate_far_too_high_says_so(tmp_path, backend):
    with pytest.raises(RunError, match=r"step \d+: the loss is (nan|inf) at learning rate .*no checkpoint was written yet"):
        train(tmp_path / "run", backend=backend.name, optimizer="sgd", lr=1e12, schedule="constant", warmup=0.0)


def test_weights_that_are_not_finite_are_not_written(tmp_path, monkeypatch):
    real = loop.train_step

    def broken(state, *args, **kwargs):
        state, loss, scores = real(state, *args, **kwargs)
        if state.step == 12:
            bad = {n: x * np.float32("nan") for n, x in nn.params(state.model).items()}
            state = dataclasses.replace(state, model=nn.with_params(state.model, bad))
        return state, loss, scores

    monkeypatch.setattr(loop, "train_step", broken)
    with pytest.raises(RunError, match=r"model\.\S+ is not finite"):
        train(tmp_path / "run", backend="numpy")
    kept = load_file(tmp_path / "run" / "checkpoint.safetensors")
    assert all(np.isfinite(x).all() for x in kept.values())


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    from portable_nn.train import checkpoint

    real, count = checkpoint.write_bytes, []

    def full(path, data):
        count.append(path)
        if len(count) > 2:
            raise OSError(28, "No space left on device")
        real(path, data)

    monkeypatch.setattr(checkpoint, "write_bytes", full)
    with pytest.raises(RunError, match=r"No space left on device.*still whole"):
        train(tmp_path / "run", backend="numpy")
    monkeypatch.undo()
    monkeypatch.setattr(loop.Run, "draw", lambda self: ())
    assert resume(tmp_path / "run").steps == 24


def test_resume_refuses_what_would_be_another_run(tmp_path):
    run = tmp_path / "run"
    train(run, backend="numpy", epochs=1)
    with pytest.raises(RunError, match=r"lr is 0\.5 but the run .* has 0\.01"):
        resume(run, lr=0.5)
    with pytest.raises(RunError, match="other data"):
        fit(**{**DATA, "train": corners(seed=9)}, resume=run)
    with pytest.raises(RunError, match="no run folder"):
        resume(tmp_path / "nowhere")
    with pytest.raises(RunError, match="holds a run already"):
        train(run)
    whole = (run / "checkpoint.safetensors").read_bytes()
    (run / "checkpoint.safetensors").write_bytes(whole[:-100])
    with pytest.raises(RunError, match=r"checkpoint\.safetensors: is damaged"):
        resume(run)
    (run / "checkpoint.safetensors").write_bytes(whole)
    assert resume(run, epochs=2).steps == 12


def test_a_finished_run_reports_again_when_resumed(tmp_path):
    first = train(tmp_path / "run", backend="numpy")
    before = weights(tmp_path / "run")
    again = resume(tmp_path / "run")
    assert again.evaluation.loss == first.evaluation.loss
    assert weights(tmp_path / "run") == before
    rows = read_metrics(tmp_path / "run")
    assert [r["step"] for r in rows if "valid_loss" in r or "test_loss" in r] == [6, 12, 18, 24, 24]


def test_a_model_of_ones_own(tmp_path):
    class Own(nn.Module):
        def __init__(self):
            self.drop = nn.Dropout(0.1)
            self.head = nn.Linear(64, 4)

        def __call__(self, x):
            return self.head(ops.reshape(self.drop(x), (x.shape[0], 64)))

    result = train(tmp_path / "run", backend="numpy", model=Own())
    assert result.test_accuracy == 1.0
    with pytest.raises(RunError, match=r"holds a Own.*model=\.\.\."):
        read_model(tmp_path / "run")
    with pnn.use_backend("numpy"):
        model, _ = read_model(tmp_path / "run", model=Own())
    np.testing.assert_array_equal(model.head.weight, result.model.head.weight)
    with pytest.raises(RunError, match=r"unknown: head\.bias"):
        read_model(tmp_path / "run", model=pnn.models.create("lenet", (1, 8, 8), 4))


def test_settings_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(SettingError, match="batch_size is 97 but corners has 96"):
        train(tmp_path / "a", batch_size=97)
    with pytest.raises(SettingError, match="unknown setting"):
        train(tmp_path / "b", learning_rate=1)
    with pytest.raises(SettingError, match="one of train and valid"):
        fit(train=corners())
    with pytest.raises(SettingError, match="test was given without"):
        fit(test=corners())
    assert not (tmp_path / "a").exists()


def test_the_config_of_a_run_is_kept(tmp_path):
    train(tmp_path / "run", backend="numpy", epochs=1)
    kept = json.loads((tmp_path / "run" / "config.json").read_text())
    assert kept["lr"] == 0.01
    assert kept["epochs"] == 1
