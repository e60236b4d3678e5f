"""``portable-nn profile train``: where the time of a training step goes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from .parser import RAW, Commands

if TYPE_CHECKING:
    from ..train.profile import Profile, Sum

_EXAMPLES = """examples:
  portable-nn profile train                                LeNet on digits, on the best device
  portable-nn profile train --model resnet20 --data cifar10 --batch-size 128
  portable-nn profile train --no-capture --backend opencl  call by call only, with phases and layers
"""
SHOWN = 16  # rows of a table


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    """Add the command to the parser of all; return its own."""
    from ..train.config import add_arguments

    profile = commands.add_parser(
        "profile", help="where the time of a training step goes", formatter_class=RAW, epilog=_EXAMPLES,
        description="Time every op and every kernel of a step, by the device's own clock where the backend has one.",
    )  # fmt: skip
    found = profile.add_subparsers(dest="what", metavar="{train}", required=True)
    train = found.add_parser(
        "train", help="of a training step", formatter_class=RAW, epilog=_EXAMPLES,
        description="Take some training steps and look at them: a table here; a page with a flame graph (report.html), a Chrome trace "
        "(trace.json, for ui.perfetto.dev or chrome://tracing) and the numbers (profile.json) in a folder. Nothing else of the run is kept.",
    )  # fmt: skip
    train.add_argument("--steps", metavar="N", type=int, default=10, help="steps to look at, after three that compile and record (default: 10)")
    train.add_argument("--json", action="store_true", help="print JSON in place of tables")
    add_arguments(train)
    return profile


def run(options: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from ..train.config import from_arguments
    from ..train.pages.profile import write_page
    from ..train.profile import described, profile_training
    from ..train.records import write_bytes, write_json
    from ..train.trace import trace

    config = from_arguments(options)
    found = profile_training(config, steps=options.steps)
    told = [described(profile) for profile in found]
    folder = _folder(config.out, Path(config.data).name, config.model)
    folder.mkdir(parents=True, exist_ok=True)
    title = f"A training step of {config.model} on {Path(config.data).name}, {config.batch_size} images"
    write_json(folder / "profile.json", told)
    write_json(folder / "trace.json", trace(found))
    write_bytes(folder / "report.html", write_page(title, told).encode())
    if options.json:
        print(json.dumps(told, indent=2))
        return 0
    print(f"{title}; {found[0].backend}: {found[0].device}")
    for profile in found:
        print()
        print("\n".join(tables(profile)))
    if config.capture and len(found) == 1:
        print("\nthe step cannot be captured here (`portable-nn train` says why), so only this was looked at")
    print(f"\nflame graph in {folder / 'report.html'}, Chrome trace in {folder / 'trace.json'}, numbers in {folder / 'profile.json'}")
    return 0


def _folder(out: str | None, data: str, model: str) -> Path:
    """Return the folder asked for, or the first of runs/profile-<data>-<model>, ...-2 that is free."""
    if out is not None:
        return Path(out).expanduser()
    number, base = 1, Path("runs") / f"profile-{data}-{model}"
    folder = base
    while folder.exists():
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    return folder


def tables(profile: Profile) -> list[str]:
    """Return the lines that tell of one profile: the step, its ops, its kernels."""
    from ..train.profile import by_kernel, by_op

    way = "Captured" if profile.captured else "Call by call"
    step, busy = profile.step_seconds, profile.busy_seconds
    if profile.waited:
        told = f"{way}: a step takes {1e3 * step:.3f} ms; its calls, timed one by one, {1e3 * busy:.3f} ms"
    else:
        host = sum(w.seconds for w in profile.host) / profile.steps
        told = (
            f"{way}: a step takes {1e3 * step:.3f} ms; its {len(profile.kernels) / profile.steps:g} kernels {1e3 * busy:.3f} ms "
            f"({min(1.0, busy / step):.0%}), the host's part {1e3 * host:.3f} ms"
        )
    lines = [told, *_table("op", by_op(profile), busy, not profile.captured, profile.captured and not profile.waited)]
    return lines if profile.waited else [*lines, *_table("kernel", by_kernel(profile), busy, False)]


def _table(name: str, sums: list[Sum], busy: float, phases: bool, launches: bool = False) -> list[str]:
    rates = any(s.nbytes for s in sums)
    shown = sums[:SHOWN]
    width = max([len(name), *(len(_cut(s.name)) for s in shown)])
    lines = [f"  {name:{width}}  {'phase    ' if phases else ''}{'launches' if name == 'kernel' or launches else '   calls'}        ms   share" + ("    GB/s" if rates else "") + ("  GFLOP/s" if phases else "")]
    for s in shown:
        line = f"  {_cut(s.name):{width}}  {f'{s.phase:9}' if phases else ''}{s.calls:8g}  {1e3 * s.seconds:8.3f}  {s.seconds / busy if busy else 0:6.1%}"
        if rates:
            line += f"  {s.nbytes / s.seconds / 1e9:6.1f}" if s.nbytes and s.seconds else " " * 8
        if phases and s.flops and s.seconds:
            line += f"  {s.flops / s.seconds / 1e9:7.1f}"
        lines.append(line)
    if len(sums) > SHOWN:
        rest = sum(s.seconds for s in sums[SHOWN:])
        lines.append(f"  {f'{len(sums) - SHOWN} more':{width}}  {' ' * 9 if phases else ''}{'':8}  {1e3 * rest:8.3f}  {rest / busy if busy else 0:6.1%}")
    return lines


def _cut(name: str, most: int = 44) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
