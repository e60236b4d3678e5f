"""Which epochs were the best, from the metrics alone: so a resumed run decides as one that never stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .checkpoint import BEST, ModelInfo, write_model
from .records import Row


@dataclass(frozen=True)
class Reading:
    """The measurement of one epoch (from 1): `value` of what is monitored, larger is better (a loss is negated)."""

    epoch: int
    step: int
    value: float


def readings(rows: Sequence[Row], monitor: str) -> list[Reading]:
    """Return the readings of a column such as ``valid_accuracy``, in order; an epoch that was measured again counts once."""
    name, sign = monitor, -1.0 if monitor.endswith("_loss") else 1.0
    found = {}
    for row in rows:
        value = row.get(name)
        if value is not None:
            found[int(row["step"] or 0)] = Reading(int(row.get("epoch") or 0), int(row["step"] or 0), sign * float(value))
    return list(found.values())


def ranked(tests: Sequence[Reading]) -> list[Reading]:
    """Return the tests, the best first; of equal ones the earlier."""
    return sorted(tests, key=lambda r: (-r.value, r.step))


def epochs_without_improvement(tests: Sequence[Reading], min_delta: float) -> int:
    """Return how many tests have passed since the last that was better by more than `min_delta` than all before it."""
    best, since = None, 0
    for test in tests:
        if best is None or test.value > best + min_delta:
            best, since = test.value, 0
        else:
            since += 1
    return since


def keep_best(folder: Path, model: Any, info: ModelInfo, tests: Sequence[Reading], count: int) -> None:
    """Write the model of the last test if it is among the `count` best, and remove those that no longer are.

    ``best.safetensors`` is the best; with a count above 1 the best ones lie as ``epoch-0012.safetensors`` too.
    """
    order = ranked(tests)[:count]
    now = tests[-1]
    if order[0] == now:
        write_model(folder, model, info, BEST)
    if count < 2:
        return
    names = {_name(test) for test in order}
    if _name(now) in names:
        write_model(folder, model, info, _name(now))
    for path in folder.glob("epoch-*.safetensors"):
        if path.name not in names:
            path.unlink()


def _name(test: Reading) -> str:
    return f"epoch-{test.epoch:04d}.safetensors"
