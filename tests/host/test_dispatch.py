"""The road of a call: argument kinds, mixed libraries, keywords in any order, caches, what reaches the shape rule."""

import numpy as np
import pytest

import portable_nn as pnn
from portable_nn.core import op as op_module
from portable_nn.core import registry, selection
from portable_nn.core.array import DeviceArray
from portable_nn.core.errors import ArgumentError, BackendError, DTypeError, SettingError, ShapeError
from portable_nn.core.op import LIST, OPTIONAL, SETTING, Op
from portable_nn.core.samples import A, s
from portable_nn.core.spec import Spec, Weak

ops = pnn.ops
X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def null():
    return selection.get("null")


@pytest.fixture
def temporary():
    """Ops registered inside the test leave the registry with it."""
    before = dict(registry.OPS)
    yield
    registry.OPS.clear()
    registry.OPS.update(before)


def test_numpy_arrays_run_on_numpy():
    y = ops.add(X, X)
    assert type(y) is np.ndarray
    np.testing.assert_array_equal(y, 2 * X)


def test_results_are_arrays_also_when_0d():
    y = ops.add(np.float32(1), np.float32(2))
    assert type(y) is np.ndarray
    assert y.shape == ()


def test_mixed_libraries_name_both_and_the_way_out(null):
    there = null.from_numpy(X)
    with pytest.raises(ArgumentError) as caught:
        ops.add(X, there)
    words = ("add", "numpy", "null", "portable_nn.asarray(x, backend=")
    assert all(w in str(caught.value) for w in words), caught.value
    with pytest.raises(ArgumentError, match="numpy"):
        ops.add(there, X)
    with pytest.raises(ArgumentError, match="numpy"):
        there + X
    with pytest.raises(ArgumentError, match="numpy"):
        X + there  # NumPy hands over to us: __array_ufunc__ is None


@pytest.mark.parametrize("name", ["opencl", "cupy"])
def test_numpy_array_under_another_backend_names_asarray(monkeypatch, name):
    monkeypatch.setenv("PORTABLE_NN_BACKEND", name)
    with pytest.raises(ArgumentError) as caught:
        ops.add(X, X)
    assert all(w in str(caught.value) for w in ("add", "NumPy array", repr(name), "portable_nn.asarray(x)", "PORTABLE_NN_BACKEND=numpy"))


def test_use_backend_also_refuses_host_arrays(backend):
    if backend.name == "numpy":
        pytest.skip("host arrays are its own")
    with pnn.use_backend(backend), pytest.raises(ArgumentError, match=r"portable_nn.asarray"):
        ops.negative(X)


def test_device_arrays_run_where_they_live_whatever_was_chosen(null):
    there = null.from_numpy(X)
    with pnn.use_backend("numpy"):
        y = ops.add(there, 1)
    assert type(y) is DeviceArray
    assert y.backend is null


def test_python_scalars_take_the_dtype_of_the_array(null):
    for x in (X, null.from_numpy(X)):
        assert ops.multiply(x, 2).dtype == np.float32
        assert ops.multiply(2, x).dtype == np.float32
    with pytest.raises(DTypeError, match="Python float"):
        ops.add(np.arange(3, dtype=np.int32), 0.5)


def test_scalars_of_different_values_share_a_prepared_call():
    ops.add._cache.clear()
    assert ops.add(X, 1.0)[0, 0] == 1
    assert ops.add(X, 2.0)[0, 0] == 2
    assert len(ops.add._cache) == 1


def test_python_int_and_float_do_not_share_a_prepared_call():
    whole = np.arange(3, dtype=np.int32)
    assert ops.add(whole, 1).dtype == np.int32
    with pytest.raises(DTypeError):
        ops.add(whole, 1.0)


def test_scalar_where_an_array_is_needed():
    with pytest.raises(ArgumentError, match=r"3\.0 was given where an array is needed.*portable_nn.asarray"):
        ops.negative(3.0)
    with pytest.raises(ArgumentError, match="None was given where an array is needed"):
        ops.negative(None)


@pytest.mark.parametrize("thing", [[1.0, 2.0], "text", {"a": 1}, object()])
def test_things_that_are_no_arrays(thing):
    with pytest.raises(ArgumentError, match=r"is not an array portable_nn knows; make one with portable_nn.asarray"):
        ops.negative(thing)


def test_keywords_in_any_order():
    left, right = np.full(3, 5.0), np.full(3, 2.0)
    for made in (ops.subtract(left, right), ops.subtract(left, x2=right), ops.subtract(x2=right, x1=left), ops.subtract(x1=left, x2=right)):
        np.testing.assert_array_equal(made, 3.0)


def test_wrong_keywords_show_the_signature():
    with pytest.raises(ArgumentError, match=r"add.*unexpected keyword argument 'y'.*signature is add\(x1: ArrayOrScalar, "):
        ops.add(X, X, y=X)
    with pytest.raises(ArgumentError, match="missing a required argument"):
        ops.add(X)
    with pytest.raises(ArgumentError, match="too many positional arguments"):
        ops.add(X, X, X)


def test_a_failing_call_is_not_cached():
    before = len(ops.add._cache)
    for _ in range(2):
        with pytest.raises(ShapeError):
            ops.add(np.zeros((2, 3)), np.zeros(4))
    assert len(ops.add._cache) == before


