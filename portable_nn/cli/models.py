"""``portable-nn models``: list the models and what they cost."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from ..core.errors import SettingError
from .parser import RAW, Commands


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    """Add the command to the parser of all; return its own."""
    models = commands.add_parser(
        "models", help="list the models and what they cost", formatter_class=RAW,
        description="List the models with parameters, arithmetic per image and training memory. Nothing is computed: calls are planned "
        "and arrays counted on the null backend.",
        epilog="examples:\n  portable-nn models --image 3,32,32 --classes 10\n  portable-nn models resnet18 vit_tiny --image 3,224,224 --batch-size 32\n",
    )  # fmt: skip
    models.add_argument("names", nargs="*", metavar="MODEL", help="these models (default: all)")
    models.add_argument("--image", metavar="C,H,W", default="3,32,32", help="shape of an image (default: 3,32,32)")
    models.add_argument("--classes", metavar="N", type=int, default=10, help="classes (default: 10)")
    models.add_argument("--batch-size", metavar="N", type=int, default=128, help="images of the training step (default: 128)")
    models.add_argument("--json", action="store_true", help="print JSON")
    return models


def run(options: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from ..models import MODELS, available, check_name
    from ..train.cost import cost_of

    shape = _shape(options.image)
    if options.classes < 1 or options.batch_size < 1:
        raise SettingError(f"models: classes is {options.classes} and batch size {options.batch_size} but both must be at least 1")
    for name in options.names:
        check_name(name, None)
    trained = dict(available())
    rows, width = [], max(len(name) for name in MODELS)
    if not options.json:
        print(f"{'model':{width}}  parameters  Mflop/image  training MiB  for images of {shape}, {options.classes} classes, batches of {options.batch_size}")
    for name in options.names or MODELS:
        entry = MODELS[name]
        row = {"name": name, "task": entry.task, "about": entry.about, "trained_on": trained.get(name)}
        try:
            cost = cost_of(name, shape, options.classes, options.batch_size)
        except SettingError as error:  # images too small for this one
            rows.append({**row, "error": str(error)})
            told = f"{'-':>10}  {'-':>11}  {'-':>12}  {error}"
        else:
            rows.append({**row, **asdict(cost)})
            about = entry.about if entry.task == "classification" else f"{entry.about} ({entry.task})"
            told = f"{cost.parameters:10,}  {cost.flops / 1e6:11,.1f}  {cost.memory / 2**20:12,.1f}  {about}"
        if not options.json:
            print(f"{name:{width}}  {told}", flush=True)
    if options.json:
        print(json.dumps(rows, indent=2))
    return 0


def _shape(text: str) -> tuple[int, int, int]:
    try:
        channels, height, width = (int(n) for n in text.replace("x", ",").split(","))
    except ValueError:
        raise SettingError(f"models: --image is {text!r} but channels, height and width are needed, such as 3,32,32") from None
    if min(channels, height, width) < 1:
        raise SettingError(f"models: --image is {text!r} but sizes of at least 1 are needed")
    return channels, height, width
