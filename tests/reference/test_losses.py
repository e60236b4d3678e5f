"""Losses, softmax and gathers against SciPy, loops and values worked out by hand."""

import math

import numpy as np
import pytest
import scipy.special

import portable_nn.ops as ops
from portable_nn.core.tape import Tape

RNG = np.random.default_rng(5)


def test_softmax_against_scipy():
    x = RNG.normal(size=(3, 7, 2)) * 10
    np.testing.assert_allclose(ops.softmax(x, 1), scipy.special.softmax(x, axis=1), rtol=1e-13)
    np.testing.assert_allclose(ops.log_softmax(x, 0), scipy.special.log_softmax(x, axis=0), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(ops.logsumexp(x, -1), scipy.special.logsumexp(x, axis=-1), rtol=1e-13)


def test_cross_entropy_by_hand():
    x = np.array([[0.0, math.log(3.0)], [0.0, 0.0]])  # probabilities 1/4, 3/4 and 1/2, 1/2
    t = np.array([1, 0])
    np.testing.assert_allclose(ops.cross_entropy(x, t, reduction="none"), [math.log(4 / 3), math.log(2)])
    w = np.array([3.0, 1.0])  # (1 log 4/3 + 3 log 2) / (1 + 3)
    np.testing.assert_allclose(ops.cross_entropy(x, t, w), (math.log(4 / 3) + 3 * math.log(2)) / 4)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_against_a_loop(smoothing, reduction):
    x, w = RNG.normal(size=(4, 5, 3)), RNG.uniform(0.5, 2.0, 5)
    t = RNG.integers(0, 5, (4, 3))
    t[1, 2] = -100
    each, share = np.zeros((4, 3)), 0.0
    for n in range(4):
        for d in range(3):
            if t[n, d] == -100:
                continue
            log_p = x[n, :, d] - math.log(sum(math.exp(v) for v in x[n, :, d]))
            each[n, d] = -(1 - smoothing) * w[t[n, d]] * log_p[t[n, d]] - smoothing / 5 * sum(w[c] * log_p[c] for c in range(5))
            share += w[t[n, d]]
    wanted = {"mean": each.sum() / share, "sum": each.sum(), "none": each}[reduction]
    np.testing.assert_allclose(ops.cross_entropy(x, t, w, reduction=reduction, label_smoothing=smoothing), wanted, rtol=1e-12)


def test_soft_targets_that_are_one_hot_are_labels():
    x, t = RNG.normal(size=(6, 4)), RNG.integers(0, 4, 6)
    hot = ops.one_hot(t, 4, dtype="float64")
    np.testing.assert_allclose(ops.cross_entropy(x, hot, label_smoothing=0.2), ops.cross_entropy(x, t, label_smoothing=0.2), rtol=1e-13)


def test_gradient_is_softmax_less_one_hot():
    x, t = RNG.normal(size=(6, 4)), RNG.integers(0, 4, 6)
    with Tape() as tape:
        watched = tape.watch(x)
        (g,) = tape.gradient(ops.cross_entropy(watched, t), [watched])
    np.testing.assert_allclose(g, (scipy.special.softmax(x, axis=1) - np.eye(4)[t]) / 6, atol=1e-15)


def test_nll_of_log_softmax_is_cross_entropy():
    x, t = RNG.normal(size=(6, 4)), RNG.integers(0, 4, 6)
    np.testing.assert_allclose(ops.nll_loss(ops.log_softmax(x, 1), t), ops.cross_entropy(x, t), rtol=1e-13)


def test_extremum_gradient_is_shared_by_ties():
    x = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
    with Tape() as tape:
        watched = tape.watch(x)
        (g,) = tape.gradient(ops.sum(ops.max(watched, axis=1)), [watched])
    np.testing.assert_array_equal(g, [[0, 0.5, 0.5], [1 / 3, 1 / 3, 1 / 3]])


def test_embedding_gradient_is_the_transposed_one_hot():
    k, g = RNG.integers(0, 7, 500), RNG.normal(size=(500, 3))
    np.testing.assert_allclose(ops.embedding_grad(g, k, 7), np.eye(7)[k].T @ g, rtol=1e-12)


def test_long_float32_sum_keeps_its_digits():
    x = RNG.uniform(size=1 << 20).astype(np.float32)
    assert abs(float(ops.sum(x)) - math.fsum(x.tolist())) < 0.05  # a running float32 sum is off by about 10
