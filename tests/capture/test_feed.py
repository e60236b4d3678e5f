"""Convolutions make what batch norms would have made for them alone: the same bits as from memory, and only where it can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_rewrite import TRANSFORMED, arrays, names, planning, with_and_without_feeds

import portable_nn as pnn
from portable_nn import ops
from portable_nn.capture import Captured

FED = (
    "norm_relu+conv2d",
    "norm_grad+conv2d_input_grad",
    "norm_relu+norm_grad+conv2d_weight_grad",
    "norm_relu_grad+conv2d_weight_grad",
)


@pytest.fixture(params=TRANSFORMED)
def planned(request: pytest.FixtureRequest) -> Any:
    with planning(request.param) as backend:
        yield backend


def block(
    kernel: int, stride: int = 1, dilation: int = 1, more: Callable[[Any], Any] = lambda y: None
) -> Callable[..., Any]:
    """Return the gradients of convolution, batch norm, ReLU, twice, and `more` of what the second convolution reads."""

    def loss(given: Any, x: Any, g: Any) -> Any:
        w, a, b, v, c, d = given
        pad = kernel // 2 * dilation
        y = ops.relu(ops.batch_norm_train(ops.conv2d(x, w, padding=1), a, b)[0])
        z = ops.batch_norm_train(ops.conv2d(y, v, stride=stride, padding=pad, dilation=dilation), c, d)[0]
        return ops.sum(ops.sigmoid(z) * g), more(y)

    def gradients(given: Any, x: Any, g: Any) -> Any:
        return pnn.value_and_grad(lambda given: loss(given, x, g), has_aux=True)(given)

    return gradients


def operands(rng: np.random.Generator, channels: int, kernel: int, stride: int = 1, dtype: Any = np.float32) -> Any:
    filters, vector = (channels, channels, 3, 3), (channels,)
    w, a, b, v, c, d = arrays(
        rng, filters, vector, vector, (channels, channels, kernel, kernel), vector, vector, dtype=dtype
    )
    x, g = arrays(rng, (3, channels, 9, 11), (3, channels, -(-9 // stride), -(-11 // stride)), dtype=dtype)
    return (w, a, b, v, c, d), x, g


def both(f: Any, given: Any, backend: Any, monkeypatch: pytest.MonkeyPatch) -> Captured:
    """Compare `f` with fed convolutions and without; return the capture with them."""
    captured, plain = with_and_without_feeds(f, given, backend, monkeypatch)
    assert not any("norm_" in name.partition("conv2d")[0] and "conv2d" in name for name in names(plain))
    assert sum(names(plain).values()) == sum(names(captured).values())
    return captured


@pytest.mark.parametrize(
    ("channels", "kernel", "dilation", "dtype"),
    [
        (16, 3, 1, "float32"),
        (32, 3, 1, "float32"),
        (32, 1, 1, "float32"),
        (16, 5, 1, "float32"),
        (32, 3, 2, "float32"),
        (16, 3, 1, "float64"),
    ],
)
def test_images_are_made_where_they_are_read(
    planned: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, channels: int, kernel: int, dilation: int, dtype: str
) -> None:  # fmt: skip
    if dtype == "float64" and not planned.profile.float64:
        pytest.skip("no float64")
    given = operands(rng, channels, kernel, dtype=np.dtype(dtype))
    captured = both(block(kernel, dilation=dilation), given, planned, monkeypatch)
    found = names(captured)
    assert [found[name] for name in FED] == [int(planned.wants_channels_last)] * 4
    assert all("batch_norm_train" not in name or "conv" not in name for name in found)


@pytest.mark.parametrize("channels", [9, 24])
def test_channels_that_fill_no_block_are_read_from_memory(
    planned: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, channels: int
) -> None:
    captured = both(block(3), operands(rng, channels, 3), planned, monkeypatch)
    assert not any(name.startswith("norm_") for name in names(captured))


def test_what_others_read_stays_in_memory(
    planned: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = operands(rng, 16, 3)
    captured = both(block(3, more=lambda y: y), given, planned, monkeypatch)
    assert not any(name.startswith("norm_relu+") for name in names(captured))
    captured = both(block(3, more=ops.sum), given, planned, monkeypatch)
    assert not any(name.startswith("norm_relu+") for name in names(captured))
    captured = both(block(3, more=lambda y: y[:, :, 1:]), given, planned, monkeypatch)
    assert not any(name.startswith("norm_relu+") for name in names(captured))


def test_what_many_convolutions_read_stays_in_memory(
    planned: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    (w, a, b, v, _, _), x, _ = operands(rng, 16, 3)

    def forked(given: Any, x: Any) -> Any:
        def loss(given: Any) -> Any:
            w, a, b, v = given
            y = ops.relu(ops.batch_norm_train(ops.conv2d(x, w, padding=1), a, b)[0])
            return ops.sum(ops.tanh(ops.conv2d(y, v, padding=1)) * ops.conv2d(y, v * 2.0, padding=1))

        return pnn.value_and_grad(loss)(given)

    captured, _ = with_and_without_feeds(forked, ((w, a, b, v), x), planned, monkeypatch)  # two, and the gradients of both filters
    assert not any(name.startswith("norm_relu+") for name in names(captured))


def test_a_gradient_in_phases_reads_memory(
    planned: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    captured = both(block(3, stride=2), operands(rng, 16, 3, 2), planned, monkeypatch)
    found = names(captured)
    assert found["conv2d_input_grad"] == 1
    assert found["norm_relu+conv2d_weight_grad"] == int(planned.wants_channels_last)


def test_the_profile_names_who_makes_what(planned: Any, rng: np.random.Generator) -> None:
    if not planned.wants_channels_last:
        pytest.skip("no convolution is fed here")
    captured = pnn.capture(block(3))
    captured(*operands(rng, 16, 3))
    (step,) = (s for s in captured.variants[0].program.steps if s.op.name == FED[2])
    assert step.op.flops(step.call) == step.op.op.flops(step.op.call) > 0
