"""``portable-nn show-augment``: a picture of training images as the model sees them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .parser import RAW, Commands

IMAGES, DRAWS, SIDE = 6, 9, 64  # rows, columns beside the originals, and pixels that a tile has at least


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    """Add the command to the parser of all; return its own."""
    from ..augment import describe
    from ..train.config import add_arguments

    known = "\n".join(f"  {text}" for text in describe().values())
    show = commands.add_parser(
        "show-augment", help="draw what augmentation does", formatter_class=RAW,
        description="Write a picture: in each row a training image as it is, then as nine training steps would see it. "
        "The settings are those of train.",
        epilog=f"augmentations, with their settings and defaults:\n{known}\n\n"
        "examples:\n  portable-nn show-augment --data cifar10 --augment flip,crop:4\n"
        "  portable-nn show-augment --augment rotate:20,erase:p=1 --mixup 0.2 --picture digits.png\n",
    )  # fmt: skip
    show.add_argument("--picture", metavar="FILE", default="augment.png", help="where to write the picture (default: augment.png)")
    add_arguments(show)
    return show


def run(options: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from ..core.selection import use_backend
    from ..data import measure_normalisation
    from ..train.config import from_arguments
    from ..train.setup import choose_backend, load_data, make_augmentation

    config = from_arguments(options)
    with use_backend(choose_backend(config)):
        train = load_data(config).train
        normalisation = measure_normalisation(train.images)
        pipeline = make_augmentation(config, normalisation, len(train.classes))
        path = draw(pipeline, normalisation, train, Path(options.picture), config.seed)
    what = ", ".join(map(str, [*pipeline.augmentations, *pipeline.mixes])) or "no augmentation (give --augment, --mixup or --cutmix)"
    print(f"{path}: {train.name}, seed {config.seed}: {what}")
    return 0


def draw(pipeline: Any, normalisation: Any, train: Any, path: Path, seed: int) -> Path:
    """Write the picture and return its path; a batch is the first image of every class in turn."""
    import numpy as np

    from ..api import asarray, to_numpy
    from ..data.vision import require

    order = np.argsort(train.labels, kind="stable")
    starts = np.searchsorted(train.labels[order], np.arange(len(train.classes)))
    chosen = order[starts[np.arange(IMAGES) % len(train.classes)] + np.arange(IMAGES) // len(train.classes)]
    images = normalisation(train.images[chosen])
    mean, std = (np.reshape(v, (1, -1, 1, 1)) for v in (normalisation.mean, normalisation.std))
    pixels, labels = asarray(images), asarray(train.labels[chosen])
    columns = [images, *(to_numpy(pipeline(pixels, labels, step)[0]) for step in range(DRAWS))]
    colors = np.clip(np.stack(columns, 1) * std[:, None] + mean[:, None], 0, 1)  # (rows, columns, C, H, W)
    scale = max(1, -(-SIDE // max(colors.shape[-2:])))
    tiles = np.pad(colors.repeat(scale, -2).repeat(scale, -1), ((0, 0),) * 3 + ((2, 2), (2, 2)), constant_values=1.0)
    rows, count, channels, height, width = tiles.shape
    sheet = np.rint(tiles.transpose(0, 3, 1, 4, 2).reshape(rows * height, count * width, channels) * 255).astype(np.uint8)
    pillow = require("PIL.Image", "drawing augmentation")
    path.parent.mkdir(parents=True, exist_ok=True)
    pillow.fromarray(sheet[..., 0] if channels == 1 else sheet[..., :3]).save(path)
    return path
