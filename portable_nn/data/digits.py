"""scikit-learn's digits: 1797 handwritten digits of 8x8 pixels, shipped inside scikit-learn, so nothing is loaded."""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .dataset import Dataset
from .vision import require


def read_digits() -> Dataset:
    """Read scikit-learn's digits.

    Returns
    -------
    Dataset
        images (1797, 1, 8, 8) uint8, white on black; the original grey levels 0..16 become round(level * 255 / 16).

    Raises
    ------
    MissingExtraError
        scikit-learn is not installed.

    References
    ----------
    E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
    """
    rows = _rows()
    return Dataset(
        images=np.rint(rows[:, :64].reshape(-1, 1, 8, 8) * (255.0 / 16.0)).astype(np.uint8),
        labels=rows[:, 64].astype(np.int64),
        classes=tuple("0123456789"),
        name="digits",
        source="scikit-learn's digits, 8x8 grey",
    )


def _rows() -> npt.NDArray[np.float64]:
    """Return (1797, 65): 64 grey levels and the digit.

    From scikit-learn's own file where it lies as it does today: importing scikit-learn to read it takes a second, a fifth
    of the way to the first loss.
    """
    found = PathFinder.find_spec("sklearn") if "sklearn" not in sys.modules else None
    file = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz" if found and found.origin else None
    if file and file.is_file():
        return np.loadtxt(file, delimiter=",", dtype=np.float64)
    bunch = require("sklearn.datasets", "the data set 'digits'").load_digits()
    return np.column_stack([np.asarray(bunch.data), np.asarray(bunch.target)])
