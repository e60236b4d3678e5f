"""Folders of JPEG and PNG images, one folder per class, decoded by Pillow in parallel."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DataError, SettingError
from .dataset import Dataset
from .vision import require

OnError = Literal["raise", "skip"]
SUFFIXES = (".jpg", ".jpeg", ".png")
TEST_FOLDERS = ("test", "val")
EXPECTED = "<class>/<image>.jpg|jpeg|png, or train/<class>/<image> and test/<class>/<image> (or val/)"
CHUNK = 64
MODES = {1: "L", 3: "RGB"}


class _CorruptError(Exception):
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
    _check_settings(size, channels)
    require("PIL.Image", "reading images")
    try:
        return _decode(Path(path), size, channels)
    except _CorruptError as error:
        raise DataError(f"{path}: {error}") from error


def read_image_folder(
    folder: str | Path,
    *,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    on_error: OnError = "raise",
    workers: int | None = None,
) -> tuple[Dataset, Dataset | None]:
    """Read a folder of images by class.

    Parameters
    ----------
    folder : str or Path
        Holds ``train/<class>/<image>`` and ``test/...`` (or ``val/...``; test wins when both are there), or
        ``<class>/<image>``. Classes are numbered in the order of their sorted names. Hidden files and files other than
        .jpg, .jpeg and .png are left out.
    size : int or (int, int), optional
        H = W, or (H, W), to scale every image to, as in `read_image`. None demands that all have one size.
    channels : int, optional
        1 or 3 to convert every image to. None demands that all have the same number.
    on_error : "raise" or "skip"
        What to do with corrupt files: raise an error that names them, or leave them out, listed in `Dataset.skipped`
        and in one warning.
    workers : int, optional
        Decoding threads; the number of CPUs by default.

    Returns
    -------
    train : Dataset
        Images (N, C, H, W) uint8, sorted by class and file name.
    test : Dataset or None
        None when the folder has no test part: the caller splits.

    Raises
    ------
    DataError
        No images, an empty class, test classes unknown to training, corrupt files, sizes or channels that differ.
    SettingError
        A setting outside its range.
    MissingExtraError
        Pillow is not installed.
    """
    folder = Path(folder)
    pair = (size, size) if isinstance(size, int) else size
    _check_settings(pair, channels)
    if on_error not in ("raise", "skip"):
        raise SettingError(f"on_error is {on_error!r} but 'raise' or 'skip' is needed")
    require("PIL.Image", "reading images")
    name = folder.resolve().name
    if not (folder / "train").is_dir():
        classes = _class_names(folder)
        return _read_tree(folder, classes, name, pair, channels, on_error, workers), None
    classes = _class_names(folder / "train")
    train = _read_tree(folder / "train", classes, name, pair, channels, on_error, workers)
    part = next((part for part in TEST_FOLDERS if (folder / part).is_dir()), None)
    if part is None:
        return train, None
    unknown = sorted(set(_class_names(folder / part)) - set(classes))
    if unknown:
        raise DataError(
            f"{folder / part}: has classes {unknown} that {folder / 'train'} lacks (it has {list(classes)}); "
            "both must use the same class folders"
        )
    test = _read_tree(folder / part, classes, name, pair, channels, on_error, workers)
    if train.image_shape != test.image_shape:
        raise DataError(
            f"{folder}: train images have shape {train.image_shape} (C, H, W) but {part} images {test.image_shape}; "
            "set an image size and channels to bring them to one shape"
        )
    return train, test


def _check_settings(size: tuple[int, int] | None, channels: int | None) -> None:
    if channels is not None and channels not in MODES:
        raise SettingError(f"channels is {channels} but 1 (grey) or 3 (RGB) is needed")
    if size is not None and min(size) < 1:
        raise SettingError(f"image size is {size} but a height and width of at least 1 are needed")


def _class_names(folder: Path) -> tuple[str, ...]:
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        found = ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "an empty folder"
        raise DataError(f"{folder}: found {found}; expected {EXPECTED}")
    return tuple(names)


def _read_tree(
    folder: Path,
    classes: tuple[str, ...],
    name: str,
    size: tuple[int, int] | None,
    channels: int | None,
    on_error: OnError,
    workers: int | None,
) -> Dataset:
    paths: list[Path] = []
    labels: list[int] = []
    for label, class_name in enumerate(classes):
        place = folder / class_name
        entries = sorted(place.iterdir()) if place.is_dir() else []
        images = [path for path in entries if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
        if not images and place.is_dir():
            found = ", ".join(entry.name for entry in entries[:5]) or "nothing"
            raise DataError(f"{place}: no images for class {class_name!r} (found {found}); expected {EXPECTED}")
        paths += images
        labels += [label] * len(images)
    decoded = _decode_all(paths, size, channels, workers)
    bad = [
        f"{path}: {result}" for path, result in zip(paths, decoded, strict=True) if isinstance(result, _CorruptError)
    ]
    if bad and on_error == "raise":
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise DataError(
            f"{folder}: {len(bad)} of {len(paths)} images cannot be read: {'; '.join(bad[:5])}{more}; "
            "repair or remove them, or set on_error='skip' to leave them out"
        )
    if bad:
        warnings.warn(f"{folder}: left out {len(bad)} of {len(paths)} images: {'; '.join(bad[:5])}", stacklevel=4)
    kept = [(p, r, k) for p, r, k in zip(paths, decoded, labels, strict=True) if not isinstance(r, _CorruptError)]
    if not kept:
        raise DataError(f"{folder}: none of {len(paths)} images can be read: {'; '.join(bad[:5])}")
    _check_alike([(path, image.shape) for path, image, _ in kept])
    return Dataset(
        images=np.stack([image for _, image, _ in kept]),
        labels=np.array([label for _, _, label in kept], dtype=np.int64),
        classes=classes,
        name=name,
        source=f"images in {folder.name}/",
        skipped=tuple(bad),
    )


def _check_alike(shapes: Sequence[tuple[Path, tuple[int, ...]]]) -> None:
    first, (channels, *size) = shapes[0]
    for path, (c, *hw) in shapes:
        if hw != size:
            raise DataError(
                f"{path}: is {hw[0]}x{hw[1]} (height x width) but {first} is {size[0]}x{size[1]}; "
                "set an image size to scale all images to it"
            )
        if c != channels:
            raise DataError(
                f"{path}: has {c} channel(s) but {first} has {channels}; set channels to 1 (grey) or 3 (RGB)"
            )


def _decode_all(
    paths: Sequence[Path], size: tuple[int, int] | None, channels: int | None, workers: int | None
) -> list[NDArray[np.uint8] | _CorruptError]:
    def decode_some(start: int) -> list[NDArray[np.uint8] | _CorruptError]:
        results: list[NDArray[np.uint8] | _CorruptError] = []
        for path in paths[start : start + CHUNK]:
            try:
                results.append(_decode(path, size, channels))
            except _CorruptError as error:
                results.append(error)
        return results

    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        return [result for some in pool.map(decode_some, range(0, len(paths), CHUNK)) for result in some]


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
        raise _CorruptError(f"{type(error).__name__}: {error}") from error
    if deep:
        raise _CorruptError(f"has pixel mode {mode} (more than 8 bits per channel) but 8-bit grey or colour is needed")
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))
