"""The site: our pages and asv's in one folder of static files."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from . import asv_pages, site_data, store
from .repository import ROOT
from .session import SUITE, Session

PAGES = {"index": ("landing", "Overview"), "changes": ("changes", "Changes"), "graphs": ("graphs", "History"), "roofline": ("roofline", "Roofline"), "libraries": ("libraries", "Libraries")}
_HTML = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · {project} benchmarks</title>
<link rel="stylesheet" href="site.css">
<link rel="icon" href="data:,">
</head>
<body data-page="{page}">
<header><b>{project} benchmarks</b><nav>{links}</nav></header>
<main></main>
<footer>Built <span id="built"></span>. Times are the fastest of many bursts, divided by a probe of the machine taken beside them.</footer>
<script src="data.js"></script>
<script src="site.js"></script>
</body>
</html>
"""


def config() -> dict[str, object]:
    """Return asv's settings, without their comments."""
    text = (SUITE / "asv.conf.json").read_text("utf-8")
    return dict(json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE)))


def build(
    out: Path, *, results: Path = store.RESULTS, root: Path = ROOT, recent: int = 10, with_asv: bool = True, libraries: Sequence[Path] = (),
    tell: Callable[[str], None] = print,
) -> Path:  # fmt: skip
    """Build the site; return its first page.

    Raises
    ------
    ValueError
        If there are no results.
    """
    if not site_data.result_files(results):
        raise ValueError(f"{results}: has no results; run `portable-nn bench history` or `portable-nn bench run` first")
    settings = config()
    data = site_data.collect(results, root, recent, str(settings["project"]), str(settings["show_commit_url"]))
    out.mkdir(parents=True, exist_ok=True)
    (out / "data.js").write_text("window.BENCH = " + json.dumps(data, separators=(",", ":")).replace("</", "<\\/") + ";\n", "utf-8")
    for name in ("site.css", "site.js"):
        shutil.copy(Path(__file__).parent / "pages" / name, out / name)
    for file, (page, title) in PAGES.items():
        links = "".join(f'<a href="{other}.html"{" aria-current=page" if other == file else ""}>{text}</a>' for other, (_, text) in PAGES.items())
        links += '<a href="asv/index.html">asv</a>' if with_asv else ""
        (out / f"{file}.html").write_text(_HTML.format(title=title, page=page, project=settings["project"], links=links), "utf-8")
    (out / ".nojekyll").touch()
    if with_asv:
        with tempfile.TemporaryDirectory() as scratch:
            with Session(root, {"PORTABLE_NN_BENCH_PROFILE": "full"}) as session:
                about = session.about
            asv_pages.publish(about, settings, results, root, out / "asv", Path(scratch))
        asv_pages.make_local(out / "asv", libraries, tell)
    return out / "index.html"
