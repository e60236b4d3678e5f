"""Recipes of a run: each does what it says, alone and after a resume."""

import json
import math

import numpy as np
import pytest
from safetensors.numpy import load_file
from training.synthetic import batch, corners
from training.test_runs import DATA, FAST, At

import portable_nn as pnn
from portable_nn import models, nn, optim
from portable_nn.core.errors import RunError, SettingError
from portable_nn.data import Batches
from portable_nn.train import Callback, Interrupted, Pairs, Recipe, TrainState, evaluate, fit, loop, read_model
from portable_nn.train.best import Reading, epochs_without_improvement, ranked, readings
from portable_nn.train.records import read_metrics
from portable_nn.train.step import accumulated_step, cross_entropy, train_step
from portable_nn.train.views import VIEWS, scores_of


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    monkeypatch.setattr(loop.Run, "draw", lambda self: ())


def train(folder, **more):
    return fit(**DATA, **{**FAST, "backend": "numpy", "out": str(folder), **more})


def model(name="mlp"):
    return models.create(name, (1, 8, 8), 10, seed=0).to()


def arrays(tree):
    return {n: pnn.to_numpy(x) for n, x in tree.items()}


def test_accumulated_gradients_are_those_of_one_large_batch(backend):
    images, labels = batch(24)
    optimizer = optim.sgd(0.1)
    with pnn.use_backend(backend):
        state = Recipe().begin(model(), optimizer)
        whole, _, _ = train_step(state, optimizer, pnn.asarray(images), pnn.asarray(labels), lr=0.1)
        parts = [(pnn.asarray(images[a:b]), pnn.asarray(labels[a:b])) for a, b in ((0, 10), (10, 20), (20, 24))]
        made, _, _ = accumulated_step(state, optimizer, parts, lr=0.1, loss=cross_entropy())
        assert made.step == whole.step == 1
        for name, x in arrays(nn.params(whole.model)).items():
            np.testing.assert_allclose(arrays(nn.params(made.model))[name], x, rtol=1e-5, atol=1e-6)


def test_statistics_of_batches_follow_one_another_when_accumulated():
    optimizer = optim.sgd(0.0)
    images, labels = batch(8)
    with pnn.use_backend("numpy"):
        state = Recipe().begin(model("resnet20"), optimizer)
        once, _, _ = train_step(state, optimizer, images, labels, lr=0.0)
        twice, _, _ = train_step(once, optimizer, images, labels, lr=0.0)
        made, _, _ = accumulated_step(state, optimizer, [(images, labels)] * 2, lr=0.0, loss=cross_entropy())
    np.testing.assert_array_equal(made.model.bn1.running_var, twice.model.bn1.running_var)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_low_precision_learns_with_float32_weights(backend, precision):
    if not backend.supports(pnn.core.dtypes.canonical(precision)):
        pytest.skip(f"{backend.name}: the device has no {precision}")
    optimizer = optim.adamw(5e-3)
    images, labels = batch(16)
    with pnn.use_backend(backend):
        recipe = Recipe(precision=precision, scaling=optim.LossScale() if precision == "float16" else None)
        state, losses = recipe.begin(model(), optimizer), []
        plain = Recipe().begin(model(), optimizer)
        _, exact, _ = train_step(plain, optimizer, pnn.asarray(images), pnn.asarray(labels), lr=0.0)
        for _ in range(40):
            state, loss, scores = train_step(state, optimizer, pnn.asarray(images), pnn.asarray(labels), lr=5e-3, recipe=recipe)
            losses.append(float(loss))
        assert scores.dtype == np.float32
    # Two roundings of inputs and weights and one per layer, of 2^-8 (bfloat16) or 2^-11, relative to a loss near 2.3.
    assert losses[0] == pytest.approx(float(exact), rel=0.02)
    assert losses[0] != float(exact)
    assert losses[-1] < 0.1 * losses[0]
    assert {x.dtype.name for x in nn.params(state.model).values()} == {"float32"}


