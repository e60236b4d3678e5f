"""Writes the table beside other libraries from `reference/peers.json`, when the pages are built."""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx

_ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(_ROOT / "asv_bench"))

from harness import libraries  # noqa: E402


def write(app: Sphinx) -> None:
    """Write the include beside its figures."""
    folder = Path(app.srcdir) / "reference"
    (folder / "peers.inc").write_text(libraries.page(libraries.read(folder / "peers.json")), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
