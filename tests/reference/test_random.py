"""Random draws: Philox against its published answers, one stream on every backend, and the moments of what is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import find

import portable_nn as pnn
from portable_nn import ops
from portable_nn.core.backend import Backend
from portable_nn.core.random import key as make_key
from portable_nn.core.random import philox
from portable_nn.core.registry import OPS
from portable_nn.core.spec import Spec

# Random123's known answers (kat_vectors, philox4x32 10): counter, key, result.
KNOWN = (
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
)


def _words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_philox_known_answers(counter: str, key: str, answer: str) -> None:
    assert philox(_words(counter), _words(key)).tolist() == _words(answer)


def _plain(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x32-10 in Python integers, written from the paper."""
    mask = 2**32 - 1
    for _ in range(10):
        a, b = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [b >> 32 ^ counter[1] ^ key[0], b & mask, a >> 32 ^ counter[3] ^ key[1], a & mask]
        key = [key[0] + 0x9E3779B9 & mask, key[1] + 0xBB67AE85 & mask]
    return counter


def test_bits_are_blocks_of_philox(backend: Backend) -> None:
    key = [0xDEADBEEF, 7, 0xFFFFFFFF, 0x80000001]
    drawn = pnn.to_numpy(ops.random_bits(pnn.asarray(np.array(key, np.uint32), backend=backend), (3, 7))).reshape(-1)
    expected = [word for block in range(6) for word in _plain([block, 0, *key[2:]], key[:2])]
    assert drawn.tolist() == expected[:21]


def test_first_block_is_the_known_answer(backend: Backend) -> None:
    drawn = pnn.to_numpy(ops.random_bits(make_key(0, backend=backend), 4))
    assert drawn.tolist() == _words(KNOWN[0][2])


def test_every_backend_draws_the_same(backend: Backend) -> None:
    reference, here = make_key(2**40 + 5, backend="numpy"), make_key(2**40 + 5, backend=backend)
    for number in (0, 3, -1, 2**33):
        reference, here = ops.fold_in(reference, number), ops.fold_in(here, number)
        assert pnn.to_numpy(here).tolist() == reference.tolist()
    assert np.array_equal(pnn.to_numpy(ops.split_key(here, 5)), ops.split_key(reference, 5))
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        mine = pnn.to_numpy(ops.uniform(here, (37, 5), -0.3, 1.7, dtype=dtype))
        assert np.array_equal(mine, ops.uniform(reference, (37, 5), -0.3, 1.7, dtype=dtype))
    ones = np.ones((130, 7), np.float32)
    mine = pnn.to_numpy(ops.dropout(pnn.asarray(ones, backend=backend), 0.3, here))
    assert np.array_equal(mine, ops.dropout(ones, 0.3, reference))


def test_fold_in_takes_a_number_from_the_device(backend: Backend) -> None:
    key = make_key(1, backend=backend)
    step = pnn.asarray(np.array(12, np.int32), backend=backend)
    assert np.array_equal(pnn.to_numpy(ops.fold_in(key, step)), pnn.to_numpy(ops.fold_in(key, 12)))


def test_a_larger_draw_begins_with_the_smaller(backend: Backend) -> None:
    key = make_key(3, backend=backend)
    assert np.array_equal(pnn.to_numpy(ops.normal(key, 1001))[:37], pnn.to_numpy(ops.normal(key, 37)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_moments(backend: Backend, dtype: str) -> None:
    key = make_key(4, backend=backend)
    n = 200_000
    u = pnn.to_numpy(ops.uniform(key, n, dtype=dtype)).astype(np.float64)
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean() - 0.5) < 5 * np.sqrt(1 / 12 / n)
    assert abs(u.var() - 1 / 12) < 1e-3
    z = pnn.to_numpy(ops.normal(key, n, 1.0, 2.0, dtype=dtype)).astype(np.float64)
    z = (z - 1) / 2
    for power, moment, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z**power).mean() - moment) < 5 * np.sqrt(spread / n)
    kept = pnn.to_numpy(ops.bernoulli(key, n, 0.1))
    assert abs(kept.mean() - 0.1) < 5 * np.sqrt(0.09 / n)


def test_dropout_gradient_has_the_mask_of_the_forward_pass(backend: Backend) -> None:
    key = make_key(5, backend=backend)
    x = pnn.asarray(np.linspace(1, 2, 300, dtype=np.float32).reshape(20, 15), backend=backend)
    with pnn.Tape() as tape:
        watched = tape.watch(x)
        y = ops.dropout(watched, 0.4, key)
        (gradient,) = tape.gradient(y, [watched])
    values, slopes = pnn.to_numpy(y.value), pnn.to_numpy(gradient)
    assert np.array_equal(values != 0, slopes != 0)
    assert set(np.unique(slopes).tolist()) == {0.0, float(np.float32(1 / 0.6))}


def test_dropout_gives_c_order() -> None:
    with pnn.use_backend("numpy"):
        y = ops.dropout(np.ones((33, 7), np.float32).T, 0.3, make_key(1))
    assert y.flags.c_contiguous
    rule = OPS["dropout"].out(Spec((7, 33), y.dtype, (1, 7)), 0.3, Spec((4,), np.dtype(np.uint32)), True)
    assert rule.contiguous


def test_a_draw_of_any_size_has_a_grid_that_devices_take() -> None:
    """More than 2**31 groups' worth of numbers: planned, not drawn."""
    device = find("null:gpu")
    key = device.from_numpy(np.zeros(4, np.uint32))
    with pnn.use_backend(device), device.recording() as recorded:
        ops.uniform(key, (2**42,))
    (made,) = recorded
    assert 1 < made.launch.groups[0] < 2**31
