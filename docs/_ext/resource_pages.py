"""Writes the page of kernel resources from reference/resources-*.json, which tests/offline writes from what compilers say."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from op_pages import _write, table
from sphinx.application import Sphinx

VENDORS = {"nvidia": "NVIDIA", "amd": "AMD", "intel": "Intel"}
LANGUAGES = {"cuda": "CUDA", "hip": "HIP", "opencl": "OpenCL"}
# What each figure is called, and what it means; those of all vendors are told once.
MEANING = {
    "registers": "32-bit registers of a thread, of at most 255",
    "vgprs": "vector registers of a lane (on MI cards with the accumulation registers), of at most 256, on MI cards 512",
    "sgprs": "scalar registers of a wave, of about 104",
    "sgpr_spills": "scalar registers kept in lanes of vector registers: no memory is touched",
    "grf": "general registers of a hardware thread, 32 or 64 bytes each; 128, or 256 where the compiler asked for the large file",
    "simd": "work-items that one hardware thread runs together; the compiler halves it when registers run short",
    "warps": "occupancy: warps that a multiprocessor holds at once; 32 at most on sm_75, 48 on sm_120, else 64",
    "waves": "occupancy: waves that a SIMD unit holds at once; 8 at most on gfx90a and gfx942, else 16",
    "spill": "not 0 if registers ran out and memory took their place: bytes per work-item; for Intel the count of such instructions",
    "private": "bytes of memory of a work-item, for spilled registers and for arrays that are indexed at run time",
    "local": "bytes of local (shared) memory of a work-group",
}
BEFORE = """\
What compilers say of every kernel, for processors that need not be there: registers, spills, local memory and occupancy.
Of each kernel, one program is shown: the first that the benchmarks of all ops launch in float32 on a GPU's profile, or
the first of the test samples where no benchmark meets the kernel. The tests compile every program.
The files :download:`NVIDIA <resources-nvidia.json>`, :download:`AMD <resources-amd.json>` and
:download:`Intel <resources-intel.json>` hold the same rows. ``python -m offline amd`` (with ``.:backends:tests`` on the
path) writes them; ``.ci/run nvrtc amd intel`` compiles every program of the test samples too.

These are compilers' figures: they say that the text is legal there, and what it takes. They do not say how fast it is, and nothing here
has run on these processors.
"""


def read(folder: Path) -> list[dict[str, Any]]:
    """Return the files' contents, by vendor."""
    return [json.loads((folder / f"resources-{vendor}.json").read_text()) for vendor in VENDORS]


def excuses(path: Path) -> list[dict[str, Any]]:
    """Return the lines of spills.toml."""
    return list(tomllib.loads(path.read_text()).get("spill", ()))


def figures(told: dict[str, Any]) -> list[str]:
    """Return the names of a vendor's figures."""
    return list(told["columns"][5:])


def badness(told: dict[str, Any], row: list[Any]) -> tuple[int, ...]:
    """Return what rows are sorted by: spills, memory, occupancy (or width), then registers."""
    found = dict(zip(told["columns"], row, strict=True))
    least = next(found[name] for name in ("warps", "waves", "simd") if name in found)
    most = next(found[name] for name in ("registers", "vgprs", "grf") if name in found)
    return (-found["spill"], -found["private"], least, -most, -found["local"])


def target(row: list[Any], told: dict[str, Any]) -> str:
    """Return a target's name, with the language where the vendor has two."""
    several = len({language for _, language in told["targets"]}) > 1
    return f"{row[2]} {LANGUAGES[row[3]]}" if several else str(row[2])


def _summary(told: dict[str, Any]) -> list[str]:
    names = figures(told)
    rows = []
    for name, language in told["targets"]:
        own = sorted((row for row in told["rows"] if row[2:4] == [name, language]), key=lambda row: badness(told, row))
        if own:
            spilling = sum(row[5 + names.index("spill")] > 0 for row in own)
            local = max(row[5 + names.index("local")] for row in own)
            worst = ", ".join(f"{figure} {value}" for figure, value in zip(names, own[0][5:], strict=True))
            rows.append((target(own[0], told), str(len(own)), str(spilling), str(local), f"``{own[0][1]}``: {worst}"))
    return [
        VENDORS[told["vendor"]],
        "-" * len(VENDORS[told["vendor"]]),
        "",
        f"{told['compiler']}, {told['programs']} programs, {', '.join(f'``{o}``' for o in told['options'])}.",
        "",
        *table(("figure", "means"), [(f"``{name}``", MEANING[name]) for name in names]),
        *table(("target", "kernels", "that spill", "most local bytes", "the worst"), rows),
    ]


def page(everything: list[dict[str, Any]], lines: list[dict[str, Any]]) -> str:
    """Return the page."""
    text = [".. Written by docs/_ext/resource_pages.py.", "", "Kernel resources", "================", "", BEFORE]
    if lines:
        told = [(f"``{e['kernel']}``", ", ".join(e["targets"]), str(e["most"]), e["why"]) for e in lines]
        text += ["These spill, and why (``tests/offline/spills.toml``); any other spill fails a test:", "", *table(("kernel", "on", "at most", "because"), told)]
    else:
        text += ["No kernel spills on any target; one that does fails a test, unless ``tests/offline/spills.toml`` says why.", ""]
    for told in everything:
        text += _summary(told)
    text += ["By family", "---------", "", "Worst first: spills, then memory, occupancy, registers.", ""]
    for file in sorted({row[0] for told in everything for row in told["rows"]}):
        text += [file, "~" * len(file), ""]
        for told in everything:
            own = sorted((row for row in told["rows"] if row[0] == file), key=lambda row: (*badness(told, row), row[1]))
            head = ("kernel", VENDORS[told["vendor"]], "programs", *figures(told))
            text += table(head, [(f"``{row[1]}``", target(row, told), *map(str, row[4:])) for row in own]) if own else []
    return "\n".join(text) + "\n"


def write_page(app: Sphinx) -> None:
    """Write reference/resources.rst."""
    folder = Path(app.srcdir) / "reference"
    excused = excuses(Path(app.srcdir).parent / "tests" / "offline" / "spills.toml")
    _write(folder / "resources.rst", page(read(folder), excused))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", write_page)
    return {"parallel_read_safe": True}
