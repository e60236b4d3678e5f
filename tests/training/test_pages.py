"""Pages, comparisons, sweeps and the learning-rate test: they hold what the runs hold, and need no other file."""

import base64
import csv
import html.parser
import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from training.synthetic import corners

from portable_nn import cli
from portable_nn.core.errors import RunError, SettingError
from portable_nn.train import TrainConfig, fit, loop
from portable_nn.train.compare import differing, read_runs
from portable_nn.train.lr_find import find_lr, judge
from portable_nn.train.pages import png
from portable_nn.train.pages.chart import Series, chart, smooth, ticks
from portable_nn.train.pages.run import _mistakes, write_page
from portable_nn.train.progress import Silent
from portable_nn.train.report import Predictions
from portable_nn.train.sweep import plan, read_plan, run_sweep

VOID = {"meta", "img"}


class Reader(html.parser.HTMLParser):
    """Fails on tags that are not closed in order; collects text and what is referred to."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        self.links += [v for n, v in attrs if n in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.links += [v for n, v in attrs if n in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(path):
    reader = Reader()
    text = Path(path).read_text(encoding="utf-8")
    reader.feed(text)
    assert not reader.open
    assert all(link.startswith("data:image/png;base64,") for link in reader.links), "the page needs another file"
    assert "@import" not in text
    assert "url(" not in text
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text
    return " ".join(" ".join(reader.text).split()), reader.links


@pytest.fixture(scope="module", autouse=True)
def no_pictures():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Run, "draw", lambda self: ())
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    for name, more in (("a", {"lr": 0.01, "augment": "shift:1"}), ("b", {"lr": 0.0001})):
        data = {"train": corners(), "valid": corners(40, seed=1), "test": corners(32, seed=2)}
        fit("lenet", **data, epochs=2, batch_size=16, log_every=2, backend="numpy", out=str(folder / name), **more)
    return folder


def test_the_page_of_a_run_holds_everything(runs):
    text, pictures = read(runs / "a" / "report.html")
    result = json.loads((runs / "a" / "result.json").read_text())
    for part in ("test", "valid"):
        assert f"{100 * result[f'{part}_accuracy']:.2f} %" in text
    for word in ("Curves", "Classes", "Confusion matrix", "Worst mistakes", "Augmentation", "First-layer filters", "Time of a step", "Time per op", "Where it ran", "All settings"):
        assert word in text, word
    assert "conv2d_weight_grad" in text
    assert "numpy: cpu" in text
    assert len(pictures) >= 2
    assert all(base64.b64decode(p.partition(",")[2])[:4] == b"\x89PNG" for p in pictures)
    wrong, _ = read(runs / "b" / "report.html")
    assert "taken for" in wrong or "every test image was predicted right" in wrong
    assert "Augmentation" not in wrong


def test_mistakes_whose_pictures_were_not_kept_are_counted():
    labels, none = np.array([0, 1, 1]), np.empty(0, np.int64)
    found = Predictions(labels, np.array([0, 0, 1]), np.ones(3), ("a", "b"), "test", none, np.empty((0, 1, 8, 8), np.uint8))
    assert "1 of 3 test images are wrong; no pictures of them were kept" in _mistakes(found)
    assert "every test image was predicted right" in _mistakes(replace(found, predictions=labels))


def test_report_is_written_again_and_of_runs_that_did_not_end(runs, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    for name in ("config.json", "metrics.jsonl"):
        (tmp_path / "run" / name).write_bytes((runs / "a" / name).read_bytes())
    assert cli.main(["report", str(tmp_path / "run")]) == 0
    assert "has not finished: 2 of 2 epochs are behind it" in read(tmp_path / "run" / "report.html")[0]
    with pytest.raises(RunError, match="is no run folder"):
        write_page(tmp_path)
    (tmp_path / "run" / "result.json").write_text("{")
    assert cli.main(["report", str(tmp_path / "run")]) == 2
    assert "result.json: cannot be read" in capsys.readouterr().err


def test_names_are_escaped(tmp_path):
    data = [corners(), corners(40, seed=1)]
    object.__setattr__(data[0], "classes", ("<b>", "&", '"', "lr"))
    object.__setattr__(data[1], "classes", ("<b>", "&", '"', "lr"))
    fit("mlp", *data, epochs=1, batch_size=16, backend="numpy", out=str(tmp_path / "run"))
    text, _ = read(tmp_path / "run" / "report.html")
    assert "<b>" in text  # as text, not as a tag: the reader above would have failed


def test_compare_tells_what_differs(runs, capsys, tmp_path):
    out = tmp_path / "sub" / "c.html"
    assert cli.main(["compare", str(runs / "a"), str(runs / "b"), "--out", str(out)]) == 0
    head, first, second, *_ = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["run", "augment", "lr"]
    assert first.startswith("a ")
    assert "0.0001" in second
    text, _ = read(out)
    assert "2 runs compared" in text
    assert cli.main(["compare", str(runs / "a"), "--json", "--out", "none"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["result"]["epochs"] == 2
    assert differing(read_runs([runs / "a", runs / "b"])) == ["augment", "lr"]
    for words, message in (([str(tmp_path)], "is no run folder"), ([str(runs / "a")] * 2, "is given twice")):
        assert cli.main(["compare", *words]) == 2
        assert message in capsys.readouterr().err


def test_charts_are_placed_and_leave_out_what_does_not_fit():
    drawn = chart("a < b", [Series("x", [0, 1, 2], [0.0, math.nan, 1.0]), Series("y", [0, 2], [1.0, 0.0], points=True)], "step")
    assert "a &lt; b" in drawn
    assert drawn.count("<circle") == 2
    (points,) = re.findall(r'polyline points="([^"]*)"', drawn)
    (x0, y0), (x1, y1) = (tuple(map(float, p.split(","))) for p in points.split())
    assert x0 < x1
    assert y0 > y1  # larger is higher
    assert "nothing was recorded" in chart("empty", [Series("x", [], [])], "step")
    assert "<circle" in chart("one", [Series("x", [1], [2])], "step")
    assert "nothing" in chart("log", [Series("x", [1], [-2])], "step", log_y=True)
    assert ticks(0, 1, False) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks(1e-3, 10, True) == pytest.approx([1e-3, 1e-2, 1e-1, 1, 10])
    assert smooth([1, 3, 5], 2) == [1, 2, 4]


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (4, 7, 3)])
def test_pictures_are_those_that_a_reader_reads(shape, tmp_path):
    image = pytest.importorskip("PIL.Image", reason="reads the pictures")
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    (tmp_path / "a.png").write_bytes(png.encode(pixels))
    with image.open(tmp_path / "a.png") as opened:
        np.testing.assert_array_equal(np.asarray(opened), pixels)


def hears(told):
    def progress(text):
        told.append(text)
        return Silent()

    return progress


def test_a_sweep_goes_on_where_it_stopped(tmp_path, capsys):
    train, test = corners(), corners(40, seed=1)
    np.savez(tmp_path / "c.npz", x_train=train.images, y_train=train.labels, x_test=test.images, y_test=test.labels)
    base = TrainConfig(data=str(tmp_path / "c.npz"), model="mlp", epochs=2, batch_size=16, backend="numpy", report=False)
    made = plan(base, grid=["lr=0.01,1e12", "optimizer=sgd"], search=["seed=3:9", "schedule=constant"], trials=1)
    assert [t["lr"] for t in made.trials] == [0.01, 1e12]
    assert all(3 <= t["seed"] <= 9 for t in made.trials)
    told = []

    def stops(text):
        if len(told) == 1:
            raise KeyboardInterrupt
        return hears(told)(text)

    with pytest.raises(KeyboardInterrupt):
        run_sweep(made, tmp_path / "s", stops)
    assert read_plan(tmp_path / "s") == made
    kept = (tmp_path / "s" / "trial-001" / "result.json").read_bytes()
    run_sweep(None, tmp_path / "s", hears(told))
    assert [t.partition(":")[0] for t in told] == ["trial 1 of 2", "trial 2 of 2"]
    assert (tmp_path / "s" / "trial-001" / "result.json").read_bytes() == kept
    assert "the loss is" in json.loads((tmp_path / "s" / "trial-002" / "failed.json").read_text())["error"]
    head, first, second = csv.reader((tmp_path / "s" / "sweep.csv").read_text().splitlines())
    assert head[:5] == ["run", "lr", "optimizer", "seed", "schedule"]
    assert first[0] == "trial-001"
    assert second[0] == "trial-002 (failed)"
    text, _ = read(tmp_path / "s" / "sweep.html")
    assert "1 of 2 trials have finished" in text
    with pytest.raises(RunError, match="holds a sweep already"):
        run_sweep(made, tmp_path / "s", hears(told))
    assert cli.main(["sweep", "--resume", str(tmp_path / "s")]) == 0
    assert "trial-002 (failed)" in capsys.readouterr().out
    assert cli.main(["sweep", "--resume", str(tmp_path / "s"), "--lr", "1"]) == 2
    assert "keeps its own settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "nothing is swept"),
        ({"grid": ["lr"]}, "a setting with values is needed"),
        ({"grid": ["learning=1"]}, "unknown setting 'learning'"),
        ({"grid": ["lr=fast"]}, "lr is 'fast' but a finite number"),
        ({"grid": ["lr=-1"]}, r"lr is -1\.0"),
        ({"grid": ["nesterov=maybe"]}, "nesterov is 'maybe' but true or false"),
        ({"grid": ["lr=1"], "search": ["lr=0:1"]}, "lr is given twice"),
        ({"grid": ["out=a,b"]}, "out cannot be swept"),
        ({"search": ["lr=1:0"]}, "low below high"),
        ({"search": ["lr=log:0:1"]}, "above 0"),
        ({"search": ["lr=a:b"]}, "low:high, log:low:high"),
        ({"search": ["lr=0.1:1"], "trials": 0}, "trials is 0"),
    ],
)
def test_sweeps_that_are_refused(given, words):
    with pytest.raises(SettingError, match=words):
        plan(TrainConfig(), **given)


def test_draws_are_those_of_the_seed_and_fill_their_range():
    search = ["lr=log:1e-4:1e-1", "momentum=0.5:0.9", "optimizer=adamw,sgd,lion"]
    trials = plan(TrainConfig(), search=search, trials=200, seed=1).trials
    assert trials == plan(TrainConfig(), search=search, trials=200, seed=1).trials
    assert trials != plan(TrainConfig(), search=search, trials=200, seed=2).trials
    rates = np.log10([t["lr"] for t in trials])
    assert rates.min() >= -4
    assert rates.max() <= -1
    assert abs(np.median(rates) + 2.5) < 0.5
    assert {t["optimizer"] for t in trials} == {"adamw", "sgd", "lion"}


def test_the_learning_rate_test_finds_where_a_known_loss_falls_fastest():
    rates = [10 ** (-5 + 0.05 * i) for i in range(100)]
    # Falls around 1e-3 on the scale of the logarithm, rises from 1e-1 on.
    losses = [2 - 1.5 / (1 + math.exp(-6 * (math.log10(r) + 3))) + max(0, 40 * (math.log10(r) + 1)) for r in rates]
    found = judge(rates, losses, True)
    assert 3e-4 < found.steepest < 1e-2  # smoothing lags behind by about ten steps, half a decade
    assert found.steepest < found.lowest < 0.2
    with pytest.raises(RunError, match="finite for 4 steps only"):
        judge(rates[:4], losses[:4], True)


def test_lr_find_on_digits_writes_its_plot(tmp_path, capsys):
    pytest.importorskip("sklearn", reason="scikit-learn holds the digits")
    words = ["lr-find", "--model", "mlp", "--backend", "numpy", "--optimizer", "sgd", "--from", "1e-4", "--to", "1e3", "--steps", "40", "--out", str(tmp_path)]
    assert cli.main(words) == 0
    told = capsys.readouterr().out
    assert "the loss falls fastest at" in told
    found = json.loads((tmp_path / "lr-find.json").read_text())
    assert found["diverged"]
    assert 1e-3 < found["steepest"] < 10
    assert (tmp_path / "lr-find.svg").read_text().startswith("<svg")
    for more, words in (({"low": 1.0, "high": 0.1}, "from 1 to 0.1"), ({"steps": 3}, "steps is 3")):
        with pytest.raises(SettingError, match=words):
            find_lr(TrainConfig(backend="numpy"), **more)


def test_tensorboard_reads_what_is_written(tmp_path):
    pytest.importorskip("tensorboard", reason="writes and reads event files")
    data = {"train": corners(), "valid": corners(40, seed=1)}
    settings = {"epochs": 2, "batch_size": 16, "backend": "numpy", "report": False, "tensorboard": True}
    fit("mlp", **data, **settings, out=str(tmp_path / "run"))
    fit(resume=tmp_path / "run", **data, epochs=3)
    code = (  # in a process of its own: its libraries warn
        "import sys, json; from tensorboard.backend.event_processing.event_accumulator import EventAccumulator as E\n"
        "e = E(sys.argv[1]); e.Reload(); print(json.dumps({t: [s.step for s in e.Scalars(t)] for t in e.Tags()['scalars']}))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "run" / "tensorboard"], capture_output=True, text=True, check=True)
    steps = json.loads(done.stdout.splitlines()[-1])
    assert sorted(set(steps["accuracy/valid"])) == [6, 12, 18]
    assert {"loss/train", "loss/valid", "run/learning rate"} <= set(steps)


@pytest.mark.parametrize("kills", [4, pytest.param(200, marks=pytest.mark.slow)])
def test_killed_again_and_again_it_is_the_run_that_was_never_stopped(kills):
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    script = Path(__file__).with_name("kills.py")
    words = ["--kills", str(kills), "--epochs", str(15 if kills < 10 else 500), "--longest", "0.3"]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no damaged file, no lost epoch" in done.stdout
