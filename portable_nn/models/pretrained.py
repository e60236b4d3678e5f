"""Trained weights that come with the package, made by its own trainer; `weights/README.md` says how."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import nn
from ..core.errors import SettingError
from ..nn.weights import fit_state, read_safetensors

FOLDER = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Pretrained:
    """What must be known to use trained weights.

    Parameters
    ----------
    in_shape : (int, int, int)
        C, H, W of an image.
    classes : tuple of str
    mean, std : tuple of float
        The normalisation of training, per channel, of colours in 0..1.
    """

    in_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def available() -> tuple[tuple[str, str], ...]:
    """Return (model, data) of every file of weights that comes along."""
    found = []
    for path in sorted(FOLDER.glob("*.safetensors")):
        model, _, data = path.stem.partition("-")
        found.append((model, data))
    return tuple(found)


def _path(model: str, data: str) -> Path:
    path = FOLDER / f"{model}-{data}.safetensors"
    if not path.is_file():
        known = ", ".join(f"{m} on {d}" for m, d in available()) or "none"
        raise SettingError(f"there are no trained weights of {model!r} on {data!r}; with the package come: {known}")
    return path


def describe(model: str, data: str) -> Pretrained:
    """Return image shape, classes and normalisation of trained weights; raises `SettingError` if there are none."""
    header: dict[str, Any] = json.loads(read_safetensors(_path(model, data))[1]["portable_nn"])
    channels, height, width = (int(n) for n in header["in_shape"])
    norm = header["normalisation"]
    return Pretrained((channels, height, width), tuple(header["classes"]), tuple(norm["mean"]), tuple(norm["std"]))


def with_pretrained(module: nn.Module, model: str, data: str) -> nn.Module:
    """Return a module with trained weights; for other classes the last layer stays fresh, all else must fit.

    Raises
    ------
    SettingError
        No such weights, or a module of another shape.
    """
    path = _path(model, data)
    made, fit = fit_state(module, read_safetensors(path)[0])
    heads = {name for name in nn.state_dict(module) if name.startswith(("fc.", "head.", "classifier."))}
    if fit.missing or fit.unexpected or not {name for name, _, _ in fit.misshapen} <= heads:
        raise SettingError(f"{path.name}: does not fit this {type(module).__name__}: {fit}\nits images are {describe(model, data).in_shape}")
    loaded: nn.Module = made
    return loaded
