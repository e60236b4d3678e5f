"""A flame graph: boxes as wide as the time they took, each below the one it is part of. Plain HTML, so that names stay readable on a phone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .html import escape

STYLE = """<style>
.flame { font-size: .78rem; line-height: 1.5; margin: .6rem 0; user-select: none; } .flame .row { display: flex; min-width: 0; overflow: hidden; }
.flame .box { min-width: 0; } .flame .box > span { display: block; overflow: hidden; white-space: nowrap; text-overflow: ellipsis; text-indent: .25em; cursor: pointer;
  border: 1px solid var(--paper); border-radius: 3px; color: var(--ink); background: color-mix(in srgb, var(--hue) var(--tint), var(--card)); }
.flame .box > span:hover { outline: 1px solid var(--ink); outline-offset: -2px; } .flame .away { display: none; }
.flame-note { min-height: 1.6em; color: var(--soft); font-size: .85rem; overflow-wrap: anywhere; }
</style>"""
SCRIPT = """<script>
document.querySelectorAll(".flame").forEach(flame => {
  const note = flame.nextElementSibling, first = note.textContent;
  const say = box => { note.textContent = box ? box.firstElementChild.title : first; };
  flame.addEventListener("mouseover", e => say(e.target.closest(".box")));
  flame.addEventListener("mouseleave", () => say(null));
  flame.addEventListener("click", e => {
    const chosen = e.target.closest(".box"); if (!chosen) return;
    flame.querySelectorAll(".away").forEach(box => box.classList.remove("away"));
    for (let box = chosen; box.parentElement.closest(".box"); box = box.parentElement.closest(".box"))
      for (const other of box.parentElement.children) if (other !== box) other.classList.add("away");
    say(chosen);
  });
});
</script>"""
LEAST = 0.002  # of the whole: what is narrower is joined


@dataclass
class Box:
    """A name, the seconds in it, and what it is made of."""

    name: str
    seconds: float = 0.0
    inside: dict[str, Box] = field(default_factory=dict)

    def add(self, path: Sequence[str], seconds: float) -> None:
        """Add seconds to this box and to those below it along a path of names."""
        self.seconds += seconds
        if path:
            self.inside.setdefault(path[0], Box(path[0])).add(path[1:], seconds)


def tree(rows: Sequence[dict[str, Any]], name: str) -> Box:
    """Return the boxes of a profile: phase, layers from the outside in, op, kernel."""
    root = Box(name)
    for row in rows:
        layers = row["layer"].split(".") if row["layer"] else []
        root.add([part for part in (row["phase"], *layers, row["op"], row["kernel"]) if part], row["seconds"])
    return root


def flame(root: Box) -> str:
    """Return the graph; the line below it tells what is under the mouse, and a click makes a box as wide as the page."""
    if root.seconds <= 0:
        return ""
    note = "Choose a box to see it in full width; the first one leads back."
    return f'<div class="flame">{_box(root, root.seconds, 0, 0)}</div><p class="flame-note">{note}</p>'


def _box(box: Box, whole: float, hue: int, depth: int) -> str:
    told = f"{box.name}: {1e3 * box.seconds:.3f} ms, {box.seconds / whole:.1%}"
    small = [b for b in box.inside.values() if b.seconds < LEAST * whole]
    shown = [b for b in box.inside.values() if b.seconds >= LEAST * whole]
    if small:
        shown.append(Box(f"{len(small)} more", sum(b.seconds for b in small)))
    below = "".join(_box(b, whole, hue if depth else i % 6, depth + 1) for i, b in enumerate(shown))
    rest = box.seconds - sum(b.seconds for b in shown)
    if below and rest > LEAST * whole:  # work of this box that is in no other
        below += f'<div style="flex: {1e3 * rest / whole:.2f} 1 0"></div>'
    tint = 14 if not depth else max(18, 52 - 8 * depth)
    return (
        f'<div class="box" style="flex: {1e3 * box.seconds / whole:.2f} 1 0; --hue: var(--s{hue}); --tint: {tint}%"><span title="{escape(told)}">{escape(box.name)}</span>'
        + (f'<div class="row">{below}</div>' if below else "") + "</div>"
    )  # fmt: skip
