"""What a finished run came to (result.json), and what the report shows beyond it: a sample of augmentation, time per op."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..api import to_numpy
from ..core.errors import RunError
from ..core.version import VERSION
from ..nn import count_params
from .best import ranked, readings
from .observe import INPUT
from .profile import described, profile_steps
from .records import atomic_path, write_json

if TYPE_CHECKING:
    from .loop import Result, Run

RESULT, PROFILE, AUGMENTED = "result.json", "profile.json", "augmented.npz"
SAMPLE = 12


def write_summary(run: Run, result: Result) -> None:
    """Write `result.json` of a run folder."""
    found = readings(result.history, run.monitor)
    best, watched = ranked(found)[0], run.parts.watched
    row = next(r for r in result.history if r["step"] == best.step and r.get(f"{watched}_loss") is not None)
    write_json(
        run.folder / RESULT,
        {
            "watched": watched, "monitor": run.monitor, **_held_out(valid=result.valid, test=result.test),
            "metrics": dict(getattr(result.evaluation, "metrics", {})),
            "best": {
                "epoch": best.epoch, "step": best.step, f"{watched}_loss": row.get(f"{watched}_loss"),
                f"{watched}_accuracy": row.get(f"{watched}_accuracy"), **_held_out(test=result.best_test),
            },
            "epochs": found[-1].epoch, "stopped_early": run.stopping, "steps": result.steps, "seconds": result.seconds,
            "images_per_second": _finite(result.images_per_second), "data_wait": _finite(result.data_wait),
            "augmentation": result.augmentation,
            "parameters": count_params(result.model), "precision": run.config.precision, "backend": result.backend,
            "device": result.device, "version": VERSION,
        },
    )  # fmt: skip


def _held_out(**evaluations: Any) -> dict[str, float | None]:
    made: dict[str, float | None] = {}
    for part, found in evaluations.items():
        if found is not None:
            made |= {f"{part}_loss": found.loss, f"{part}_accuracy": _finite(found.accuracy)}
    return made


def write_details(run: Run) -> float | None:
    """Write `profile.json`, and `augmented.npz` where training images are changed; return the part of a step that augmentation takes."""
    group = next(run.groups(0, 0))[1]
    state = run.state
    run.warm_up()
    found = profile_steps(run.backend, state, run.next_of(group), warm_up=0, timed=False)
    run.state = state
    write_json(run.folder / PROFILE, described(found))
    share = sum(w.seconds for w in found.work if w.phase == INPUT) / max(sum(w.seconds for w in found.work), 1e-12)
    if not run.parts.augmented:
        return None
    batch = group[0]
    images, _ = run.augmented(batch, 0)
    normal = run.parts.info.normalisation
    mean, std = (np.array(v).reshape(1, -1, 1, 1) for v in (normal.mean, normal.std))
    after = np.clip(to_numpy(images[:SAMPLE]).astype(np.float64) * std + mean, 0.0, 1.0)
    with atomic_path(run.folder / AUGMENTED) as path:
        np.savez_compressed(path, before=run.parts.train.dataset.images[batch.indices[:SAMPLE]], after=np.round(after * 255).astype(np.uint8))
    return share


def read_summary(folder: str | Path) -> dict[str, Any] | None:
    """Return what `write_summary` wrote; None for a run that has not finished.

    Raises
    ------
    RunError
        A damaged file.
    """
    path = Path(folder) / RESULT
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it holds no object")
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error}); resume the run to write it again") from error
    return found


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