def test_a_step_that_overflows_is_left_out_and_the_scale_halves(backend):
    optimizer = optim.adamw(5e-3)
    images, labels = batch(16)
    recipe = Recipe(precision="float16", scaling=optim.LossScale(start=2.0**24), ema=0.5)
    with pnn.use_backend(backend):
        state = recipe.begin(model(), optimizer)
        made, loss, _ = train_step(state, optimizer, pnn.asarray(images), pnn.asarray(labels), lr=0.1, recipe=recipe)
        assert math.isfinite(float(loss))
        assert float(made.scale["scale"]) == 2.0**23
        assert float(made.scale["skipped"]) == 1
        for name, x in arrays(nn.state_dict(state.model)).items():
            np.testing.assert_array_equal(arrays(nn.state_dict(made.model))[name], x)
        for _ in range(20):
            made, _, _ = train_step(made, optimizer, pnn.asarray(images), pnn.asarray(labels), lr=5e-3, recipe=recipe)
        assert float(made.scale["scale"]) < 2.0**20
        assert all(np.isfinite(x).all() for x in arrays(nn.params(made.model)).values())
        assert any((arrays(nn.params(made.model))[n] != x).any() for n, x in arrays(nn.params(state.model)).items())


@pytest.mark.parametrize("optimizer", [optim.adamw(5e-3), optim.muon(5e-3)], ids=["adamw", "muon"])
def test_a_step_left_out_is_no_step_of_adam(backend, optimizer):
    images, labels = (np.asarray(x) for x in batch(16))
    with pnn.use_backend(backend):
        given = pnn.asarray(images), pnn.asarray(labels)
        made = {}
        for start in (2.0**24, 2.0**10):  # the first overflows some times and halves, the second never: the same steps follow
            recipe = Recipe(precision="float16", scaling=optim.LossScale(start=start))
            state = recipe.begin(model(), optimizer)
            taken = 0
            while taken < 3:
                state, _, _ = train_step(state, optimizer, *given, lr=5e-3, recipe=recipe)
                taken = state.step - int(float(state.scale["skipped"]))
            counted = state.optimizer if "step" in state.optimizer else state.optimizer["adamw"]
            assert float(counted["step"]) == 3
            made[start] = arrays(nn.params(state.model)), float(state.scale["skipped"])
    assert made[2.0**24][1] > 0
    assert made[2.0**10][1] == 0
    for name, x in made[2.0**10][0].items():  # scales are powers of two, and differ where small gradients are rounded in float16
        np.testing.assert_allclose(made[2.0**24][0][name], x, atol=2e-3, err_msg=name)


def test_clipping_bounds_the_step(backend):
    optimizer, images = optim.sgd(1.0), batch(16)
    with pnn.use_backend(backend):
        state = Recipe().begin(model(), optimizer)
        made, _, _ = train_step(state, optimizer, *(pnn.asarray(x) for x in images), lr=1.0, recipe=Recipe(clip_norm=0.01))
        moved = [arrays(nn.params(made.model))[n].astype(np.float64) - x for n, x in arrays(nn.params(state.model)).items()]
    # float32 weights near 0.1 round each of 17,000 moves by 2^-27 at most
    assert np.sqrt(sum((m**2).sum() for m in moved)) == pytest.approx(0.01, rel=2e-3)


def test_the_averaged_model_is_what_is_tested_and_saved(tmp_path):
    result = train(tmp_path / "run", ema=0.9)
    saved = load_file(tmp_path / "run" / "model.safetensors")
    kept = load_file(tmp_path / "run" / "checkpoint.safetensors")
    for name, x in saved.items():
        np.testing.assert_array_equal(kept[f"averages.{name}"], x)
        np.testing.assert_array_equal(nn.state_dict(result.model)[name], x)
    assert any((kept[f"model.{n}"] != x).any() for n, x in saved.items())


ALL = {
    "ema": 0.9, "accumulate": 2, "clip_norm": 0.5, "precision": "float16", "optimizer": "muon", "schedule": "one-cycle", "keep_best": 2,
    "decay_biases": False, "tta": "flip+shift", "augment": "shift:1",
}  # fmt: skip


