"""Fetching files with checksums, by pooch: from a mirror or the published address, to a folder that is kept.

The folder is the one given, else PORTABLE_NN_DATA, else pooch's place for caches. PORTABLE_NN_MIRROR names an address
whose files are tried before the published ones.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from ..core.errors import DataError
from .progress import Bar
from .published import File, Published
from .vision import require

FOLDER, MIRROR = "PORTABLE_NN_DATA", "PORTABLE_NN_MIRROR"


def data_folder(folder: str | Path | None = None) -> Path:
    """Return the folder of fetched data: the one given, else PORTABLE_NN_DATA, else the user's cache folder."""
    given = folder or os.environ.get(FOLDER)
    if given:
        return Path(given).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    home = Path(cache) if cache else Path.home() / ("AppData/Local" if os.name == "nt" else ".cache")
    return home / "portable_nn" / "data"


def addresses(file: File) -> list[str]:
    """Return where a file may be had, the mirror of PORTABLE_NN_MIRROR first."""
    mirror = os.environ.get(MIRROR)
    return [*([f"{mirror.rstrip('/')}/{file.name}"] if mirror else []), *file.urls]


def checked(path: Path, md5: str) -> bool:
    """Tell whether a file has this MD5 sum."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == md5


def fetch(published: Published, file: File, folder: Path, offline: bool = False) -> Path:
    """Return the path of a file of a data set, fetched if it is not there.

    Parameters
    ----------
    published : Published
    file : File
    folder : Path
        The data folder.
    offline : bool
        Fetch nothing.

    Returns
    -------
    Path
        A file whose checksum is right.

    Raises
    ------
    DataError
        Offline and not there (says what to put where); another checksum; no address answered.
    MissingExtraError
        pooch is not installed.
    """
    path = folder / published.folder / file.name
    if path.is_file():
        if checked(path, file.md5):
            return path
        raise DataError(
            f"{path}: does not have the MD5 sum {file.md5} of the published file; it is damaged or another one: delete it, "
            "and it is fetched again"
        )
    if offline:
        missing = [(f, folder / published.folder / f.name) for f in published.files if not (folder / published.folder / f.name).is_file()]
        told = "; ".join(f"{addresses(f)[0]} (MD5 {f.md5}) to {place}" for f, place in missing)
        raise DataError(f"{published.name}: {file.name} is not there and fetching is off (--offline); fetch elsewhere and put {told}")
    pooch: Any = require("pooch", f"fetching the data set {published.name!r}")
    pooch.get_logger().setLevel("ERROR")
    failed = []
    for url in addresses(file):
        with Bar(f"fetching {file.name}") as bar:
            try:
                downloader = pooch.HTTPDownloader(progressbar=bar, timeout=30)
                pooch.retrieve(url, f"md5:{file.md5}", fname=file.name, path=path.parent, downloader=downloader)
                return path
            except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong checksum is a ValueError
                path.unlink(missing_ok=True)
                failed.append(f"{url} ({' '.join(str(error).split())[:160]})")
    raise DataError(
        f"{published.name}: {file.name} could not be fetched from {'; '.join(failed)}; "
        f"check the network, name a mirror by {MIRROR}, or put the file (MD5 {file.md5}) at {path}"
    )


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, place: Path) -> None:
    """Write one regular file below `place`; links, devices and names that lead elsewhere are left out.

    By hand, because `tarfile`'s own filters came with Python 3.11.4, and later versions warn without one.
    """
    target = (place / member.name).resolve()
    source = tar.extractfile(member) if member.isfile() and target.is_relative_to(place.resolve()) else None
    if source is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with source, target.open("wb") as out:
            shutil.copyfileobj(source, out)


def unpack(archive: Path, into: Path) -> None:
    """Unpack a .tar.gz beside itself so that the folder `into` is whole or absent; raises `DataError`."""
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix=".unpacking-") as place:
        try:
            with tarfile.open(archive) as tar:
                for member in tar:
                    _extract(tar, member, Path(place))
        except (OSError, EOFError, tarfile.TarError) as error:
            raise DataError(f"{archive}: cannot be unpacked ({error}); delete it, and it is fetched again") from error
        found = Path(place) / into.name
        if not found.is_dir():
            raise DataError(f"{archive}: has no folder {into.name}; delete it, and it is fetched again")
        if not into.is_dir():  # another process may have been quicker
            found.rename(into)
