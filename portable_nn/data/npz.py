"""NumPy archives: `x_train, y_train[, x_test, y_test]` (the names Keras uses) or `images, labels`, maybe `classes`."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DataError
from .dataset import Dataset

EXPECTED = "x_train and y_train (x_test and y_test too, or the set is split), or images and labels"
PAIRS = (("x_train", "y_train"), ("images", "labels"), ("x_test", "y_test"))


def read_npz(path: Path) -> tuple[Dataset, Dataset | None]:
    """Read labelled images from an .npz file; pickled objects are refused.

    Parameters
    ----------
    path : Path
        An archive with `x_train, y_train` (and maybe `x_test, y_test`) or `images, labels`; `classes` may hold the K
        names. Images are (N, H, W), (N, C, H, W) or (N, H, W, C); the last is understood when C is 1 or 3 and axis 1
        is neither. Integers other than uint8 are taken when they lie in 0..255. Labels are (N,) or (N, 1) integers.

    Returns
    -------
    train : Dataset
        Images (N, C, H, W).
    test : Dataset or None
        None when there is no `x_test`: the caller splits.

    Raises
    ------
    DataError
        A file that is not an .npz archive, missing or extra halves of a pair, wrong shapes or dtypes, labels out of
        range.
    """
    arrays = _read_arrays(path)
    have = {pair: [name for name in pair if name in arrays] for pair in PAIRS}
    found = ", ".join(f"{name} {array.shape} {array.dtype}" for name, array in arrays.items()) or "nothing"
    complete = [pair for pair in PAIRS if len(have[pair]) == 2]
    halves = [pair for pair in PAIRS if len(have[pair]) == 1]
    training = [pair for pair in complete if pair != PAIRS[2]]
    if halves or len(training) != 1:
        raise DataError(f"{path}: found {found}; expected {EXPECTED}")
    images_name, labels_name = training[0]
    images, labels = _images(arrays[images_name], path, images_name), _labels(arrays[labels_name], path, labels_name)
    if "classes" in arrays:
        classes = tuple(str(name) for name in np.atleast_1d(arrays["classes"]))
    else:
        classes = tuple(str(k) for k in range(max(0, int(labels.max(initial=0))) + 1))
    train = Dataset(images, labels, classes, path.stem, f"{images_name} of {path.name}")
    if PAIRS[2] not in complete:
        return train, None
    test_images, test_labels = _images(arrays["x_test"], path, "x_test"), _labels(arrays["y_test"], path, "y_test")
    test = Dataset(test_images, test_labels, classes, path.stem, f"x_test of {path.name}")
    if test.image_shape != train.image_shape or (test.images.dtype == np.uint8) != (train.images.dtype == np.uint8):
        raise DataError(
            f"{path}: {images_name} has images of shape {train.image_shape} (C, H, W) and dtype {train.images.dtype} "
            f"but x_test has {test.image_shape} and {test.images.dtype}; both must be alike"
        )
    return train, test


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError(
                    f"{path}: holds one array of shape {archive.shape} but an .npz archive with {EXPECTED} is needed"
                )
            wanted = {name for pair in PAIRS for name in pair} | {"classes"}
            known = [name for name in archive.files if name in wanted]
            if not known:
                raise DataError(f"{path}: found {', '.join(archive.files) or 'nothing'}; expected {EXPECTED}")
            return {name: archive[name] for name in known}
    except DataError:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path}: cannot be read as an .npz archive without pickled objects ({error}); "
            "write it with numpy.savez and plain numeric arrays"
        ) from error


def _images(array: NDArray[Any], path: Path, name: str) -> NDArray[Any]:
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[3] in (1, 3) and array.shape[1] not in (1, 3):
        array = np.ascontiguousarray(array.transpose(0, 3, 1, 2))
    if array.ndim != 4:
        raise DataError(
            f"{path}: {name} has shape {array.shape} but images need (N, H, W), (N, C, H, W) or (N, H, W, C)"
        )
    if array.dtype.kind in "iu" and array.dtype != np.uint8:
        low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
        if low < 0 or high > 255:
            raise DataError(
                f"{path}: {name} has dtype {array.dtype} and values {low}..{high} but integers must lie in 0..255; "
                "store floats for any other range"
            )
        array = array.astype(np.uint8)
    return array


def _labels(array: NDArray[Any], path: Path, name: str) -> NDArray[np.int64]:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DataError(
            f"{path}: {name} has shape {array.shape} and dtype {array.dtype} but one integer per image, shape (N,), is "
            f"needed; for one-hot rows store {name}.argmax(axis=1)"
        )
    return array.astype(np.int64)
