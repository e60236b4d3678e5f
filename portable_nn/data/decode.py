"""Decoding image files by Pillow: one, or many in parallel, and a cache of what was decoded."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DataError, SettingError
from .progress import Bar
from .vision import require

CHUNK = 64
MODES = {1: "L", 3: "RGB"}
CACHE_FROM = 2000  # files; fewer are decoded in a moment
VERSION = 1  # of what decoding gives; a new one makes old cache files unused

Decoded = NDArray[np.uint8]


class CorruptError(Exception):
    """One file that cannot be decoded, with the reason."""


def read_image(path: str | Path, size: tuple[int, int] | None = None, channels: int | None = None) -> NDArray[np.uint8]:
    """Read one image file.

    Parameters
    ----------
    path : str or Path
        A file that Pillow reads. Its EXIF orientation is applied and transparency dropped.
    size : (int, int), optional
        (H, W) to scale to: bilinear, keeping proportions, cropping what is over at the middle. None keeps its size.
    channels : int, optional
        1 (grey) or 3 (RGB) to convert to; None keeps grey as 1 and makes everything else 3.

    Returns
    -------
    ndarray, (C, H, W) uint8

    Raises
    ------
    DataError
        A file that is missing, corrupt, or deeper than 8 bits per channel.
    SettingError
        `channels` other than 1 and 3, or a size below 1.
    MissingExtraError
        Pillow is not installed.
    """
    check_settings(size, channels)
    require("PIL.Image", "reading images")
    try:
        return _decode(Path(path), size, channels)
    except CorruptError as error:
        raise DataError(f"{path}: {error}") from error


def check_settings(size: tuple[int, int] | None, channels: int | None) -> None:
    """Raise `SettingError` for channels or a size that no image can have."""
    if channels is not None and channels not in MODES:
        raise SettingError(f"channels is {channels} but 1 (grey) or 3 (RGB) is needed")
    if size is not None and min(size) < 1:
        raise SettingError(f"image size is {size} but a height and width of at least 1 are needed")


def decode_all(
    paths: Sequence[Path], size: tuple[int, int] | None, channels: int | None, workers: int | None, title: str = "decoding images"
) -> list[Decoded | CorruptError]:
    """Decode files in parallel (Pillow leaves Python free while it decodes), with a bar where there are many."""

    def decode_some(start: int) -> list[Decoded | CorruptError]:
        results: list[Decoded | CorruptError] = []
        for path in paths[start : start + CHUNK]:
            try:
                results.append(_decode(path, size, channels))
            except CorruptError as error:
                results.append(error)
        return results

    made: list[Decoded | CorruptError] = []
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool, Bar(title, len(paths)) as bar:
        for some in pool.map(decode_some, range(0, len(paths), CHUNK)):
            made += some
            bar.update(len(some))
    return made


def cache_file(folder: Path, root: Path, paths: Sequence[Path], size: tuple[int, int] | None, channels: int | None) -> Path:
    """Return where decoded images are kept: named by the files' places, sizes and times, and by the settings."""
    mark = hashlib.sha256(f"{VERSION} {size} {channels}".encode())
    for path in paths:
        state = path.stat()
        mark.update(f"{path.relative_to(root).as_posix()} {state.st_size} {state.st_mtime_ns}\n".encode())
    return folder / f"{root.name}-{mark.hexdigest()[:20]}.npz"


def read_cache(path: Path) -> tuple[Decoded, NDArray[np.int64], tuple[str, ...]] | None:
    """Return (images, their places in the list of files, what was left out), or None if there is no whole cache file."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return file["images"], file["kept"], tuple(str(line) for line in file["skipped"])
    except (OSError, ValueError, KeyError, EOFError):
        return None
    except Exception as error:  # zipfile and zlib raise their own on damaged files, which are then written anew
        if type(error).__module__.partition(".")[0] in ("zipfile", "zlib"):
            return None
        raise


def write_cache(path: Path, images: Decoded, kept: NDArray[np.int64], skipped: Sequence[str]) -> None:
    """Write a cache file, whole or not at all; a disk that is full or read-only costs the cache and nothing else."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as place:
            made = Path(place) / path.name
            np.savez(made, images=images, kept=kept, skipped=np.array(skipped, dtype=np.str_))
            made.replace(path)
    except OSError:
        return


def _decode(path: Path, size: tuple[int, int] | None, channels: int | None) -> NDArray[np.uint8]:
    pillow: Any = require("PIL.Image", "reading images")
    ops: Any = require("PIL.ImageOps", "reading images")
    try:
        with pillow.open(path) as file:
            image = ops.exif_transpose(file)
            mode = image.mode
            deep = mode[0] in "IF"
            if not deep:
                image = image.convert(MODES[channels] if channels else "L" if mode in ("1", "L", "LA") else "RGB")
                if size is not None and (image.height, image.width) != size:
                    image = ops.fit(image, (size[1], size[0]), pillow.Resampling.BILINEAR)
            pixels = np.asarray(image)
    except Exception as error:  # Pillow's decoders raise many classes on damaged files; all mean the same here
        raise CorruptError(f"{type(error).__name__}: {error}") from error
    if deep:
        raise CorruptError(f"has pixel mode {mode} (more than 8 bits per channel) but 8-bit grey or colour is needed")
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))
