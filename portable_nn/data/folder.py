"""Folders of JPEG and PNG images, one folder per class, decoded by Pillow in parallel."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DataError, SettingError
from .dataset import Dataset
from .decode import CACHE_FROM, CorruptError, cache_file, check_settings, decode_all, read_cache, write_cache
from .vision import require

OnError = Literal["raise", "skip"]
SUFFIXES = (".jpg", ".jpeg", ".png")
HELD_OUT = ("val", "test")
EXPECTED = "<class>/<image>.jpg|jpeg|png, or train/<class>/<image> and val/<class>/<image>, test/<class>/<image>, or one of them"


def read_image_folder(
    folder: str | Path,
    *,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    on_error: OnError = "raise",
    workers: int | None = None,
    cache: str | Path | None = None,
) -> tuple[Dataset, Dataset | None, Dataset | None]:
    """Read a folder of images by class.

    Parameters
    ----------
    folder : str or Path
        Holds ``train/<class>/<image>`` and ``val/...``, ``test/...`` or both, or ``<class>/<image>``. Classes are numbered in the order of their sorted names. Hidden files and files other than
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
    cache : str or Path, optional
        Folder for decoded images: a tree of 2000 files or more is decoded once, and again when a file or setting changes.

    Returns
    -------
    train : Dataset
        Images (N, C, H, W) uint8, sorted by class and file name.
    valid, test : Dataset or None
        What is in ``val/`` and ``test/``; None where the folder has no such part.

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
    check_settings(pair, channels)
    if on_error not in ("raise", "skip"):
        raise SettingError(f"on_error is {on_error!r} but 'raise' or 'skip' is needed")
    require("PIL.Image", "reading images")
    name = folder.resolve().name
    if not (folder / "train").is_dir():
        classes = _class_names(folder)
        return _read_tree(folder, classes, name, pair, channels, on_error, workers, cache), None, None
    classes = _class_names(folder / "train")
    train = _read_tree(folder / "train", classes, name, pair, channels, on_error, workers, cache)
    found: dict[str, Dataset] = {}
    for part in HELD_OUT:
        if not (folder / part).is_dir():
            continue
        unknown = sorted(set(_class_names(folder / part)) - set(classes))
        if unknown:
            raise DataError(
                f"{folder / part}: has classes {unknown} that {folder / 'train'} lacks (it has {list(classes)}); "
                "both must use the same class folders"
            )
        found[part] = _read_tree(folder / part, classes, name, pair, channels, on_error, workers, cache)
        if train.image_shape != found[part].image_shape:
            raise DataError(
                f"{folder}: train images have shape {train.image_shape} (C, H, W) but {part} images {found[part].image_shape}; "
                "set an image size and channels to bring them to one shape"
            )
    return train, found.get("val"), found.get("test")


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
    cache: str | Path | None,
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
    stored = cache_file(Path(cache), folder, paths, size, channels) if cache is not None and len(paths) >= CACHE_FROM else None
    decoded = None if stored is None else read_cache(stored)
    if decoded is None:
        decoded = _decode_tree(folder, paths, size, channels, workers)
        if stored is not None:
            write_cache(stored, *decoded)
    pixels, kept, bad = decoded
    if bad and on_error == "raise":
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise DataError(
            f"{folder}: {len(bad)} of {len(paths)} images cannot be read: {'; '.join(bad[:5])}{more}; "
            "repair or remove them, or set on_error='skip' to leave them out"
        )
    if bad:
        warnings.warn(f"{folder}: left out {len(bad)} of {len(paths)} images: {'; '.join(bad[:5])}", stacklevel=4)
    return Dataset(
        images=pixels,
        labels=np.array(labels, dtype=np.int64)[kept],
        classes=classes,
        name=name,
        source=f"images in {folder.name}/",
        skipped=bad,
    )


def _decode_tree(
    folder: Path, paths: Sequence[Path], size: tuple[int, int] | None, channels: int | None, workers: int | None
) -> tuple[NDArray[np.uint8], NDArray[np.int64], tuple[str, ...]]:
    """Return images, the places in `paths` they come from, and what cannot be read, as ``"path: reason"``."""
    decoded = decode_all(paths, size, channels, workers, f"decoding {folder.name}")
    bad = [f"{path}: {result}" for path, result in zip(paths, decoded, strict=True) if isinstance(result, CorruptError)]
    kept = [(i, result) for i, result in enumerate(decoded) if not isinstance(result, CorruptError)]
    if not kept:
        raise DataError(f"{folder}: none of {len(paths)} images can be read: {'; '.join(bad[:5])}")
    _check_alike([(paths[i], image.shape) for i, image in kept])
    return np.stack([image for _, image in kept]), np.array([i for i, _ in kept], np.int64), tuple(bad)


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
