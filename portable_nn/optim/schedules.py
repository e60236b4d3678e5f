"""Learning rates over a run: each function returns `schedule(step) -> float` for steps 0 .. steps-1."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from ..core.errors import SettingError

Schedule = Callable[[int], float]


def _check(name: str, lr: float, steps: int = 1, warmup: int = 0) -> None:
    if not lr > 0 or not math.isfinite(lr):
        raise SettingError(f"{name}: lr is {lr!r} but a number above 0 is needed")
    if steps < 1:
        raise SettingError(f"{name}: steps is {steps!r} but at least 1 is needed")
    if not 0 <= warmup <= steps:
        raise SettingError(f"{name}: warmup is {warmup!r} steps but 0..{steps}, the steps of the run, is needed")


def _warm(lr: float, warmup: int, then: Schedule) -> Schedule:
    """Rise evenly to `lr` over `warmup` steps: the first step takes lr / warmup, the last lr."""
    return lambda step: lr * (step + 1) / warmup if step < warmup else then(step - warmup)


def constant(lr: float, warmup: int = 0) -> Schedule:
    """Return `lr` at every step, after a linear rise over `warmup` steps."""
    _check("constant", lr, max(warmup, 1), warmup)
    return _warm(lr, warmup, lambda step: lr)


def step_decay(lr: float, milestones: Sequence[int], gamma: float = 0.1, warmup: int = 0) -> Schedule:
    """Return `lr` times `gamma` for each of `milestones` (step numbers) that has been reached."""
    _check("step_decay", lr, max(warmup, 1), warmup)
    if any(b <= a for a, b in pairwise(milestones)) or any(m < 0 for m in milestones):
        raise SettingError(f"step_decay: milestones are {list(milestones)} but increasing step numbers are needed")
    reached = tuple(milestones)
    return lambda step: (
        lr * (step + 1) / warmup if step < warmup else lr * gamma ** sum(step >= m for m in reached)
    )


def linear(lr: float, steps: int, warmup: int = 0, last: float = 0.0) -> Schedule:
    """Return a straight line from `lr` to `last` over `steps` steps, after a linear rise over the first `warmup`."""
    _check("linear", lr, steps, warmup)
    span = max(steps - warmup, 1)
    return _warm(lr, warmup, lambda step: last + (lr - last) * (1.0 - min(step / span, 1.0)))


def cosine(lr: float, steps: int, warmup: int = 0, last: float = 0.0) -> Schedule:
    """Return half a cosine from `lr` to `last` over `steps` steps, after a linear rise over the first `warmup`.

    Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts.
    """
    _check("cosine", lr, steps, warmup)
    span = max(steps - warmup, 1)
    return _warm(lr, warmup, lambda step: last + (lr - last) * 0.5 * (1.0 + math.cos(math.pi * min(step / span, 1.0))))


def one_cycle(lr: float, steps: int, rise: float = 0.3, start: float = 25.0, end: float = 1e4) -> Schedule:
    """Return the one-cycle policy, as `torch.optim.lr_scheduler.OneCycleLR` with cosines.

    Parameters
    ----------
    lr : float
        The highest rate.
    steps : int
        Steps of the run.
    rise : float
        Part of the run over which the rate rises, in [0, 1].
    start : float
        The run starts at ``lr / start``.
    end : float
        It ends at ``lr / start / end``. Smith and Topin 2018, arXiv:1708.07120.
    """
    _check("one_cycle", lr, steps)
    if not 0 <= rise <= 1:
        raise SettingError(f"one_cycle: rise is {rise!r} but a part of the run in [0, 1] is needed")
    first, last = lr / start, lr / start / end
    top, final = rise * steps - 1, steps - 1

    def between(a: float, b: float, part: float) -> float:
        return b + (a - b) * 0.5 * (1.0 + math.cos(math.pi * min(max(part, 0.0), 1.0)))

    def schedule(step: int) -> float:
        if step <= top:
            return between(first, lr, step / top) if top > 0 else lr
        return between(lr, last, (step - top) / (final - top)) if final > top else last

    return schedule
