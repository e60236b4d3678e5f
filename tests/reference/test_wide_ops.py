"""The references of the wider op list against values by hand, SciPy, loops and identities."""

import numpy as np
import pytest
from scipy import signal

import portable_nn as pnn
from portable_nn import ops


def call(op, *args, **settings):
    with pnn.use_backend("numpy"):
        return op(*args, **settings)


@pytest.mark.parametrize("op", [ops.linear, ops.linear_act])
def test_linear_is_as_wide_as_its_widest_operand(op):
    """The record says the dtype, and check_op believes it."""
    x, w, b = np.ones((2, 3), np.float32), np.ones((4, 3), np.float32), np.ones(4, np.float64)
    assert call(op, x, w, b).dtype == np.float64
    assert call(op, x, w, b.astype(np.float32)).dtype == np.float32


def test_conv1d_is_a_correlation_by_hand():
    x, w = np.array([[[1.0, 2.0, 4.0, 8.0]]]), np.array([[[1.0, 10.0, 100.0]]])
    np.testing.assert_array_equal(call(ops.conv1d, x, w), [[[421.0, 842.0]]])
    np.testing.assert_array_equal(call(ops.conv1d, x, w, padding=((2, 0),), stride=3), [[[100.0, 842.0]]])


def test_conv3d_against_scipy(rng):
    x, w = rng.normal(size=(1, 1, 5, 6, 7)), rng.normal(size=(1, 1, 2, 3, 4))
    np.testing.assert_allclose(call(ops.conv3d, x, w)[0, 0], signal.correlate(x[0, 0], w[0, 0], "valid"), atol=1e-12)


def test_conv_transpose1d_by_hand():
    x, w = np.array([[[1.0, 2.0]]]), np.array([[[1.0, 10.0, 100.0]]])
    np.testing.assert_array_equal(call(ops.conv_transpose1d, x, w, stride=2), [[[1.0, 10.0, 102.0, 20.0, 200.0]]])
    made = call(ops.conv_transpose1d, x, w, np.array([0.5]), stride=2, padding=1, output_padding=1)
    np.testing.assert_array_equal(made, [[[10.5, 102.5, 20.5, 200.5]]])


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_conv_transpose_is_the_adjoint_of_conv(rng, rank):
    size, kernel, settings = (7, 6, 5)[:rank], (3, 2, 3)[:rank], {"stride": 2, "padding": 1, "groups": 2}
    x, w = rng.normal(size=(2, 4, *size)), rng.normal(size=(6, 2, *kernel))
    y = call(getattr(ops, f"conv{rank}d"), x, w, **settings)
    g = rng.normal(size=y.shape)
    extra = tuple((n + 2 - k) % 2 for n, k in zip(size, kernel, strict=True))
    back = call(getattr(ops, f"conv_transpose{rank}d"), g, w, output_padding=extra, **settings)
    assert back.shape == x.shape
    np.testing.assert_allclose(np.sum(y * g), np.sum(x * back), rtol=1e-10)


def test_group_norm_rows_have_mean_0_and_variance_1(rng):
    x = rng.normal(3.0, 2.0, size=(2, 6, 5, 4))
    y = call(ops.group_norm, x, 3, eps=0.0).reshape(2, 3, -1)
    np.testing.assert_allclose(y.mean(axis=2), 0, atol=1e-12)
    np.testing.assert_allclose(y.var(axis=2), 1, rtol=1e-12)
    np.testing.assert_allclose(call(ops.group_norm, x, 6), call(ops.instance_norm, x))
    np.testing.assert_allclose(call(ops.group_norm, x, 1), call(ops.layer_norm, x, (6, 5, 4)))


def test_rms_norm_by_hand():
    np.testing.assert_allclose(call(ops.rms_norm, np.array([[3.0, -4.0]]), 2, np.array([1.0, 2.0]), eps=0.0), [[3 / 12.5**0.5, -8 / 12.5**0.5]])


