"""Open a built site in a headless Chromium: every page, as files and as a desktop and a phone show it.

    portable-nn bench site --out SITE --no-open && python asv_bench/check_site.py SITE [--shots FOLDER]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.browser import check


def main() -> int:
    """Print a line per page; return 1 if any has a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", type=Path)
    parser.add_argument("--shots", type=Path, help="write a picture of each page here")
    parser.add_argument("--address", help="where a server has the site; by default pages are opened as files")
    given = parser.parse_args()
    found = check(given.site, given.shots, given.address)
    for page in found:
        print(f"{page.page:16} {page.size:8} {page.milliseconds:6.0f} ms  {'; '.join(page.faults) or 'ok'}")
    return 1 if any(page.faults for page in found) else 0


if __name__ == "__main__":
    raise SystemExit(main())
