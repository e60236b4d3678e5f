"""The memory plan: nothing in use at the same time overlaps, and what is spent is bounded."""

from __future__ import annotations

import numpy as np
import pytest

from portable_nn_kernels import memory
from portable_nn_kernels.memory import ALIGNMENT, Block, alive, place, rounded


def drawn(seed: int, count: int = 60) -> list[Block]:
    rng = np.random.default_rng(seed)
    firsts = rng.integers(0, 40, count)
    return [Block(int(n), int(a), int(a + d)) for n, a, d in zip(rng.integers(0, 5000, count), firsts, rng.integers(0, 12, count), strict=True)]


@pytest.mark.parametrize("spared", [0, 1 << 14, 1 << 30])
@pytest.mark.parametrize("seed", range(5))
def test_blocks_in_use_at_once_do_not_overlap(monkeypatch: pytest.MonkeyPatch, seed: int, spared: int) -> None:
    monkeypatch.setattr(memory, "SPARED", spared)
    blocks = drawn(seed)
    size = place(blocks)
    for i, a in enumerate(blocks):
        assert a.offset % ALIGNMENT == 0
        assert a.offset + rounded(a.nbytes) <= size
        for b in blocks[:i]:
            if a.first <= b.last and b.first <= a.last:
                assert a.offset + rounded(a.nbytes) <= b.offset or b.offset + rounded(b.nbytes) <= a.offset
    assert size >= alive(blocks)


def test_a_small_program_shares_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = drawn(0)
    assert place(blocks) == sum(rounded(b.nbytes) for b in blocks)
    monkeypatch.setattr(memory, "SPARED", 0)
    assert place(blocks) < 0.5 * sum(rounded(b.nbytes) for b in blocks)


def test_a_chain_takes_two_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SPARED", 0)
    monkeypatch.setattr(memory, "MARGIN", 1.0)
    blocks = [Block(1000, at, at + 1) for at in range(20)]
    assert place(blocks) == alive(blocks) == 2 * rounded(1000)


def test_nothing_takes_no_memory() -> None:
    assert place([]) == 0
    assert alive([]) == 0
