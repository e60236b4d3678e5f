"""Time per op of one training step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .observe import Seen, observed
from .step import TrainState


@dataclass(frozen=True)
class OpTime:
    """How often an op ran in one step, in which phase, and the seconds of all its calls together."""

    op: str
    phase: str
    calls: int
    seconds: float


def time_ops(state: TrainState, step: Callable[[TrainState], TrainState]) -> list[OpTime]:
    """Take one step from `state` and return the time of each op, the longest first; what the step gives is dropped.

    The host waits after every call, so the sum is longer than a step that nobody watches. Kernels must be compiled.
    """
    sums: dict[tuple[str, str], list[float]] = {}

    def see(seen: Seen) -> None:
        sums.setdefault((seen.op, seen.phase), []).append(seen.seconds)

    with observed(state.model, see, timed=True):
        step(state)
    found = [OpTime(op, phase, len(times), sum(times)) for (op, phase), times in sums.items()]
    return sorted(found, key=lambda t: -t.seconds)