def test_prepared_calls_are_bounded(monkeypatch):
    monkeypatch.setattr(op_module, "_CACHE_LIMIT", 4)
    ops.negative._cache.clear()
    for n in range(1, 20):
        ops.negative(np.zeros(n, np.float32))
        assert len(ops.negative._cache) <= 4


def test_interned_specs_are_bounded():
    assert len(Spec._interned) <= 65536 + 4096


def _probe(seen, **record):
    def body(x: "Array", w: "Array | None" = None, parts: "Sequence[Array]" = (), stride: "int | tuple[int, ...]" = 1):  # noqa: F821
        return np.array(x)

    def out(x, w, parts, stride):
        seen.append((x, w, parts, stride))
        return x

    body.__name__ = "probe_of_test"
    return Op(body, out=out, **record)


def test_roles_come_from_annotations(temporary):
    probe = _probe([])
    assert probe.roles == {"x": "array", "w": OPTIONAL, "parts": LIST, "stride": SETTING}
    assert probe.operands == ("x", "w", "parts")


def test_settings_reach_the_rule_as_written(temporary):
    seen = []
    probe = _probe(seen)
    probe(X, None, [X, X], (2, 1))
    probe(X, stride=[2, 1], parts=[X])  # lists become tuples: settings name a prepared call
    probe(X, parts=[], stride=3)
    assert [(w, len(parts), stride) for _, w, parts, stride in seen] == [(None, 2, (2, 1)), (None, 1, (2, 1)), (None, 0, 3)]
    assert all(isinstance(x, Spec) for x, *_ in seen)


def test_equal_settings_of_different_types_are_different_calls(temporary):
    seen = []
    probe = _probe(seen)
    probe(X, parts=[X], stride=1)
    probe(X, parts=[X], stride=1.0)
    probe(X, parts=[X], stride=1)
    assert len(seen) == 2


def test_weak_operands_reach_the_rule(temporary):
    seen = []

    def body(x: "Array", k: "ArrayOrScalar"):  # noqa: F821
        return x * k

    def out(x, k):
        seen.append(k)
        return x

    body.__name__ = "weak_probe_of_test"
    made = Op(body, out=out)
    made(X, 2.0)
    made(X, X)
    assert isinstance(seen[0], Weak)
    assert isinstance(seen[1], Spec)


def test_two_ops_of_one_name(temporary):
    _probe([])
    with pytest.raises(ArgumentError, match="two ops are named 'probe_of_test'"):
        _probe([])


def test_registry_offers_the_closest_name():
    with pytest.raises(ArgumentError, match="did you mean 'multiply'"):
        registry.find("mulitply")


def test_names_that_differ_from_python_builtins_still_find_samples():
    assert s("x", A((2,))).name == "x"
    assert all(op.name == name for name, op in registry.OPS.items())


def test_device_array_refuses_to_become_numpy_silently(null):
    with pytest.raises(ArgumentError, match=r"use portable_nn.to_numpy\(x\)"):
        np.asarray(null.from_numpy(X))


def test_asarray():
    assert pnn.asarray([1.0, 2.0], backend="numpy").dtype == np.float32
    assert pnn.asarray([1, 2], backend="numpy").dtype == np.int64
    assert pnn.asarray(np.ones(2), backend="numpy").dtype == np.float64
    assert pnn.asarray(X, backend="numpy") is X
    assert pnn.asarray(X, backend="numpy", copy=True) is not X
    assert pnn.asarray(X, backend="numpy", dtype="bfloat16").dtype.name == "bfloat16"
    with pytest.raises(DTypeError, match="Python objects"):
        pnn.asarray([object()], backend="numpy")
    with pytest.raises(ArgumentError, match="does not make an array"):
        pnn.asarray([[1.0], [1.0, 2.0]], backend="numpy")
    with pytest.raises(BackendError, match="did you mean 'numpy'"):
        pnn.asarray(X, backend="nunpy")


def test_asarray_from_dlpack():
    class Capsule:
        def __init__(self, x):
            self.x = x

        def __dlpack__(self, **kwargs):
            return self.x.__dlpack__(**kwargs)

        def __dlpack_device__(self):
            return self.x.__dlpack_device__()

    np.testing.assert_array_equal(pnn.asarray(Capsule(X), backend="numpy"), X)


def test_round_trip_on_every_backend(backend):
    for x in (X, X[::-1], X.T, np.float32(3).reshape(()), np.zeros((0, 2), np.int8), np.array([True, False])):
        back = pnn.to_numpy(pnn.asarray(x, backend=backend))
        np.testing.assert_array_equal(back, x)
        assert back.dtype == x.dtype


def test_asarray_keeps_an_array_that_is_there(backend):
    x = pnn.asarray(X, backend=backend)
    assert pnn.asarray(x, backend=backend) is x
    assert pnn.asarray(x, backend=backend, copy=True) is not x


def test_asarray_moves_between_backends(backend):
    x = pnn.asarray(X, backend=backend)
    np.testing.assert_array_equal(pnn.asarray(x, backend="numpy"), X)


def test_setting_helpers():
    with pytest.raises(SettingError, match=r"conv2d: stride is 1\.5 but must be an integer"):
        op_module.setting_int("conv2d", "stride", 1.5)


def test_host_arrays_of_foreign_byte_order_are_refused():
    with pytest.raises(DTypeError, match=">f4"):
        ops.add(X.astype(">f4"), 0.0)
