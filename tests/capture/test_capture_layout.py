"""Layouts: inside a captured step images are channels-last on CPUs, outside nothing shows but the last bits of sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import BACKENDS, find
from test_rewrite import PLANNED, Net, agree, arrays, names, start, stepping

import portable_nn as pnn
from portable_nn import ops, optim
from portable_nn.capture import Captured
from portable_nn.core.geometry import channels_last, is_channels_last


@pytest.fixture(params=PLANNED)
def planned(request: pytest.FixtureRequest) -> Any:
    with pnn.use_backend(find(request.param)) as backend:
        yield backend


def near(f: Callable[..., Any], *given: Any) -> Captured:
    """Capture `f` and compare with the plain function; results must have its shapes, dtypes and strides too."""
    captured: Captured = pnn.capture(f)
    for _ in range(3):
        for a, b in zip(pnn.tree.leaves(captured(*given)), pnn.tree.leaves(f(*given)), strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            np.testing.assert_allclose(pnn.to_numpy(a), pnn.to_numpy(b), rtol=2e-5, atol=2e-5)
    return captured


def specs(captured: Captured) -> list[Any]:
    """Return the specs of the 4-D arrays that the rewritten step makes."""
    (variant,) = captured.variants
    made = [variant.program.slots[y].spec for step in variant.program.steps for y in step.outputs if not step.view]
    return [spec for spec in made if spec.ndim == 4]


def conversions(captured: Captured) -> int:
    (variant,) = captured.variants
    return sum(step.op.name == "astype" for step in variant.program.steps)


@pytest.mark.skipif("null" not in BACKENDS, reason="plans on the null backend")
@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_a_training_step_converts_nothing(device: str) -> None:
    with pnn.use_backend(find("null" if device == "cpu" else "null:gpu")):
        model, optimizer = Net(12).to(), optim.sgd(0.1)
        captured = pnn.capture(stepping(model, optimizer), donate="state")
        captured(start(model, optimizer), pnn.asarray(np.zeros((4, 3, 6, 6), np.float32)), pnn.asarray(np.zeros(4, np.int64)), 0.1)
        images = [spec for spec in specs(captured) if spec.shape == (4, 12, 6, 6)]
        assert len(images) >= 6
        assert all(is_channels_last(spec) is (device == "cpu") for spec in images)
        # What comes back from the mean is broadcast; nothing else changes its layout.
        assert conversions(captured) <= (1 if device == "cpu" else 0)


def test_what_other_calls_read_is_as_it_was(planned: Any, rng: np.random.Generator) -> None:
    x, w, v = arrays(rng, (2, 6, 7, 5), (8, 6, 3, 3), (6, 8, 3, 3))

    def f(x: Any, w: Any, v: Any) -> Any:
        y = ops.relu(ops.conv2d(x, w, padding=1))
        z = ops.relu(ops.conv2d(y, v, padding=1)) + x
        back = ops.conv2d(z, w, stride=2)
        return ops.flip(z, axis=2), ops.reshape(z, (2, 30, 7)), ops.permute(z, (0, 2, 3, 1)) * 2.0, z[:, 1:3], back

    near(f, x, w, v)


def test_pools_end_families(planned: Any, rng: np.random.Generator) -> None:
    x, w, v, t, u = arrays(rng, (3, 1, 12, 12), (6, 1, 3, 3), (9, 6, 3, 3), (9, 9, 3, 3), (5, 81))

    def loss(given: Any, x: Any) -> Any:
        w, v, t, u = given
        y = ops.max_pool2d(ops.relu(ops.conv2d(x, w, padding=1)), 2)
        y = ops.relu(ops.conv2d(y, v, padding=1))
        y = ops.max_pool2d(ops.relu(ops.conv2d(y, t, padding=1)), 2)
        mean = ops.mean(ops.avg_pool2d(y, 2, stride=1))
        return ops.sum(ops.linear(ops.reshape(y, (3, -1)), u)) * 0.01 + mean

    captured = near(lambda given, x: pnn.value_and_grad(lambda p: loss(p, x))(given), (w, v, t, u), x)
    if planned.wants_channels_last:
        assert any(is_channels_last(spec) for spec in specs(captured))


@pytest.mark.parametrize("pooled", [True, False])
def test_one_convolution_between_pools_keeps_its_layout(planned: Any, rng: np.random.Generator, pooled: bool) -> None:
    """LeNet's second: pooling would read one layout and write another, and the gradient of its six channels reads C order."""
    x, w, v, u = arrays(rng, (3, 1, 16, 16), (6, 1, 3, 3), (9, 6, 3, 3), (5, 144 if pooled else 576))

    def loss(given: Any, x: Any) -> Any:
        w, v, u = given
        y = ops.max_pool2d(ops.relu(ops.conv2d(x, w, padding=1)), 2)
        y = ops.relu(ops.conv2d(y, v, padding=1))
        y = ops.max_pool2d(y, 2) if pooled else y
        return ops.sum(ops.linear(ops.reshape(y, (3, -1)), u))

    captured = near(lambda given, x: pnn.value_and_grad(lambda p: loss(p, x))(given), (w, v, u), x)
    assert not any(is_channels_last(spec) for spec in specs(captured))


def test_channels_last_images_are_taken_as_they_are(planned: Any, rng: np.random.Generator) -> None:
    x, w, scale = arrays(rng, (2, 5, 6, 16), (8, 16, 3, 3), (8,))
    images = ops.permute(x, (0, 3, 1, 2))
    assert images.spec is channels_last(images.shape, images.dtype)

    def f(images: Any, w: Any, scale: Any) -> Any:
        y, mean, var = ops.batch_norm_train(ops.conv2d(images, w, padding=1), scale)
        return ops.relu(y), mean, var

    captured = near(f, images, w, scale)
    assert conversions(captured) == 0
    assert is_channels_last(captured(images, w, scale)[0].spec)


def test_a_convolution_alone_stays(planned: Any, rng: np.random.Generator) -> None:
    x, w = arrays(rng, (2, 6, 5, 5), (8, 6, 3, 3))
    captured = near(lambda x, w: ops.conv2d(x, w), x, w)
    assert conversions(captured) == 0


@pytest.mark.parametrize("around", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_a_relus_gradient_joins_the_batch_norms(planned: Any, rng: np.random.Generator, around: bool, affine: bool) -> None:
    x, g, w, b = arrays(rng, (5, 4, 3, 18), (5, 4, 3, 18), (18,), (18,))

    def f(x: Any, g: Any, w: Any, b: Any) -> Any:
        def loss(given: Any) -> Any:
            images, w, b = given
            y = ops.batch_norm_train(images, w, b)[0] if affine else ops.batch_norm_train(images)[0]
            y = ops.relu(y + images) if around else ops.relu(y)
            return ops.sum(y * ops.permute(g, (0, 3, 1, 2)))

        return pnn.grad(loss)((ops.permute(x, (0, 3, 1, 2)), w, b))

    captured = agree(f, x, g, w, b)
    # The sum around takes the mask too, which is no longer that of the normalised values.
    joined = planned.profile.shape == "cpu" and not around
    assert sum("batch_norm_train_relu_grad" in name for name in names(captured)) == joined
