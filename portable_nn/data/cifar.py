"""CIFAR-10 and CIFAR-100 in their binary version: records of one or two label bytes and 3 x 32 x 32 pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DataError
from .dataset import Dataset
from .published import CIFAR10_CLASSES

PIXELS = 3 * 32 * 32
FILES = {
    "cifar10": (tuple(f"data_batch_{i}.bin" for i in range(1, 6)), ("test_batch.bin",), "batches.meta.txt"),
    "cifar100": (("train.bin",), ("test.bin",), "fine_label_names.txt"),
}
EXPECTED = {kind: ", ".join([*train, *test]) for kind, (train, test, _) in FILES.items()}


def find_cifar(folder: Path) -> str | None:
    """Return "cifar10" or "cifar100" if a folder holds that binary version, else None."""
    for kind, (train, test, _) in FILES.items():
        if any((folder / name).is_file() for name in (*train, *test)):
            return kind
    return None


def read_cifar(folder: Path, kind: str) -> tuple[Dataset, Dataset]:
    """Read an unpacked binary version.

    Parameters
    ----------
    folder : Path
        ``cifar-10-batches-bin`` or ``cifar-100-binary``.
    kind : "cifar10" or "cifar100"
        CIFAR-100 is labelled by its 100 fine classes.

    Returns
    -------
    train, test : Dataset
        Images (N, 3, 32, 32) uint8.

    Raises
    ------
    DataError
        A file that is missing, or not made of whole records.
    """
    train, test, names = FILES[kind]
    classes = _classes(folder / names, kind)
    parts = []
    for part, files in (("train", train), ("test", test)):
        pieces = [_read(folder / name, kind) for name in files]
        images, labels = (np.concatenate([piece[i] for piece in pieces]) for i in (0, 1))
        parts.append(Dataset(images, labels, classes, kind, f"{kind.upper()} binary version, {part}"))
    return parts[0], parts[1]


def _classes(path: Path, kind: str) -> tuple[str, ...]:
    if path.is_file():
        return tuple(line.strip() for line in path.read_text(encoding="ascii").splitlines() if line.strip())
    if kind == "cifar10":
        return CIFAR10_CLASSES
    raise DataError(f"{path}: is missing but holds the names of the classes; unpack the archive again")


def _read(path: Path, kind: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    before = 1 if kind == "cifar10" else 2  # CIFAR-100: the coarse label, then the fine one
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}); expected {EXPECTED[kind]} in {path.parent}") from error
    if not data.size or data.size % (before + PIXELS):
        raise DataError(
            f"{path}: has {data.size} bytes but a multiple of {before + PIXELS} (a record) is needed; the file is truncated: "
            "unpack the archive again"
        )
    records = data.reshape(-1, before + PIXELS)
    return np.ascontiguousarray(records[:, before:]).reshape(-1, 3, 32, 32), records[:, before - 1].astype(np.int64)
