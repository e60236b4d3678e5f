"""TensorBoard's event files, written by TensorBoard's own library, as a callback."""

from __future__ import annotations

import importlib
import math
import time
from typing import TYPE_CHECKING, Any

from ..data import MissingExtraError
from .callbacks import Callback
from .records import Row

if TYPE_CHECKING:
    from .loop import Run

TAGS = {
    "train_loss": "loss/train", "valid_loss": "loss/valid", "test_loss": "loss/test",
    "train_accuracy": "accuracy/train", "valid_accuracy": "accuracy/valid", "test_accuracy": "accuracy/test",
    "lr": "run/learning rate", "images_per_second": "run/images per second", "data_wait": "run/share of time waiting for data",
}  # fmt: skip
FOLDER = "tensorboard"


class TensorBoard(Callback):
    """Writes each row of metrics as scalars to ``tensorboard/`` of the run folder: ``tensorboard --logdir runs``.

    A run that resumes begins a new file and says at which step, so that TensorBoard drops what came after it.
    """

    def __init__(self) -> None:
        self._library = _require()
        self._writer: Any = None

    def begin(self, run: Run) -> None:
        """Open a file."""
        folder = run.folder / FOLDER
        folder.mkdir(exist_ok=True)
        self._writer = self._library["event_file_writer"].EventFileWriter(str(folder))
        if run.first_step:
            event = self._library["event_pb2"]
            mark = event.SessionLog(status=event.SessionLog.START)
            self._writer.add_event(event.Event(session_log=mark, wall_time=time.time(), step=run.first_step + 1))

    def logged(self, run: Run, row: Row) -> None:
        """Write one row."""
        del run
        value_of = self._library["summary_pb2"].Summary.Value
        values = [
            value_of(tag=TAGS.get(name, f"metric/{name.replace('_', ' ', 1)}"), simple_value=float(value))
            for name, value in row.items()
            if value is not None and name not in ("step", "epoch", "seconds") and math.isfinite(value)
        ]
        summary = self._library["summary_pb2"].Summary(value=values)
        self._writer.add_event(self._library["event_pb2"].Event(summary=summary, wall_time=time.time(), step=int(row["step"] or 0)))

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()


def _require() -> dict[str, Any]:
    names = {
        "event_file_writer": "tensorboard.summary.writer.event_file_writer", "event_pb2": "tensorboard.compat.proto.event_pb2",
        "summary_pb2": "tensorboard.compat.proto.summary_pb2",
    }  # fmt: skip
    try:
        return {short: importlib.import_module(name) for short, name in names.items()}
    except ImportError as error:
        raise MissingExtraError(
            f'writing TensorBoard\'s files needs tensorboard, which cannot be imported ({error}); run pip install "portable-nn[tensorboard]"'
        ) from error


def tensorboard() -> TensorBoard:
    """Return the callback; raises `MissingExtraError` before a run begins if the library is not there."""
    return TensorBoard()
