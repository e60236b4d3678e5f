"""SVHN's cropped digits: `train_32x32.mat` and `test_32x32.mat`, read by SciPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError
from .dataset import Dataset
from .vision import require

FILES = ("train_32x32.mat", "test_32x32.mat")


def find_svhn(folder: Path) -> bool:
    """Tell whether a folder holds SVHN's files."""
    return all((folder / name).is_file() for name in FILES)


def read_svhn(folder: Path) -> tuple[Dataset, Dataset]:
    """Read both parts.

    Parameters
    ----------
    folder : Path
        Holds the two .mat files: X (32, 32, 3, N) uint8, and y (N, 1) with 10 for the digit 0.

    Returns
    -------
    train, test : Dataset
        Images (N, 3, 32, 32) uint8.

    Raises
    ------
    DataError
        A file that is missing, damaged or of another form.
    MissingExtraError
        SciPy is not installed.
    """
    train, test = (_read(folder / name) for name in FILES)
    return train, test


def _read(path: Path) -> Dataset:
    loader: Any = require("scipy.io", "the data set 'svhn'")
    try:
        found = loader.loadmat(path, variable_names=("X", "y"))
        images, labels = np.asarray(found["X"]), np.asarray(found["y"]).reshape(-1)
    except Exception as error:  # SciPy raises many classes on damaged files; all mean the same here
        raise DataError(f"{path}: cannot be read as SVHN's MATLAB file ({type(error).__name__}: {error}); fetch it again") from error
    if images.ndim != 4 or images.shape[2] != 3 or images.dtype != np.uint8:
        raise DataError(f"{path}: X has shape {images.shape} and dtype {images.dtype} but (H, W, 3, N) uint8 is needed")
    return Dataset(
        np.ascontiguousarray(images.transpose(3, 2, 0, 1)), labels.astype(np.int64) % 10, tuple("0123456789"), "svhn", f"SVHN {path.name}"
    )
