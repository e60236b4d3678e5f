"""Where the arrays of a captured step lie: one arena, in which memory is used again as soon as its last reader has run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT = 64  # bytes: a cache line, and the widest vector
# What may be spent on not using memory again at once. On two cores of a Zen 4 that share no cache (Intel's runtime), a step of
# LeNet at batch 64 took 1.6 ms with 10 MB and 3.5 ms with 4 MB; a block of ResNet-20 at batch 32 7.4 ms with 39 MB and 10.0 ms
# with 13 MB; all of ResNet-20, 51.4 ms with 54 MB and 56.7 ms with 248 MB.
SPARED = 64 << 20
MARGIN = 1.5


def rounded(nbytes: int) -> int:
    """Return `nbytes` rounded up to whole cache lines; at least one."""
    return max(-(-nbytes // ALIGNMENT), 1) * ALIGNMENT


@dataclass(slots=True)
class Block:
    """A block of the arena.

    Parameters
    ----------
    nbytes : int
    first, last : int
        Positions of the first and the last step that uses it.
    offset : int
        In bytes; what `place` decides.
    """

    nbytes: int
    first: int
    last: int
    offset: int = 0


def place(blocks: Sequence[Block]) -> int:
    """Give every block its offset, so that blocks in use at the same time do not overlap; return the arena's size.

    Memory that was just read is not written again before some steps have passed, as long as the arena stays within
    `SPARED` bytes, or within `MARGIN` of what is alive at once: cores that take other parts of the work than in the step before would
    wait for each other's caches.
    """
    steps = max((b.last for b in blocks), default=0) + 1
    budget = max(SPARED, int(MARGIN * alive(blocks)))
    for pause in (steps, *(1 << n for n in range(steps.bit_length() - 1, -1, -1))):
        size = _placed(blocks, pause)
        if size <= budget:
            return size
    return _placed(blocks, 0)


def _placed(blocks: Sequence[Block], pause: int) -> int:
    """Place the blocks, each used again `pause` steps after its last use at the earliest.

    Larger blocks first, each in the smallest gap among those placed before it that are in use at the same time: without a
    pause within a few per cent of the most that is alive at once on the programs of trained models, which no plan can go below.
    """
    placed: list[tuple[int, int, int, int]] = []  # steps from which and to which nothing else may lie there, from and to which byte
    size = 0
    for block in sorted(blocks, key=lambda b: (-b.nbytes, b.first)):
        need = rounded(block.nbytes)
        since, until = block.first, block.last + pause
        taken = sorted([(start, stop) for first, last, start, stop in placed if first <= until and since <= last])
        best, best_gap, end = None, 0, 0
        for start, stop in taken:
            gap = start - end
            if gap >= need and (best is None or gap < best_gap):
                best, best_gap = end, gap
            if stop > end:
                end = stop
        block.offset = end if best is None else best
        size = max(size, block.offset + need)
        placed.append((since, until, block.offset, block.offset + need))
    return size


def alive(blocks: Sequence[Block]) -> int:
    """Return the largest number of bytes in use at one step: what no plan can go below."""
    changes: dict[int, int] = {}
    for block in blocks:
        nbytes = rounded(block.nbytes)
        changes[block.first] = changes.get(block.first, 0) + nbytes
        changes[block.last + 1] = changes.get(block.last + 1, 0) - nbytes
    most = now = 0
    for _, change in sorted(changes.items()):
        now += change
        most = max(most, now)
    return most
