"""The cupy adapter below the ops: memory, transfers, streams, bound launches, error word. And every op once.

Where a GPU is, on it. Elsewhere on `fake_cupy`, in which kernels run on the CPU (see cuda_cpu): then the adapter's own
code is tested, not CUDA.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from cuda_cpu import build
from require import require

import portable_nn as pnn
from portable_nn.core import device_errors, selection
from portable_nn.core.errors import ArgumentError, BackendError, DeviceValueError, DTypeError
from portable_nn.core.op import Op
from portable_nn.core.registry import OPS
from portable_nn.core.spec import Spec
from portable_nn.testing.check import check_op
from portable_nn.testing.suite import dtypes_of
from portable_nn_kernels.launch import Const, ErrorWord, In, Launch, Out, Value

FAKE = Path(__file__).parents[1] / "fake_cupy"
F32 = np.dtype(np.float32)
AXPY = """
KERNEL(pnn_axpy, 64, 1, 1)(IN(T, x), INOUT(T, y), f32 a, i64 n) {
    AT_IN(T, x);
    AT_INOUT(T, y);
    const i64 i = GLOBAL_ID(0);
    if (i < n) STORE(T, y, i, FMA((ACC(T))a, LOAD(T, x, i), LOAD(T, y, i)));
}
"""
CHECK = """
#include "error.h"
KERNEL(pnn_check_labels, 64, 1, 1)(IN(i64, x), i64 n, i64 limit, ERROR_WORD(err)) {
    AT_IN(i64, x);
    const i64 i = GLOBAL_ID(0);
    if (i < n && LOAD(i64, x, i) >= limit) REPORT(err, err_code, i, LOAD(i64, x, i));
}
"""


def _mine(name: str) -> bool:
    return name.partition(".")[0] in ("cupy", "portable_nn_cupy")


def _real() -> bool:
    return selection.status("cupy").state == "ready"


@pytest.fixture(scope="module")
def cupy() -> Iterator[ModuleType]:
    """CuPy with a device, or the fake in its place."""
    if _real():
        yield importlib.import_module("cupy")
        return
    require("g++", build.missing())
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if _mine(name)}
    instances = dict(selection._instances)
    sys.path.insert(0, str(FAKE))
    try:
        yield importlib.import_module("cupy")
    finally:
        sys.path.remove(str(FAKE))
        for name in [name for name in sys.modules if _mine(name)]:
            del sys.modules[name]
        sys.modules.update(kept)
        selection._instances.clear()
        selection._instances.update(instances)


@pytest.fixture
def backend(cupy: ModuleType) -> Any:
    return selection.get("cupy", "0")


@pytest.fixture
def fake(cupy: ModuleType, backend: Any) -> ModuleType:
    """The fake, with an empty log: the first test to ask for the backend makes it, and that is logged too."""
    if not hasattr(cupy.cuda, "log"):
        pytest.skip("a test of the fake: here is a real device")
    cupy.cuda.log.clear()
    return cupy


def axpy(backend: Any, n: int = 100, dtype: str = "f32", groups: tuple[int, ...] = (2,)) -> Any:
    launch = Launch("pnn_axpy", AXPY, groups, (64,), (In(0), Out(0), Value("f32", 1), Const("i64", n)), (("T", dtype),))
    return backend.bind(launch, [0, 2, 1, None])


# -- every op ----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", sorted(n for n, op in OPS.items() if op.samples))
def test_op(name: str, backend: Any) -> None:
    """What this adds to test_cuda_cpu is the way arguments go through the adapter, and kernels that exchange within warps."""
    op: Op = OPS[name]
    legal = dtypes_of(op, op.samples[0])
    check_op(op, op.samples[0], "float32" if "float32" in legal else legal[0], backend)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", sorted(n for n, op in OPS.items() if op.samples))
def test_op_on_views(name: str, backend: Any) -> None:
    op: Op = OPS[name]
    views = [s for s in op.samples if any(word in s.name for word in ("transposed", "view", "strided", "reversed", "channels"))]
    sample = (views or list(op.samples))[0]
    legal = dtypes_of(op, sample)
    for dtype in ("float32", "bfloat16") if "float32" in legal else legal[:1]:
        if dtype in legal:
            check_op(op, sample, dtype, backend)


# -- memory and transfers ----------------------------------------------------------------------------------------------


def test_one_object_per_device(backend: Any) -> None:
    assert selection.get("cupy") is backend
    assert selection.get("cupy", backend.device) is backend
    with pytest.raises(BackendError, match="the devices are 0:"):
        selection._adapter("cupy").backend("no such card")
    with pytest.raises(BackendError, match="no CUDA device 77"):
        selection._adapter("cupy").backend("77")


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint16", "int64", "float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
)
@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (0, 4)], ids=str)
def test_round_trip(backend: Any, cupy: ModuleType, dtype: str, shape: tuple[int, ...]) -> None:
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    x = np.random.default_rng(0).integers(0, 2, shape).astype(kind)
    there = backend.from_numpy(x)
    assert type(there) is cupy.ndarray
    back = backend.to_numpy(there)
    assert (back.dtype, back.shape) == (x.dtype, x.shape)
    np.testing.assert_array_equal(back.astype(np.complex128), x.astype(np.complex128))


def test_upload_copies_in_c_order(backend: Any) -> None:
    x = np.arange(24.0).reshape(4, 6)[::2, ::-1].T
    y = backend.from_numpy(x)
    assert backend.spec_of(y).contiguous
    kept = x.copy()
    x[:] = -1
    np.testing.assert_array_equal(backend.to_numpy(y), kept)


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [((6, 4), (1, 6), 0), ((2, 3), (12, 2), 1), ((4,), (-1,), 3), ((3, 4), (0, 1), 6), ((), (), 5), ((2, 0), (1, 1), 0)],
    ids=["transposed", "stepped", "backwards", "broadcast", "element", "empty"],
)
def test_views(backend: Any, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> None:
    x = np.arange(24, dtype=np.float32)
    spec = Spec(shape, F32, strides)
    view = backend.alias(backend.from_numpy(x), spec, offset)
    assert backend.spec_of(view) is spec
    expected = np.lib.stride_tricks.as_strided(x[offset:], shape, [4 * s for s in strides])
    np.testing.assert_array_equal(backend.to_numpy(view), expected)


def test_dense_layouts_are_kept(backend: Any) -> None:
    spec = Spec((2, 3, 4, 5), F32, (60, 1, 15, 3))
    assert backend.spec_of(backend.allocate(spec)) is spec


def test_poison(backend: Any) -> None:
    backend.poison = 0xFF
    try:
        assert np.isnan(backend.to_numpy(backend.allocate(Spec((7, 3), F32)))).all()
        assert np.isnan(backend.to_numpy(backend.allocate(Spec((4, 4), F32, (1, 4))))).all()
    finally:
        backend.poison = None


def test_writing_into_a_view(backend: Any) -> None:
    x = backend.from_numpy(np.zeros((4, 6), np.float32))
    backend.write(backend.alias(x, Spec((2, 3), F32, (12, 2)), 1), backend.from_numpy(np.arange(6.0).reshape(2, 3)))
    expected = np.zeros((4, 6), np.float32)
    expected[::2, 1::2] = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(backend.to_numpy(x), expected)


def test_memory_that_is_not_there(fake: ModuleType, backend: Any) -> None:
    with pytest.raises(BackendError, match="no memory for 4398046511104 bytes"):
        backend.allocate(Spec((1 << 40,), F32))
    backend.release_memory()
    assert "free_all_blocks" in fake.cuda.log


def test_bfloat16_needs_cupy_14(fake: ModuleType, backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake, "__version__", "13.6.0")
    with pytest.raises(DTypeError, match=r"CuPy 13\.6\.0 has no arrays of bfloat16"):
        backend.from_numpy(np.zeros(3, ml_dtypes.bfloat16))
    assert backend.supports(F32)


def test_strides_that_are_no_elements(fake: ModuleType, backend: Any) -> None:
    field = fake.ndarray((3,), F32, fake.cuda.alloc(64), (6,))
    with pytest.raises(ArgumentError, match="no multiples of its element size"):
        backend.spec_of(field)


# -- the user's own arrays ---------------------------------------------------------------------------------------------


def test_ops_take_and_give_cupy_arrays(cupy: ModuleType, backend: Any) -> None:
    x = backend.from_numpy(np.arange(6.0).reshape(2, 3))
    y = pnn.ops.add(x, x)
    assert type(y) is cupy.ndarray
    np.testing.assert_array_equal(pnn.to_numpy(y), 2 * np.arange(6.0).reshape(2, 3))
    assert pnn.backend_of(y) is backend
    value, gradient = pnn.value_and_grad(lambda v: pnn.ops.sum(pnn.ops.multiply(v, v)))(x)
    assert float(pnn.to_numpy(value)) == 55
    np.testing.assert_array_equal(pnn.to_numpy(gradient), 2 * np.arange(6.0).reshape(2, 3))


def test_arrays_of_two_libraries_do_not_mix(backend: Any) -> None:
    with pytest.raises(ArgumentError, match="arrays of cupy"):
        pnn.ops.add(backend.from_numpy(np.ones(3)), np.ones(3))


def test_launches_go_to_the_current_stream(fake: ModuleType, backend: Any) -> None:
    x = backend.from_numpy(np.ones(3))
    fake.cuda.log.clear()  # of what making the backend launched, where this is the first test
    pnn.ops.add(x, x)
    with fake.cuda.Stream("mine"):
        pnn.ops.add(x, x)
    pnn.ops.add(x, x)
    assert [entry.stream for entry in fake.cuda.log] == ["default", "mine", "default"]


def test_arrays_decide_the_device(fake: ModuleType, backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake.cuda, "DEVICES", 2)
    with fake.cuda.Device(1):
        y = fake.ndarray((3,), F32)
    y.set(np.ones(3, np.float32))
    fake.cuda.log.clear()
    z = pnn.ops.add(y, y)  # the current device is 0
    assert z.data.device_id == 1
    assert {entry.device for entry in fake.cuda.log if isinstance(entry, SimpleNamespace)} == {1}
    other = selection.get("cupy", "Other")
    assert other is pnn.backend_of(z) is not backend
    assert [d.name for d in other.devices()] == ["Other GPU", "Fake GPU"]
    with pytest.raises(ArgumentError, match=r"Fake GPU.*Other GPU"):
        pnn.ops.add(backend.from_numpy(np.ones(3, np.float32)), y)


# -- bound launches ----------------------------------------------------------------------------------------------------


def test_offsets_and_scalars_of_each_call(backend: Any) -> None:
    x = np.arange(40, dtype=np.float32)
    step = axpy(backend, n=10)
    for offset, a in [(0, 1.0), (5, 1.0), (5, 2.5), (0, -0.0), (7, float("inf")), (0, 1e300), (1, 3)]:
        y = backend.from_numpy(np.ones(20, np.float32))
        views = [backend.alias(v, Spec((10,), F32), offset) for v in (backend.from_numpy(x), y)]
        step((views[0], a, views[1]))
        expected = np.ones(20, np.float32)
        with np.errstate(all="ignore"):
            expected[offset : offset + 10] += np.float32(a) * x[offset : offset + 10]
        np.testing.assert_array_equal(backend.to_numpy(y), expected)


def test_scalar_that_does_not_fit(backend: Any) -> None:
    text = "KERNEL(pnn_fill, 64, 1, 1)(OUT(i32, y), i32 v) { AT_OUT(i32, y); if (GLOBAL_ID(0) == 0) STORE(i32, y, 0, v); }\n"
    fill = backend.bind(Launch("pnn_fill", text, (1,), (64,), (Out(0), Value("i32", 0))), [1, 0])
    y = backend.from_numpy(np.zeros(1, np.int32))
    fill((-5, y))
    assert backend.to_numpy(y) == -5
    with pytest.raises(ArgumentError, match="4294967296 does not fit i32"):
        fill((2**32, y))


def test_no_groups_launches_nothing(backend: Any) -> None:
    y = backend.from_numpy(np.ones(4, np.float32))
    axpy(backend, groups=(0,))((y, 1.0, y))
    np.testing.assert_array_equal(backend.to_numpy(y), np.ones(4))


def test_grids_cuda_does_not_have(backend: Any) -> None:
    launch = Launch("pnn_axpy", AXPY, (1, 70000), (64, 1), (In(0),), (("T", "f32"),))
    with pytest.raises(BackendError, match="65535"):
        backend.bind(launch, [0])


def test_kernel_that_does_not_compile(backend: Any) -> None:
    broken = Launch("pnn_bad", "KERNEL(pnn_bad, 1, 1, 1)(OUT(f32, y)) { nonsense; }\n", (1,), (1,), (Out(0),))
    with pytest.raises(BackendError, match=r"(?s)pnn_bad: the CUDA compiler refused .*nonsense"):
        backend.bind(broken, [0])
    with pytest.raises(BackendError, match="pnn_other"):
        backend.bind(Launch("pnn_other", AXPY, (1,), (64,), (Out(0),), (("T", "f32"),)), [0])


def test_programs_are_compiled_once(fake: ModuleType, backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text = AXPY.replace("pnn_axpy", "pnn_axpy_once")
    launch = Launch("pnn_axpy_once", text, (2,), (64,), (In(0), Out(0), Value("f32", 1), Const("i64", 3)), (("T", "f32"),))
    made: list[Any] = []
    inner = fake.RawModule
    monkeypatch.setattr(fake, "RawModule", lambda **given: made.append(given) or inner(**given))
    backend.bind(launch, [0, 2, 1, None])
    backend.bind(launch, [0, 2, 1, None])
    (given,) = made
    assert given["options"] == ("--fmad=false",)
    assert "PNN_CUDA" in given["code"]


def test_error_word(backend: Any) -> None:
    number = device_errors.code("cross_entropy", "label {value} at position {index} is not in [0, 10)")
    args = (In(0), Const("i64", 3), Const("i64", 10), ErrorWord(number))
    check = backend.bind(Launch("pnn_check_labels", CHECK, (1,), (64,), args), [0, None, None, None])
    good, bad = (backend.from_numpy(np.array(v, np.int64)) for v in ([1, 9, 3], [1, 2, 77]))
    check((good,))
    backend.to_numpy(good)
    check((bad,))
    check((good,))  # the first report stays
    with pytest.raises(DeviceValueError, match=r"cross_entropy: label 77 at position 2 is not in \[0, 10\)"):
        backend.to_numpy(good)
    np.testing.assert_array_equal(backend.to_numpy(good), [1, 9, 3])  # raised once, then clean
    check((bad,))
    with pytest.raises(DeviceValueError, match="77"):
        backend.synchronize()
    backend.synchronize()


def test_profiling(backend: Any) -> None:
    x = backend.from_numpy(np.ones((8, 8), np.float32))
    with backend.profiling() as times:
        pnn.ops.add(x, x)
        axpy(backend, n=64)((x, 1.0, x))
        with pytest.raises(BackendError, match="already on"), backend.profiling():
            pass
    pnn.ops.add(x, x)
    assert [(t.op, t.bytes) for t in times] == [("add", 3 * 256), ("", 0)]
    assert times[1].kernel == "pnn_axpy"
    assert all(t.ns > 0 for t in times)


# -- what it says of itself --------------------------------------------------------------------------------------------


def test_profile(backend: Any) -> None:
    profile = backend.profile
    assert (profile.shape, profile.group_limit, profile.float64) == ("gpu", 256, True)
    assert profile.local_bytes == 48 * 1024
    assert profile.warp in (32, 64)
    assert profile.units > 0


def test_status(fake: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    state = selection.status("cupy")
    assert (state.state, state.devices[0].name) == ("ready", "Fake GPU")

    def no_driver() -> int:
        raise RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")

    monkeypatch.setattr(fake.cuda.runtime, "getDeviceCount", no_driver)
    state = selection.status("cupy")
    assert state.state == "no device"
    assert "cudaErrorInsufficientDriver" in state.reason
    with pytest.raises(BackendError, match="no usable driver"):
        selection._adapter("cupy").backend(None)
    monkeypatch.setattr(fake.cuda.runtime, "getDeviceCount", lambda: 0)
    assert selection.status("cupy").state == "no device"


def test_the_rocm_build_is_told_from_cuda(fake: ModuleType, backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same text with HIP's options and limits; no tensor cores of NVIDIA in the plans, and no numba."""
    from portable_nn_cupy import adapter, devices, programs

    monkeypatch.setattr(fake.cuda.runtime, "is_hip", True)
    assert (devices.profile_of(0).vendor, devices.profile_of(0).capability) == ("amd", 0)
    assert devices.info(0).platform.startswith("ROCm ")
    assert programs.Programs().options == programs.HIP_OPTIONS != programs.CUDA_OPTIONS
    made = adapter.CupyBackend(0)
    x = made.from_numpy(np.arange(6, dtype=np.float32).reshape(2, 3))
    with selection.use_backend(made):
        (y,), _ = OPS["matmul"].apply((x, made.from_numpy(np.ones((3, 1), np.float32))), {}, False)
    np.testing.assert_array_equal(made.to_numpy(y), [[3], [12]])
    many = Launch("pnn_axpy", AXPY, (1, 70000), (64, 1), (In(0), Out(0), Value("f32", 1), Const("i64", 3)), (("T", "f32"),))
    made.bind(many, [0, 2, 1, None])  # more than CUDA's 65535 in the second dimension
    with pytest.raises(BackendError, match="more than"):
        made.bind(Launch("pnn_axpy", AXPY, (2**27,), (64,), many.args, many.defines), [0, 2, 1, None])


