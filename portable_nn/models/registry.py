"""Models by name, for the trainer and the command line."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from functools import partial

from .. import nn
from ..core.errors import SettingError
from .lenet import LeNet
from .mlp import MLP
from .resnet import ResNet

Maker = Callable[[tuple[int, int, int], int], nn.Module]

MODELS: dict[str, Maker] = {
    "mlp": MLP,
    "lenet": LeNet,
    "resnet20": partial(ResNet, depth=20),
    "resnet32": partial(ResNet, depth=32),
}


def names() -> tuple[str, ...]:
    """Return the names that `create` takes."""
    return tuple(MODELS)


def check_name(name: str) -> None:
    """Raise `SettingError` (with a close match) unless there is a model of that name."""
    if name not in MODELS:
        close = get_close_matches(name, MODELS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise SettingError(f"there is no model named {name!r}; {hint}Known: {', '.join(MODELS)}")


def create(name: str, in_shape: tuple[int, int, int], classes: int, seed: int = 0) -> nn.Module:
    """Return a model with freshly drawn weights, on the host; `model.to(...)` moves it.

    Parameters
    ----------
    name : str
        One of `names()`.
    in_shape : (int, int, int)
        C, H, W of an image.
    classes : int
        Scores per image.
    seed : int
        Of the weights: equal seeds give equal weights on every backend and machine.

    Raises
    ------
    SettingError
        An unknown name (with a close match), images too small for the model, no classes.
    """
    check_name(name)
    with nn.seed(seed):
        return MODELS[name](in_shape, classes)
