"""What got slower or faster, and where: steps in the series of a case, larger than the threshold and than the noise beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

THRESHOLD = 0.15
"""A change smaller than this is not told from noise; see docs/benchmarks.md for what the noise was measured to be."""
WINDOW = 3  # commits on either side that must agree


@dataclass(frozen=True)
class Step:
    """A step at position `at` of a series: `ratio` is the time after it by the time before."""

    at: int
    before: float
    after: float

    @property
    def ratio(self) -> float:
        """After by before."""
        return self.after / self.before


def steps(values: Sequence[float | None], threshold: float = THRESHOLD, window: int = WINDOW) -> list[Step]:
    """Return the steps of a series, in its order.

    A step lies where every value of the `window` before is below every value of the `window` after (or above), and their medians
    differ by more than `threshold`; the first value alone is no side. Of neighbouring candidates the one that separates best counts. The newest
    value alone may make a step: it is then to be measured again before anyone believes it.
    """
    known = [(at, v) for at, v in enumerate(values) if v is not None and v > 0]
    found: list[tuple[float, int, Step]] = []
    for place in range(max(1, min(2, len(known) - 1)), len(known)):
        left = [v for _, v in known[max(0, place - window) : place]]
        right = [v for _, v in known[place : place + window]]
        slower = min(right) > max(left)
        if not slower and not max(right) < min(left):
            continue
        before, after = median(left), median(right)
        if max(after / before, before / after) <= 1 + threshold:
            continue
        gap = min(right) / max(left) if slower else min(left) / max(right)
        found.append((gap, place, Step(known[place][0], before, after)))
    kept: list[tuple[float, int, Step]] = []
    for candidate in sorted(found, key=lambda f: -f[0]):
        if all(abs(candidate[1] - other[1]) >= 2 or (candidate[2].ratio > 1) != (other[2].ratio > 1) for other in kept):
            kept.append(candidate)
    return sorted((step for _, _, step in kept), key=lambda step: step.at)
