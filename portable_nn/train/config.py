"""Settings of a training run: names, defaults, meanings and checks live here; the command line is made from them.

Longer than most files, so that a setting is added in one place.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from ..augment import parse
from ..core.errors import SettingError
from .records import write_json

OPTIMIZERS = ("adamw", "sgd", "lion", "muon")
SCHEDULES = ("cosine", "constant", "linear", "step", "one-cycle")
PRECISIONS = ("float32", "bfloat16", "float16")
VIEWS = ("none", "flip", "shift", "flip+shift")
MONITORS = ("accuracy", "loss")
ON_ERROR = ("raise", "skip")
RECIPES = {path.stem: path for path in sorted((Path(__file__).parent / "recipes").glob("*.toml"))}
"""Files of settings that come along, by name."""


def setting(default: Any, meaning: str, choices: tuple[str, ...] = ()) -> Any:
    """Make a dataclass field with its line of meaning, and the words it may hold if there are only some."""
    return dataclasses.field(default=default, metadata={"meaning": meaning, "choices": choices})


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of a training run, checked when made.

    Raises
    ------
    SettingError
        A value of the wrong type or outside its range, or two that contradict each other.
    """

    data: str = setting(
        "digits", "digits, mnist, fashion-mnist, cifar10, cifar100, svhn; a folder with their files; a folder of images by class; or an .npz file"
    )
    data_folder: str | None = setting(None, "where named data sets lie and are fetched to, as torchvision has them; none: a cache folder")
    offline: bool = setting(False, "fetch nothing; say which file goes where")
    test_fraction: float = setting(0.2, "part split off for testing when the data has no test set of its own")
    valid_fraction: float = setting(
        0.1, "part of the training set kept back for validation, which chooses the best model; 0: none, and the test set chooses"
    )
    split_seed: int = setting(0, "seed of these splits; apart from seed, so that runs share their sets")
    image_size: int | None = setting(None, "height and width that images in a folder are scaled to; none: as they are")
    channels: int | None = setting(
        None, "channels that images in a folder are converted to: 1, 3, or none: as they are"
    )
    on_error: str = setting("raise", "corrupt images in a folder: raise an error, or skip and list them", ON_ERROR)
    model: str = setting("lenet", "name of the model")
    pretrained: str | None = setting(None, "start from the weights that come along for this data set, such as cifar10; none: fresh ones")
    epochs: int = setting(25, "times through the training set")
    batch_size: int = setting(32, "images per training step")
    eval_batch_size: int = setting(256, "images per evaluation step; changes speed and memory, not results")
    drop_last: bool = setting(True, "leave out an epoch's last batch when it is smaller than batch_size")
    augment: str = setting("", "augmentations on the device, in order, such as flip,crop:4; `portable-nn show-augment` draws them")
    mixup: float = setting(0.0, "alpha of mixup, 0: none")
    cutmix: float = setting(0.0, "alpha of cutmix, 0: none; with both, each step takes one of them")
    accumulate: int = setting(1, "batches whose gradients are averaged before one step of the optimizer")
    optimizer: str = setting("adamw", "adamw, sgd, lion, or muon (with adamw for what is no hidden matrix)", OPTIMIZERS)
    lr: float = setting(0.005, "learning rate at its highest")
    momentum: float = setting(0.9, "momentum of sgd and muon; the others do not use it")
    nesterov: bool = setting(False, "Nesterov's form of momentum, for sgd (muon always uses it)")
    beta1: float | None = setting(None, "part of the average of gradients kept by adamw, lion; none: 0.9")
    beta2: float | None = setting(None, "the same for squares (adamw), or the next step (lion); none: 0.999, lion 0.99")
    weight_decay: float = setting(0.01, "decay of weights per step and learning rate (adamw, lion, muon), or L2 penalty (sgd)")
    decay_biases: bool = setting(True, "weight decay of biases, norms and embeddings of position too")
    clip_norm: float | None = setting(None, "longest that all gradients together may be; longer ones are scaled; none: no limit")
    schedule: str = setting("cosine", "learning rate over the run: cosine, constant, linear, step, or one-cycle", SCHEDULES)
    warmup: float = setting(0.05, "part of the run over which the learning rate rises from 0; one-cycle: to its highest")
    lr_end: float = setting(0.0, "where cosine and linear end, as a part of lr")
    milestones: str = setting("0.5,0.75", "parts of the run at which step multiplies the learning rate by gamma")
    gamma: float = setting(0.1, "factor at each milestone")
    ema: float | None = setting(None, "test and save a moving average of the weights, of which this part stays per step; none: off")
    precision: str = setting("float32", "of forward and backward pass; weights and updates are float32 always", PRECISIONS)
    loss_scale: float = setting(65536.0, "first loss scale of float16; it then halves on overflow and doubles after 2000 steps")
    label_smoothing: float = setting(0.05, "part of the target spread evenly over all classes")
    tta: str = setting("none", "test on several views of each image and average: flip, shift (by a pixel), flip+shift", VIEWS)
    patience: int | None = setting(None, "epochs without improvement after which the run stops; none: never")
    min_delta: float = setting(0.0, "smallest change of what is monitored that counts as improvement")
    monitor: str = setting("accuracy", "reading of the validation set that chooses the best model and stops early", MONITORS)
    keep_best: int = setting(1, "how many of the best models to keep beside the last")
    capture: bool = setting(True, "record the step once and replay it, fused and planned; the numbers are the same without")
    seed: int = setting(0, "seed of weights, order and draws")
    prefetch: int = setting(2, "batches made ready ahead of the step by a thread; 0: none, they are made in between")
    out: str | None = setting(None, "run folder to make; none: the next free one under runs/")
    log_every: int = setting(10, "steps from one line of training metrics to the next; each waits for the device")
    report: bool = setting(True, "write report.html when the run ends")
    tensorboard: bool = setting(False, "write TensorBoard's event files too, in the run folder")
    backend: str | None = setting(None, "backend, or ordered list separated by commas; none: as the environment says")
    device: str | None = setting(None, "device by index or part of its name; none: as the environment says")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _typed(field, getattr(self, field.name)))
        positive = "an integer of at least 1"
        for name in ("epochs", "batch_size", "eval_batch_size", "log_every", "accumulate", "keep_best"):
            self._check(name, getattr(self, name) >= 1, positive)
        self._check("image_size", self.image_size is None or self.image_size >= 1, f"{positive}, or none,")
        self._check("channels", self.channels in (None, 1, 3), "1 (grey), 3 (RGB), or none")
        self._check("test_fraction", 0 < self.test_fraction < 1, "a number between 0 and 1")
        self._check("valid_fraction", 0 <= self.valid_fraction < 1, "a number in [0, 1)")
        parse(self.augment)
        for name in ("mixup", "cutmix"):
            self._check(name, getattr(self, name) >= 0, "a number of at least 0")
        self._check("lr", self.lr > 0, "a number above 0")
        self._check("weight_decay", self.weight_decay >= 0, "a number of at least 0")
        self._check("label_smoothing", 0 <= self.label_smoothing < 1, "a number in [0, 1)")
        for name in ("warmup", "momentum"):
            self._check(name, 0 <= getattr(self, name) < 1, "a number in [0, 1)")
        for name in ("beta1", "beta2", "ema"):
            value = getattr(self, name)
            self._check(name, value is None or 0 <= value < 1, "a number in [0, 1), or none,")
        self._check("nesterov", not self.nesterov or self.momentum > 0, "false, because momentum is 0,")
        self._check("clip_norm", self.clip_norm is None or self.clip_norm > 0, "a number above 0, or none,")
        self._check("lr_end", 0 <= self.lr_end <= 1, "a number in [0, 1]")
        self._check("gamma", 0 < self.gamma <= 1, "a number in (0, 1]")
        self._check("loss_scale", self.loss_scale >= 1, "a number of at least 1")
        self._check("patience", self.patience is None or self.patience >= 1, f"{positive}, or none,")
        self._check("min_delta", self.min_delta >= 0, "a number of at least 0")
        self._check("prefetch", self.prefetch >= 0, "an integer of at least 0")
        self.milestone_parts()
        for name in ("seed", "split_seed"):
            self._check(name, 0 <= getattr(self, name) < 2**63, "an integer in 0..2**63-1")
        for name in ("data", "model"):
            self._check(name, bool(getattr(self, name).strip()), "a non-empty name or path")
        for name in ("out", "backend", "device", "data_folder", "pretrained"):
            value = getattr(self, name)
            self._check(name, value is None or bool(value.strip()), "a non-empty text, or none,")

    def _check(self, name: str, good: bool, needed: str) -> None:
        if not good:
            raise SettingError(f"settings: {name} is {getattr(self, name)!r} but {needed} is needed")

    def milestone_parts(self) -> tuple[float, ...]:
        """Return the milestones as increasing parts of the run in (0, 1)."""
        needed = "increasing parts of the run between 0 and 1, separated by commas, such as '0.5,0.75',"
        try:
            parts = tuple(float(word) for word in self.milestones.split(","))
        except ValueError:
            parts = ()
        rising = all(a < b for a, b in zip((0.0, *parts), (*parts, 1.0), strict=True))
        self._check("milestones", bool(parts) and rising, needed)
        return parts

    def to_dict(self) -> dict[str, Any]:
        """All settings as a plain dict, in the order of the fields."""
        return dataclasses.asdict(self)

    def save(self, path: str | Path) -> None:
        """Write all settings as JSON, whole or not at all."""
        write_json(path, self.to_dict())

    def run_folder(self) -> Path:
        """Choose the folder `out`, or the first of runs/<data>-<model>, runs/<data>-<model>-2 ... that is free."""
        if self.out is not None:
            return Path(self.out).expanduser()
        base = f"{Path(self.data).resolve().stem}-{self.model}"
        number = 1
        while (folder := Path("runs", base if number == 1 else f"{base}-{number}")).exists():
            number += 1
        return folder


