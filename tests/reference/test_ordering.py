"""Sorting, running sums and scattering against NumPy, loops and values worked out by hand."""

import numpy as np
import pytest

import portable_nn.ops as ops

RNG = np.random.default_rng(7)
NAN = float("nan")


def test_sort_by_hand():
    x = np.array([2.0, NAN, -1.0, 2.0, -0.0, 0.0])
    np.testing.assert_array_equal(ops.argsort(x), [2, 4, 5, 0, 3, 1])
    np.testing.assert_array_equal(ops.argsort(x, descending=True), [0, 3, 4, 5, 2, 1])
    np.testing.assert_array_equal(ops.sort(x, descending=True), [2, 2, 0, 0, -1, NAN])


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_sort_against_numpy(axis):
    x = RNG.integers(0, 9, (7, 8, 5))
    np.testing.assert_array_equal(ops.sort(x, axis=axis), np.sort(x, axis=axis))
    np.testing.assert_array_equal(ops.argsort(x, axis=axis), np.argsort(x, axis=axis, kind="stable"))
    np.testing.assert_array_equal(ops.argsort(x, axis=axis, descending=True), np.argsort(-x, axis=axis, kind="stable"))


def test_topk_by_hand():
    x = np.array([[1.0, 5.0, NAN, 5.0, 2.0]])
    values, places = ops.topk(x, 3)
    np.testing.assert_array_equal(values, [[5, 5, 2]])
    np.testing.assert_array_equal(places, [[1, 3, 4]])
    values, places = ops.topk(x, 5, largest=False)
    np.testing.assert_array_equal(places, [[0, 4, 1, 3, 2]])
    assert np.isnan(values[0, 4])


def test_cumulative_sum_by_hand():
    x = np.array([[1, 2, 3], [10, 20, 30]], np.int32)
    np.testing.assert_array_equal(ops.cumulative_sum(x, 1, include_initial=True), [[0, 1, 3, 6], [0, 10, 30, 60]])
    assert ops.cumulative_sum(x, 0).dtype == np.int64


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("how", ["sum", "mean", "amax", "amin"])
def test_scatter_reduce_against_a_loop(how, own):
    x, src, index = RNG.normal(size=(3, 6)), RNG.normal(size=(3, 4)), RNG.integers(0, 6, (3, 4))
    wanted = x.copy()
    for k in range(3):
        for v in range(6):
            terms = [src[k, j] for j in range(4) if index[k, j] == v]
            if terms:
                terms += [x[k, v]] if own else []
                wanted[k, v] = {"sum": sum(terms), "mean": sum(terms) / len(terms), "amax": max(terms), "amin": min(terms)}[how]
    np.testing.assert_allclose(ops.scatter_reduce(x, 1, index, src, how, include_self=own), wanted, rtol=1e-13, atol=1e-14)


def test_index_add_and_scatter_add_by_hand():
    x = np.zeros((3, 2))
    np.testing.assert_array_equal(ops.index_add(x, 0, np.array([2, 0, 2]), np.ones((3, 2)), alpha=2), [[2, 2], [0, 0], [4, 4]])
    np.testing.assert_array_equal(ops.scatter_add(x, 0, np.array([[1, 0], [1, 2]]), np.array([[1.0, 2], [3, 4]])), [[0, 2], [4, 0], [0, 4]])


def test_gather_is_the_adjoint_of_scatter():
    x, g, index = RNG.normal(size=(4, 7)), RNG.normal(size=(4, 9)), RNG.integers(0, 7, (4, 9))
    left = np.sum(ops.gather(x, 1, index) * g)
    np.testing.assert_allclose(left, np.sum(x * ops.scatter_add(np.zeros_like(x), 1, index, g)), rtol=1e-12)