def test_a_device_whose_compiler_is_missing(fake: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    from portable_nn_cupy import devices

    def no_compiler(**_: Any) -> Any:
        raise RuntimeError("CuPy failed to load libnvrtc.so.13")

    devices.probe.cache_clear()
    monkeypatch.setattr(fake, "RawModule", no_compiler)
    state = selection.status("cupy")
    assert (state.state, state.reason) == ("broken", "CuPy failed to load libnvrtc.so.13")


def test_the_installed_cupy_says_what_is_missing() -> None:
    """In a process of its own: here the fake may be in its place."""
    code = "from portable_nn.core import selection; s = selection.status('cupy'); print(s.state, '|', s.reason, '|', s.install)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(FAKE.parents[1] / p) for p in ("", "backends"))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    state, reason, install = (part.strip() for part in done.stdout.split("|"))
    assert state in ("not installed", "no device", "broken", "ready")
    assert state == "ready" or reason
    assert "portable-nn[cuda13]" in install or state == "ready"


# -- captured steps ----------------------------------------------------------------------------------------------------


def test_a_captured_step_is_graphs_and_what_changes_between_them(backend: Any, cupy: ModuleType) -> None:
    rng = np.random.default_rng(0)

    def step(state: Any, x: Any, labels: Any, lr: float) -> Any:
        def loss_of(w: Any) -> Any:
            hidden = pnn.ops.relu(pnn.ops.linear(x, w[0], w[1]))
            return pnn.ops.cross_entropy(pnn.ops.linear(hidden, w[2]), labels)

        loss, grads = pnn.value_and_grad(loss_of)(state)
        return [pnn.ops.sgd_step(p, g, lr, 0.0) for p, g in zip(state, grads, strict=True)], loss

    with pnn.use_backend(backend):
        first = [pnn.asarray(rng.standard_normal(shape).astype(np.float32)) for shape in ((5, 7), (5,), (4, 5))]
        captured = pnn.capture(step, donate="state")
        ours = theirs = first
        for number in range(5):
            x, labels = pnn.asarray(rng.standard_normal((6, 7)).astype(np.float32)), pnn.asarray(rng.integers(0, 4, 6))
            (ours, loss), (theirs, wanted) = captured(ours, x, labels, 0.5 / (number + 1)), step(theirs, x, labels, 0.5 / (number + 1))
            for a, b in zip([*ours, loss], [*theirs, wanted], strict=True):
                assert backend.to_numpy(a).tobytes() == backend.to_numpy(b).tobytes()
        (variant,) = captured.variants
        replay = variant.replay.run
        assert sum(as_graph for as_graph, _ in replay.runs) >= 1
        for as_graph, run in replay.runs:
            assert as_graph == (len(run) > 1 and not any(launch.changing for launch in run))
        with pytest.raises(DeviceValueError, match="cross_entropy"):
            backend.to_numpy(captured(ours, x, pnn.asarray(np.full(6, 9)), 0.1)[1])
        if hasattr(cupy.cuda, "log"):
            cupy.cuda.log.clear()
            captured(ours, x, labels, 0.1)
            assert cupy.cuda.log.count("graph") == sum(as_graph for as_graph, _ in replay.runs)


def test_a_captured_step_can_be_profiled(backend: Any) -> None:
    with pnn.use_backend(backend):
        f = pnn.capture(lambda x: pnn.ops.matmul(pnn.ops.matmul(x, x), x) + 1.0)
        x = pnn.asarray(np.ones((4, 4), np.float32))
        for _ in range(3):
            y = f(x)
        with backend.profiling() as times:
            z = f(x)
        assert [t.op for t in times] == ["matmul", "matmul", "add"]
        assert backend.to_numpy(y).tobytes() == backend.to_numpy(z).tobytes()