FIELDS = {field.name: field for field in dataclasses.fields(TrainConfig)}
TYPES = get_type_hints(TrainConfig)
NEEDED = {int: "an integer", float: "a finite number", str: "a text", bool: "true or false"}


def _kind(name: str) -> tuple[type, bool]:
    """Tell the type of a field's values, and whether it may be None."""
    kinds = get_args(TYPES[name]) or (TYPES[name],)
    return next(kind for kind in kinds if kind is not type(None)), type(None) in kinds


def _typed(field: dataclasses.Field[Any], value: Any) -> Any:
    """Give the value in its field's type, or raise `SettingError`; an int is a float, a bool is not a number."""
    kind, optional = _kind(field.name)
    choices = field.metadata["choices"]
    if kind is float and type(value) is int:
        value = float(value)
    good = type(value) is kind and (not choices or value in choices)
    if isinstance(value, float) and not math.isfinite(value):
        good = False
    if good or (optional and value is None):
        return value
    needed = f"one of {', '.join(choices)}" if choices else NEEDED[kind]
    hint = did_you_mean(str(value), choices)
    raise SettingError(
        f"settings: {field.name} is {value!r} but {needed}{', or none,' if optional else ''} is needed{hint}"
    )


def did_you_mean(word: str, known: tuple[str, ...]) -> str:
    """``"; did you mean 'x'?"`` when one of the known words is close, else an empty text."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def from_mapping(values: Mapping[str, Any], where: str = "settings") -> TrainConfig:
    """Make a config from names and values; names may be spelt with dashes.

    Parameters
    ----------
    values : mapping of str to object
        Any of the settings; the others keep their defaults.
    where : str
        Where the values come from, for error messages.

    Returns
    -------
    TrainConfig

    Raises
    ------
    SettingError
        An unknown name (with a close match), a name given twice, or a wrong value.
    """
    try:
        return TrainConfig(**_known(values, where))
    except SettingError as error:
        raise SettingError(f"{where}: {str(error).removeprefix('settings: ')}") from None


def _known(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Give the values under the names of the fields; an unknown or doubled name is an error."""
    settings: dict[str, Any] = {}
    for given, value in values.items():
        name = given.replace("-", "_")
        if name not in FIELDS:
            hint = did_you_mean(name, tuple(FIELDS)) or "; the settings are " + ", ".join(FIELDS)
            raise SettingError(f"{where}: unknown setting {given!r}{hint}")
        if name in settings:
            raise SettingError(f"{where}: setting {name!r} is given twice; keep one")
        settings[name] = value
    return settings


