"""Ops made of ops: adaptive pooling of sequences and volumes, rrelu, gumbel_softmax. By loops, by hand and by distribution."""

from itertools import product

import numpy as np
import pytest

import portable_nn as pnn
from portable_nn import ops
from portable_nn.core.backend import Backend
from portable_nn.core.errors import DTypeError, SettingError, ShapeError

KEY = np.array([1, 2, 3, 4], np.uint32)


def pooled(x, size, f):
    made = np.empty((*x.shape[:2], *size), x.dtype)
    for at in product(*map(range, size)):
        box = tuple(slice(i * n // m, -(-(i + 1) * n // m)) for i, n, m in zip(at, x.shape[2:], size, strict=True))
        made[(..., *at)] = f(x[(..., *box)], axis=tuple(range(2, x.ndim)))
    return made


@pytest.mark.parametrize(("shape", "size"), [((2, 3, 7), (3,)), ((1, 2, 5), (5,)), ((2, 3, 5, 7, 4), (2, 3, 4)), ((1, 1, 4, 4, 4), (1, 1, 1))])
def test_adaptive_pooling_by_loops(rng, shape, size, backend: Backend):
    x = rng.normal(size=shape)
    rank = len(size)
    with pnn.use_backend(backend):
        there = pnn.asarray(x)
        largest = backend.to_numpy(getattr(ops, f"adaptive_max_pool{rank}d")(there, size))
        mean = backend.to_numpy(getattr(ops, f"adaptive_avg_pool{rank}d")(there, size))
    np.testing.assert_array_equal(largest, pooled(x, size, np.max))
    np.testing.assert_allclose(mean, pooled(x, size, np.mean), rtol=1e-13, atol=1e-14)


def test_adaptive_pooling_of_equal_values_takes_the_first():
    with pnn.use_backend("numpy"):
        gradient = pnn.grad(lambda x: ops.sum(ops.adaptive_max_pool3d(x, 1)))(np.ones((1, 1, 2, 2, 3)))
    np.testing.assert_array_equal(gradient.reshape(-1), [1] + [0] * 11)


def test_adaptive_pooling_keeps_an_axis_and_rounds_halves_once(rng):
    x = rng.normal(size=(1, 2, 6, 9, 9)).astype(np.float16)
    with pnn.use_backend("numpy"):
        made = ops.adaptive_avg_pool3d(x, (None, 1, 1))
    assert made.shape == (1, 2, 6, 1, 1)
    truth = pooled(x.astype(np.float64), (6, 1, 1), np.mean)
    assert np.abs(made.astype(np.float64) - truth).max() <= 2**-11 * np.abs(truth).max() * 1.01


def test_adaptive_pooling_refuses():
    x = np.ones((1, 2, 3))
    with pytest.raises(ShapeError, match=r"adaptive_avg_pool3d: x has shape \(1, 2, 3\) but 5 axes"):
        ops.adaptive_avg_pool3d(x, 1)
    with pytest.raises(SettingError, match=r"adaptive_max_pool1d: output_size \(1, 2\) has 2 numbers but 1"):
        ops.adaptive_max_pool1d(x, (1, 2))


def test_rrelu(rng, backend: Backend):
    x = rng.normal(size=(40, 50)).astype(np.float32)
    with pnn.use_backend(backend):
        there, key = pnn.asarray(x), pnn.asarray(KEY)
        plain = backend.to_numpy(ops.rrelu(there, 0.2, 0.4))
        drawn = backend.to_numpy(ops.rrelu(there, 0.2, 0.4, True, key=key))
        gradient = backend.to_numpy(pnn.grad(lambda v: ops.sum(ops.rrelu(v, 0.2, 0.4, True, key=key)))(there))
    np.testing.assert_allclose(plain, np.where(x >= 0, x, np.float32(0.3) * x), rtol=1e-6)
    np.testing.assert_array_equal(drawn[x >= 0], x[x >= 0])
    slope = (drawn / x)[x < 0]
    assert slope.min() >= 0.2 - 1e-6
    assert slope.max() <= 0.4 + 1e-6
    assert abs(slope.mean() - 0.3) < 0.01  # the standard error of 1000 draws is 0.002
    np.testing.assert_allclose(gradient, np.where(x >= 0, 1, drawn / x), rtol=1e-6)


def test_gumbel_softmax(backend: Backend):
    """Its largest class is a draw from softmax(logits): 4000 rows, so shares are known to about 0.008."""
    logits = np.broadcast_to(np.log(np.array([0.1, 0.2, 0.7], np.float32)), (4000, 3))
    with pnn.use_backend(backend):
        there, key = pnn.asarray(np.ascontiguousarray(logits)), pnn.asarray(KEY)
        soft = backend.to_numpy(ops.gumbel_softmax(there, 0.5, key=key))
        hard = backend.to_numpy(ops.gumbel_softmax(there, 0.5, True, key=key))
        first = backend.to_numpy(ops.gumbel_softmax(ops.permute(there, (1, 0)), 0.5, dim=0, key=key))
        weights = pnn.asarray(np.array([1.0, 2.0, 3.0], np.float32))
        of_soft, of_hard = (
            backend.to_numpy(pnn.grad(lambda v, h=h: ops.sum(ops.gumbel_softmax(v, 0.5, h, key=key) * weights))(there)) for h in (False, True)
        )
    np.testing.assert_allclose(soft.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(first.sum(0), 1, rtol=1e-5)
    np.testing.assert_allclose(np.sort(hard, 1), np.broadcast_to([0.0, 0.0, 1.0], hard.shape), atol=1e-6)
    np.testing.assert_array_equal(hard.argmax(1), soft.argmax(1))
    np.testing.assert_allclose(np.bincount(soft.argmax(1)) / 4000, [0.1, 0.2, 0.7], atol=0.03)
    np.testing.assert_allclose(of_hard, of_soft, rtol=1e-5, atol=1e-7)


def test_noisy_activations_refuse():
    x = np.ones(3, np.float32)
    with pytest.raises(SettingError, match="rrelu: training needs a key"):
        ops.rrelu(x, training=True)
    with pytest.raises(SettingError, match=r"lower is 0\.5 and upper 0\.1"):
        ops.rrelu(x, 0.5, 0.1)
    with pytest.raises(SettingError, match=r"tau is 0\.0"):
        ops.gumbel_softmax(x, 0.0, key=KEY)
    with pytest.raises(DTypeError, match="logits are int32"):
        ops.gumbel_softmax(np.ones(3, np.int32), key=KEY)
