"""``portable-nn tune``: find the sizes that are fastest on your device."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..core import selection, tuning
from ..core.backend import Backend
from ..core.errors import ArgumentError
from .parser import RAW, Commands, add_device

if TYPE_CHECKING:
    from ..tune import Search, Tried


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    """Add the command to the parser of all; return its own."""
    tune = commands.add_parser(
        "tune", help="find the kernel sizes that are fastest on your device", formatter_class=RAW,
        description="Try other tile and group sizes of the kernels on one device. A candidate is checked on the samples of its ops and on\n"
        "the calls it is timed with, against the reference; it replaces the default where it is faster by more than the noise. What is\n"
        "found is kept after each size in one file for the device, which is read whenever the device is used. Ctrl-C loses nothing\n"
        "but the size in work: the next run goes on. Results stay deterministic; sums may be grouped otherwise than before.",
        epilog="examples:\n  portable-nn tune --budget 300\n  portable-nn tune --op sort --op cpu.map --backend opencl\n"
        "  portable-nn tune --list\n  portable-nn tune --export mine.json     give it to others with the same device\n"
        "  portable-nn tune --import theirs.json\n",
    )  # fmt: skip
    tune.add_argument("--op", action="append", default=[], metavar="NAME", help="only sizes that this op decides, or whose name begins so")
    tune.add_argument("--budget", type=float, metavar="SECONDS", help="begin no candidate after so long (default: until all are tried)")
    tune.add_argument("--rounds", type=int, default=12, help="bursts of each candidate (default 12)")
    tune.add_argument("--again", action="store_true", help="forget what was found before")
    tune.add_argument("--list", action="store_true", help="list the sizes with their values and candidates")
    tune.add_argument("--dry-run", action="store_true", help="say what would be tried")
    tune.add_argument("--export", metavar="FILE", help="copy the device's file")
    tune.add_argument("--import", dest="given", metavar="FILE", help="take the sizes that others found on the same device")
    add_device(tune)
    return tune


def run(options: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from ..tune import Search

    wished = selection.wish() if options.backend is None else tuple(options.backend.split(","))
    backend = selection.resolve(wished, options.device)
    path = tuning.path_of(backend.name, backend.device)
    if path is None:
        raise ArgumentError(f"{tuning.VARIABLE} is off, so there is nowhere to keep sizes; unset it, or name a folder")
    tunables = backend.tunables()
    if not tunables:
        print(f"{backend.name} has no sizes to tune; device backends have, such as opencl")
        return 0
    if options.export:
        return _export(path, Path(options.export))
    if options.given:
        return _import(backend, Path(options.given), path)
    search = Search(backend, path, options.again, options.rounds)
    if options.list:
        for t in search.tunables:
            value = search.sizes.get(t.name, t.default)
            tried = "" if t.name in search.tried else ", not tried yet"
            print(f"{t.name:22} {value!s:>8}  of {', '.join(map(str, t.candidates))}: {t.says} (default {t.default}{tried})")
        return 0
    wanted = search.wanted(tuple(options.op))
    tries = sum(len(t.candidates) for t in wanted)
    print(f"{backend.name}: {backend.device}: {len(wanted)} sizes, {tries} candidates, {len(search.tried)} sizes tried before; kept in {path}", flush=True)
    if options.dry_run:
        for t in wanted:
            print(f"{t.name}: {', '.join(map(str, t.candidates))}, on {', '.join(f'{op} {case.name}' for op, case in t.calls)}")
        return 0
    _search(search, wanted, options.budget)
    left = len(search.wanted(tuple(options.op)))
    print(f"{len(search.sizes)} sizes differ from their defaults" + (f"; {left} left, the next run goes on" if left else ""))
    return 0


def _search(search: Search, wanted: list[tuning.Tunable], budget: float | None) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:30}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(wanted))
        for tunable, found in search.run(wanted, budget, lambda t: progress.update(task, description=t.name)):
            progress.advance(task)
            value = search.sizes.get(tunable.name, tunable.default)
            told = ", ".join(map(_told, found[1:])) or "no other"
            line = f"{tunable.name}: {value}" + (" (default)" if value == tunable.default else f", was {tunable.default}") + f"; time by the default's: {told}"
            progress.console.print(line, highlight=False, soft_wrap=True) if console.is_terminal else print(line, flush=True)


def _told(one: Tried) -> str:
    if one.state == "timed":
        return f"{one.value} {one.score:.2f} (±{one.noise:.0%})"
    return f"{one.value} {one.state}" + (f": {one.why}" if one.why else "")


def _export(path: Path, target: Path) -> int:
    if not path.is_file():
        raise ArgumentError(f"{path} is not there: nothing was tuned on this device; run portable-nn tune first")
    found = tuning.read(path)
    tuning.write(target, found)
    print(f"{len(found['sizes'])} sizes of {found['device']} in {target}")
    return 0


def _import(backend: Backend, source: Path, path: Path) -> int:
    found, tunables = tuning.read(source), backend.tunables()
    if (found.get("backend"), found.get("device")) != (backend.name, backend.device):
        raise ArgumentError(f"{source} is of {found.get('backend')} on {found.get('device')}, but this is {backend.name} on {backend.device}")
    if found.get("tunables") != tuning.digest(tunables):
        raise ArgumentError(f"{source} is of portable_nn {found.get('version')}, which has other sizes than this version; tune again")
    tuning.write(path, {**found, "sizes": tuning.accepted(found["sizes"], tunables)})
    print(f"{len(found['sizes'])} sizes kept in {path}")
    return 0
