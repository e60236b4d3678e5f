"""Weights in files: safetensors under PyTorch's names, read with a report of what fitted and what did not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ..api import to_numpy
from ..core.array import Array
from ..core.errors import ArgumentError
from .module import IGNORED, Module, state_dict, with_state


@dataclass(frozen=True)
class Fit:
    """How the arrays of a file fit a model; `str` of it is a report.

    Parameters
    ----------
    loaded : tuple of str
        Names that were taken.
    missing : tuple of str
        Names of the model that the file lacks.
    unexpected : tuple of str
        Names in the file that the model lacks.
    misshapen : tuple of (str, shape, shape)
        Names whose shapes differ: in the file, and in the model.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    @property
    def complete(self) -> bool:
        """Whether every array of the model was loaded and nothing is left over."""
        return not (self.missing or self.unexpected or self.misshapen)

    def __str__(self) -> str:
        lines = [f"{len(self.loaded)} loaded, {len(self.missing)} missing, {len(self.unexpected)} unexpected, {len(self.misshapen)} misshapen"]
        lines += [f"  missing     {name}" for name in self.missing]
        lines += [f"  unexpected  {name}" for name in self.unexpected]
        lines += [f"  misshapen   {name}: {got} in the file, {needed} in the model" for name, got, needed in self.misshapen]
        return "\n".join(lines)


def fit_state(model: Module, state: Mapping[str, Array]) -> tuple[Any, Fit]:
    """Return the model with every array of `state` whose name and shape fit, and a report.

    Parameters
    ----------
    model : Module
        What does not fit keeps its arrays: the head of a model for other classes stays fresh.
    state : mapping of str to array
        Under PyTorch's names; ``num_batches_tracked`` is left out.
    """
    own = state_dict(model)
    given = {name: x for name, x in state.items() if not name.endswith(IGNORED)}
    shared = [name for name in own if name in given]
    wrong = tuple(
        (name, tuple(given[name].shape), tuple(own[name].shape)) for name in shared if tuple(given[name].shape) != tuple(own[name].shape)
    )
    loaded = {name: given[name] for name in shared if name not in {w[0] for w in wrong}}
    missing, unexpected = (tuple(name for name in a if name not in b) for a, b in ((own, given), (given, own)))
    return with_state(model, loaded), Fit(tuple(loaded), missing, unexpected, wrong)


def load_weights(model: Module, path: str | Path, *, strict: bool = True) -> tuple[Any, Fit]:
    """Read a safetensors file, such as PyTorch users and timm write, into a model on the host.

    Parameters
    ----------
    model : Module
    path : str or Path
    strict : bool
        Everything must fit; False takes what fits.

    Returns
    -------
    model : Module
    fit : Fit
        What was loaded, and what was missing, unexpected or misshapen.

    Raises
    ------
    ArgumentError
        No safetensors file there; or, when strict, something that does not fit, with the whole report.

    Examples
    --------
    >>> model, fit = pnn.nn.load_weights(pnn.models.create("vit_tiny", (3, 224, 224), 10), "vit.safetensors", strict=False)
    >>> print(fit)
    """
    made, fit = fit_state(model, read_safetensors(path)[0])
    if strict and not fit.complete:
        raise ArgumentError(
            f"{path}: does not fit {type(model).__name__}: {fit}\nmake the model with the settings the weights were trained with, "
            "or give strict=False to take what fits"
        )
    return made, fit


def save_weights(model: Module, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write every parameter and buffer under PyTorch's names as safetensors; `metadata` goes into its header."""
    arrays = {name: np.ascontiguousarray(to_numpy(x)) for name, x in state_dict(model).items()}
    save_file(arrays, str(path), metadata=None if metadata is None else dict(metadata))


def read_safetensors(path: str | Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Return the arrays of a safetensors file and its metadata; raises `ArgumentError`."""
    if not Path(path).is_file():
        raise ArgumentError(f"{path}: there is no such file; give the path of a .safetensors file")
    try:
        with safe_open(str(path), framework="numpy") as file:
            return {name: np.array(file.get_tensor(name)) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118 - not a dict
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise ArgumentError(f"{path}: is damaged or no safetensors file ({error})") from error
