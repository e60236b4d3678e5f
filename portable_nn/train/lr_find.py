"""The learning-rate range test: the rate grows from step to step, and the loss tells where it is too small and too large.

Smith 2017, arXiv:1506.01186.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..api import asarray
from ..core import random
from ..core.errors import RunError, SettingError
from ..core.selection import use_backend
from ..models import check_name
from .config import TrainConfig
from .pages.chart import Series, chart
from .progress import Logged, Progress, Silent
from .records import write_bytes, write_json
from .setup import Parts, choose_backend, load_data, prepare
from .step import read_loss, train_step
from .task import choose_task

STOP_ABOVE = 4.0  # times the lowest smoothed loss
KEPT = 0.9  # of the smoothed loss, per step


@dataclass(frozen=True)
class Found:
    """What the test saw.

    Parameters
    ----------
    rates, losses, smoothed : tuple of float
        Per step: learning rate, loss, and loss smoothed exponentially (with the start taken out).
    steepest : float
        Rate at which the smoothed loss falls fastest over the logarithm of the rate: a good highest rate of a run.
    lowest : float
        Rate of the lowest smoothed loss: above it training comes apart.
    diverged : bool
        Whether the loss rose to 4 times its lowest, or stopped being finite, before the last rate.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    steepest: float
    lowest: float
    diverged: bool


def find_lr(
    config: TrainConfig | None = None, *, low: float = 1e-6, high: float = 1.0, steps: int = 100, progress: Progress | None = None, **settings: Any
) -> Found:
    """Take `steps` steps from fresh weights while the learning rate grows evenly on a logarithmic scale.

    Parameters
    ----------
    config : TrainConfig, optional
        Settings; those of the schedule are not used.
    low, high : float
        First and last rate.
    steps : int
        At least 10.
    progress : Progress, optional
    **settings
        Settings by name, over those of `config`.

    Raises
    ------
    SettingError
        Rates or steps out of range.
    RunError
        A loss that is not finite at the first rates.
    """
    if not 0 < low < high or not math.isfinite(high):
        raise SettingError(f"lr-find: the rates go from {low:g} to {high:g} but 0 < from < to is needed")
    if steps < 10:
        raise SettingError(f"lr-find: steps is {steps} but at least 10 are needed")
    config = replace(config or TrainConfig(), **settings)
    check_name(config.model)
    progress = progress or Silent()
    with use_backend(choose_backend(config)) as backend:
        sets = load_data(config)
        train = sets.train
        parts = prepare(config, sets, None, choose_task(train, None, None, config.label_smoothing, "none"))
        progress.begin(f"{config.model} on {train.name}, {backend.name}: {backend.device}, learning rates {low:g} to {high:g}", 1, steps, 0)
        try:
            rates, losses, diverged = _ramp(parts, config, low, high, steps, progress)
        finally:
            progress.end()
    return judge(rates, losses, diverged)


def _ramp(parts: Parts, config: TrainConfig, low: float, high: float, steps: int, progress: Progress) -> tuple[list[float], list[float], bool]:
    state, key = parts.state, random.key(config.seed)
    rates: list[float] = []
    losses: list[float] = []
    least, smoothed = math.inf, 0.0
    for step, batch in zip(range(steps), _endless(parts), strict=False):
        rate = low * (high / low) ** (step / (steps - 1))
        images, targets = parts.augmented(asarray(batch.images), asarray(batch.labels), step)
        state, loss, _ = train_step(state, parts.optimizer, images, targets, lr=rate, key=key, loss=parts.task.loss, recipe=parts.recipe)
        value = read_loss(loss)
        progress.advance()
        if not math.isfinite(value):
            return rates, losses, True
        rates.append(rate)
        losses.append(value)
        progress.trained(Logged(step + 1, 1, 0.0, value, math.nan))
        smoothed = KEPT * smoothed + (1 - KEPT) * value
        now = smoothed / (1 - KEPT ** (step + 1))
        least = min(least, now)
        if step > 10 and now > STOP_ABOVE * least:
            return rates, losses, True
    return rates, losses, False


def _endless(parts: Parts) -> Iterator[Any]:
    epoch = 0
    while True:
        yield from parts.train.epoch(epoch)
        epoch += 1


def judge(rates: Sequence[float], losses: Sequence[float], diverged: bool) -> Found:
    """Return what rates and losses say; raises `RunError` for fewer than 5 finite losses."""
    if len(losses) < 5:
        raise RunError(f"lr-find: the loss was finite for {len(losses)} steps only; begin at a lower --from, or look for damaged images")
    smoothed, running = [], 0.0
    for step, value in enumerate(losses):
        running = KEPT * running + (1 - KEPT) * value
        smoothed.append(running / (1 - KEPT ** (step + 1)))
    bottom = min(range(len(smoothed)), key=smoothed.__getitem__)
    # Slopes over two steps, up to the lowest loss: what comes after is divergence.
    slopes = [(smoothed[i + 1] - smoothed[i - 1], i) for i in range(1, max(bottom, 2))]
    return Found(tuple(rates), tuple(losses), tuple(smoothed), rates[min(slopes)[1]], rates[bottom], diverged)


def write_found(found: Found, folder: str | Path) -> tuple[Path, Path]:
    """Write lr-find.json and lr-find.svg into a folder, made if need be; return their paths."""
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "lr-find.json", asdict(found))
    top = STOP_ABOVE * min(found.smoothed)
    shown = [min(v, top) for v in found.losses]
    series = [Series("", found.rates, shown, faint=True), Series("", found.rates, found.smoothed)]
    marks = ((found.steepest, f"steepest {found.steepest:.1e}"), (found.lowest, f"lowest {found.lowest:.1e}"))
    picture = chart("Loss over the learning rate", series, "learning rate", "smoothed loss", log_x=True, marks=marks, standalone=True)
    write_bytes(folder / "lr-find.svg", picture.encode())
    return folder / "lr-find.json", folder / "lr-find.svg"
