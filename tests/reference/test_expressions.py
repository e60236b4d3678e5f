"""Elementwise ops whose expression nothing else checks: both sides of every comparison read the same text.

An op with a gradient is held by finite differences; these have none, or the differences cannot look at a kink.
"""

from __future__ import annotations

import numpy as np
import pytest

import portable_nn.ops  # noqa: F401 - fills the registry
from portable_nn.core.registry import OPS

LEFT = np.array([-2.0, -1.0, 0.0, 0.0, 1.0, 1.0, 3.0, np.nan, np.inf])
RIGHT = np.array([-1.0, -1.0, 0.0, 1.0, 1.0, 0.0, 2.0, 1.0, np.inf])
BITS = np.array([-7, -1, 0, 1, 2, 12, 100], np.int32)
OTHER = np.array([3, 1, 0, 5, 2, 4, 1], np.int32)

COMPARED = {
    "equal": np.equal, "not_equal": np.not_equal, "less": np.less, "less_equal": np.less_equal, "greater": np.greater,
    "greater_equal": np.greater_equal,
}  # fmt: skip
COMBINED = {
    "bitwise_and": np.bitwise_and, "bitwise_or": np.bitwise_or, "bitwise_xor": np.bitwise_xor,
    "bitwise_left_shift": np.left_shift, "bitwise_right_shift": np.right_shift,
}  # fmt: skip


def body(name, *args, **settings):
    with np.errstate(all="ignore"):
        return OPS[name].body(*args, **settings)


@pytest.mark.parametrize("name", COMPARED)
def test_comparisons_are_numpys(name):
    np.testing.assert_array_equal(body(name, LEFT, RIGHT), COMPARED[name](LEFT, RIGHT))


@pytest.mark.parametrize("name", COMBINED)
def test_bit_operations_are_numpys(name):
    np.testing.assert_array_equal(body(name, BITS, OTHER), COMBINED[name](BITS, OTHER))


def test_negations_are_numpys():
    np.testing.assert_array_equal(body("bitwise_invert", BITS), ~BITS)
    np.testing.assert_array_equal(body("logical_not", BITS > 0), ~(BITS > 0))


# What each gradient is where the function has a kink, for a cotangent of 8: the stated rule, which is PyTorch's.
KINKS = {
    "relu_grad": [((0.0,), {}, 0.0)],
    "relu6_grad": [((0.0,), {}, 0.0), ((6.0,), {}, 0.0)],
    "leaky_relu_grad": [((0.0,), {"negative_slope": 0.25}, 2.0)],
    "elu_grad": [((0.0, 0.0), {"alpha": 0.5}, 4.0)],
    "hardtanh_grad": [((-1.0,), {}, 0.0), ((1.0,), {}, 0.0)],
    "hardsigmoid_grad": [((-3.0,), {}, 0.0), ((3.0,), {}, 0.0)],
    "hardswish_grad": [((-3.0,), {}, 0.0), ((3.0,), {}, 8.0)],
    "hardshrink_grad": [((-0.5,), {}, 0.0), ((0.5,), {}, 0.0)],
    "softshrink_grad": [((-0.5,), {}, 0.0), ((0.5,), {}, 0.0)],
    "threshold_grad": [((0.75,), {"threshold": 0.75}, 0.0)],
    "clamp_grad": [
        ((1.0,), {"min": -1.0, "max": 1.0}, 8.0), ((-1.0,), {"min": -1.0, "max": 1.0}, 8.0), ((1.0,), {"max": 1.0}, 8.0),
        ((-1.0,), {"min": -1.0}, 8.0), ((1.5,), {"max": 1.0}, 0.0), ((-1.5,), {"min": -1.0}, 0.0), ((1.5,), {}, 8.0),
    ],
    "abs_grad": [((0.0,), {}, 0.0)],
    "l1_loss_grad": [((2.0, 2.0), {}, 0.0)],
    "maximum_grad_x1": [((2.0, 2.0), {}, 4.0)],
    "maximum_grad_x2": [((2.0, 2.0), {}, 4.0)],
    "minimum_grad_x1": [((2.0, 2.0), {}, 4.0)],
    "minimum_grad_x2": [((2.0, 2.0), {}, 4.0)],
    "pow_grad_x2": [((0.0, 0.0), {}, 0.0)],
    "logsumexp_grad": [((-np.inf, -np.inf), {}, 0.0)],
}  # fmt: skip


@pytest.mark.parametrize("name", KINKS)
def test_gradients_at_kinks(name):
    for operands, settings, wanted in KINKS[name]:
        got = body(name, np.full(1, 8.0), *(np.full(1, x) for x in operands), **settings)
        assert got[0] == wanted, f"{name} at {operands}: {got[0]}, the rule says {wanted}"


def test_running_statistics_are_pytorchs():
    """A tenth of the batch's mean, and of its unbiased variance."""
    mean, var = body("running_statistics_step", np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.array([11.0, 2.0]), np.array([8.0, 0.8]), 0.1, 1.25)
    np.testing.assert_allclose(mean, [2.0, 2.0], rtol=1e-15)
    np.testing.assert_allclose(var, [0.9 * 3 + 0.1 * 10, 0.9 * 4 + 0.1 * 1], rtol=1e-15)


def test_averages_forget_at_their_rate():
    np.testing.assert_allclose(body("average_step", np.array([4.0]), np.array([8.0]), 0.75), [5.0], rtol=1e-15)
