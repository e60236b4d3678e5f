"""Checkpoints: one safetensors file that is whole or absent, holding all that a run needs to go on.

`checkpoint.safetensors` has the model (``model.conv1.weight``), the optimiser (``optimizer.exp_avg.conv1.weight``),
averages of weights and the loss scale where there are any, and, as JSON in its header, where the run stands. `model.safetensors` has the model alone under PyTorch's names, with what
is needed to use it (model name, image shape, classes, normalisation) as JSON in its header.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ..api import asarray, to_numpy
from ..core import tree
from ..core.errors import PortableNNError, RunError
from ..core.version import VERSION
from ..data import Normalisation
from ..models import create, names
from ..nn import Module, load_state_dict, state_dict
from .records import write_bytes
from .step import TrainState

CHECKPOINT, MODEL, BEST, HEADER = "checkpoint.safetensors", "model.safetensors", "best.safetensors", "portable_nn"
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Position:
    """Where a run stands: `batch` batches of epoch `epoch` (from 0) are behind it, and `seconds` of training."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class ModelInfo:
    """What is needed to use a saved model: how to make it, and how to prepare images for it."""

    model: str
    in_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    normalisation: Normalisation
    data: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "model": self.model, "in_shape": list(self.in_shape), "classes": list(self.classes),
            "normalisation": self.normalisation.to_dict(), "data": self.data, "version": VERSION,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelInfo:
        """Read what `to_dict` wrote."""
        channels, height, width = (int(n) for n in values["in_shape"])
        return cls(
            str(values["model"]), (channels, height, width), tuple(str(c) for c in values["classes"]),
            Normalisation.from_dict(values["normalisation"]), str(values.get("data", "")),
        )  # fmt: skip


def _host(named: Mapping[str, Any], prefix: str = "") -> Arrays:
    arrays = {prefix + name: np.asarray(to_numpy(x), order="C") for name, x in named.items()}
    for name, x in arrays.items():
        if x.dtype.kind in "fV" and not np.isfinite(x.astype(np.float32) if x.dtype.kind == "V" else x).all():
            raise RunError(f"{name} is not finite; nothing was written, so the last checkpoint stays as it was")
    return arrays


def _write(path: Path, arrays: Arrays, header: Mapping[str, Any]) -> None:
    metadata = {HEADER: json.dumps(header, allow_nan=False)}  # one entry: safetensors writes several in any order
    try:
        write_bytes(path, save(arrays, metadata=metadata))
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error}); what was there before is still whole") from error


def _read(path: Path) -> tuple[Arrays, dict[str, Any]]:
    if not path.is_file():
        raise RunError(f"{path}: there is no such file; give a run folder that `portable-nn train` made")
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {}).get(HEADER, "null"))
            arrays = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, ValueError, SafetensorError) as error:
        raise RunError(f"{path}: is damaged or no safetensors file ({error}); train again, or give another run") from error
    if not isinstance(header, dict):
        raise RunError(f"{path}: was not written by portable_nn (no {HEADER!r} in its header); use nn.load_state_dict")
    return arrays, header


def write_checkpoint(run: Path, state: TrainState, position: Position, data: str) -> None:
    """Write `checkpoint.safetensors` of a run folder; what was there before stays until the new one is whole.

    Parameters
    ----------
    run : Path
    state : TrainState
    position : Position
    data : str
        Fingerprint of the training set, checked when the run goes on.

    Raises
    ------
    RunError
        Weights that are not finite, or a disk that cannot be written.
    """
    named = dict(tree.named_leaves(state.optimizer))
    numbers = {name: value for name, value in named.items() if isinstance(value, int | float)}
    arrays = _host(state_dict(state.model), "model.")
    arrays |= _host({name: value for name, value in named.items() if name not in numbers}, "optimizer.")
    arrays |= _host(state.averages, "averages.") | _host(state.scale, "scale.")
    _write(run / CHECKPOINT, arrays, {"position": asdict(position), "optimizer": numbers, "data": data, "version": VERSION})


