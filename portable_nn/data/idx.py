"""IDX files in the layout of MNIST: `train-images-idx3-ubyte` and three siblings, plain or gzipped.

The format: two zero bytes, one dtype byte (8 = unsigned byte), one byte with the number of dimensions, each dimension
as a big-endian 32-bit integer, then the data in C order.
"""

from __future__ import annotations

import gzip
import zlib
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DataError
from .dataset import Dataset

PARTS = ("train", "t10k")
UNSIGNED_BYTE = 8
DTYPES = {8: "uint8", 9: "int8", 11: "int16", 12: "int32", 13: "float32", 14: "float64"}
CHUNK = 1 << 20
EXPECTED = (
    "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte "
    "(plain or .gz; one images/labels pair is enough)"
)


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes.

    Parameters
    ----------
    path : Path
        The file; gunzipped on the way when its name ends in ``.gz``.
    dimensions : int
        The number of dimensions it must have: 3 for images (N, H, W), 1 for labels (N,).

    Returns
    -------
    ndarray, uint8
        An array of the shape that the header states.

    Raises
    ------
    DataError
        A wrong magic number, dtype or number of dimensions, a truncated or overlong file, a damaged gzip stream.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            shape = _read_header(file, path, dimensions)
            expected = prod(shape)
            data = _read_at_most(file, expected + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); the file is damaged or truncated: fetch it again"
        ) from error
    if len(data) != expected:
        got = f"only {len(data)} bytes follow" if len(data) < expected else "more bytes follow"
        raise DataError(
            f"{path}: the header states shape {shape}, which is {expected} bytes, but {got}; the file is "
            f"{'truncated' if len(data) < expected else 'not what its header says'}: fetch it again"
        )
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def _read_header(file: BinaryIO | gzip.GzipFile, path: Path, dimensions: int) -> tuple[int, ...]:
    magic = file.read(4)
    wanted = bytes((0, 0, UNSIGNED_BYTE, dimensions))
    if len(magic) < 4:
        raise DataError(f"{path}: holds {len(magic)} bytes but an IDX header begins with 4; the file is truncated")
    if magic[:2] != b"\0\0" or magic[2] not in DTYPES:
        raise DataError(f"{path}: begins with 0x{magic.hex()} but an IDX file must begin with 0x{wanted.hex()}")
    if magic[2] != UNSIGNED_BYTE:
        raise DataError(
            f"{path}: holds {DTYPES[magic[2]]} (IDX dtype code {magic[2]}) but uint8 (code {UNSIGNED_BYTE}) is needed"
        )
    if magic[3] != dimensions:
        raise DataError(
            f"{path}: has {magic[3]} dimensions but {dimensions} are needed; are images and labels mixed up?"
        )
    sizes = file.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise DataError(
            f"{path}: the header ends after {4 + len(sizes)} bytes but {4 + 4 * dimensions} are needed; "
            "the file is truncated"
        )
    return tuple(int(size) for size in np.frombuffer(sizes, dtype=">u4"))


def _read_at_most(file: BinaryIO | gzip.GzipFile, limit: int) -> bytearray:
    """Read in chunks: a header that lies about its sizes must not allocate them."""
    data = bytearray()
    while len(data) < limit and (chunk := file.read(min(CHUNK, limit - len(data)))):
        data += chunk
    return data


def find_idx_files(folder: Path) -> dict[tuple[str, str], Path]:
    """Find the IDX files of a folder as ``{("train" | "t10k", "images" | "labels"): path}``; plain wins over .gz."""
    found = {}
    for part in PARTS:
        for kind, rank in (("images", 3), ("labels", 1)):
            for joint in "-.":
                for suffix in (".gz", ""):
                    path = folder / f"{part}-{kind}{joint}idx{rank}-ubyte{suffix}"
                    if path.is_file():
                        found[part, kind] = path
    return found


def read_idx_folder(folder: Path) -> tuple[Dataset, Dataset | None]:
    """Read a folder in MNIST's layout.

    Parameters
    ----------
    folder : Path
        Holds ``train-*`` and ``t10k-*`` pairs of images and labels, or one such pair.

    Returns
    -------
    train : Dataset
        The training images (N, 1, H, W) uint8, or those of the only pair.
    test : Dataset or None
        The t10k images, or None when there is one pair, which the caller splits.

    Raises
    ------
    DataError
        A missing or damaged file, images and labels whose counts differ, sizes that differ between the pairs.
    """
    found = find_idx_files(folder)
    pairs = {}
    for part in PARTS:
        present = [kind for kind in ("images", "labels") if (part, kind) in found]
        if len(present) == 1:
            missing = "labels" if present == ["images"] else "images"
            raise DataError(
                f"{folder}: found {found[part, present[0]].name} but not its {missing}; expected {EXPECTED}"
            )
        if present:
            pairs[part] = _read_pair(found[part, "images"], found[part, "labels"])
    if not pairs:
        names = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        raise DataError(f"{folder}: found {names}; expected {EXPECTED}")
    first = next(iter(pairs))
    classes = tuple(str(k) for k in range(int(pairs[first][1].max(initial=0)) + 1))
    made = {
        part: Dataset(images, labels, classes, folder.name, f"IDX files {part}-* of {folder.name}")
        for part, (images, labels) in pairs.items()
    }
    if len(made) == 2 and made["train"].image_shape != made["t10k"].image_shape:
        raise DataError(
            f"{folder}: train images have shape {made['train'].image_shape} (C, H, W) but t10k images "
            f"{made['t10k'].image_shape}; both must be alike"
        )
    return made[first], made["t10k"] if len(made) == 2 else None


def _read_pair(images_path: Path, labels_path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if len(images) != len(labels):
        raise DataError(
            f"{images_path} holds {len(images)} images but {labels_path} holds {len(labels)} labels; "
            "the counts must be equal: one of the files belongs to another set"
        )
    return images[:, None], labels.astype(np.int64)
