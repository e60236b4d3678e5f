"""Settings are of the kind that their annotation says; what a shape rule did not foresee is an error of ours all the same."""

from __future__ import annotations

import numpy as np
import pytest

from portable_nn import ops
from portable_nn.core.errors import ArgumentError, SettingError
from portable_nn.core.settings import kind_of

X = np.linspace(-1, 1, 24, dtype=np.float32).reshape(1, 2, 3, 4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ops.avg_pool2d(X, 2, count_include_pad=1), r"count_include_pad is 1 \(int\) but must be True or False"),
        (lambda: ops.sum(X, axis=0, keepdims="yes"), "keepdims is 'yes' .* True or False"),
        (lambda: ops.leaky_relu(X, "steep"), "negative_slope is 'steep' .* a real number"),
        (lambda: ops.flatten(X, 0.0), "start_dim is 0.0 .* a whole number"),
        (lambda: ops.gelu(X, None), "approximate is None .* text"),
        (lambda: ops.argmax(X, axis=1.5), "axis is 1.5 .* a whole number or None"),
        (lambda: ops.layer_norm(X, 2.5), r"layer_norm: cannot use normalized_shape=2.5.*the signature is layer_norm\(x: Array, normalized_shape"),
        (lambda: ops.permute(X, 1), r"permute: cannot use dims=1 .*signature is permute\("),
    ],
)
def test_another_kind_is_refused(call, words):
    with pytest.raises(SettingError, match=words):
        call()


def test_lists_of_arrays_are_lists():
    with pytest.raises(ArgumentError, match="arrays is a ndarray but must be a list or tuple of arrays"):
        ops.concat(X)


def test_scalars_of_numpy_are_settings_like_numbers_of_python():
    np.testing.assert_array_equal(ops.leaky_relu(X, np.float32(0.5)), ops.leaky_relu(X, 0.5))
    np.testing.assert_array_equal(ops.softplus(X, np.int64(2)), ops.softplus(X, 2))
    np.testing.assert_array_equal(ops.layer_norm(X, np.int64(4)), ops.layer_norm(X, 4))
    np.testing.assert_array_equal(ops.avg_pool2d(X, np.int32(2), stride=np.int64(1)), ops.avg_pool2d(X, 2, stride=1))
    np.testing.assert_array_equal(ops.sum(X, axis=np.int64(1), keepdims=np.bool_(True)), ops.sum(X, axis=1, keepdims=True))


def test_kinds():
    assert kind_of("Any") is None
    assert kind_of("float | None").words == "a real number or None"
    assert kind_of("float").plain(np.int64(3)) == 3
    assert type(kind_of("float").plain(np.int64(3))) is int
    assert type(kind_of("float").plain(np.float32(3))) is float
    assert kind_of("int | tuple[int, int]").plain((1, 2)) == (1, 2)
