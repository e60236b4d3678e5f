"""Pictures of a run: curves.png, confusion.png and samples.png, drawn by matplotlib from what the run folder holds.

Colours are those of Okabe and Ito, which people with colour-blindness tell apart; right and wrong also differ in text.
Longer than most files: the record of predictions stands beside the pictures that read it.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core.errors import DataError, RunError
from ..data import Dataset
from ..data.vision import require
from .metrics import accuracy, class_metrics, confusion_matrix
from .records import Row, atomic_path, read_metrics

BLUE, VERMILLION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#5A5A5A"
LABELS = {"train": "training", "valid": "validation", "test": "test"}
SAMPLE_ROWS, SAMPLE_COLUMNS = 5, 8
LARGEST_LABELLED = 20
PREDICTIONS = "predictions.npz"


@dataclass(frozen=True, eq=False)
class Predictions:
    """What predictions.npz holds: N results on held-out images, and the S images that samples.png shows.

    Parameters
    ----------
    labels, predictions : ndarray, (N,) int64
        True and predicted class numbers.
    confidence : ndarray, (N,) float32
        Probability of the predicted class; NaN when it was not given.
    classes : tuple of str
        The K class names.
    part : str
        What is held out: "test" or "validation".
    sample_indices : ndarray, (S,) int64
        Which images the samples are, wrong ones first.
    sample_images : ndarray, (S, C, H, W)
        Their pixels as stored.
    """

    labels: NDArray[np.int64]
    predictions: NDArray[np.int64]
    confidence: NDArray[np.float32]
    classes: tuple[str, ...]
    part: str
    sample_indices: NDArray[np.int64]
    sample_images: NDArray[Any]


def write_predictions(
    run: str | Path, dataset: Dataset, predictions: ArrayLike, confidence: ArrayLike | None = None, part: str = "test"
) -> Path:
    """Record results on held-out images in the run folder, with the images that samples.png needs.

    Parameters
    ----------
    run : str or Path
        The run folder.
    dataset : Dataset
        The N images.
    predictions : array_like, (N,) int
        Predicted class numbers.
    confidence : array_like, (N,) float, optional
        Probability of the predicted class; orders the wrong ones, surest first.
    part : str
        What the images are: "test" or "validation".

    Returns
    -------
    Path
        ``predictions.npz`` in the run folder, written whole or not at all.

    Raises
    ------
    DataError
        Predictions of another number or out of range, confidence of another shape.
    """
    predicted = np.asarray(predictions)
    confusion_matrix(dataset.labels, predicted, len(dataset.classes))  # checks shapes and range
    sure = np.full(len(dataset), np.nan, np.float32) if confidence is None else np.asarray(confidence, np.float32)
    if sure.shape != predicted.shape:
        raise DataError(
            f"report: confidence has shape {sure.shape} but one value per image, {predicted.shape}, is needed"
        )
    chosen = _choose_samples(dataset.labels, predicted, sure)
    path = Path(run) / PREDICTIONS
    with atomic_path(path) as temporary:
        np.savez_compressed(
            temporary,
            labels=dataset.labels,
            predictions=predicted.astype(np.int64),
            confidence=sure,
            classes=np.array(dataset.classes),
            part=np.array(part),
            sample_indices=chosen,
            sample_images=dataset.images[chosen],
        )
    return path


def read_predictions(run: str | Path) -> Predictions:
    """Read what `write_predictions` wrote; raises `RunError` when it is missing or damaged."""
    path = Path(run) / PREDICTIONS
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            arrays = {name: archive[name] for name in Predictions.__dataclass_fields__}
    except (OSError, EOFError, LookupError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise RunError(f"{path}: cannot be read ({error}); evaluate the run again to make it") from error
    return Predictions(**{**arrays, "classes": tuple(str(name) for name in arrays["classes"]), "part": str(arrays["part"])})


def _choose_samples(
    labels: NDArray[np.int64], predictions: NDArray[Any], confidence: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Wrong ones, surest first, then right ones spread evenly over the set."""
    room = SAMPLE_ROWS * SAMPLE_COLUMNS
    wrong = np.flatnonzero(labels != predictions)
    wrong = wrong[np.argsort(-np.nan_to_num(confidence[wrong]), kind="stable")][:room]
    right = np.flatnonzero(labels == predictions)
    left = min(room - len(wrong), len(right))
    spread = right[np.linspace(0, len(right) - 1, left).astype(np.int64)] if left else right[:0]
    return np.concatenate([wrong, spread]).astype(np.int64)


