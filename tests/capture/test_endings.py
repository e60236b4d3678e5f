"""Input gradients of convolutions add and mask what would be added and masked next: the same bits, a pass over an image less."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_rewrite import TRANSFORMED, arrays, names, planning, with_and_without_feeds

import portable_nn as pnn
from portable_nn import ops
from portable_nn.capture import Captured
from portable_nn.core.registry import find as registered


@pytest.fixture(params=TRANSFORMED)
def planned(request: pytest.FixtureRequest) -> Any:
    with planning(request.param) as backend:
        yield backend


def around(given: Any, x: Any, stride: int = 1, relu: bool = True) -> Any:
    """Return the gradients of a convolution, and of two with a way around, behind a ReLU or not."""

    def loss(given: Any) -> Any:
        first, w, v, u = given
        y = ops.conv2d(x, first, padding=1)
        y = ops.relu(y) if relu else y
        inner = ops.relu(ops.conv2d(y, w, stride=stride, padding=1))
        way = y if stride == 1 else ops.conv2d(y, u, stride=stride)
        return ops.mean(ops.tanh(ops.conv2d(inner, v, padding=1) + way))

    return pnn.value_and_grad(loss)(given)


def operands(rng: np.random.Generator, channels: int, dtype: Any = np.float32) -> Any:
    filters = (channels, channels, 3, 3)
    *given, x = arrays(rng, filters, filters, filters, (channels, channels, 1, 1), (3, channels, 9, 11), dtype=dtype)
    return tuple(given), x


def both(f: Any, given: Any, backend: Any, monkeypatch: pytest.MonkeyPatch) -> Captured:
    """Compare `f` with endings and without; return the capture with them."""
    captured, plain = with_and_without_feeds(f, given, backend, monkeypatch)
    assert not any("conv2d_input_grad+" in name for name in names(plain))
    joined = sum(count for name, count in names(captured).items() if "conv2d_input_grad+" in name)
    assert sum(names(plain).values()) - joined == sum(names(captured).values())
    return captured


@pytest.mark.parametrize(("channels", "stride", "dtype"), [(16, 1, "float32"), (64, 1, "float32"), (16, 2, "float32"), (32, 2, "float32"), (16, 1, "float64")])
def test_the_sum_and_the_relus_gradient(
    planned: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, channels: int, stride: int, dtype: str
) -> None:
    if dtype == "float64" and not planned.profile.float64:
        pytest.skip("no float64")
    captured = both(lambda given, x: around(given, x, stride), operands(rng, channels, np.dtype(dtype)), planned, monkeypatch)
    assert names(captured)["conv2d_input_grad+add+relu_grad"] == int(planned.wants_channels_last)


def test_the_sum_alone(planned: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    captured = both(lambda given, x: around(given, x, relu=False), operands(rng, 32), planned, monkeypatch)
    assert names(captured)["conv2d_input_grad+add"] == int(planned.wants_channels_last)


def test_channels_that_fill_no_vector_are_added_afterwards(planned: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    captured = both(around, operands(rng, 24), planned, monkeypatch)
    assert not any("conv2d_input_grad+" in name for name in names(captured))


def part_of(w: Any, g: Any) -> Any:
    return ops.conv2d_input_grad(ops.tanh(ops.conv2d(g, w, padding=1)), w, (9, 11), 1, 1)


OTHERS: dict[str, Callable[[Any, Any], Any]] = {
    "nobody": lambda part, w: None,
    "the caller": lambda part, w: part,
    "a convolution": lambda part, w: ops.conv2d(part, w),
    "a view": lambda part, w: part[:, :, 1:],
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_part_that_others_read_is_stored(planned: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, other: str) -> None:
    w, g, x = arrays(rng, (16, 16, 3, 3), (3, 16, 9, 11), (3, 16, 9, 11))

    def f(w: Any, g: Any, x: Any) -> Any:
        part = part_of(w, g)
        return ops.conv2d(part + ops.conv2d(x, w, padding=1), w), OTHERS[other](part, w)

    captured = both(f, (w, g, x), planned, monkeypatch)
    assert names(captured)["conv2d_input_grad+add"] == int(planned.wants_channels_last and other == "nobody")


@pytest.mark.parametrize("more", ["itself", "a smaller one"])
def test_what_cannot_be_read_beside_it_is_added_afterwards(
    planned: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, more: str
) -> None:
    w, g, x = arrays(rng, (16, 16, 3, 3), (3, 16, 9, 11), (3, 16, 9, 11))

    def f(w: Any, g: Any, x: Any) -> Any:
        part = part_of(w, g)
        return ops.conv2d(part + (part if more == "itself" else x[:, :1]), w)

    captured = both(f, (w, g, x), planned, monkeypatch)
    assert not any("conv2d_input_grad+" in name for name in names(captured))


def test_a_sum_that_another_call_reads_is_stored(planned: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    w, g, x = arrays(rng, (16, 16, 3, 3), (3, 16, 9, 11), (3, 16, 9, 11))

    def f(w: Any, g: Any, x: Any) -> Any:
        y = ops.relu(ops.conv2d(x, w, padding=1))
        total = part_of(w, g) + y
        return ops.conv2d(registered("relu_grad")(total, y), w), ops.conv2d(total, w)

    captured = both(f, (w, g, x), planned, monkeypatch)
    assert not any("+relu_grad" in name for name in names(captured) if name.startswith("conv2d"))
