"""Imports of the optional extra `vision` (Pillow, scikit-learn, matplotlib): late, and with an error that names it."""

from __future__ import annotations

import importlib
from typing import Any

from ..core.errors import PortableNNError

INSTALL = 'pip install "portable-nn[vision]"'


class MissingExtraError(PortableNNError, ImportError):
    """A library of an optional extra that is not installed."""


def require(module: str, purpose: str) -> Any:
    """Import a module of the extra `vision` when it is first needed.

    Parameters
    ----------
    module : str
        Full module name, such as ``"PIL.Image"``.
    purpose : str
        What it is needed for, as a phrase: ``"reading images"``.

    Returns
    -------
    module
        The imported module.

    Raises
    ------
    MissingExtraError
        The module cannot be imported; the message names the install command and the import's own error.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        library = module.partition(".")[0]
        raise MissingExtraError(
            f"{purpose} needs {library}, which cannot be imported ({error}); run {INSTALL}"
        ) from error
