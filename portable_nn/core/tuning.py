"""Tuned sizes: what a backend may vary, and the file that keeps what was found to be fastest on a device.

A file is one JSON object. Only `sizes` is read by plans; the rest says what it was made on and lets a search go on.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from .errors import ArgumentError
from .samples import Bench

FORMAT = 1
VARIABLE = "PORTABLE_NN_TUNED"
"""A folder in place of the user's, or "off": then no file of the user is read."""


class TuningIgnored(UserWarning):
    """A file of tuned sizes was not used; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Tunable:
    """A size that plans read, and what else it might be.

    Parameters
    ----------
    name : str
        Such as ``cpu.map.chunk``.
    says : str
        What it is.
    default : JSON value
        What holds on this device without a file of the user.
    candidates : tuple of JSON value
        What it may be; the default is one of them.
    calls : tuple of (str, Bench)
        Ops and operands whose time decides.
    """

    name: str
    says: str
    default: Any
    candidates: tuple[Any, ...]
    calls: tuple[tuple[str, Bench], ...]


def digest(tunables: Iterable[Tunable]) -> str:
    """Return what names a set of tunables: files of another set are stale."""
    told = [(t.name, t.candidates) for t in sorted(tunables, key=lambda t: t.name)]
    return sha256(json.dumps(told).encode()).hexdigest()[:16]


def folder() -> Path | None:
    """Return where the user's files are; None where PORTABLE_NN_TUNED says "off"."""
    said = os.environ.get(VARIABLE, "")
    if said == "off":
        return None
    root = Path(os.environ.get("XDG_CONFIG_HOME", "") or Path.home() / ".config")
    return Path(said) if said else root / "portable_nn" / "tuned"


def path_of(backend: str, device: str) -> Path | None:
    """Return the file of a device."""
    found = folder()
    slug = "".join(c if c.isalnum() else "-" for c in f"{backend}-{device}").strip("-").lower()
    return None if found is None else found / f"{slug}.json"


def read(path: Path) -> dict[str, Any]:
    """Return what a file holds. Raises `ArgumentError` where it is not such a file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArgumentError(f"{path}: not a file of tuned sizes ({error}); make one with portable-nn tune") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT or not isinstance(found.get("sizes"), dict):
        raise ArgumentError(f"{path}: not a file of tuned sizes of format {FORMAT}; make one with portable-nn tune")
    return found


def write(path: Path, record: Mapping[str, Any]) -> None:
    """Write a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps(record, indent=1) + "\n")
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def accepted(sizes: Mapping[str, Any], tunables: Iterable[Tunable]) -> dict[str, Any]:
    """Return the sizes that are among the candidates: a file that others made can choose among them, and no more."""
    known = {t.name: t.candidates for t in tunables}
    return {name: value for name, value in sizes.items() if value in known.get(name, ())}


def of_user(backend: str, device: str, tunables: tuple[Tunable, ...]) -> dict[str, Any]:
    """Return the sizes in the user's file for a device; a file that does not fit is ignored with a warning."""
    path = path_of(backend, device)
    if path is None or not path.is_file():
        return {}
    try:
        found = read(path)
    except ArgumentError as error:
        warnings.warn(TuningIgnored(f"{error} (ignored)"), stacklevel=2)
        return {}
    if found.get("tunables") != digest(tunables):
        told = f"{path} was made for other sizes than this version of portable_nn has (by {found.get('version', 'an unknown version')}), so it is ignored"
        warnings.warn(TuningIgnored(f"{told}; tune again with portable-nn tune, or delete it"), stacklevel=2)
        return {}
    return accepted(found["sizes"], tunables)
