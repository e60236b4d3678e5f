"""report.html of a run: everything about it on one page, from what the run folder holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from ...core.errors import RunError
from ..checkpoint import MODEL
from ..config import TrainConfig, load_config
from ..metrics import class_metrics, confusion_matrix
from ..records import Row, read_metrics, write_bytes
from ..report import LABELS, PREDICTIONS, Predictions, read_predictions
from ..summary import AUGMENTED, PROFILE, read_summary
from . import png
from .chart import Series, chart, smooth
from .html import DASH, escape, figures, number, page, percent, section, table
from .profile import time_of_a_step

REPORT = "report.html"
LABELLED, MISTAKES, FILTERS = 24, 24, 64


def write_page(folder: str | Path) -> Path:
    """Write `report.html` of a run folder, anew from its files.

    Parameters
    ----------
    folder : str or Path
        Of a run that has finished; one that has not is shown as far as it got.

    Returns
    -------
    Path

    Raises
    ------
    RunError
        No run folder, or damaged files in it.
    """
    folder = Path(folder).expanduser()
    if not (folder / "config.json").is_file():
        raise RunError(f"{folder}: is no run folder (it has no config.json); give one that `portable-nn train` made")
    config, rows, result = load_config(folder / "config.json"), read_metrics(folder), read_summary(folder)
    predictions = read_predictions(folder) if (folder / PREDICTIONS).is_file() else None
    title = f"{config.model} on {Path(config.data).name}"
    body = [
        f"<h1>{escape(title)}</h1>",
        _headline(config, result, rows),
        section("Curves", '<div class="charts">' + "".join(f"<figure>{c}</figure>" for c in _curves(rows)) + "</div>" if rows else ""),
        *(_classes(predictions) if predictions is not None else ()),
        _augmented(folder),
        _filters(folder),
        _profile(folder),
        _machine(result),
        f"<details><summary>All settings</summary>{table(('setting', 'value'), list(config.to_dict().items()))}</details>",
    ]
    path = folder / REPORT
    write_bytes(path, page(title, body).encode())
    return path


def _headline(config: TrainConfig, result: dict[str, Any] | None, rows: list[Row]) -> str:
    if result is None:
        tested = [r for r in rows if r.get("valid_loss") is not None or r.get("test_loss") is not None]
        done = f"{tested[-1]['epoch']} of {config.epochs} epochs are behind it" if tested else "no epoch is behind it"
        return f'<p class="soft">This run has not finished: {done}. Continue it with <code>portable-nn train --resume</code>.</p>'
    best, chosen_by = result["best"], result["watched"]
    pairs = [
        ("test accuracy", percent(result.get("test_accuracy"))),
        *(
            [("validation accuracy", percent(result.get("valid_accuracy"))), (f"best validation accuracy (epoch {best['epoch']})", percent(best.get("valid_accuracy"))),
             ("test accuracy of that epoch", percent(best.get("test_accuracy")))]
            if chosen_by == "valid" else [(f"best test accuracy (epoch {best['epoch']})", percent(best["test_accuracy"]))]
        ),
        ("test loss", number(result.get("test_loss"))),
        *([("validation loss", number(result["valid_loss"]))] if "test_loss" not in result else []),
        *((f"{'test' if 'test_loss' in result else 'validation'} {name}", number(value)) for name, value in result.get("metrics", {}).items()),
        ("parameters", f"{result['parameters']:,}"),
        ("epochs, steps", f"{result['epochs']}, {result['steps']:,}"),
        ("seconds of training", number(result["seconds"], ",.1f")),
        ("images per second", number(result["images_per_second"], ",.0f")),
        ("time waiting for data", percent(result["data_wait"])),
        ("augmentation, of a step", percent(result["augmentation"])),
    ]
    known = [(n, v) for n, v in pairs if v != DASH]
    early = f'<p class="soft">Stopped early: {escape(result["stopped_early"])}.</p>' if result.get("stopped_early") else ""
    chosen = "" if chosen_by == "valid" else (
        '<p class="soft">There was no validation set: the best epoch was chosen by the test set, so its figure is a little too good; that of the last epoch is not chosen.</p>'
    )
    return f'<p class="soft">{escape(result["backend"])}: {escape(result["device"])}, {escape(result["precision"])}</p>' + figures(known) + early + chosen


def column(rows: list[Row], name: str, scale: float = 1.0) -> tuple[list[float], list[float]]:
    """Return steps and values of one column of metrics, where it has values."""
    kept = [(float(r["step"] or 0), scale * float(v)) for r in rows if (v := r.get(name)) is not None]
    return [s for s, _ in kept], [v for _, v in kept]


def _curves(rows: list[Row]) -> list[str]:
    made = []
    for quantity, scale, unit in (("loss", 1.0, ""), ("accuracy", 100.0, "%")):
        series = []
        for colour, part in enumerate(("train", "valid", "test")):
            steps, values = column(rows, f"{part}_{quantity}", scale)
            if not steps:
                continue
            if part == "train" and len(values) > 50:
                series.append(Series("", steps, values, colour=colour, faint=True))
                values = smooth(values, max(5, len(values) // 30))
            series.append(Series(LABELS[part], steps, values, colour=colour, points=len(steps) == 1))
        if series:
            positive = all(v > 0 for s in series for v in s.y)
            made.append(chart(quantity.capitalize(), series, "step", unit, log_y=quantity == "loss" and positive))
    own = sorted({name.partition("_")[2] for row in rows for name in row if name.startswith(("valid_", "test_"))} - {"loss", "accuracy"})
    for name in own:
        found = [(part, column(rows, f"{part}_{name}")) for part in ("valid", "test")]
        made.append(chart(name, [Series(LABELS[p], *xy, colour=1 + (p == "test"), points=len(xy[0]) == 1) for p, xy in found if xy[0]], "step", ""))
    for name, title, scale, unit in (("lr", "Learning rate", 1.0, ""), ("images_per_second", "Throughput", 1.0, "images/s"), ("data_wait", "Time waiting for data", 100.0, "%")):
        steps, values = column(rows, name, scale)
        if steps:
            made.append(chart(title, [Series("", steps, values, colour=2)], "step", unit))
    return made


def _classes(found: Predictions) -> tuple[str, ...]:
    count = len(found.classes)
    confusion = confusion_matrix(found.labels, found.predictions, count)
    per_class = class_metrics(confusion)
    rows = [
        (name, *(percent(float(v[i])) for v in (per_class.precision, per_class.recall, per_class.f1)), int(per_class.support[i]))
        for i, name in enumerate(found.classes)
    ]
    listing = table(("class", "precision", "recall", "F1", "images"), rows)
    return (section("Classes", listing), section("Confusion matrix", _matrix(found, confusion)), section("Worst mistakes", _mistakes(found)))


def _matrix(found: Predictions, confusion: Any) -> str:
    parts = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    note = '<p class="soft">Rows are true classes, columns predicted ones; the shade is the part of the row.</p>'
    if len(found.classes) > LABELLED:
        return note + png.tag(255 - np.round(parts * 255).astype(np.uint8), "confusion matrix", "wide")
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in found.classes)
    rows = []
    for i, name in enumerate(found.classes):
        cells = "".join(
            f'<td class="{"" if i == j or not n else "miss"}" style="background: rgba(0, 114, 178, {0.6 * parts[i, j]:.3f})">{n or ""}</td>'
            for j, n in enumerate(confusion[i])
        )
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    return note + f'<div class="scroll"><table class="matrix"><thead><tr><th></th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _mistakes(found: Predictions) -> str:
    tiles: list[str] = []
    for index, image in zip(found.sample_indices, found.sample_images, strict=True):
        true, guess = int(found.labels[index]), int(found.predictions[index])
        if true == guess or len(tiles) == MISTAKES:
            continue
        sure = float(found.confidence[index])
        told = f"taken for {found.classes[guess]}" + (f" ({100 * sure:.0f} %)" if sure == sure else "")
        picture = png.tag(png.shown(image), f"image {index}: {told}, is {found.classes[true]}")
        tiles.append(f"<figure>{picture}<figcaption>{escape(told)}, is <b>{escape(found.classes[true])}</b></figcaption></figure>")
    wrong = int((found.labels != found.predictions).sum())
    if not wrong:
        return f'<p class="soft">There is none: every {found.part} image was predicted right.</p>'
    if not tiles:
        return f'<p class="soft">{wrong} of {len(found.labels)} {found.part} images are wrong; no pictures of them were kept.</p>'
    return f'<p class="soft">{wrong} of {len(found.labels)} {found.part} images are wrong; the surest {len(tiles)} are shown.</p><div class="tiles">{"".join(tiles)}</div>'


def _augmented(folder: Path) -> str:
    path = folder / AUGMENTED
    if not path.is_file():
        return ""
    with np.load(path, allow_pickle=False) as archive:
        before, after = archive["before"], archive["after"]
    rows = [png.shown(x) for x in (*before, *after)]
    note = '<p class="soft">Above as stored, below as the model saw them in training.</p>'
    return section("Augmentation", note, png.tag(png.sheet(rows, len(before)), "training images before and after augmentation", "wide"))


def _filters(folder: Path) -> str:
    path = folder / MODEL
    if not path.is_file():
        return ""
    name, weights = next(((n, x) for n, x in load_file(path).items() if x.ndim == 4 and min(x.shape[2:]) > 1 and x.shape[1] in (1, 3)), ("", None))
    if weights is None:
        return ""
    large = max(1, 16 // max(weights.shape[2:]))  # so that gaps are not as wide as the filters' own pixels
    chosen = [png.shown(x, spread=True).repeat(large, axis=0).repeat(large, axis=1) for x in weights[:FILTERS].astype(np.float32)]
    note = f'<p class="soft">{escape(name)}, {len(weights)} filters of {weights.shape[2]}x{weights.shape[3]}, each by its own range.</p>'
    return section("First-layer filters", note, png.tag(png.sheet(chosen, min(16, len(chosen)), gap=2), f"filters of {name}", "wide"))


def _profile(folder: Path) -> str:
    path = folder / PROFILE
    if not path.is_file():
        return ""
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):  # of a version before there were layers and kernels
        return ""
    return "".join(time_of_a_step(found, "Time of a step"))


def _machine(result: dict[str, Any] | None) -> str:
    if result is None:
        return ""
    rows = [("backend", result["backend"]), ("device", result["device"]), ("precision", result["precision"]), ("portable_nn", result["version"])]
    return section("Where it ran", table(("", ""), rows))