def read_settings(path: str | Path) -> dict[str, Any]:
    """Read a .toml or .json file of settings, or a recipe that comes along, as a dict; raises `SettingError` naming the file."""
    path = RECIPES.get(str(path), Path(path))
    if path.suffix not in (".toml", ".json"):
        hint = did_you_mean(str(path), tuple(RECIPES)) or "; rename it"
        raise SettingError(f"{path}: is no recipe ({', '.join(RECIPES)}), and a file of settings must end in .toml or .json{hint}")
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError) as error:
        raise SettingError(
            f"{path}: settings cannot be read ({error}); check that the file is there and valid"
        ) from error
    if not isinstance(values, dict):
        raise SettingError(f"{path}: holds a {type(values).__name__} but names with values are needed")
    return values


def load_config(path: str | Path) -> TrainConfig:
    """Read a config from a .toml or .json file; raises `SettingError` naming the file."""
    return from_mapping(read_settings(path), str(path))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--config FILE`` and one option per setting to a parser.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Options that the user leaves out are absent from its namespace, so that `from_arguments` can tell.
    """
    group = parser.add_argument_group("settings")
    group.add_argument(
        "--config",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help=f"read settings from a .toml or .json file, or a recipe that comes along ({', '.join(RECIPES)}); options win",
    )
    for field in FIELDS.values():
        kind, optional = _kind(field.name)
        default = "none" if field.default is None else field.default
        options: dict[str, Any] = {
            "dest": field.name,
            "default": argparse.SUPPRESS,
            "help": f"{field.metadata['meaning']} (default: {default})".replace("%", "%%"),
        }
        if kind is bool:
            options["action"] = argparse.BooleanOptionalAction
        else:
            options["type"] = _parser_of(kind, optional)
            options["metavar"] = {int: "N", float: "X", str: "TEXT"}[kind]
            if field.metadata["choices"]:
                options["metavar"] = "{" + ",".join(field.metadata["choices"]) + "}"
        group.add_argument("--" + field.name.replace("_", "-"), **options)


def _parser_of(kind: type, optional: bool) -> Any:
    def parse(text: str) -> Any:
        return None if optional and text.lower() == "none" else kind(text)

    parse.__name__ = kind.__name__  # argparse names it: invalid int value
    return parse


def typed_text(name: str, text: str) -> Any:
    """Return the value that `text` stands for as setting `name`; raises `SettingError` for a text that is none."""
    kind, optional = _kind(name)
    if kind is bool:
        words = {"true": True, "yes": True, "false": False, "no": False}
        if text.lower() not in words:
            raise SettingError(f"settings: {name} is {text!r} but true or false is needed")
        return words[text.lower()]
    try:
        return _parser_of(kind, optional)(text)
    except ValueError:
        raise SettingError(f"settings: {name} is {text!r} but {NEEDED[kind]} is needed") from None


def from_arguments(namespace: argparse.Namespace) -> TrainConfig:
    """Make a config from parsed options: defaults, then the file of ``--config``, then the options given.

    Parameters
    ----------
    namespace : argparse.Namespace
        From a parser that `add_arguments` saw; names that are no settings are left alone.

    Returns
    -------
    TrainConfig

    Raises
    ------
    SettingError
        An unknown name in the file, or a wrong value in the file or the options.
    """
    given = {name: value for name, value in vars(namespace).items() if name in FIELDS}
    file = getattr(namespace, "config", None)
    if file is None:
        return from_mapping(given)
    return from_mapping(
        {**_known(read_settings(file), str(file)), **given}, f"{file} and options" if given else str(file)
    )
