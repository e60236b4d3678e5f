"""``portable-nn eval``: evaluate a trained model."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..core import selection
from ..core.errors import ArgumentError
from .parser import RAW, Commands, add_device, add_use


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    """Add the command to the parser of all; return its own."""
    evaluation = commands.add_parser(
        "eval", help="evaluate a trained model", formatter_class=RAW, description="Evaluate a run on its test set, or its validation set.",
        epilog="example:\n  portable-nn eval runs/digits-lenet --backend numpy\n",
    )  # fmt: skip
    evaluation.add_argument("run", metavar="RUN", help="run folder")
    evaluation.add_argument("--data", help="other data than the run's, of the same classes")
    evaluation.add_argument("--part", choices=("test", "valid"), default="test", help="which images (default: test, where there are such)")
    add_use(evaluation)
    evaluation.add_argument("--json", action="store_true", help="print JSON")
    add_device(evaluation)
    return evaluation


def run(options: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from dataclasses import replace

    from ..train.checkpoint import read_model
    from ..train.config import load_config
    from ..train.evaluation import evaluate
    from ..train.metrics import class_metrics
    from ..train.setup import batches_of, choose_backend, load_data
    from ..train.start import CONFIG

    folder = Path(options.run).expanduser()
    if not (folder / CONFIG).is_file():
        raise ArgumentError(f"{folder}: is no run folder (it has no {CONFIG}); give one that `portable-nn train` made")
    config = load_config(folder / CONFIG)
    config = replace(config, data=options.data or config.data, backend=options.backend, device=options.device)
    backend = choose_backend(config)
    with selection.use_backend(backend):
        model, info = read_model(folder, best=options.best)
        sets = load_data(config)
        test = sets.test if options.part == "test" and sets.test is not None else sets.valid
        if test is None:
            raise ArgumentError(f"{config.data}: the run kept no validation set back (valid_fraction is 0); leave out --part valid")
        part = "test" if test is sets.test else "validation"
        if test.classes != info.classes or test.image_shape != info.in_shape:
            raise ArgumentError(
                f"{config.data}: has images {test.image_shape} of classes {list(test.classes)} but the model was trained on "
                f"{info.in_shape} of {list(info.classes)}; give data of the same form"
            )
        found = evaluate(model, batches_of(config, test, info.normalisation), view=options.tta or config.tta)
    per_class = class_metrics(found.confusion)
    if options.json:
        rows = {
            name: {"precision": p, "recall": r, "f1": f, "images": int(n)}
            for name, p, r, f, n in zip(
                info.classes, *(_finite(v) for v in (per_class.precision, per_class.recall, per_class.f1)), per_class.support, strict=True
            )
        }
        print(json.dumps({"part": part, "accuracy": found.accuracy, "loss": found.loss, "images": len(test), "classes": rows}, indent=2))
        return 0
    print(f"{info.model} on {test.name} ({len(test)} {part} images), {backend.name}: {backend.device}")
    width = max(5, *(len(name) for name in info.classes))
    print(f"{'class':{width}}  precision  recall      f1  images")
    for i, name in enumerate(info.classes):
        cells = "  ".join(f"{100 * v[i]:6.2f} %" for v in (per_class.precision, per_class.recall, per_class.f1))
        print(f"{name:{width}}  {cells}  {per_class.support[i]:6d}")
    print(f"{part} accuracy {100 * found.accuracy:.2f} %, loss {found.loss:.4f}")
    return 0


def _finite(values: Any) -> list[float | None]:
    return [float(v) if v == v else None for v in values]
