"""Specs: interning, normal form of strides, broadcasting."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portable_nn.core import dtypes
from portable_nn.core.errors import ShapeError
from portable_nn.core.spec import Spec, broadcast_shapes, broadcast_strides, contiguous_strides

F32 = dtypes.float32


def test_equal_specs_are_one_object() -> None:
    assert Spec((2, 3), F32) is Spec((2, 3), F32, (3, 1))
    assert Spec((2, 3), F32) is not Spec((2, 3), F32, (1, 2))
    assert Spec((2, 3), F32) is not Spec((2, 3), dtypes.float64)


def test_strides_of_axes_of_length_one_do_not_count() -> None:
    assert Spec((1, 3), F32, (77, 1)) is Spec((1, 3), F32)
    assert Spec((3, 1), F32, (1, -5)).contiguous


def test_empty_specs_are_contiguous() -> None:
    assert Spec((0, 3), F32, (9, 9)) is Spec((0, 3), F32)


def test_sizes() -> None:
    spec = Spec((2, 3, 4), dtypes.bfloat16)
    assert (spec.ndim, spec.size, spec.nbytes, spec.strides) == (3, 24, 48, (12, 4, 1))
    assert (Spec((), F32).size, Spec((), F32).strides) == (1, ())


def test_pickle_keeps_identity() -> None:
    spec = Spec((2, 3), F32, (1, 2))
    assert pickle.loads(pickle.dumps(spec)) is spec


shapes = st.lists(st.sampled_from([1, 2, 3, 5]), max_size=4).map(tuple)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(shapes, shapes, shapes)
def test_broadcasting_is_numpys(a: tuple[int, ...], b: tuple[int, ...], c: tuple[int, ...]) -> None:
    try:
        expected = np.broadcast_shapes(a, b, c)
    except ValueError:
        with pytest.raises(ShapeError, match="myop"):
            broadcast_shapes("myop", a, b, c)
        return
    assert broadcast_shapes("myop", a, b, c) == expected
    view = np.broadcast_to(np.zeros(a, np.float32), expected)
    mine = broadcast_strides(Spec(a, F32), expected)
    for n, s, theirs in zip(expected, mine, view.strides, strict=True):
        assert n == 1 or s * 4 == theirs


def test_zero_length_axes_broadcast() -> None:
    assert broadcast_shapes("op", (0, 3), (1, 3)) == (0, 3)
    with pytest.raises(ShapeError, match=r"\(0,\) and \(2,\)"):
        broadcast_shapes("op", (0,), (2,))


@settings(derandomize=True, max_examples=50, deadline=None)
@given(shapes)
def test_contiguous_strides_are_numpys(shape: tuple[int, ...]) -> None:
    assert contiguous_strides(shape) == tuple(s // 4 for s in np.zeros(shape, np.float32).strides)
