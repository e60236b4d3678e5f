"""The array API's namespace: what differs from `ops`, against NumPy, on every backend."""

from __future__ import annotations

import numpy as np
import pytest

import portable_nn as pnn
from portable_nn import xp
from portable_nn.core.backend import Backend
from portable_nn.core.errors import NoKernel
from portable_nn.xp.host import fallbacks

RNG = np.random.default_rng(0)
A = RNG.standard_normal((3, 4)).astype(np.float32)
B = RNG.standard_normal((4, 5)).astype(np.float32)


def test_arrays_name_this_namespace() -> None:
    x = pnn.asarray(A, backend="opencl")
    assert x.__array_namespace__() is xp
    with pnn.Tape() as tape:
        assert tape.watch(x).__array_namespace__() is xp


def test_new_arrays_are_numpys(backend: Backend) -> None:
    with pnn.use_backend(backend):
        pairs = (
            (xp.arange(2, 11, 3), np.arange(2, 11, 3)),
            (xp.linspace(0, 1, 5), np.linspace(0, 1, 5, dtype=np.float32)),
            (xp.eye(3, 4, k=1), np.eye(3, 4, 1, dtype=np.float32)),
            (xp.full((2, 3), 7), np.full((2, 3), 7)),
            (xp.asarray([[1.0, 2.0]]), np.array([[1.0, 2.0]], np.float32)),
            (xp.meshgrid(xp.arange(3), xp.arange(4))[0], np.meshgrid(np.arange(3), np.arange(4))[0]),
            (xp.meshgrid(xp.arange(3), xp.arange(4), indexing="ij")[1], np.meshgrid(np.arange(3), np.arange(4), indexing="ij")[1]),
        )
        for number, (ours, expected) in enumerate(pairs):
            made = pnn.to_numpy(ours)
            assert made.dtype == expected.dtype, number
            assert np.array_equal(made, expected), number


def test_functions(backend: Backend) -> None:
    a, b = pnn.asarray(A, backend=backend), pnn.asarray(B, backend=backend)
    pairs = (
        (xp.tensordot(a, b, axes=1), A @ B),
        (xp.tensordot(a, a, axes=((0, 1), (0, 1))), np.tensordot(A, A, ((0, 1), (0, 1)))),
        (xp.vecdot(a, a), (A * A).sum(-1)),
        (xp.clip(a, -0.5, xp.full_like(a, 0.5)), np.clip(A, -0.5, 0.5)),
        (xp.permute_dims(a, (1, 0)), A.T),
        (xp.count_nonzero(a > 0, axis=1), (A > 0).sum(1)),
        (xp.take_along_axis(a, xp.argmax(a, axis=1, keepdims=True), axis=1), A.max(1, keepdims=True)),
        (a[:, pnn.asarray([2, 0], backend=backend)], A[:, [2, 0]]),
        (a[pnn.asarray([[2, 0], [1, 1]], backend=backend), 1:], A[np.array([[2, 0], [1, 1]]), 1:]),
        (xp.where(a > 0, a, 0.0), np.where(A > 0, A, 0)),
        (xp.logical_and(a > 0, a < 1), (A > 0) & (A < 1)),
        (xp.broadcast_arrays(a, a[:1])[1], np.broadcast_to(A[:1], A.shape)),
    )
    for number, (ours, expected) in enumerate(pairs):
        assert np.allclose(pnn.to_numpy(ours), expected, atol=1e-5), number


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64"])
def test_bits_and_sums_of_products_keep_their_dtype(backend: Backend, dtype: str) -> None:
    host = np.array([[0, 1, 3], [2, 0, 5]]).astype(dtype)
    x = pnn.asarray(host, backend=backend)
    inverted = xp.bitwise_invert(x)
    assert inverted.dtype == host.dtype
    np.testing.assert_array_equal(pnn.to_numpy(inverted), ~host)
    np.testing.assert_array_equal(pnn.to_numpy(~x), ~host)
    if dtype != "bool":
        made = xp.vecdot(x, x)
        assert made.dtype == host.dtype
        np.testing.assert_array_equal(pnn.to_numpy(made), np.vecdot(host, host))


def test_dtypes_are_told() -> None:
    assert xp.finfo(xp.bfloat16).eps == 2**-7
    assert xp.iinfo("int8").min == -128
    assert xp.result_type(xp.int8, xp.int16, 3) == np.int16
    assert xp.can_cast(xp.float32, xp.float64)
    assert not xp.can_cast(xp.int32, xp.float64)
    assert xp.isdtype(xp.uint8, ("real floating", "unsigned integer"))
    assert xp.__array_namespace_info__().default_dtypes()["real floating"] == np.float32


def test_the_host_is_used_only_when_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    x = pnn.asarray(A, backend="opencl")
    monkeypatch.delenv("PORTABLE_NN_HOST_FALLBACK", raising=False)
    with pytest.raises(NoKernel, match="unique_values: backend opencl has no kernel"):
        xp.unique_values(x)
    monkeypatch.setenv("PORTABLE_NN_HOST_FALLBACK", "warn")
    before = fallbacks["unique_values"]
    with pytest.warns(UserWarning, match="ran on the host"):
        made = xp.unique_values(x)
    assert np.array_equal(pnn.to_numpy(made), np.unique(A))
    assert fallbacks["unique_values"] == before + 1