@pytest.mark.parametrize("step", [2, 6])
def test_all_recipes_together_resume_to_the_last_bit(tmp_path, backend, step):
    import os
    import signal

    settings = {**ALL, "backend": backend.name}
    train(tmp_path / "whole", **settings)
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", **settings, progress=At(step, lambda: os.kill(os.getpid(), signal.SIGINT)))
    result = fit(**DATA, resume=tmp_path / "cut")
    assert result.steps == 12  # 6 batches in groups of 2, 4 times
    for name in ("model.safetensors", "best.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    whole = load_file(tmp_path / "whole" / "checkpoint.safetensors")
    for name, x in load_file(tmp_path / "cut" / "checkpoint.safetensors").items():
        np.testing.assert_array_equal(whole[name], x)
    assert any(name.startswith("scale.") for name in whole)
    tops = [sorted(p.name for p in (tmp_path / run).glob("epoch-*")) for run in ("cut", "whole")]
    assert tops[0] == tops[1]
    assert len(tops[0]) == 2


def test_a_checkpoint_goes_on_on_another_backend(tmp_path, backend):
    train(tmp_path / "run", epochs=2)
    moved = fit(**DATA, resume=tmp_path / "run", backend=backend.name, epochs=4)
    assert moved.backend == backend.name
    assert moved.test_accuracy == 1.0


def test_early_stopping_is_the_same_after_a_resume(tmp_path):
    settings = {"lr": 1e-9, "epochs": 9, "patience": 2, "monitor": "loss", "min_delta": 0.1}
    told = []

    class Hears(At):
        def note(self, text):
            told.append(text)

    result = train(tmp_path / "whole", **settings, progress=Hears(0, None))
    assert [r["epoch"] for r in result.history if r.get("valid_loss") is not None] == [1, 2, 3]
    assert len(told) == 1
    assert told[0].startswith("stopped early after epoch 3: validation loss has not improved for 2 epochs; the best was that of epoch ")
    summary = json.loads((tmp_path / "whole" / "result.json").read_text())
    assert summary["epochs"] == 3
    assert "has not improved for 2 epochs" in summary["stopped_early"]
    again = fit(**DATA, resume=tmp_path / "whole")
    assert again.steps == result.steps
    further = fit(**DATA, resume=tmp_path / "whole", patience=4)
    assert further.steps == 5 * 6


def test_ranking_and_patience_by_hand():
    rows = [{"step": s, "epoch": s, "valid_accuracy": a, "valid_loss": 1 - a} for s, a in ((1, 0.5), (2, 0.7), (3, 0.7), (4, 0.6))]
    tests = readings([{"step": 0, "train_loss": 1.0}, *rows, rows[-1]], "valid_accuracy")
    assert tests == [Reading(1, 1, 0.5), Reading(2, 2, 0.7), Reading(3, 3, 0.7), Reading(4, 4, 0.6)]
    assert [t.epoch for t in ranked(tests)] == [2, 3, 4, 1]
    assert epochs_without_improvement(tests, 0.0) == 2
    assert epochs_without_improvement(tests, 0.3) == 3
    assert [t.epoch for t in ranked(readings(rows, "valid_loss"))] == [2, 3, 4, 1]


def test_best_is_the_epoch_with_the_best_reading(tmp_path):
    kept = {}

    class Keep(Callback):
        def epoch(self, run, evaluation):
            kept[run.state.step] = (evaluation.loss, (run.folder / "model.safetensors").read_bytes())

    train(tmp_path / "run", monitor="loss", lr=0.2, schedule="constant", epochs=6, callbacks=[Keep()])
    best = min(kept, key=lambda step: kept[step][0])
    assert (tmp_path / "run" / "best.safetensors").read_bytes() == kept[best][1]
    assert json.loads((tmp_path / "run" / "result.json").read_text())["best"]["step"] == best
    with pnn.use_backend("numpy"):
        read_model(tmp_path / "run", best=True)


def test_validation_chooses_and_the_test_set_measures_once(tmp_path):
    result = train(tmp_path / "run", monitor="loss", lr=0.2, schedule="constant", epochs=6)
    summary = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (summary["watched"], summary["monitor"]) == ("valid", "valid_loss")
    best = summary["best"]
    losses = {r["step"]: r["valid_loss"] for r in result.history if r.get("valid_loss") is not None}
    assert best["step"] == min(losses, key=losses.get) < 36, "the rate is too low: the last epoch is the best, and nothing is tested here"
    with pnn.use_backend("numpy"):
        for chosen, loss in ((False, summary["test_loss"]), (True, best["test_loss"])):
            net, info = read_model(tmp_path / "run", best=chosen)
            assert evaluate(net, Batches(DATA["test"], 32, info.normalisation, shuffle=False)).loss == pytest.approx(loss, rel=1e-6)
    assert result.best_test.loss == best["test_loss"] != result.test.loss


def test_without_a_validation_set_the_test_set_chooses_and_the_page_says_so(tmp_path):
    pytest.importorskip("sklearn", reason="scikit-learn holds the digits")
    result = fit("mlp", valid_fraction=0.0, epochs=2, backend="numpy", out=str(tmp_path / "run"))
    assert result.valid is None
    assert [r["epoch"] for r in result.history if r.get("test_loss") is not None] == [1, 2]
    assert "the best epoch was chosen by the test set" in (tmp_path / "run" / "report.html").read_text()
    assert json.loads((tmp_path / "run" / "result.json").read_text())["best"]["test_accuracy"] >= result.test_accuracy


@pytest.mark.parametrize("view", VIEWS)
def test_views_are_averaged(backend, view):
    images, _ = batch(3)
    with pnn.use_backend(backend):
        net = model("lenet")
        x = pnn.asarray(images)
        got = pnn.to_numpy(scores_of(net, x, view))
        looks = [pnn.to_numpy(look(x)) for look in VIEWS[view]]
        expected = np.mean([pnn.to_numpy(net(pnn.asarray(look))) for look in looks], axis=0)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(looks[0], images)
    if "flip" in view:
        assert any((look == images[..., ::-1]).all() for look in looks)
    if "shift" in view:
        assert any((look[:, :, 1:, 1:] == images[:, :, :-1, :-1]).all() and (look[:, :, 0, 0] == images[:, :, 0, 0]).all() for look in looks)
        assert any((look[:, :, :-1, :-1] == images[:, :, 1:, 1:]).all() for look in looks)


class Autoencoder(nn.Module):
    def __init__(self):
        self.inner = nn.Linear(64, 16)
        self.outer = nn.Linear(16, 64)

    def __call__(self, x):
        y = pnn.ops.relu(self.inner(pnn.ops.reshape(x, (x.shape[0], 64))))
        return pnn.ops.reshape(self.outer(y), x.shape)


def test_pairs_are_approached_by_a_loss_of_ones_own(tmp_path, backend):
    def pairs(seed, count):
        images = corners(count, seed=seed).images
        return Pairs(images, images.astype(np.float32) / 255, "corners")

    made = [pairs(0, 96), pairs(1, 40)]
    settings = {"epochs": 6, "batch_size": 16, "lr": 0.01, "report": True, "backend": backend.name, "out": str(tmp_path / "run")}
    metrics = {"worst": lambda outputs, targets: float(np.abs(outputs - targets).max())}
    result = fit(Autoencoder(), *made, loss=pnn.ops.mse_loss, metrics=metrics, **settings)
    found = [r for r in result.history if r.get("valid_loss") is not None]
    assert found[-1]["valid_loss"] < 0.5 * found[0]["valid_loss"]
    assert found[-1]["valid_worst"] == result.evaluation.metrics["worst"] > 0
    assert math.isnan(result.valid_accuracy)
    assert "valid_worst,test_worst" in (tmp_path / "run" / "metrics.csv").read_text().partition("\n")[0]
    assert json.loads((tmp_path / "run" / "result.json").read_text())["monitor"] == "valid_loss"
    page = (tmp_path / "run" / "report.html").read_text()
    assert "worst" in page
    assert "Confusion" not in page
    for wrong, words in (
        ({}, "without a loss"),
        ({"loss": pnn.ops.mse_loss, "tta": "flip"}, "tta is 'flip'"),
        ({"loss": pnn.ops.mse_loss, "augment": "flip"}, "targets of its own"),
        ({"loss": pnn.ops.mse_loss, "metrics": {"loss": max}}, "a metric is named 'loss'"),
    ):
        with pytest.raises(SettingError, match=words):
            fit(Autoencoder(), *made, **{**settings, "out": str(tmp_path / "other")}, **wrong)


def test_labelled_images_take_a_loss_of_ones_own(tmp_path):
    seen = []

    def loss(scores, labels):
        seen.append(scores.shape)
        return pnn.ops.cross_entropy(scores * 1.0, labels)

    assert train(tmp_path / "run", loss=loss).test_accuracy == 1.0
    assert set(seen) == {(16, 4)}  # called where a step is recorded; replays do not come by
    with pytest.raises(SettingError, match="measured by accuracy"):
        train(tmp_path / "other", metrics={"a": lambda o, t: 0.0})


def test_callbacks_hear_of_every_milestone_and_end_a_run(tmp_path):
    heard = []

    class All(Callback):
        def begin(self, run):
            heard.append("begin")

        def step(self, run, loss):
            heard.append("step")

        def logged(self, run, row):
            heard.append("logged")

        def epoch(self, run, evaluation):
            heard.append("epoch")
            if run.state.step == 12:
                run.stop_after_epoch("it is enough")

        def end(self, run, result):
            heard.append("end")

        def close(self):
            heard.append("close")

    result = train(tmp_path / "run", callbacks=[All()])
    assert result.steps == 12
    assert heard[0] == "begin"
    assert heard[-2:] == ["end", "close"]
    counts = {what: heard.count(what) for what in ("step", "epoch", "logged")}
    assert counts == {"step": 12, "epoch": 2, "logged": len(read_metrics(tmp_path / "run"))}
    assert json.loads((tmp_path / "run" / "result.json").read_text())["stopped_early"] == "it is enough"
    heard.clear()
    with pytest.raises(RunError):
        train(tmp_path / "bad", optimizer="sgd", lr=1e12, schedule="constant", warmup=0.0, callbacks=[All()])
    assert heard[-1] == "close"


def test_data_wait_is_measured(tmp_path):
    result = train(tmp_path / "run", prefetch=0, report=True)
    summary = json.loads((tmp_path / "run" / "result.json").read_text())
    assert summary["augmentation"] == result.augmentation
    assert 0 < result.augmentation < 1
    assert train(tmp_path / "plain", report=True, augment="").augmentation is None
    shares = [r["data_wait"] for r in result.history if r.get("data_wait") is not None]
    assert shares
    assert all(0 < share <= 1 for share in shares)
    assert 0 < result.data_wait < 1


def test_batches_made_ahead_change_no_result(tmp_path, monkeypatch):
    from portable_nn.train import ahead

    train(tmp_path / "plain", prefetch=0)
    monkeypatch.setattr(ahead.Ahead.__init__, "__defaults__", (0.0,))  # a thread at once
    train(tmp_path / "ahead", prefetch=3)
    names = ("model.safetensors", "best.safetensors")
    assert [(tmp_path / "plain" / n).read_bytes() for n in names] == [(tmp_path / "ahead" / n).read_bytes() for n in names]


def test_schedules_of_the_settings(tmp_path):
    from portable_nn.train import TrainConfig
    from portable_nn.train.setup import make_schedule

    step = make_schedule(TrainConfig(schedule="step", lr=1.0, milestones="0.5,0.75", gamma=0.5, warmup=0.0), 8)
    assert [step(i) for i in range(8)] == [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25]
    cycle = make_schedule(TrainConfig(schedule="one-cycle", lr=1.0, warmup=0.3), 10)
    assert [cycle(i) for i in range(10)] == [optim.schedules.one_cycle(1.0, 10)(i) for i in range(10)]
    assert make_schedule(TrainConfig(schedule="linear", lr=2.0, lr_end=0.5, warmup=0.0), 10)(10) == 1.0
    short = make_schedule(TrainConfig(schedule="step", lr=1.0, milestones="0.5,0.75", warmup=0.0), 2)
    assert [short(i) for i in range(3)] == pytest.approx([1.0, 0.1, 0.01])


def test_two_processes_do_not_train_in_one_folder(tmp_path):
    from portable_nn.train.lock import locked

    train(tmp_path / "run", epochs=1)
    with locked(tmp_path / "run"), pytest.raises(RunError, match="another process trains in it"):
        fit(**DATA, resume=tmp_path / "run", epochs=2)


def test_state_of_a_plain_run_has_no_more_than_it_needs():
    state = Recipe().begin(model(), optim.sgd(0.1))
    assert state == TrainState(state.model, {}, 0, {}, {})
