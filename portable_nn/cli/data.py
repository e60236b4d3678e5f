"""``portable-nn data``: list the published data sets, or fetch one."""

from __future__ import annotations

import argparse
import json

from ..core.errors import SettingError
from .parser import RAW, Commands


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    """Add the command to the parser of all; return its own."""
    data = commands.add_parser(
        "data", help="list the published data sets, or fetch one", formatter_class=RAW,
        description="List the data sets that have a name, and which are there; or fetch and check some.",
        epilog="examples:\n  portable-nn data\n  portable-nn data cifar10\n  portable-nn data mnist --folder ./data --offline\n",
    )  # fmt: skip
    data.add_argument("names", nargs="*", metavar="NAME", help="fetch and read these")
    data.add_argument("--folder", metavar="FOLDER", help="where they lie, as torchvision has them (default: PORTABLE_NN_DATA, else a cache folder)")
    data.add_argument("--offline", action="store_true", help="fetch nothing; say which file goes where")
    data.add_argument("--json", action="store_true", help="print JSON")
    return data


def run(options: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from ..data import PUBLISHED, data_folder, read_named
    from ..data.named import folder_of, is_there

    folder = data_folder(options.folder)
    unknown = [name for name in options.names if name not in PUBLISHED]
    if unknown:
        raise SettingError(f"data: there is no data set {unknown[0]!r} to fetch; those with a name are {', '.join(PUBLISHED)}")
    rows = []
    for name in options.names or PUBLISHED:
        made = PUBLISHED[name]
        row = {"name": name, "title": made.title, "folder": str(folder_of(made, folder))}
        if options.names:
            train, test = read_named(name, folder, options.offline)
            row |= {"training": len(train), "test": len(test), "image": list(train.image_shape), "classes": list(train.classes)}
            told = f"{len(train)} training and {len(test)} test images {train.image_shape}, {len(train.classes)} classes, in {row['folder']}"
        else:
            row |= {"there": is_there(made, folder)}
            told = f"{'there' if row['there'] else '-':5}  {made.title}"
        rows.append(row)
        if not options.json:
            print(f"{name:13}  {told}", flush=True)
    if options.json:
        print(json.dumps(rows, indent=2))
    elif not options.names:
        print(f"folder: {folder}; `portable-nn data NAME` fetches one, `portable-nn train --data NAME` too")
    return 0
