"""What all pages share: the frame with its style, tables, sections."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from ...core.version import VERSION

STYLE = """
:root { color-scheme: light dark; --ink: #1d2125; --soft: #5b6570; --line: #d9dee3; --paper: #ffffff; --card: #f6f8fa;
  --s0: #0072b2; --s1: #d55e00; --s2: #009e73; --s3: #cc79a7; --s4: #8a6d00; --s5: #56b4e9; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --soft: #a2abb4; --line: #373e46; --paper: #15181b; --card: #1e2328;
  --s0: #58aee6; --s1: #f08a4b; --s2: #35c79b; --s3: #e6a5c8; --s4: #d9b93f; --s5: #9bd3f5; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 68rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p { margin: .4rem 0; max-width: 46rem; } .soft, figcaption, footer { color: var(--soft); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; margin: 1.2rem 0; }
.figures div { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .8rem; }
.figures b { display: block; font-size: 1.3rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; } .figures span { color: var(--soft); font-size: .85rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); gap: 1rem; }
figure { margin: 0; } svg.chart { width: 100%; height: auto; display: block; }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; } svg .grid { stroke: var(--line); } svg .name { fill: var(--ink); font-size: 13px; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .28rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } th { color: var(--soft); font-weight: 600; }
table.matrix td, table.matrix th { padding: .2rem .45rem; text-align: center; border: 1px solid var(--line); } table.matrix td.miss { color: var(--bad); font-weight: 600; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(6.2rem, 1fr)); gap: .7rem; }
.tiles figure { background: var(--card); border: 1px solid var(--line); border-radius: .4rem; padding: .4rem; text-align: center; }
img.pixels { image-rendering: pixelated; width: 100%; height: auto; max-width: 100%; border-radius: .2rem; }
img.wide { image-rendering: pixelated; width: 100%; max-width: 44rem; height: auto; } .tiles figcaption { font-size: .8rem; line-height: 1.3; margin-top: .25rem; overflow-wrap: anywhere; }
.bar { display: inline-block; height: .7em; background: var(--s0); border-radius: 2px; vertical-align: baseline; }
details { margin-top: 1.5rem; } summary { cursor: pointer; font-weight: 600; } footer { margin-top: 3rem; font-size: .85rem; }
@media print { body { max-width: none; } details { display: block; } }
"""


DASH = "\N{EN DASH}"
"""Stands where a number is not known."""


def escape(text: Any) -> str:
    """Return text that is safe between tags and in attributes."""
    return html.escape(str(text), quote=True)


def page(title: str, body: Sequence[str]) -> str:
    """Return a whole page."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + f"\n<footer>Written by portable_nn {VERSION}. This file needs no other.</footer>\n</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    """Return a titled section; nothing when its parts are empty."""
    return f"<section><h2>{escape(title)}</h2>\n" + "\n".join(parts) + "\n</section>" if any(parts) else ""


def figures(pairs: Sequence[tuple[str, str]]) -> str:
    """Return the few numbers a reader looks for first, as (name, value)."""
    return '<div class="figures">' + "".join(f"<div><b>{escape(v)}</b><span>{escape(n)}</span></div>" for n, v in pairs) + "</div>"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], css: str = "") -> str:
    """Return a table that scrolls on a narrow screen; cells that are `Raw` are taken as they are."""
    body = "".join("<tr>" + "".join(f"<td>{_cell(c)}</td>" for c in row) + "</tr>" for row in rows)
    names = "".join(f'<th scope="col">{escape(h)}</th>' for h in head)
    return f'<div class="scroll"><table class="{css}"><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table></div>'


class Raw(str):
    """Text that is HTML already."""

    __slots__ = ()


def _cell(value: Any) -> str:
    return value if isinstance(value, Raw) else escape("" if value is None else value)


def percent(value: float | None) -> str:
    """Return a part of 1 as a percentage; a dash for one that is not known."""
    return DASH if value is None or value != value else f"{100 * value:.2f} %"


def number(value: float | None, form: str = ",.4g") -> str:
    """Return a number; a dash for one that is not known."""
    return DASH if value is None or value != value else format(value, form)