def write_report(run: str | Path, title: str = "") -> list[Path]:
    """Draw the pictures of a run.

    Parameters
    ----------
    run : str or Path
        A run folder with metrics.jsonl and predictions.npz.
    title : str
        Said above each picture, such as ``"lenet on digits, opencl"``.

    Returns
    -------
    list of Path
        ``curves.png``, ``confusion.png`` and ``samples.png``; the first only when there are metrics.

    Raises
    ------
    RunError
        predictions.npz is missing or damaged, or metrics.jsonl is damaged.
    MissingExtraError
        matplotlib is not installed.
    """
    run = Path(run)
    results, rows = read_predictions(run), read_metrics(run)
    figures = {"curves": draw_curves(rows, title)} if rows else {}
    figures["confusion"] = draw_confusion(results, title)
    figures["samples"] = draw_samples(results, title)
    written = []
    for name, figure in figures.items():
        path = run / f"{name}.png"
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=150, facecolor="white")
        written.append(path)
    return written


def _figure(width: float, height: float) -> Any:
    """Make a figure of its own, drawn by Agg: no window, no global state, no change of matplotlib's settings."""
    figure = require("matplotlib.figure", "drawing a report").Figure(figsize=(width, height), layout="constrained")
    require("matplotlib.backends.backend_agg", "drawing a report").FigureCanvasAgg(figure)
    return figure


def _column(rows: list[Row], name: str) -> tuple[list[float], list[float]]:
    points = [(row["step"], row.get(name)) for row in rows]
    kept = [(float(step), float(value)) for step, value in points if step is not None and value is not None]
    return [step for step, _ in kept], [value for _, value in kept]


