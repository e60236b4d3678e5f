"""One process per run folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..core.errors import RunError

try:
    import fcntl
except ImportError:  # Windows: there the lock is left out
    fcntl = None  # type: ignore[assignment]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder while the block runs; the lock falls with the process, however that ends.

    Raises
    ------
    RunError
        Another process holds it.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)  # the folder itself, so that no file is left behind
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"{folder}: another process trains in it; wait until it has ended, or choose another --out") from None
        yield
    finally:
        os.close(descriptor)
