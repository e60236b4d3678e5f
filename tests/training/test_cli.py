"""The command line: each command in a process of its own, and errors that are one message."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from training.synthetic import corners

from portable_nn import cli
from portable_nn.train.config import FIELDS

ROOT = Path(__file__).resolve().parents[2]


def environment():
    path = os.pathsep.join([str(ROOT), str(ROOT / "backends")])
    return {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "error"}


def run(*words, cwd):
    return subprocess.run(
        [sys.executable, "-m", "portable_nn", *map(str, words)], cwd=cwd, env=environment(), capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with data, a run on it and an image."""
    folder = tmp_path_factory.mktemp("cli")
    train, test = corners(), corners(40, seed=1)
    np.savez(folder / "corners.npz", x_train=train.images, y_train=train.labels, x_test=test.images, y_test=test.labels, classes=train.classes)
    done = run(
        "train", "--data", "corners.npz", "--model", "mlp", "--epochs", 4, "--batch-size", 16, "--lr", 0.01, "--backend", "numpy",
        "--out", "run", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_train_prints_what_matters(trained):
    folder, text = trained
    assert "epoch 4/4: train loss" in text
    assert "test accuracy 100.00 % (0 of 40 wrong)" in text
    assert "images/s, on numpy: cpu" in text
    assert "\x1b" not in text  # piped: no colours, no bar
    for name in ("config.json", "metrics.csv", "metrics.jsonl", "model.safetensors"):
        assert (folder / "run" / name).is_file()


def test_train_draws_pictures(trained):
    pytest.importorskip("matplotlib", reason="draws the pictures")
    for name in ("curves.png", "confusion.png", "samples.png"):
        assert (trained[0] / "run" / name).read_bytes()[:4] == b"\x89PNG"


def test_eval_works_from_anywhere(trained, tmp_path):
    done = run("eval", trained[0] / "run", "--backend", "numpy", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "test accuracy 100.00 %" in done.stdout
    assert done.stdout.count(" %") >= 12
    found = json.loads(run("eval", trained[0] / "run", "--json", "--backend", "numpy", cwd=tmp_path).stdout)
    assert found["accuracy"] == 1.0
    assert set(found["classes"]) == {"ul", "ur", "ll", "lr"}


def test_predict_scales_and_converts(trained):
    image = pytest.importorskip("PIL.Image", reason="reads images")
    folder = trained[0]
    pixels = np.full((90, 60, 3), 20, np.uint8)
    pixels[45:, 30:] = 220
    image.fromarray(pixels).save(folder / "lr.png")
    image.fromarray(255 - pixels).save(folder / "dark.png")
    done = run("predict", "run", "lr.png", "--backend", "numpy", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("lr.png: lr ")
    assert done.stdout.count(" %") == 3
    found = json.loads(run("predict", "run", "dark.png", "--invert", "--json", "--backend", "numpy", cwd=folder).stdout)
    assert found[0]["classes"][0]["name"] == "lr"


def test_info_tells_state_and_versions(tmp_path):
    done = run("info", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    states = {status["name"]: status for status in found["backends"]}
    assert states["numpy"]["state"] == "ready"
    assert found["versions"]["numpy"] == np.__version__
    assert all(status["reason"] for status in states.values() if status["state"] != "ready")


def test_ops_lists_and_describes(capsys):
    assert cli.main(["ops"]) == 0
    listing = capsys.readouterr().out
    assert "conv2d " in listing
    assert cli.main(["ops", "conv2d"]) == 0
    assert capsys.readouterr().out.startswith("conv2d(x")
    assert cli.main(["ops", "conv2"]) == 2
    assert "did you mean 'conv2d'" in capsys.readouterr().err
    assert cli.main(["ops", "relu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["gradient"] is True


def test_help_answers_with_examples_and_every_setting(capsys):
    for words in (["--help"], ["train", "--help"]):
        with pytest.raises(SystemExit) as left:
            cli.main(words)
        assert left.value.code == 0
        text = capsys.readouterr().out
        assert "portable-nn train --resume" in text
    for name in FIELDS:
        assert f"--{name.replace('_', '-')}" in text
    assert cli.main([]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--model", "lenett"], "did you mean 'lenet'"),
        (["train", "--lr", "-1"], "lr is -1.0"),
        (["train", "--data", "digitz"], "did you mean 'digits'"),
        (["train", "--backend", "nmpy"], "did you mean 'numpy'"),
        (["train", "--resume", "nowhere"], "no run folder"),
        (["train", "--resume", "nowhere", "--config", "a.toml"], "keeps its own settings"),
        (["eval", "nowhere"], "nowhere"),
        (["predict", "nowhere", "a.png"], "nowhere"),
    ],
)
def test_errors_are_one_message_and_exit_code_2(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert told.err.startswith(f"portable-nn {words[0]}: error: ")
    assert "Traceback" not in told.err
    assert not list(tmp_path.iterdir())


def test_a_damaged_image_and_other_data_are_named(trained, capsys, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"not a png")
    folder = trained[0]
    assert cli.main(["predict", str(folder / "run"), str(tmp_path / "bad.png"), "--backend", "numpy"]) == 2
    assert "bad.png" in capsys.readouterr().err
    other = corners(size=6)
    np.savez(tmp_path / "other.npz", images=other.images, labels=other.labels, classes=other.classes)
    assert cli.main(["eval", str(folder / "run"), "--data", str(tmp_path / "other.npz"), "--backend", "numpy"]) == 2
    assert "(1, 6, 6)" in capsys.readouterr().err


def test_ctrl_c_leaves_a_run_that_resumes(trained):
    folder = trained[0]
    command = [
        sys.executable, "-u", "-m", "portable_nn", "train", "--data", "corners.npz", "--model", "mlp", "--epochs", "4000",
        "--batch-size", "16", "--backend", "numpy", "--out", "long",
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if " epochs of " in line:
                steps = int(line.split(" epochs of ")[1].split()[0])
            if line.startswith("epoch"):
                break
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "portable-nn train --resume long" in errors
    assert "Traceback" not in errors
    step = int(errors.split("after step ")[1].split(";")[0])
    done = run("train", "--resume", "long", "--epochs", step // steps + 1, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert f"going on after step {step}" in done.stdout
