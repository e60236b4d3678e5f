"""Several runs side by side: one table as text, and one page with their curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import RunError
from .config import FIELDS, TrainConfig, load_config
from .pages.chart import Series, chart
from .pages.html import DASH, escape, number, page, percent, section, table
from .pages.run import column
from .records import Row, read_metrics, write_bytes
from .summary import read_summary

BORING = ("out", "log_every", "eval_batch_size", "prefetch", "report", "tensorboard")
"""Settings that change no result: where files go, and what is written."""

HEAD = ("run", "valid accuracy", "best", "in epoch", "test accuracy", "of best", "test loss", "epochs", "steps", "seconds", "images/s", "device")


@dataclass(frozen=True, eq=False)
class Compared:
    """A run folder as it is compared; `result` is None while the run has not finished."""

    name: str
    folder: Path
    config: TrainConfig
    rows: list[Row]
    result: dict[str, Any] | None


def read_runs(folders: Sequence[str | Path]) -> list[Compared]:
    """Read run folders, under the shortest names that tell them apart.

    Raises
    ------
    RunError
        A folder that is no run, or given twice.
    """
    paths = [Path(folder).expanduser() for folder in folders]
    for path in paths:
        if not (path / "config.json").is_file():
            raise RunError(f"{path}: is no run folder (it has no config.json); give folders that `portable-nn train` made")
    whole = [path.resolve() for path in paths]
    if len(set(whole)) != len(whole):
        twice = next(p for p in whole if whole.count(p) > 1)
        raise RunError(f"{twice}: is given twice; give each run once")
    depth = 1
    while len({path.parts[-depth:] for path in whole}) < len(whole):
        depth += 1
    return [
        Compared("/".join(full.parts[-depth:]), path, load_config(path / "config.json"), read_metrics(path), read_summary(path))
        for path, full in zip(paths, whole, strict=True)
    ]


def differing(runs: Sequence[Compared]) -> list[str]:
    """Return the names of the settings in which the runs differ, in the order of the settings."""
    return [n for n in FIELDS if n not in BORING and len({getattr(run.config, n) for run in runs}) > 1]


def cells(run: Compared) -> list[str]:
    """Return what a run came to, in the columns of `HEAD`; of one that has not finished, as far as it got."""
    result = run.result
    if result is None:
        watched = "valid" if any("valid_loss" in row for row in run.rows) else "test"
        _, found = column(run.rows, f"{watched}_accuracy")
        _, losses = column(run.rows, f"{watched}_loss")
        last, right = run.rows[-1] if run.rows else {}, (percent(found[-1] if found else None), percent(max(found, default=None)))
        # Without a validation set, the test set is what chooses: its figures stand where those of choosing stand.
        return [
            f"{run.name} (not finished)", right[0] if watched == "valid" else DASH, right[1], "",
            right[0] if watched == "test" else DASH, DASH, number(losses[-1] if losses and watched == "test" else None), str(len(losses)),
            str(last.get("step", 0)), number(last.get("seconds"), ",.1f"), "", "",
        ]  # fmt: skip
    best = result["best"]
    return [
        run.name, percent(result.get("valid_accuracy")), percent(best.get(f"{result['watched']}_accuracy")), str(best["epoch"]),
        percent(result.get("test_accuracy")), percent(best.get("test_accuracy")), number(result.get("test_loss")),
        str(result["epochs"]), str(result["steps"]), number(result["seconds"], ",.1f"), number(result["images_per_second"], ",.0f"),
        f"{result['backend']}: {result['device']}",
    ]  # fmt: skip


def listing(runs: Sequence[Compared]) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the table: what the runs differ in, after their names, then what they came to."""
    names = differing(runs)
    head = [HEAD[0], *names, *HEAD[1:]]
    rows = []
    for run in runs:
        first, *rest = cells(run)
        rows.append([first, *(_setting(getattr(run.config, n)) for n in names), *rest])
    return head, rows


def _setting(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table for a terminal: the first column to the left, the others to the right."""
    widths = [max(len(r[i]) for r in (head, *rows)) for i in range(len(head))]
    left, *right = zip(*(head, *rows), strict=True)
    columns = [[c.ljust(widths[0]) for c in left], *([c.rjust(w) for c in col] for col, w in zip(right, widths[1:], strict=True))]
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def curves(runs: Sequence[Compared]) -> str:
    """Return charts with a line per run."""
    made = []
    for name, title, scale, unit in (
        ("valid_accuracy", "Validation accuracy", 100.0, "%"), ("valid_loss", "Validation loss", 1.0, ""),
        ("test_accuracy", "Test accuracy", 100.0, "%"), ("test_loss", "Test loss", 1.0, ""), ("train_loss", "Training loss", 1.0, ""),
    ):  # fmt: skip
        series = [Series(run.name, *column(run.rows, name, scale), colour=i) for i, run in enumerate(runs)]
        series = [s for s in series if len(s.x) > (name.startswith("test"))]  # measured once at the end, it is no curve
        if series:
            made.append(f"<figure>{chart(title, series, 'step', unit, log_y='loss' in name and all(v > 0 for s in series for v in s.y))}</figure>")
    return f'<div class="charts">{"".join(made)}</div>' if made else ""


def write_comparison(runs: Sequence[Compared], path: str | Path) -> Path:
    """Write the page of a comparison; raises `RunError` if it cannot be written."""
    head, rows = listing(runs)
    title = f"{len(runs)} runs compared"
    body = [f"<h1>{escape(title)}</h1>", section("Results", table(head, rows)), section("Curves", curves(runs))]
    path = Path(path).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, page(title, body).encode())
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error}); choose another --out") from error
    return path
