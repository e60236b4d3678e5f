"""Writes the figures of the page about captures: counted on the null backend when the pages are built, so never out of date."""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx

_ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(_ROOT / "asv_bench"))

import capture_figures  # noqa: E402

import portable_nn as pnn  # noqa: E402
from portable_nn.core import selection  # noqa: E402

SHOWN = "batch_norm+add+relu"  # the kernel whose text the page shows


def tables() -> tuple[list[str], list[str]]:
    """Return the table of launches and bytes, and the text of one fused kernel, as lines of Markdown."""
    backend = selection.get("null")
    rows = ["| step | op calls | launches | bytes given to launches | intermediate arrays: apart, in use at once |", "|---|---|---|---|---|"]
    text: list[str] = []
    with pnn.use_backend(backend):
        for what, (captured, given) in capture_figures.cases(backend).items():
            f = capture_figures.figures(what, captured, given, backend)
            rows.append(
                f"| {what} | {f.calls[0]} → {f.calls[1]} | {f.launches[0]} → {f.launches[1]} | {f.moved[0] / 1e6:.1f} → {f.moved[1] / 1e6:.1f} MB "
                f"| {f.separate / 1e6:.1f} MB, {f.alive / 1e6:.1f} MB |"
            )
            text = [*text, *(capture_figures.kernels(captured).get(SHOWN, "").splitlines())]
    return rows, ["```c", *text, "```"]


def write(app: Sphinx) -> None:
    """Write both beside the reference pages."""
    folder = Path(app.srcdir) / "reference"
    for name, lines in zip(("capture_figures.inc", "capture_kernel.inc"), tables(), strict=True):
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
