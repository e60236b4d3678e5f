"""Settings: one place for defaults, checks with clear words, files and options that agree."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import get_args

import pytest

from portable_nn.core.errors import SettingError
from portable_nn.train.config import (
    FIELDS,
    RECIPES,
    TYPES,
    TrainConfig,
    add_arguments,
    from_arguments,
    from_mapping,
    load_config,
)


def parse(*words):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return from_arguments(parser.parse_args(words))


def test_every_setting_says_what_it_means():
    for field in FIELDS.values():
        assert field.metadata["meaning"]
        assert "\n" not in field.metadata["meaning"]


def test_every_setting_is_on_the_page():
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    assert [name for name in FIELDS if f"`{name}`" not in page] == []


def test_no_options_give_the_defaults():
    assert parse() == TrainConfig()


def test_every_setting_is_an_option():
    other = {int: 1, float: 0.25, str: "x"}
    special = {"augment": "flip", "milestones": "0.25,0.5", "loss_scale": 8.0}
    for name, field in FIELDS.items():
        option = "--" + name.replace("_", "-")
        if isinstance(field.default, bool):
            assert getattr(parse("--no-" + option[2:] if field.default else option), name) is not field.default
            continue
        kind = next(k for k in (get_args(TYPES[name]) or (TYPES[name],)) if k is not type(None))
        value = special.get(name, field.metadata["choices"][-1] if field.metadata["choices"] else other[kind])
        assert getattr(parse(option, str(value)), name) == value


def test_none_as_an_option():
    assert parse("--out", "none", "--channels", "None") == TrainConfig()


def test_help_names_meanings_and_defaults():
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    text = " ".join(parser.format_help().split())
    assert "images per training step (default: 32)" in text
    assert "--drop-last, --no-drop-last" in text


def test_options_win_over_the_file_and_the_file_over_defaults(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('batch-size = 48\nlr = 1\nmodel = "mlp"\n')
    config = parse("--config", str(path), "--model", "lenet")
    assert config == TrainConfig(batch_size=48, lr=1.0, model="lenet")
    assert isinstance(config.lr, float)


def test_save_and_load(tmp_path):
    config = TrainConfig(epochs=3, lr=0.1, out="x", drop_last=False)
    config.save(tmp_path / "config.json")
    assert load_config(tmp_path / "config.json") == config
    assert set(json.loads((tmp_path / "config.json").read_text())) == set(FIELDS)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"epochs": 0}, "epochs is 0 but an integer of at least 1"),
        ({"epochs": "3"}, "epochs is '3' but an integer is needed"),
        ({"epochs": True}, "epochs is True but an integer"),
        ({"epochs": 2.0}, r"epochs is 2\.0 but an integer"),
        ({"epochs": None}, "epochs is None but an integer is needed"),
        ({"lr": float("nan")}, "lr is nan but a finite number"),
        ({"lr": -0.1}, r"lr is -0\.1 but a number above 0"),
        ({"lr": "0.1"}, r"lr is '0\.1' but a finite number"),
        ({"momentum": 1.0}, r"momentum is 1\.0 but a number in \[0, 1\)"),
        ({"weight_decay": -1}, "weight_decay"),
        ({"label_smoothing": 1}, "label_smoothing"),
        ({"warmup": 1}, "warmup"),
        ({"test_fraction": 0}, "between 0 and 1"),
        ({"channels": 2}, r"channels is 2 but 1 \(grey\)"),
        ({"image_size": 0}, "image_size is 0"),
        ({"image_size": "8"}, "image_size is '8' but an integer, or none, is needed"),
        ({"valid_fraction": -0.1}, r"valid_fraction is -0\.1"),
        ({"valid_fraction": 1}, r"valid_fraction is 1\.0"),
        ({"seed": -1}, "seed is -1"),
        ({"optimizer": "adam"}, "optimizer is 'adam' but one of adamw, sgd, lion, muon is needed; did you mean 'adamw'"),
        ({"beta2": 1.0}, r"beta2 is 1\.0 but a number in \[0, 1\), or none"),
        ({"ema": -0.5}, r"ema is -0\.5 but a number in \[0, 1\), or none"),
        ({"clip_norm": 0}, r"clip_norm is 0\.0 but a number above 0, or none"),
        ({"accumulate": 0}, "accumulate is 0 but an integer of at least 1"),
        ({"milestones": "0.5,0.4"}, "milestones is '0.5,0.4' but increasing parts of the run"),
        ({"milestones": "half"}, "milestones is 'half' but increasing parts of the run"),
        ({"milestones": ""}, "milestones is '' but increasing parts of the run"),
        ({"gamma": 2}, r"gamma is 2\.0 but a number in \(0, 1\]"),
        ({"lr_end": 1.5}, r"lr_end is 1\.5 but a number in \[0, 1\]"),
        ({"loss_scale": 0}, r"loss_scale is 0\.0 but a number of at least 1"),
        ({"patience": 0}, "patience is 0 but an integer of at least 1, or none"),
        ({"min_delta": -1}, r"min_delta is -1\.0 but"),
        ({"keep_best": 0}, "keep_best is 0 but"),
        ({"prefetch": -1}, "prefetch is -1 but an integer of at least 0"),
        ({"precision": "fp16"}, "precision is 'fp16' but one of float32, bfloat16, float16"),
        ({"nesterov": True, "momentum": 0}, "nesterov is True but false, because momentum is 0, is needed"),
        ({"tta": "flips"}, "did you mean 'flip'"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"data": " "}, "data is ' '"),
        ({"backend": ""}, "backend is ''"),
        ({"batchsize": 3}, "unknown setting 'batchsize'; did you mean 'batch_size'"),
        ({"zzz": 3}, "unknown setting 'zzz'; the settings are data, "),
        ({"batch_size": 3, "batch-size": 4}, "'batch_size' is given twice"),
    ],
)
def test_refuses(values, words):
    with pytest.raises(SettingError, match=words) as error:
        from_mapping(values, "here")
    assert str(error.value).startswith("here: ")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.toml", "lr = ", "settings cannot be read"),
        ("a.json", "[1]", "holds a list"),
        ("a.json", '{"lr": NaN}', "lr is nan"),
        ("a.toml", "lr = -1", "lr is -1"),
        ("a.toml", "learning_rate = 1", "unknown setting 'learning_rate'"),
        ("a.yaml", "lr: 1", "must end in .toml or .json"),
    ],
)
def test_files_that_are_refused(tmp_path, name, text, words):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(SettingError, match=words) as error:
        load_config(path)
    assert str(path) in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingError, match=r"gone\.toml: settings cannot be read"):
        parse("--config", str(tmp_path / "gone.toml"))


def test_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().lr = 1.0  # type: ignore[misc]


def test_run_folder_is_a_free_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert TrainConfig(out="a/b").run_folder().parts == ("a", "b")
    assert TrainConfig().run_folder().parts == ("runs", "digits-lenet")
    (tmp_path / "runs" / "digits-lenet").mkdir(parents=True)
    assert TrainConfig().run_folder().parts == ("runs", "digits-lenet-2")


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_settings_by_name(name):
    made = load_config(name)
    assert made.data == "cifar10"
    assert made.valid_fraction == 0.0  # they learn from all images, as the papers do
    assert f"--config {name}" in (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    with pytest.raises(SettingError, match=rf"is no recipe .*did you mean '{name}'"):
        load_config(name[:-1])
