"""Published data sets by name: found where they lie, torchvision's folders included, or fetched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..core.errors import DataError
from .cifar import find_cifar, read_cifar
from .dataset import Dataset
from .fetch import data_folder, fetch, unpack
from .idx import find_idx_files, read_idx_folder
from .published import PUBLISHED, Published
from .svhn import find_svhn, read_svhn


def folder_of(published: Published, folder: Path) -> Path:
    """Return where the files of a data set lie, or would lie, below the data folder."""
    return folder / (published.unpacked or published.folder)


def is_there(published: Published, folder: Path) -> bool:
    """Tell whether a data set can be read without fetching."""
    place = folder_of(published, folder)
    if published.kind == "idx":
        return len(find_idx_files(place)) == 4 if place.is_dir() else False
    if published.kind == "svhn":
        return find_svhn(place)
    return find_cifar(place) == published.kind or (folder / published.folder / published.files[0].name).is_file()


def read_named(name: str, folder: str | Path | None = None, offline: bool = False) -> tuple[Dataset, Dataset]:
    """Read a published data set, fetching what is not there.

    Parameters
    ----------
    name : str
        A key of `PUBLISHED`: "mnist", "fashion-mnist", "cifar10", "cifar100" or "svhn".
    folder : str or Path, optional
        The data folder, in torchvision's layout; see `data_folder`.
    offline : bool
        Fetch nothing: what is missing is an error that says which file goes where.

    Returns
    -------
    train, test : Dataset

    Raises
    ------
    DataError
        Files that are missing, damaged or not to be had.
    MissingExtraError
        pooch or SciPy is needed and not installed.
    """
    published = PUBLISHED[name]
    root = data_folder(folder)
    place = folder_of(published, root)
    if not is_there(published, root):
        _fetch_all(published, root, offline)
    if published.unpacked and find_cifar(place) is None:
        archive = root / published.folder / published.files[0].name
        unpack(archive, place)
    if published.kind == "svhn":
        train, test = read_svhn(place)
    elif published.kind == "idx":
        train, other = read_idx_folder(place)
        if other is None:
            raise DataError(f"{place}: has one pair of IDX files but {name} has two; delete the folder, and it is fetched again")
        test = other
    else:
        train, test = read_cifar(place, published.kind)
    classes = published.classes or train.classes
    if len(train.classes) != len(classes):
        raise DataError(f"{place}: holds {len(train.classes)} classes but {name} has {len(classes)}; these are other data: remove them")
    return replace(train, name=name, classes=classes), replace(test, name=name, classes=classes)


def _fetch_all(published: Published, root: Path, offline: bool) -> None:
    for file in published.files:
        try:
            fetch(published, file, root, offline)
        except DataError as error:
            if published.pickled and (root / published.pickled).is_dir():
                raise DataError(
                    f"{error}. ({root / published.pickled} holds the pickled version, which is not read: unpickling runs the file's code)"
                ) from error
            raise
