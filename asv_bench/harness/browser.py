"""The site in a real browser: every page is opened as a file, on a desktop and on a phone; an error on the console is a failure.

    python asv_bench/check_site.py SITE [--shots FOLDER]

Needs `pip install playwright` and a Chromium: the system's, or `playwright install chromium`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SIZES = {"desktop": {"width": 1200, "height": 800}, "phone": {"width": 390, "height": 844}}
_CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass
class Checked:
    """What a browser found of one page at one size."""

    page: str
    size: str
    milliseconds: float
    faults: list[str] = field(default_factory=list)


def _first(select: Any) -> None:
    """Choose another option of a `<select>` than the one that is chosen."""
    values = [option.get_attribute("value") for option in select.locator("option").all()]
    now = select.input_value()
    other = next((v for v in values if v != now), None)
    if other is not None:
        select.select_option(other)


def _landing(page: Any, fault: Callable[[str], None]) -> None:
    if not page.locator(".card .big").count():
        fault("no card for any backend")


def _graphs(page: Any, fault: Callable[[str], None]) -> None:
    if not page.locator("svg circle.dot").count():
        fault("no point was drawn")
        return
    page.locator("svg circle.dot").last.focus()
    if " at " not in page.locator(".note").inner_text():
        fault("a point says nothing when it is chosen")
    benchmark = page.locator("input[list]")
    names = [o.get_attribute("value") for o in page.locator("datalist option").all()]
    before, first = page.locator("main").inner_html(), benchmark.input_value()
    benchmark.fill(next(n for n in names if n != first))
    benchmark.press("Enter")
    page.locator("h1").click()
    if "null" in page.locator("main").inner_text():
        fault("a null is shown")
    if page.locator("main").inner_html() == before:
        fault("choosing another benchmark changes nothing")
    if not page.locator("svg circle.dot").count():
        fault("no point was drawn for another benchmark")
    benchmark.fill(first)
    page.locator("h1").click()


def _roofline(page: Any, fault: Callable[[str], None]) -> None:
    before = page.locator("svg circle.dot").count()
    if not before or page.locator("svg .roof").count() < 2:
        fault("no op or no roof was drawn")
        return
    page.locator("input[aria-label=op]").fill(page.locator("svg circle.dot").first.get_attribute("data-op") or "")
    if not 0 < page.locator("svg circle.dot").count() < before:
        fault("the filter by op does not filter")
    page.locator("input[aria-label=op]").fill("")
    backend = page.locator("select[aria-label=backend]")
    if backend.locator("option").count() > 1:
        _first(backend)
        if not page.locator("svg circle.dot").count():
            fault("another backend has no point")
        _first(backend)


def _changes(page: Any, fault: Callable[[str], None]) -> None:
    page.locator("select[aria-label=kind]").select_option("both")
    page.locator("select[aria-label='in the last']").select_option("1000")
    if " found" not in page.locator("main").inner_text():
        fault("no count of changes")


def _libraries(page: Any, fault: Callable[[str], None]) -> None:
    if not page.locator("select[aria-label=machine]").count():
        fault("no choice of machine")


def _asv_grid(page: Any, fault: Callable[[str], None]) -> None:
    page.wait_for_selector("#summarygrid-display .benchmark-container, #summarygrid-display a", timeout=15000)
    links = [a.get_attribute("href") for a in page.locator("#summarygrid-display a").all()]
    wanted = next((link for link in links if link and "matmul.time_call" in link), links[0] if links else None)
    if wanted is None:
        fault("asv's grid is empty")
        return
    page.goto(page.url.split("#")[0] + "#" + wanted.split("#", 1)[-1])
    page.wait_for_selector("#main-graph canvas", timeout=15000)


_LOOKS = {
    "index.html": _landing, "changes.html": _changes, "graphs.html": _graphs, "roofline.html": _roofline, "libraries.html": _libraries,
    "asv/index.html": _asv_grid,
}  # fmt: skip


def check(site: Path, shots: Path | None = None, address: str | None = None) -> list[Checked]:
    """Open every page at every size; return what was found.

    Parameters
    ----------
    site : path
        The folder of the site.
    shots : path, optional
        Where pictures go.
    address : str, optional
        Where a server has the site; by default the pages are opened as files.
    """
    from playwright.sync_api import Error, sync_playwright

    found = []
    system = next((path for name in _CHROMIUMS if (path := shutil.which(name))), None)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=system, args=["--no-sandbox"])
        for size, viewport in SIZES.items():
            for name, look in _LOOKS.items():
                if not (site / name).is_file():
                    continue
                page = browser.new_page(viewport=viewport)
                made = Checked(name, size, 0.0)
                page.on("console", lambda message, made=made: made.faults.append(f"console: {message.text}") if message.type == "error" else None)
                page.on("pageerror", lambda error, made=made: made.faults.append(f"script: {error}"))
                page.on("requestfailed", lambda request, made=made: made.faults.append(f"not loaded: {request.url}"))
                try:
                    page.goto(f"{address}/{name}" if address else (site / name).resolve().as_uri())
                    made.milliseconds = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
                    look(page, made.faults.append)
                    if page.evaluate("document.documentElement.scrollWidth > innerWidth + 1") and not name.startswith("asv"):
                        made.faults.append("the page is wider than the screen")
                    if shots:
                        shots.mkdir(parents=True, exist_ok=True)
                        page.screenshot(path=shots / f"{name.removesuffix('.html').replace('/', '-')}-{size}.png")
                except (Error, StopIteration) as error:
                    made.faults.append(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
                page.close()
                found.append(made)
        browser.close()
    return found
