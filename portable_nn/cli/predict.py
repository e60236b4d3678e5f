"""``portable-nn predict``: classify image files."""

from __future__ import annotations

import argparse
import json

from ..core import selection
from .parser import RAW, Commands, add_device, add_use


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    """Add the command to the parser of all; return its own."""
    predict = commands.add_parser(
        "predict", help="classify image files", formatter_class=RAW,
        description="Say which classes an image likely shows. Images are scaled, cropped and converted as the model needs.",
        epilog="example:\n  portable-nn predict runs/digits-lenet five.png --invert\n",
    )  # fmt: skip
    predict.add_argument("run", metavar="RUN", help="run folder, or a model.safetensors")
    predict.add_argument("images", metavar="IMAGE", nargs="+", help="image files")
    predict.add_argument("--invert", action="store_true", help="dark strokes on light paper, for a model of light on dark")
    add_use(predict)
    predict.add_argument("--json", action="store_true", help="print JSON")
    add_device(predict)
    return predict


def run(options: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    import numpy as np

    from ..data import read_image
    from ..train.checkpoint import read_model
    from ..train.config import TrainConfig
    from ..train.evaluation import predict
    from ..train.setup import choose_backend

    backend = choose_backend(TrainConfig(backend=options.backend, device=options.device))
    with selection.use_backend(backend):
        model, info = read_model(options.run, best=options.best)
        channels, height, width = info.in_shape
        images = np.stack([read_image(path, (height, width), channels) for path in options.images])
        if options.invert:
            images = 255 - images
        chances = predict(model, info.normalisation(images), view=options.tta or "none")
    answers = []
    for path, row in zip(options.images, chances, strict=True):
        best = np.argsort(-row, kind="stable")[:3]
        answers.append({"image": path, "classes": [{"name": info.classes[k], "probability": float(row[k])} for k in best]})
    if options.json:
        print(json.dumps(answers, indent=2))
        return 0
    for answer in answers:
        words = "  ".join(f"{c['name']} {100 * c['probability']:.1f} %" for c in answer["classes"])
        print(f"{answer['image']}: {words}")
    return 0
