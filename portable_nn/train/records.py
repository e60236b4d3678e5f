"""What a run writes down: files that are whole or absent, and metrics that survive an interruption.

`metrics.jsonl` is the record, one JSON object per line; `metrics.csv` holds the same rows for spreadsheets and is
rebuilt from it when a run resumes.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..core.errors import RunError

COLUMNS = (
    "step",
    "epoch",
    "seconds",
    "lr",
    "train_loss",
    "train_accuracy",
    "valid_loss",
    "valid_accuracy",
    "test_loss",
    "test_accuracy",
    "images_per_second",
    "data_wait",
)
"""Columns of metrics.csv; a row may leave out any but the step. Metrics of one's own follow as ``valid_<name>`` and ``test_<name>``."""

JSONL, CSV = "metrics.jsonl", "metrics.csv"

Row = dict[str, float | int | None]


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Write a file so that its name always holds the old contents or the new, never a part.

    Parameters
    ----------
    path : str or Path
        The file to make or replace, in a folder that exists.

    Yields
    ------
    Path
        A temporary path beside it, with the same suffix, to write to. When the block ends the file is synced to disk
        and renamed to `path`; when the block raises it is removed, and `path` stays as it was.

    Raises
    ------
    RunError
        The block wrote nothing to the temporary path.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        if not temporary.is_file():
            raise RunError(f"{path}: nothing was written to {temporary.name}; write to the path that atomic_path gives")
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a whole file by `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: str | Path, value: Any) -> None:
    """Write a value as indented JSON by `atomic_path`; NaN and infinity raise `ValueError`, as JSON has neither."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def remove_parts(folder: str | Path) -> None:
    """Remove what `atomic_path` leaves when a process is killed while it writes; nobody else may be writing there."""
    for path in Path(folder).glob(".*.part*"):
        path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; folders cannot be opened on Windows, where the rename itself has to do."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


class MetricsWriter:
    """Appends rows to metrics.jsonl and metrics.csv of a run folder.

    Parameters
    ----------
    folder : str or Path
        The run folder; it must exist.
    resume_step : int, optional
        None for a new run, whose folder must hold no metrics. A number keeps the rows up to that step and removes
        those beyond it, and a last line that an interruption cut short, then appends.
    more : tuple of str
        Columns beyond `COLUMNS`.

    Raises
    ------
    RunError
        Metrics that would be overwritten, or, when resuming, a damaged line before the last.
    """

    def __init__(self, folder: str | Path, resume_step: int | None = None, more: tuple[str, ...] = ()) -> None:
        self.folder, self.columns = Path(folder), (*COLUMNS, *more)
        jsonl = self.folder / JSONL
        if resume_step is None and jsonl.exists() and jsonl.stat().st_size:
            raise RunError(f"{jsonl}: holds the metrics of an earlier run; resume that run or choose another folder")
        rows = [] if resume_step is None else [row for row in read_metrics(self.folder) if _step(row) <= resume_step]
        write_bytes(jsonl, "".join(_json_line(row) for row in rows).encode())
        write_bytes(self.folder / CSV, (_csv_line(self.columns) + "".join(map(self._csv_row, rows))).encode())
        self._last = _step(rows[-1]) if rows else 0
        self._jsonl = jsonl.open("a", encoding="utf-8", newline="\n")
        self._csv = (self.folder / CSV).open("a", encoding="utf-8", newline="")

    def write(self, **values: float | int | None) -> Row:
        """Append one row, hand it to the operating system, and return it.

        Parameters
        ----------
        **values : float, int or None
            `step` and any other of the columns. Values that are not finite are written as null (an empty cell in CSV).

        Raises
        ------
        RunError
            No step, a step before the last row's, or a name that is no column.
        """
        unknown = [name for name in values if name not in self.columns]
        if unknown:
            raise RunError(f"metrics: unknown column(s) {', '.join(unknown)}; the columns are {', '.join(self.columns)}")
        if values.get("step") is None:
            raise RunError(f"metrics: the row {values} has no step; give step=...")
        row: Row = {name: _plain(values[name]) for name in self.columns if name in values}
        if _step(row) < self._last:
            raise RunError(f"metrics: step {_step(row)} comes after step {self._last}, but steps must not go back")
        self._last = _step(row)
        self._jsonl.write(_json_line(row))
        self._csv.write(self._csv_row(row))
        self._jsonl.flush()
        self._csv.flush()
        return row

    def _csv_row(self, row: Row) -> str:
        return _csv_line(tuple("" if (value := row.get(name)) is None else repr(value) for name in self.columns))

    def sync(self) -> None:
        """Force all rows to disk; call it before a checkpoint is written, so that metrics never lag behind it."""
        os.fsync(self._jsonl.fileno())
        os.fsync(self._csv.fileno())

    def close(self) -> None:
        """Sync and close both files; closing twice is allowed."""
        if not self._jsonl.closed:
            self.sync()
            self._jsonl.close()
            self._csv.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_metrics(folder: str | Path) -> list[Row]:
    """Read the rows of metrics.jsonl.

    Parameters
    ----------
    folder : str or Path
        A run folder.

    Returns
    -------
    list of dict
        In the order written; empty when there is no file. A last line that is damaged or cut short is left out.

    Raises
    ------
    RunError
        A damaged line before the last, naming file and line.
    """
    path = Path(folder) / JSONL
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    rows: list[Row] = []
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last newline is empty or cut short
        try:
            row = json.loads(line)
            if not isinstance(row, Mapping) or not isinstance(row.get("step"), int):
                raise ValueError("not an object with an integer step")
        except ValueError as error:
            if number == len(lines) - 1:
                break
            raise RunError(f"{path}: line {number} is damaged ({error}): {line[:80]!r}; remove or repair it") from error
        rows.append(dict(row))
    return rows


def _step(row: Row) -> int:
    return int(row["step"] or 0)


def _plain(value: float | int | None) -> float | int | None:
    """Make a Python number (NumPy scalars too), or None when it is not finite."""
    if value is None or not math.isfinite(value):
        return None
    return int(value) if hasattr(value, "__index__") else float(value)


def _json_line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def _csv_line(cells: tuple[str, ...]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()