def draw_curves(rows: list[Row], title: str = "") -> Any:
    """Draw loss and accuracy over steps from the rows of `read_metrics`; returns a matplotlib Figure."""
    figure = _figure(9, 3.8)
    left, right = figure.subplots(1, 2)
    for axes, quantity, scale in ((left, "loss", 1.0), (right, "accuracy", 100.0)):
        for part, colour, marker in (("train", BLUE, ""), ("valid", VERMILLION, "o"), ("test", GREEN, "D")):
            steps, values = _column(rows, f"{part}_{quantity}")
            if not steps:
                continue
            shown = [scale * value for value in values]
            if part == "train" and len(shown) > 50:  # single batches are noisy: pale, with a running mean on top
                axes.plot(steps, shown, color=colour, linewidth=0.8, alpha=0.25)
                shown = _running_mean(shown, max(5, len(shown) // 30))
            axes.plot(steps, shown, color=colour, linewidth=1.8, marker=marker, markersize=3.5, label=LABELS[part])
        axes.set_xlabel("step")
        axes.set_ylabel("loss" if quantity == "loss" else "accuracy (%)")
        _tidy(axes)
        if axes.lines:
            axes.legend(frameon=False, loc="upper right" if quantity == "loss" else "lower right")  # "best" takes seconds on long runs
    loss_steps, losses = _column(rows, "train_loss")
    if loss_steps and min(losses) > 0:
        left.set_yscale("log")
    _, tested = _column(rows, "test_accuracy")
    if tested:
        right.set_title(f"test accuracy at the end {100 * tested[-1]:.2f} %", fontsize=10, color=GREY)
    figure.suptitle(title or "training", fontsize=12)
    return figure


def _running_mean(values: list[float], width: int) -> list[float]:
    """Take the mean of the last `width` values at each place, of fewer at the beginning."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - width)
    return [float(v) for v in (sums[ends] - sums[starts]) / (ends - starts)]


def _tidy(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#E0E0E0", linewidth=0.7)
    axes.set_axisbelow(True)


def draw_confusion(results: Predictions, title: str = "") -> Any:
    """Draw the confusion matrix, each row as parts of its class, with counts written in; returns a Figure."""
    count = len(results.classes)
    confusion = confusion_matrix(results.labels, results.predictions, count)
    parts = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side = min(14.0, max(4.5, 2.0 + 0.45 * count))
    figure = _figure(side + 1.0, side)
    axes = figure.subplots()
    image = axes.imshow(parts, cmap="Blues", vmin=0.0, vmax=1.0)
    if count <= LARGEST_LABELLED:
        for i, j in np.argwhere(confusion > 0):
            axes.text(
                j, i, str(confusion[i, j]), ha="center", va="center", fontsize=8,
                color="white" if parts[i, j] > 0.5 else "black" if i == j else VERMILLION,
                fontweight="normal" if i == j else "bold",
            )  # fmt: skip
        recall = class_metrics(confusion).recall
        names = [
            name if np.isnan(r) else f"{name}  {100 * r:.1f} %" for name, r in zip(results.classes, recall, strict=True)
        ]
        axes.set_xticks(range(count), results.classes, rotation=45 if max(map(len, results.classes)) > 3 else 0)
        axes.set_yticks(range(count), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true (and part of it that was right)" if count <= LARGEST_LABELLED else "true")
    figure.colorbar(image, ax=axes, shrink=0.8, label="part of the true class")
    wrong = len(results.labels) - int(np.trace(confusion))
    axes.set_title(
        f"{title + ': ' if title else ''}{100 * accuracy(confusion):.2f} % right, "
        f"{wrong} of {len(results.labels)} {results.part} images wrong",
        fontsize=11,
    )
    return figure


def draw_samples(results: Predictions, title: str = "") -> Any:
    """Draw held-out images, wrong ones first: `predicted`, or `predicted, is true` in another colour; returns a Figure."""
    figure = _figure(1.35 * SAMPLE_COLUMNS, 1.75 * SAMPLE_ROWS + 0.5)
    grid = figure.subplots(SAMPLE_ROWS, SAMPLE_COLUMNS).reshape(-1)
    for axes in grid:
        axes.set_axis_off()
    for axes, index, image in zip(grid, results.sample_indices, results.sample_images, strict=False):
        true, predicted = int(results.labels[index]), int(results.predictions[index])
        right = true == predicted
        colour = BLUE if right else VERMILLION
        axes.set_axis_on()
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_color(colour)
        axes.spines[:].set_linewidth(1.0 if right else 2.5)
        axes.imshow(_displayable(image), cmap="gray", interpolation="nearest")
        guess, truth = (_cut(results.classes[k]) for k in (predicted, true))
        joint = ", is " if len(guess) + len(truth) < 8 else "\nis "
        text = guess if right else f"✗ {guess}{joint}{truth}"
        axes.set_title(text, fontsize=8.5, color=colour, fontweight="normal" if right else "bold", pad=3)
    wrong = int((results.labels != results.predictions).sum())
    figure.suptitle(f"{title + ': ' if title else ''}{results.part} images, {wrong} wrong of {len(results.labels)}", fontsize=12)
    return figure


def _cut(name: str, most: int = 16) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _displayable(image: NDArray[Any]) -> NDArray[Any]:
    """(C, H, W) as stored -> (H, W) or (H, W, 3) in 0..1: floats by their range, other C by the first."""
    x = image.astype(np.float64)
    if image.dtype == np.uint8:
        x /= 255.0
    elif x.min() < 0.0 or x.max() > 1.0:
        x = (x - x.min()) / max(float(np.ptp(x)), 1e-12)
    # Without three channels matplotlib would stretch each image to its own range, hiding how bright it is.
    return x.transpose(1, 2, 0) if len(x) == 3 else np.repeat(x[0][:, :, None], 3, axis=2)
