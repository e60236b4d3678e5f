"""Line and point charts as SVG that takes its colours from the page, so that it reads in light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560, 300, 58, 14, 30, 40
COLOURS = 6


@dataclass(frozen=True)
class Series:
    """A named line through points, or points alone; `faint` lines stand behind the others."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    points: bool = False
    colour: int = 0
    faint: bool = False


def ticks(low: float, high: float, log: bool) -> list[float]:
    """Return about five round numbers from `low` to `high`."""
    if log:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        steps = (1,) if len(decades) > 4 else (1, 2, 5)
        found = [m * 10.0**d for d in decades for m in steps if low * 0.999 <= m * 10.0**d <= high * 1.001]
        return found[:: max(1, len(found) // 6)] or [low, high]
    span = high - low
    raw = span / 5
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(m * size for m in (1, 2, 5, 10) if m * size >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _span(values: list[float], log: bool) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        return (low / 2, high * 2) if log else (low - (abs(low) or 1) * 0.05, high + (abs(high) or 1) * 0.05)
    return low, high


def chart(
    title: str, series: Sequence[Series], x_name: str, y_name: str = "", *, log_x: bool = False, log_y: bool = False,
    marks: Sequence[tuple[float, str]] = (), labels: Sequence[str] = (), standalone: bool = False,
) -> str:  # fmt: skip
    """Return an SVG element.

    Parameters
    ----------
    title : str
        Shown above, and read out.
    series : sequence of Series
        Points that are not finite are left out; on a logarithmic axis those that are not above 0, too.
    x_name, y_name : str
        Names of the axes.
    log_x, log_y : bool
        Logarithmic axes; an axis with no positive value is linear.
    marks : sequence of (x, text)
        Upright lines with a name.
    labels : sequence of str
        Words in place of numbers below the horizontal axis, at 1, 2, ...
    standalone : bool
        For a file of its own: colours are written into it.
    """
    kept = [
        (s, [(float(a), float(b)) for a, b in zip(s.x, s.y, strict=True) if _fits(a, log_x) and _fits(b, log_y)]) for s in series
    ]
    points = [p for _, found in kept for p in found]
    if not points:
        return f'<p class="soft">{escape(title)}: nothing was recorded.</p>'
    x0, x1 = _span([p[0] for p in points] + [m for m, _ in marks if _fits(m, log_x)], log_x)
    y0, y1 = _span([p[1] for p in points], log_y)
    if labels:
        x0, x1 = 0.5, len(labels) + 0.5
    if not log_y:
        pad = 0.04 * (y1 - y0)
        y0, y1 = y0 - pad, y1 + pad

    def place(value: float, low: float, high: float, log: bool, start: float, end: float) -> float:
        part = math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)
        return round(start + part * (end - start), 1)

    def at(x: float, y: float) -> tuple[float, float]:
        return place(x, x0, x1, log_x, LEFT, WIDTH - RIGHT), place(y, y0, y1, log_y, HEIGHT - BOTTOM, TOP)

    legend, rows = _legend(series)
    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT + 18 * rows}" role="img" xmlns="http://www.w3.org/2000/svg">']
    if standalone:
        parts.append(_PLAIN)
    parts.append(f"<title>{escape(title)}</title>")
    parts.append(f'<text class="name" x="{LEFT}" y="16">{escape(title)}</text>')
    for tick in ticks(y0, y1, log_y):
        _, y = at(x0, tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{tick:.4g}</text>')
    named = [(i + 1.0, label) for i, label in enumerate(labels)] or [(tick, f"{tick:.4g}") for tick in ticks(x0, x1, log_x)]
    for tick, told in named:
        x, _ = at(tick, y0)
        parts.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{escape(told)}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_name)}</text>')
    if y_name:
        parts.append(f'<text x="{WIDTH - RIGHT}" y="16" text-anchor="end">{escape(y_name)}</text>')
    for value, text in marks:
        if _fits(value, log_x):
            x, _ = at(value, y0)
            parts.append(f'<line x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="var(--s2)" stroke-dasharray="4 3"/>')
            parts.append(f'<text x="{min(x + 4, WIDTH - 110)}" y="{TOP + 12}">{escape(text)}</text>')
    for s, found in kept:
        colour = f"var(--s{s.colour % COLOURS})"
        placed = [at(*p) for p in found]
        if s.points or len(placed) == 1:
            parts += [f'<circle cx="{x}" cy="{y}" r="3.5" fill="{colour}"/>' for x, y in placed]
        elif placed:
            path = " ".join(f"{x},{y}" for x, y in placed)
            faint = ' opacity="0.3"' if s.faint else ""
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{1 if s.faint else 2}"{faint}/>')
    return "\n".join([*parts, legend, "</svg>"])


def _legend(series: Sequence[Series]) -> tuple[str, int]:
    """Return the names of the lines, below the chart where they hide none, and how many rows of 18 they take."""
    names = [s for s in series if s.name and not s.faint]
    if len(names) < 2:
        return "", 0
    per_row = max(1, min(4, int((WIDTH - LEFT) / (26 + 7 * max(len(s.name) for s in names)))))
    parts = []
    for number, s in enumerate(names):
        row, place = divmod(number, per_row)
        x, y = LEFT + place * (WIDTH - LEFT - RIGHT) / per_row, HEIGHT + 12 + 18 * row
        parts.append(f'<rect x="{x:.1f}" y="{y - 9}" width="10" height="10" fill="var(--s{s.colour % COLOURS})"/>')
        parts.append(f'<text x="{x + 15:.1f}" y="{y}">{escape(s.name)}</text>')
    return "\n".join(parts), -(-len(names) // per_row)


def _fits(value: float, log: bool) -> bool:
    return math.isfinite(value) and (not log or value > 0)


_PLAIN = (
    "<style>svg { --ink: #1d2125; --soft: #5b6570; --line: #d9dee3; --s0: #0072b2; --s1: #d55e00; --s2: #009e73; --s3: #cc79a7; "
    "--s4: #8a6d00; --s5: #56b4e9; background: #fff; } text { fill: var(--soft); font: 12px sans-serif; } .grid { stroke: var(--line); } "
    ".name { fill: var(--ink); font-size: 13px; }</style>"
)


def smooth(values: Sequence[float], width: int) -> list[float]:
    """Return the mean of the last `width` values at each place, of fewer at the beginning."""
    made: list[float] = []
    total = 0.0
    for i, value in enumerate(values):
        total += value - (values[i - width] if i >= width else 0.0)
        made.append(total / min(i + 1, width))
    return made
