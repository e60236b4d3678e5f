"""Files that are whole or absent, metrics that survive interruptions, and the pictures made of them."""

import csv
import json

import numpy as np
import pytest

from portable_nn.core.errors import DataError, RunError
from portable_nn.data import Dataset
from portable_nn.train.records import COLUMNS, MetricsWriter, atomic_path, read_metrics, write_json
from portable_nn.train.report import read_predictions, write_predictions, write_report


def test_a_failing_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(b"old")

    def interrupted():
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["model.bin"]
    with atomic_path(path) as temporary:
        assert temporary.suffix == ".bin"
        temporary.write_bytes(b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["model.bin"]


def test_writing_nothing_is_an_error(tmp_path):
    with pytest.raises(RunError, match="nothing was written"), atomic_path(tmp_path / "a"):
        pass


def test_json_is_real_json(tmp_path):
    write_json(tmp_path / "a.json", {"a": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1, None]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "b.json", {"a": float("nan")})
    assert not (tmp_path / "b.json").exists()


def write_steps(writer, steps):
    for step in steps:
        writer.write(step=step, train_loss=1 / step)


def csv_rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_are_read_back(tmp_path):
    with MetricsWriter(tmp_path) as writer:
        writer.write(step=1, epoch=0, train_loss=np.float32(0.5), lr=0.1)
        writer.write(step=1, test_accuracy=float("nan"), test_loss=np.float64("inf"))
        assert len(read_metrics(tmp_path)) == 2  # visible while the run goes on
    assert read_metrics(tmp_path) == [
        {"step": 1, "epoch": 0, "lr": 0.1, "train_loss": 0.5},
        {"step": 1, "test_loss": None, "test_accuracy": None},
    ]
    rows = csv_rows(tmp_path)
    assert tuple(rows[0]) == COLUMNS
    assert (rows[0]["step"], rows[0]["train_loss"], rows[0]["test_loss"]) == ("1", "0.5", "")


def test_resuming_removes_what_lies_beyond(tmp_path):
    with MetricsWriter(tmp_path) as writer:
        write_steps(writer, range(1, 8))
    before = [row for row in read_metrics(tmp_path) if row["step"] <= 4]
    with MetricsWriter(tmp_path, resume_step=4) as writer:
        assert read_metrics(tmp_path) == before
        write_steps(writer, [5, 6])
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in csv_rows(tmp_path)] == ["1", "2", "3", "4", "5", "6"]


@pytest.mark.parametrize("rest", ['{"step": 3, "train', '{"step": 3, "train\n', "\0\0\0\n"])
def test_a_last_line_cut_short_is_dropped(tmp_path, rest):
    with MetricsWriter(tmp_path) as writer:
        write_steps(writer, [1, 2])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(rest)
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2]
    with MetricsWriter(tmp_path, resume_step=5) as writer:
        write_steps(writer, [6])
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 6]


@pytest.mark.parametrize("line", ["damaged", "[1]", '{"loss": 1}'])
def test_a_damaged_line_inside_is_an_error(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n')
    with pytest.raises(RunError, match=r"metrics\.jsonl: line 2 is damaged"):
        read_metrics(tmp_path)


def test_an_earlier_run_is_not_overwritten(tmp_path):
    with MetricsWriter(tmp_path) as writer:
        write_steps(writer, [1])
    with pytest.raises(RunError, match="holds the metrics of an earlier run"):
        MetricsWriter(tmp_path)


@pytest.mark.parametrize(
    ("row", "words"),
    [({"step": 1}, "step 1 comes after step 2"), ({"epoch": 1}, "no step"), ({"step": 3, "los": 1}, r"\(s\) los;")],
)
def test_rows_that_are_refused(tmp_path, row, words):
    with MetricsWriter(tmp_path) as writer:
        write_steps(writer, [1, 2])
        with pytest.raises(RunError, match=words):
            writer.write(**row)
    assert len(read_metrics(tmp_path)) == 2


def made_up(count=60, channels=1, dtype=np.uint8):
    images = (np.arange(count * channels * 64).reshape(count, channels, 8, 8) % 256).astype(dtype)
    return Dataset(images, np.arange(count) % 3, ("a", "b", "a very long class name"), "made-up")


def test_predictions_are_read_back_with_wrong_ones_first(tmp_path):
    data = made_up()
    predictions, confidence = data.labels.copy(), np.full(60, 0.9)
    predictions[[7, 30]] = (predictions[[7, 30]] + 1) % 3
    confidence[7] = 0.6
    write_predictions(tmp_path, data, predictions, confidence)
    found = read_predictions(tmp_path)
    assert found.sample_indices[:2].tolist() == [30, 7]
    assert len(set(found.sample_indices.tolist())) == 40
    np.testing.assert_array_equal(found.sample_images, data.images[found.sample_indices])
    np.testing.assert_array_equal(found.predictions, predictions)
    assert found.classes == data.classes


@pytest.mark.parametrize(
    ("predictions", "confidence", "words"),
    [
        (np.zeros(3, int), None, r"\(60,\) and predictions \(3,\)"),
        (np.full(60, 3), None, "prediction 3 at index 0"),
        (np.zeros(60, int), np.zeros(5), r"confidence has shape \(5,\)"),
    ],
)
def test_predictions_that_are_refused(tmp_path, predictions, confidence, words):
    with pytest.raises(DataError, match=words):
        write_predictions(tmp_path, made_up(), predictions, confidence)


def test_missing_or_damaged_predictions(tmp_path):
    with pytest.raises(RunError, match=r"predictions\.npz: cannot be read"):
        write_report(tmp_path)
    whole = write_predictions(tmp_path, made_up(), np.zeros(60, int)).read_bytes()
    for content in (b"", b"x", whole[: len(whole) // 2]):
        (tmp_path / "predictions.npz").write_bytes(content)
        with pytest.raises(RunError, match=r"predictions\.npz: cannot be read"):
            write_report(tmp_path)


@pytest.mark.parametrize(
    ("count", "channels", "dtype", "steps"), [(60, 1, np.uint8, 200), (5, 3, np.float32, 2), (3, 2, np.float64, 0)]
)
def test_report(tmp_path, count, channels, dtype, steps):
    pytest.importorskip("matplotlib")
    image = pytest.importorskip("PIL.Image")
    data = made_up(count, channels, dtype)
    with MetricsWriter(tmp_path) as writer:
        for step in range(1, steps + 1):
            writer.write(step=step, train_loss=1 / step, train_accuracy=None if step == 2 else 0.5, lr=0.1)
        if steps:
            writer.write(step=steps, test_loss=0.1, test_accuracy=0.75)
    write_predictions(tmp_path, data, np.zeros(count, int))
    written = write_report(tmp_path, "made-up run")
    names = ["curves.png"] * bool(steps) + ["confusion.png", "samples.png"]
    assert [path.name for path in written] == names
    for path in written:
        with image.open(path) as picture:
            assert len(np.unique(np.asarray(picture.convert("L")))) > 10