def read_checkpoint(run: Path, fresh: TrainState, data: str) -> tuple[TrainState, Position]:
    """Read `checkpoint.safetensors` into a state of the form of `fresh`, on its backend.

    Raises
    ------
    RunError
        Nothing there, a damaged file, another model or optimiser, or another training set.
    """
    path = run / CHECKPOINT
    arrays, header = _read(path)
    try:
        position = Position(**header["position"])
        numbers: dict[str, Any] = header["optimizer"]
        written = header["data"]
    except (KeyError, TypeError) as error:
        raise RunError(f"{path}: its header lacks {error}; it was written by another version ({header.get('version')})") from error
    if written != data:
        raise RunError(
            f"{path}: was trained on other data (fingerprint {written}, this run's is {data}); restore the data it began with"
        )
    weights = {name.removeprefix("model."): x for name, x in arrays.items() if name.startswith("model.")}
    model = load_into(fresh.model, weights, path)
    leaves = []
    for name, leaf in tree.named_leaves(fresh.optimizer):
        found = numbers.get(name) if isinstance(leaf, int | float) else arrays.get(f"optimizer.{name}")
        if found is None:
            raise RunError(f"{path}: lacks optimizer.{name}; resume with the optimizer the run began with")
        leaves.append(found if isinstance(leaf, int | float) else asarray(found))
    more = {}
    for part, setting in (("averages", "ema"), ("scale", "precision")):
        more[part] = {name: arrays.get(f"{part}.{name}") for name in getattr(fresh, part)}
        for name, x in more[part].items():
            if x is None:
                raise RunError(f"{path}: lacks {part}.{name}; resume with the {setting} the run began with")
        more[part] = {name: asarray(x) for name, x in more[part].items()}
    return TrainState(model, tree.unflatten(fresh.optimizer, leaves), position.step, **more), position


def load_into(model: Module, weights: Arrays, path: Path) -> Module:
    """Return the model with `weights`, on the chosen backend; raises `RunError` naming the file."""
    try:
        loaded: Module = load_state_dict(model, weights)
    except PortableNNError as error:
        raise RunError(f"{path}: {error}") from error
    return loaded.to()


def load_weights(model: Module, path: Path) -> Module:
    """Return the model with the weights that `write_model` wrote; raises `RunError` naming the file."""
    return load_into(model, _read(path)[0], path)


def write_model(run: Path, model: Module, info: ModelInfo, name: str = MODEL) -> Path:
    """Write `model.safetensors` of a run folder, or another file of it, with PyTorch's names."""
    path = run / name
    _write(path, _host(state_dict(model)), info.to_dict())
    return path


def read_model(run: str | Path, model: Module | None = None, *, best: bool = False) -> tuple[Module, ModelInfo]:
    """Read a trained model on the chosen backend.

    Parameters
    ----------
    run : str or Path
        A run folder, or a `model.safetensors`.
    model : Module, optional
        For a model that is not in `portable_nn.models`: one made with the settings of training.
    best : bool
        Of a run folder, the model with the best reading of the validation set in place of the last.

    Returns
    -------
    model : Module
    info : ModelInfo

    Raises
    ------
    RunError
        Nothing there, a damaged file, weights that do not fit.
    """
    path = Path(run).expanduser()
    if path.is_dir():
        path = path / (BEST if best else MODEL)
    arrays, header = _read(path)
    try:
        info = ModelInfo.from_dict(header)
    except (KeyError, TypeError, ValueError, PortableNNError) as error:
        raise RunError(f"{path}: its header does not describe a model ({type(error).__name__}: {error})") from error
    if model is None:
        if info.model not in names():
            raise RunError(
                f"{path}: holds a {info.model}, which is not among portable_nn's models ({', '.join(names())}); "
                "read it in Python: portable_nn.train.read_model(run, model=...)"
            )
        model = create(info.model, info.in_shape, len(info.classes))
    return load_into(model, arrays, path), info
