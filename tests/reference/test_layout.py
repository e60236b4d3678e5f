"""Layout, indexing and joining against NumPy, on every backend, over shapes and indices that hypothesis or a seed draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import portable_nn as pnn
from portable_nn import ops
from portable_nn.core.backend import Backend
from portable_nn.core.errors import ArgumentError, OutOfRange, StaleArray
from portable_nn.core.selection import get
from portable_nn.ops.layout import reshape_strides

slices = st.builds(slice, *[st.none() | st.integers(-7, 7)] * 2, st.none() | st.sampled_from([-3, -2, -1, 1, 2, 3]))


@st.composite
def indexed(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    items: list[Any] = [draw(slices | st.integers(-n, n - 1)) for n in shape]
    if draw(st.booleans()):
        first, last = sorted(draw(st.integers(0, len(items))) for _ in range(2))
        items[first:last] = [Ellipsis]
    else:
        items = items[: draw(st.integers(0, len(items)))]
    if draw(st.booleans()):
        items.insert(draw(st.integers(0, len(items))), None)
    return shape, tuple(items)


@given(indexed())
@settings(max_examples=80, deadline=None)
@pytest.mark.parametrize("name", ["numpy", "opencl"])
def test_getitem_and_its_gradient(name: str, case: tuple[tuple[int, ...], tuple[Any, ...]]) -> None:
    shape, index = case
    host = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    x = pnn.asarray(host, backend=get(name))
    part = host[index]
    with pnn.Tape() as tape:
        watched = tape.watch(x)
        y = watched[index]
        assert np.array_equal(pnn.to_numpy(y.value), part)
        seed = pnn.asarray(np.asarray(part + 1), backend=get(name))
        (gradient,) = tape.gradient(y, [watched], seed=seed)
    expected = np.zeros_like(host)
    expected[index] = part + 1
    assert np.array_equal(pnn.to_numpy(gradient), expected)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
@settings(max_examples=200, deadline=None)
def test_reshape_views_where_numpy_does(sizes: list[int], data: st.DataObject) -> None:
    base = np.arange(np.prod(sizes, dtype=int) * 2**len(sizes)).reshape([2 * n for n in sizes])
    x = base[tuple(slice(0, n) if data.draw(st.booleans()) else slice(None, None, 2) for n in sizes)]
    x = x.transpose(data.draw(st.permutations(range(x.ndim))))
    left, wanted = x.size, []
    while left > 1 and data.draw(st.booleans()):
        n = data.draw(st.sampled_from([d for d in range(1, left + 1) if left % d == 0]))
        wanted.append(n)
        left //= n
    shape = (*wanted, left)
    made = x.reshape(shape)
    strides = reshape_strides(get("numpy").spec_of(x), shape)
    assert (strides is not None) == np.shares_memory(made, x)
    if strides is not None:
        ours = np.lib.stride_tricks.as_strided(x, shape, tuple(s * x.itemsize for s in strides))
        assert np.array_equal(ours, made)


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_pad(backend: Backend, mode: str) -> None:
    host = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
    numpy_mode = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}[mode]
    made = ops.pad(pnn.asarray(host, backend=backend), (3, 2, 1, 3, 0, 1), mode)
    assert np.array_equal(pnn.to_numpy(made), np.pad(host, ((0, 1), (1, 3), (3, 2)), mode=numpy_mode))  # type: ignore[call-overload]


def test_golden_pad_is_last_axis_first(backend: Backend) -> None:
    x = pnn.asarray(np.array([[1.0, 2.0]], np.float32), backend=backend)
    assert pnn.to_numpy(ops.pad(x, (1, 0, 0, 1), value=9.0)).tolist() == [[9, 1, 2], [9, 9, 9]]


@pytest.mark.parametrize("shape", [(65, 130), (3, 41, 67), (2, 33, 7, 19), (5, 4, 100, 3)])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
def test_every_order_of_axes_copies(backend: Backend, shape: tuple[int, ...], dtype: str) -> None:
    rng = np.random.default_rng(1)
    host = rng.integers(0, 200, shape).astype(dtype)
    x = pnn.asarray(host, backend=backend)
    for _ in range(6):
        order = tuple(rng.permutation(len(shape)).tolist())
        assert np.array_equal(pnn.to_numpy(ops.reshape(ops.permute(x, order), (-1,))), host.transpose(order).reshape(-1))


def test_what_is_made_of_them(backend: Backend) -> None:
    host = np.arange(12, dtype=np.float32).reshape(3, 4)
    x = pnn.asarray(host, backend=backend)
    made = (
        (ops.roll(x, (1, -6), (0, 1)), np.roll(host, (1, -6), (0, 1))),
        (ops.roll(x, 5), np.roll(host, 5)),
        (ops.tile(x, (2, 1, 3)), np.tile(host, (2, 1, 3))),
        (ops.repeat(x, 2, 1), np.repeat(host, 2, 1)),
        (ops.repeat(x, 3), np.repeat(host, 3)),
        (ops.stack([x, x], -1), np.stack([host, host], -1)),
        (ops.moveaxis(ops.reshape(x, (1, 3, 4)), 0, -1), np.moveaxis(host[None], 0, -1)),
        (ops.expand(ops.reshape(x, (3, 1, 4)), (2, -1, 5, -1)), np.broadcast_to(host.reshape(3, 1, 4), (2, 3, 5, 4))),
        (ops.split(x, 3, 1)[1], host[:, 3:]),
        (ops.split(x, (1, 3), 1)[1], host[:, 1:]),
        (ops.chunk(x, 3, 1)[-1], host[:, 2:]),
        (ops.unstack(x, 1)[2], host[:, 2]),
    )
    for number, (ours, expected) in enumerate(made):
        assert np.array_equal(pnn.to_numpy(ours), expected), number


def test_writing() -> None:
    host = np.arange(24, dtype=np.float32).reshape(4, 6)
    x = pnn.asarray(host, backend="opencl")
    host = host.copy()
    for index, value in (((slice(1, 3), slice(None, None, 2)), 7), (0, np.arange(6)), ((2, 3), -1.5), ((Ellipsis, 0), 3)):
        x[index] = value
        host[index] = value
    x[:, 1:] = x[:, :-1]
    host[:, 1:] = host[:, :-1].copy()
    assert np.array_equal(pnn.to_numpy(x), host)


def test_a_write_after_saving_is_an_error() -> None:
    x = pnn.asarray(np.ones(3, np.float32), backend="opencl")
    with pnn.Tape() as tape:
        watched = tape.watch(x)
        y = watched * watched
        x[0] = 2.0
        with pytest.raises(StaleArray, match="multiply"):
            tape.gradient(y, [watched])


def test_wrong_indices() -> None:
    x = pnn.asarray(np.ones((3, 4), np.float32), backend="opencl")
    with pytest.raises(OutOfRange, match="index 3 is out of range for axis 0 of length 3"):
        x[3]
    with pytest.raises(IndexError, match="3 axes"):
        x[0, 0, 0]
    with pytest.raises(ArgumentError, match="boolean mask"):
        x[x > 0]
    with pytest.raises(ArgumentError, match=r"1\.5 is not an integer"):
        x[1.5]
