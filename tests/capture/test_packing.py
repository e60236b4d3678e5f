"""Weights that a captured step uses without being given them: packed once, and again after they were written to."""

from typing import Any

import numpy as np
import pytest

import portable_nn as pnn
from portable_nn import ops
from portable_nn.core import selection


@pytest.fixture
def opencl() -> Any:
    state = selection.status("opencl")
    if state.state != "ready":
        pytest.skip(f"opencl is {state.state}: {state.reason}")
    found: Any = selection.get("opencl")
    if found.profile.shape != "cpu":
        pytest.skip("kernels of GPUs pack nothing")
    with pnn.use_backend(found):
        yield found


def drawn(*shape: int) -> Any:
    return pnn.asarray(np.random.default_rng(sum(shape)).uniform(-1, 1, shape).astype(np.float32))


def test_a_constant_weight_is_packed_once(opencl: Any) -> None:
    x, w, b = drawn(48, 80), drawn(96, 80), drawn(96)
    step = pnn.capture(lambda x: ops.relu(ops.linear(x, w, b)))
    for _ in range(3):
        np.testing.assert_array_equal(pnn.to_numpy(step(x)), pnn.to_numpy(ops.relu(ops.linear(x, w, b))))
    (variant,) = step.variants
    assert [p.launch.kernel for p in variant.replay.packings] == ["pnn_gemm_pack"]
    assert [p.launch.kernel for p in variant.replay.launches] == ["pnn_gemm_panels"]


def test_a_constant_weight_is_packed_where_another_is_not(opencl: Any) -> None:
    x, w = drawn(64, 512), drawn(96, 512)
    kept, given = pnn.capture(lambda x: ops.linear(x, w)), pnn.capture(ops.linear)
    for _ in range(2):  # not the same bits: products are summed in another order
        np.testing.assert_allclose(pnn.to_numpy(kept(x)), pnn.to_numpy(given(x, w)), rtol=0, atol=512 * 2**-24 * 8)
    assert [p.launch.kernel for p in kept.variants[0].replay.launches] == ["pnn_gemm_panels"]
    assert [p.launch.kernel for p in given.variants[0].replay.launches] == ["pnn_gemm_dots"]


def test_a_large_constant_is_packed_once(opencl: Any) -> None:
    x, w = drawn(130, 520), drawn(520, 520)
    for weight in (w, ops.permute(w, (1, 0))):
        step = pnn.capture(lambda x, weight=weight: ops.matmul(x, weight))
        for _ in range(2):
            np.testing.assert_array_equal(pnn.to_numpy(step(x)), pnn.to_numpy(ops.matmul(x, weight)))
        (variant,) = step.variants
        assert [p.launch.kernel for p in variant.replay.packings] == ["pnn_gemm_pack"]
        assert [p.launch.kernel for p in variant.replay.launches] == ["pnn_gemm_blocks"]


def test_writing_into_the_weight_is_seen(opencl: Any) -> None:
    x, w = drawn(48, 80), drawn(96, 80)
    step = pnn.capture(lambda x: ops.linear(x, w))
    step(x), step(x)
    w[:50] = drawn(50, 80)
    np.testing.assert_array_equal(pnn.to_numpy(step(x)), pnn.to_numpy(ops.linear(x, w)))


def test_a_part_of_a_constant_and_a_filter(opencl: Any) -> None:
    x, w, images, filters = drawn(48, 80), drawn(2, 96, 80), drawn(2, 16, 9, 9), drawn(32, 16, 3, 3)
    step = pnn.capture(lambda x, images: (ops.linear(x, w[1]), ops.conv2d(images, filters, padding=1)))
    for _ in range(3):
        made = step(x, images)
        np.testing.assert_array_equal(pnn.to_numpy(made[0]), pnn.to_numpy(ops.linear(x, w[1])))
        np.testing.assert_array_equal(pnn.to_numpy(made[1]), pnn.to_numpy(ops.conv2d(images, filters, padding=1)))
    assert len(step.variants[0].replay.packings) == 2


def test_filters_of_channels_last_images_are_packed_once(opencl: Any) -> None:
    images, filters = drawn(2, 9, 9, 16), drawn(32, 16, 3, 3)

    def conv(x: Any) -> Any:
        return ops.conv2d(ops.permute(x, (0, 3, 1, 2)), filters, padding=1)

    step = pnn.capture(conv)
    for _ in range(2):
        np.testing.assert_array_equal(pnn.to_numpy(step(images)), pnn.to_numpy(conv(images)))
    assert [p.launch.kernel for p in step.variants[0].replay.packings] == ["pnn_conv_last_pack"]
    filters[:3] = drawn(3, 16, 3, 3)
    np.testing.assert_array_equal(pnn.to_numpy(step(images)), pnn.to_numpy(conv(images)))


def test_a_weight_that_is_given_is_packed_each_time(opencl: Any) -> None:
    x, w = drawn(48, 80), drawn(96, 80)
    step = pnn.capture(ops.linear)
    step(x, w), step(x, w)
    assert not step.variants[0].replay.packings
    other = drawn(80, 96).T
    np.testing.assert_array_equal(pnn.to_numpy(step(x, pnn.asarray(pnn.to_numpy(other)))), pnn.to_numpy(ops.linear(x, other)))
