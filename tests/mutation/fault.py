"""A fault: one replaced piece of one file, named by what it is and not by its line, so that the name outlives edits nearby."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

# Which family a file is of, by the first of these that its name without ending starts with.
FAMILIES = {
    "convolution": ("conv", "delegate"),
    "pooling": ("pool", "each_pixel"),
    "normalisation": ("norm", "batch_norm", "layer_norm", "group_norm", "rms_norm", "add_layer_norm", "row."),
    "softmax": ("softmax", "line.", "lines."),
    "losses": ("loss", "binary_loss", "robust_loss", "pair_loss", "distance", "error.h"),
    "attention": ("attention",),
    "matrix product": ("gemm", "linear", "epilogue", "vector_cpu", "fused"),
    "gather and scatter": ("gather", "scatter", "indexing", "embedding"),
    "ordering and scans": ("ordering", "scan"),
    "reductions": ("reduce", "reduction", "extremum"),
    "random numbers": ("random", "philox"),
    "copies and layout": ("transpose", "copies", "copy_", "layout", "joining", "axes", "filling", "creation"),
    "images": ("resize", "unfold", "pixel_shuffle"),
    "elementwise": (
        "elementwise", "expression", "mapping", "arithmetic", "math", "activation", "threshold", "smooth_unit", "prelu", "glu",
        "gated", "prelude_common", "compose", "scalar", "rendered", "optim_step", "index_width",
    ),
    "core": ("tape", "op.", "spec", "geometry", "subscript", "dtypes", "tree"),
}  # fmt: skip
LAYERS = ("kernel (C)", "kernel (numba)", "plan", "shape rule", "gradient rule", "expression", "reference", "core")


def family_of(path: str) -> str:
    """Return the family of a file; nothing for one that is not looked at."""
    name = PurePosixPath(path).name
    matches = [(len(start), family) for family, starts in FAMILIES.items() for start in starts if name.startswith(start)]
    return max(matches)[1] if matches else ""


@dataclass(frozen=True, slots=True)
class Fault:
    """A replacement.

    Parameters
    ----------
    path : str
        Of the file, from the root of the repository.
    start, stop : int
        What is replaced, in characters of the file.
    new : str
        What is put there.
    kind : str
        "bound", "missing barrier" ...
    scope : str
        The function, kernel or macro it lies in.
    layer : str
        One of LAYERS.
    line : int
        Where it is, from 1.
    before, after : str
        That line without and with the fault.
    id : str
        Made from all but the places.
    """

    path: str
    start: int
    stop: int
    new: str
    kind: str
    scope: str
    layer: str
    line: int
    before: str
    after: str
    id: str = ""

    @property
    def family(self) -> str:
        """The family of its file."""
        return family_of(self.path)

    def applied(self, text: str) -> str:
        """Return the file's text with the fault."""
        return text[: self.start] + self.new + text[self.stop :]


def made(path: str, text: str, start: int, stop: int, new: str, kind: str, scope: str, layer: str) -> Fault:
    """Return a fault, still without its name."""
    first, last = text.rfind("\n", 0, start) + 1, text.find("\n", stop)
    last = len(text) if last < 0 else last
    before, after = text[first:last], text[first:start] + new + text[stop:last]
    return Fault(path, start, stop, new, kind, scope, layer, text.count("\n", 0, start) + 1, before.strip(), after.strip())


def named(faults: Iterable[Fault]) -> list[Fault]:
    """Give each fault its name: file, scope, and a digest of what changes; equal ones in one scope are counted."""
    seen: Counter[str] = Counter()
    found = []
    for fault in faults:
        digest = hashlib.sha256("\n".join([fault.kind, fault.before, fault.after]).encode()).hexdigest()[:8]
        stem = fault.path.removeprefix("backends/portable_nn_").removeprefix("portable_nn/")
        key = f"{stem}:{fault.scope}:{digest}"
        seen[key] += 1
        found.append(replace(fault, id=key if seen[key] == 1 else f"{key}.{seen[key]}"))
    return found
