"""Losses of pairs and activations against SciPy, and values worked out by hand."""

import math

import numpy as np
import pytest
import scipy.special

import portable_nn.ops as ops

RNG = np.random.default_rng(11)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_binary_cross_entropies_agree(reduction):
    x, t, w = RNG.normal(size=(4, 5)) * 3, RNG.uniform(size=(4, 5)), RNG.uniform(0.5, 2, 5)
    p = scipy.special.expit(x)
    each = -w * (scipy.special.xlogy(t, p) + scipy.special.xlogy(1 - t, 1 - p))
    wanted = {"mean": each.mean(), "sum": each.sum(), "none": each}[reduction]
    np.testing.assert_allclose(ops.binary_cross_entropy(p, t, w, reduction), wanted, rtol=1e-12)
    np.testing.assert_allclose(ops.binary_cross_entropy_with_logits(x, t, w, reduction), wanted, rtol=1e-12)


def test_binary_cross_entropy_by_hand():
    np.testing.assert_allclose(ops.binary_cross_entropy(np.array([0.25, 1.0]), np.array([1.0, 0.0]), reduction="none"), [math.log(4), 100])
    x = np.zeros(2)  # p = 1/2: yes counts 3 times
    got = ops.binary_cross_entropy_with_logits(x, np.array([1.0, 0.0]), reduction="none", pos_weight=np.array(3.0))
    np.testing.assert_allclose(got, [3 * math.log(2), math.log(2)])
    assert ops.binary_cross_entropy_with_logits(np.array(-1000.0), np.array(1.0)) == 1000


def test_huber_and_smooth_l1():
    x, t = RNG.normal(size=50) * 2, RNG.normal(size=50)
    np.testing.assert_allclose(ops.huber_loss(x, t, "none", 0.7), scipy.special.huber(0.7, x - t), rtol=1e-13)
    np.testing.assert_allclose(ops.smooth_l1_loss(x, t, "none", 0.7), scipy.special.huber(0.7, x - t) / 0.7, rtol=1e-13)
    np.testing.assert_allclose(ops.smooth_l1_loss(x, t, beta=0), ops.l1_loss(x, t), rtol=1e-14)


def test_kl_div_against_scipy():
    p, q = (scipy.special.softmax(RNG.normal(size=(3, 5)), axis=1) for _ in range(2))
    wanted = scipy.special.rel_entr(p, q).sum() / 3
    np.testing.assert_allclose(ops.kl_div(np.log(q), p, "batchmean"), wanted, rtol=1e-12)
    np.testing.assert_allclose(ops.kl_div(np.log(q), np.log(p), "batchmean", True), wanted, rtol=1e-12)


def test_focal_loss_by_hand():
    x, t = np.array([math.log(3.0), math.log(3.0)]), np.array([1.0, 0.0])  # p = 3/4
    wanted = [0.25 * (1 / 4) ** 2 * math.log(4 / 3), 0.75 * (3 / 4) ** 2 * math.log(4)]
    np.testing.assert_allclose(ops.sigmoid_focal_loss(x, t), wanted, rtol=1e-13)
    np.testing.assert_allclose(ops.sigmoid_focal_loss(x, t, -1, 0.0), ops.binary_cross_entropy_with_logits(x, t, reduction="none"), rtol=1e-13)


def test_dice_loss_by_hand():
    x, t = np.array([[[1.0, 1.0, 0.0, 0.0]]]), np.array([[[0.0, 1.0, 1.0, 0.0]]])
    np.testing.assert_allclose(ops.dice_loss(x, t, 0.0), 0.5)
    np.testing.assert_allclose(ops.dice_loss(x, t, 1.0), 1 - 3 / 5)


def test_activations_against_scipy():
    x = np.array([-30.0, -2.0, -0.5, 0.0, 0.3, 4.0, 50.0])
    np.testing.assert_allclose(ops.mish(x), x * np.tanh(np.logaddexp(0, x)), rtol=1e-12)
    np.testing.assert_allclose(ops.logsigmoid(x), scipy.special.log_expit(x), rtol=1e-14)
    np.testing.assert_allclose(ops.softsign(x), x / (1 + np.abs(x)))
    np.testing.assert_allclose(ops.celu(x, 0.5), np.where(x > 0, x, 0.5 * np.expm1(x / 0.5)))
    np.testing.assert_allclose(ops.selu(x)[[0, 5]], [1.0507009873554805 * 1.6732632423543772 * math.expm1(-30), 4.202803949421922], rtol=1e-12)
    np.testing.assert_allclose(ops.softshrink(np.array([-2.0, 0.2, 0.75])), [-1.5, 0, 0.25])
    np.testing.assert_allclose(ops.hardshrink(np.array([-2.0, 0.2, 0.75])), [-2, 0, 0.75])
    np.testing.assert_allclose(ops.threshold(np.array([-2.0, 0.2, 0.75]), 0.2, 9.0), [9, 9, 0.75])
    np.testing.assert_allclose(ops.softmin(x, 0), scipy.special.softmax(-x), rtol=1e-13)