def test_attention_against_loops(rng):
    q, k, v, bias = rng.normal(size=(4, 3, 2)), rng.normal(size=(2, 5, 2)), rng.normal(size=(2, 5, 3)), rng.normal(size=(3, 5))
    y = call(ops.scaled_dot_product_attention, q, k, v, bias, scale=0.7, enable_gqa=True)
    for head in range(4):
        for i in range(3):
            scores = [0.7 * float(q[head, i] @ k[head // 2, j]) + bias[i, j] for j in range(5)]
            p = np.exp(scores) / np.sum(np.exp(scores))
            np.testing.assert_allclose(y[head, i], sum(p[j] * v[head // 2, j] for j in range(5)), rtol=1e-12)


def test_attention_masks():
    q = k = np.ones((3, 1))
    v = np.array([[1.0], [2.0], [6.0]])
    np.testing.assert_allclose(call(ops.scaled_dot_product_attention, q, k, v, is_causal=True), [[1.0], [1.5], [3.0]])
    mask = np.array([[True, False, True], [False, False, False], [False, True, False]])
    np.testing.assert_allclose(call(ops.scaled_dot_product_attention, q, k, v, mask), [[3.5], [0.0], [2.0]])
    minus = np.where(mask, 0.0, -np.inf)
    np.testing.assert_allclose(call(ops.scaled_dot_product_attention, q, k, v, minus), [[3.5], [0.0], [2.0]])


def test_a_query_without_keys_gives_no_gradient():
    mask = np.array([[False, False], [True, False]])

    def loss(parts):
        return ops.sum(ops.scaled_dot_product_attention(*parts, mask))

    with pnn.use_backend("numpy"):
        dq, dk, dv = pnn.grad(loss)((np.ones((2, 3)), np.ones((2, 3)), np.ones((2, 3))))
    np.testing.assert_array_equal(dq, 0)
    np.testing.assert_array_equal(dk, 0)
    np.testing.assert_array_equal(dv, [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])


def test_interpolate_by_hand():
    x = np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
    row = [1.0, 1.25, 1.75, 2.0]  # torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear")
    made = call(ops.interpolate, x, None, 2, "bilinear")[0, 0]
    np.testing.assert_allclose(made, np.add.outer([0.0, 0.5, 1.5, 2.0], row))
    np.testing.assert_allclose(call(ops.interpolate, x, 3, mode="bilinear", align_corners=True)[0, 0], [[1, 1.5, 2], [2, 2.5, 3], [3, 3.5, 4]])
    np.testing.assert_array_equal(call(ops.interpolate, x, 3)[0, 0], [[1, 1, 2], [1, 1, 2], [3, 3, 4]])
    seven = np.arange(7.0).reshape(1, 1, 1, 7)
    np.testing.assert_array_equal(call(ops.interpolate, seven, (1, 3))[0, 0, 0], [0, 2, 4])
    np.testing.assert_array_equal(call(ops.interpolate, seven, (1, 3), mode="nearest-exact")[0, 0, 0], [1, 3, 5])


def test_nearest_never_rounds_wrongly():
    """floor(o n / out) in float32 is wrong for some sizes; exact fractions are not."""
    for n in range(1, 60):
        for out in range(1, 60):
            made = call(ops.interpolate, np.arange(float(n)).reshape(1, 1, 1, n), (1, out))[0, 0, 0]
            assert made.tolist() == [o * n // out for o in range(out)]


def test_pixel_shuffle_by_hand():
    x = np.arange(8.0).reshape(1, 4, 1, 2)
    np.testing.assert_array_equal(call(ops.pixel_shuffle, x, 2), [[[[0, 2, 1, 3], [4, 6, 5, 7]]]])
    np.testing.assert_array_equal(call(ops.pixel_unshuffle, call(ops.pixel_shuffle, x, 2), 2), x)


def test_fold_of_unfold_counts_the_windows():
    x = np.ones((1, 1, 4, 4))
    counts = call(ops.fold, call(ops.unfold, x, 3, padding=1), 4, 3, padding=1)[0, 0]
    np.testing.assert_array_equal(counts, np.outer([2, 3, 3, 2], [2, 3, 3, 2]))


def test_unfold_times_filters_is_conv2d(rng):
    x, w = rng.normal(size=(2, 3, 6, 5)), rng.normal(size=(4, 3, 3, 2))
    columns = call(ops.unfold, x, (3, 2), stride=(2, 1), padding=1)
    y = call(ops.conv2d, x, w, stride=(2, 1), padding=1)
    np.testing.assert_allclose((w.reshape(4, -1) @ columns).reshape(y.shape), y, atol=1e-12)


def test_pooling_of_one_and_three_axes_agrees_with_images(rng):
    x = rng.normal(size=(2, 3, 4, 9))
    for name, settings in (("max", {"dilation": 1}), ("avg", {"count_include_pad": False})):
        flat = call(getattr(ops, f"{name}_pool1d"), x.reshape(2, 12, 9), 3, 2, 1, ceil_mode=True, **settings)
        deep = call(getattr(ops, f"{name}_pool3d"), x[:, :, None], (1, 1, 3), (1, 1, 2), (0, 0, 1), ceil_mode=True, **settings)
        wide = call(getattr(ops, f"{name}_pool2d"), x, (1, 3), (1, 2), (0, 1), ceil_mode=True, **settings)
        np.testing.assert_allclose(flat, wide.reshape(2, 12, -1))
        np.testing.assert_allclose(deep[:, :, 0], wide)


def test_glu_and_prelu_by_hand():
    np.testing.assert_allclose(call(ops.glu, np.array([3.0, np.log(3.0)])), [3.0 * 0.75])
    np.testing.assert_array_equal(call(ops.prelu, np.array([[-2.0, -2.0, 5.0]]), np.array([0.5, 0.25, 9.0])), [[-1.0, -0.5, 5.0]])
