"""scikit-learn's digits: 1797 handwritten digits of 8x8 pixels, shipped inside scikit-learn, so nothing is loaded."""

from __future__ import annotations

import numpy as np

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
    bunch = require("sklearn.datasets", "the data set 'digits'").load_digits()
    images = np.rint(np.asarray(bunch.images) * (255.0 / 16.0)).astype(np.uint8)[:, None]
    return Dataset(
        images=images,
        labels=np.asarray(bunch.target, dtype=np.int64),
        classes=tuple(str(name) for name in bunch.target_names),
        name="digits",
        source="scikit-learn's digits, 8x8 grey",
    )
