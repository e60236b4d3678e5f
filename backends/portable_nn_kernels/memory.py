"""Where the arrays of a captured step lie: one arena, in which memory is used again as soon as its last reader has run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT = 64  # bytes: a cache line, and the widest vector


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

    Larger blocks first, each in the smallest gap among those placed before it that are in use at the same time: on the
    programs of trained models within a few per cent of the most that is alive at once, which no plan can go below.
    """
    placed: list[Block] = []
    size = 0
    for block in sorted(blocks, key=lambda b: (-b.nbytes, b.first)):
        need = rounded(block.nbytes)
        taken = sorted(
            (b.offset, b.offset + rounded(b.nbytes)) for b in placed if b.first <= block.last and block.first <= b.last
        )
        best, best_gap, end = None, 0, 0
        for start, stop in taken:
            gap = start - end
            if gap >= need and (best is None or gap < best_gap):
                best, best_gap = end, gap
            end = max(end, stop)
        block.offset = end if best is None else best
        size = max(size, block.offset + need)
        placed.append(block)
    return size


def alive(blocks: Sequence[Block]) -> int:
    """Return the largest number of bytes in use at one step: what no plan can go below."""
    steps = {b.first for b in blocks}
    return max((sum(rounded(b.nbytes) for b in blocks if b.first <= at <= b.last) for at in steps), default=0)
