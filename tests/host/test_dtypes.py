"""Dtypes: canonical names, kinds, promotion by the array API's tables, weak scalars."""

import itertools

import numpy as np
import pytest

from portable_nn.core import dtypes
from portable_nn.core.errors import DTypeError

LADDERS = (
    ("int8", "int16", "int32", "int64"),
    ("uint8", "uint16", "uint32", "uint64"),
    ("float16", "float32", "float64"),
    ("bfloat16", "float32", "float64"),
    ("complex64", "complex128"),
)


@pytest.mark.parametrize("ladder", LADDERS, ids=lambda ladder: ladder[0])
def test_promotion_within_a_kind_takes_the_wider(ladder: tuple[str, ...]) -> None:
    names = [dtypes.canonical(n) for n in ladder]
    for (i, a), (j, b) in itertools.product(enumerate(names), repeat=2):
        assert dtypes.promote("op", a, b) == names[max(i, j)]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("int8", "uint8", "int16"), ("int16", "uint8", "int16"), ("int8", "uint16", "int32"), ("int32", "uint32", "int64"),
        ("int64", "uint32", "int64"), ("float16", "bfloat16", "float32"), ("float64", "complex64", "complex128"),
        ("float32", "complex64", "complex64"), ("bool", "bool", "bool"),
    ],
)  # fmt: skip
def test_promotion_table(a: str, b: str, expected: str) -> None:
    for one, two in ((a, b), (b, a)):
        assert dtypes.promote("op", dtypes.canonical(one), dtypes.canonical(two)).name == expected


@pytest.mark.parametrize(("a", "b"), [("int32", "float32"), ("bool", "int8"), ("bool", "float32"), ("int64", "complex64"), ("uint64", "int8")])
def test_kinds_do_not_mix(a: str, b: str) -> None:
    with pytest.raises(DTypeError) as caught:
        dtypes.promote("myop", dtypes.canonical(a), dtypes.canonical(b))
    assert all(word in str(caught.value) for word in ("myop", a, b, "astype"))


@pytest.mark.parametrize("name", [d.name for d in dtypes.FLOATS])
def test_python_scalars_are_weak(name: str) -> None:
    dtype = dtypes.canonical(name)
    assert dtypes.promote("op", dtype, "float") == dtype
    assert dtypes.promote("op", "int", dtype) == dtype


def test_python_scalar_of_a_wider_kind_is_refused() -> None:
    with pytest.raises(DTypeError, match="Python float does not fit an array of int32"):
        dtypes.promote("op", dtypes.int32, "float")
    with pytest.raises(DTypeError, match="Python int does not fit an array of bool"):
        dtypes.promote("op", dtypes.bool_, "int")


@pytest.mark.parametrize("written", ["bfloat16", dtypes.bfloat16, np.float32, "float32", np.dtype("int8"), bool, float])
def test_canonical(written: object) -> None:
    assert dtypes.canonical(written) in dtypes.ALL


@pytest.mark.parametrize("written", ["object", "U3", "datetime64[s]", "longdouble"])
def test_dtypes_not_stored(written: str) -> None:
    with pytest.raises(DTypeError, match="is not one portable_nn stores"):
        dtypes.canonical(written)


def test_accumulators_are_never_narrower_than_float32() -> None:
    for dtype in dtypes.FLOATS:
        assert dtypes.accumulator(dtype).itemsize >= 4
    assert dtypes.accumulator(dtypes.int8) == dtypes.int8


def test_every_dtype_has_a_tag_and_a_kind() -> None:
    assert set(dtypes.TAGS) == set(dtypes.ALL)
    assert {dtypes.kind(d) for d in dtypes.ALL} == {"bool", "int", "float", "complex"}


def test_results_of_numpy_generics_are_not_weak() -> None:
    import portable_nn as pnn

    x = np.ones(3, np.float32)
    assert pnn.ops.add(x, np.float64(1)).dtype == np.float64
    assert pnn.ops.add(x, 1.0).dtype == np.float32
    with pytest.raises(DTypeError):
        pnn.ops.add(x, np.int32(1))
