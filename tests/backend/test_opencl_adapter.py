"""The OpenCL adapter below the ops: memory, transfers, bound launches, error word, profiling."""

import gc
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import portable_nn as pnn
import portable_nn_opencl
from portable_nn.core import device_errors
from portable_nn.core.errors import ArgumentError, BackendError, DeviceValueError, DTypeError
from portable_nn.core.spec import Spec
from portable_nn_kernels.launch import Const, ErrorWord, In, Launch, Out, Profile, Value

cl = pytest.importorskip("pyopencl")

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
F32 = np.dtype(np.float32)


@pytest.fixture(scope="module")
def opencl():
    state = portable_nn_opencl.status()
    if state.state != "ready":
        pytest.skip(f"opencl is {state.state}: {state.reason}")
    return portable_nn_opencl.backend()


@pytest.fixture
def fresh(opencl):
    """Return a backend object of our own, with an empty pool."""
    return type(opencl)(opencl.found)


def test_one_object_per_device(opencl):
    assert portable_nn_opencl.backend(opencl.found.name) is opencl
    assert portable_nn_opencl.backend(None) is opencl


def axpy(opencl, n=100, dtype="f32", groups=(2,)):
    launch = Launch("pnn_axpy", AXPY, groups, (64,), (In(0), Out(0), Value("f32", 1), Const("i64", n)), (("T", dtype),))
    return opencl.bind(launch, [0, 2, 1, None])


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint16", "int64", "float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
)
@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (0, 4)], ids=str)
def test_round_trip(opencl, dtype, shape):
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    x = np.random.default_rng(0).integers(0, 2, shape).astype(kind)
    back = opencl.to_numpy(opencl.from_numpy(x))
    assert back.dtype == x.dtype
    assert back.shape == x.shape
    np.testing.assert_array_equal(back.astype(np.complex128), x.astype(np.complex128))


@pytest.mark.parametrize("count", [10, 1_000_000], ids=["async", "blocking"])
def test_upload_copies(opencl, count):
    x = np.arange(count, dtype=np.float32)
    y = opencl.from_numpy(x)
    x[:] = -1
    np.testing.assert_array_equal(opencl.to_numpy(y), np.arange(count, dtype=np.float32))


def test_upload_of_a_view_is_c_order(opencl):
    x = np.arange(24.0).reshape(4, 6)[::2, ::-1].T
    y = opencl.from_numpy(x)
    assert y.spec.contiguous
    np.testing.assert_array_equal(opencl.to_numpy(y), x)


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        ((6, 4), (1, 6), 0),
        ((2, 3), (12, 2), 1),
        ((4,), (-1,), 3),
        ((3, 4), (0, 1), 6),
        ((), (), 5),
        ((2, 0), (1, 1), 0),
    ],
    ids=["transposed", "stepped", "backwards", "broadcast", "element", "empty"],
)
def test_views_read_back(opencl, shape, strides, offset):
    x = np.arange(24, dtype=np.float32)
    view = opencl.alias(opencl.from_numpy(x), Spec(shape, F32, strides), offset)
    expected = np.lib.stride_tricks.as_strided(x[offset:], shape, [4 * s for s in strides])
    np.testing.assert_array_equal(opencl.to_numpy(view), expected)


def test_views_keep_the_storage_and_the_pool_reuses_it(fresh):
    x = fresh.from_numpy(np.arange(1000, dtype=np.float32))
    buffer = x.storage.buffer.int_ptr
    view = fresh.alias(fresh.alias(x, Spec((500,), F32), 500), Spec((2,), F32), 100)
    del x
    gc.collect()
    assert fresh.memory_stats().active_blocks == 1
    others = [fresh.from_numpy(np.zeros(1000, np.float32)) for _ in range(3)]
    assert buffer not in [o.storage.buffer.int_ptr for o in others]
    np.testing.assert_array_equal(fresh.to_numpy(view), [600, 601])
    del view, others
    stats = fresh.memory_stats()
    assert (stats.active_blocks, stats.active_bytes, stats.held_blocks) == (0, 0, 4)
    again = [fresh.allocate(Spec((1000,), F32)) for _ in range(4)]
    assert buffer in [a.storage.buffer.int_ptr for a in again]
    assert fresh.memory_stats().peak_bytes == stats.peak_bytes
    del again
    fresh.release_memory()
    assert fresh.memory_stats().held_bytes == 0
    assert fresh.memory_stats().peak_bytes == stats.peak_bytes


def test_a_block_freed_while_kernels_wait_is_safe(fresh):
    """Thousands of launches whose operands die at once: in-order reuse must not change any result."""
    step = axpy(fresh, n=64, groups=(1,))
    total = fresh.from_numpy(np.zeros(64, np.float32))
    for i in range(3000):
        step((fresh.from_numpy(np.full(64, i % 7, np.float32)), 1.0, total))
    np.testing.assert_array_equal(fresh.to_numpy(total), np.full(64, sum(i % 7 for i in range(3000)), np.float32))


def test_poison(fresh):
    fresh.poison = 0xFF
    assert np.isnan(fresh.to_numpy(fresh.allocate(Spec((7, 3), F32)))).all()
    assert fresh.to_numpy(fresh.allocate(Spec((), np.dtype(np.int64)))) == -1


def test_bound_launch_takes_offsets_and_scalars_of_each_call(opencl):
    x = np.arange(40, dtype=np.float32)
    step = axpy(opencl, n=10)
    for offset, a in [(0, 1.0), (5, 1.0), (5, 2.5), (0, 0.0), (0, -0.0), (7, float("inf")), (0, 1e300), (1, 3)]:
        y = opencl.from_numpy(np.ones(20, np.float32))
        step(
            (
                opencl.alias(opencl.from_numpy(x), Spec((10,), F32), offset),
                a,
                opencl.alias(y, Spec((10,), F32), offset),
            )
        )
        expected = np.ones(20, np.float32)
        with np.errstate(all="ignore"):
            expected[offset : offset + 10] += np.float32(a) * x[offset : offset + 10]
        np.testing.assert_array_equal(opencl.to_numpy(y), expected)


def test_signed_zero_scalars_differ(opencl):
    step = axpy(opencl, n=1)
    for a in (0.0, -0.0, 0.0):
        y = opencl.from_numpy(np.array([-0.0], np.float32))
        step((opencl.from_numpy(np.ones(1, np.float32)), a, y))
        assert np.signbit(opencl.to_numpy(y))[0] == np.signbit(a)


def test_scalar_that_does_not_fit(opencl):
    text = "KERNEL(pnn_fill, 64, 1, 1)(OUT(i32, y), i32 v) { AT_OUT(i32, y); if (GLOBAL_ID(0) == 0) STORE(i32, y, 0, v); }\n"
    fill = opencl.bind(Launch("pnn_fill", text, (1,), (64,), (Out(0), Value("i32", 0))), [1, 0])
    y = opencl.from_numpy(np.zeros(1, np.int32))
    fill((-5, y))
    assert opencl.to_numpy(y) == -5
    with pytest.raises(ArgumentError, match="4294967296 does not fit i32"):
        fill((2**32, y))


def test_no_groups_launches_nothing(opencl):
    y = opencl.from_numpy(np.ones(4, np.float32))
    axpy(opencl, groups=(0,))((y, 1.0, y))
    np.testing.assert_array_equal(opencl.to_numpy(y), np.ones(4))


@pytest.mark.parametrize("shared", [True, False], ids=["shared memory", "copied"])
def test_error_word(opencl, shared, monkeypatch):
    if not shared:
        monkeypatch.setattr("portable_nn_opencl.error_word._shares", lambda device: False)
        opencl = type(opencl)(opencl.found)
    number = device_errors.code("cross_entropy", "label {value} at position {index} is not in [0, 10)")
    assert number == device_errors.code("cross_entropy", "label {value} at position {index} is not in [0, 10)") > 0
    args = (In(0), Const("i64", 3), Const("i64", 10), ErrorWord(number))
    check = opencl.bind(Launch("pnn_check_labels", CHECK, (1,), (64,), args), [0, None, None, None])
    good, bad = (opencl.from_numpy(np.array(v, np.int64)) for v in ([1, 9, 3], [1, 2, 77]))
    check((good,))
    opencl.to_numpy(good)
    check((bad,))
    check((good,))  # the first report stays
    with pytest.raises(DeviceValueError, match=r"cross_entropy: label 77 at position 2 is not in \[0, 10\)"):
        opencl.to_numpy(good)
    np.testing.assert_array_equal(opencl.to_numpy(good), [1, 9, 3])  # raised once, then clean
    check((bad,))
    with pytest.raises(DeviceValueError, match="77"):
        opencl.synchronize()
    opencl.synchronize()


def test_profiling(opencl):
    step = axpy(opencl)
    x, y = (opencl.from_numpy(np.ones(100, np.float32)) for _ in range(2))
    step((x, 1.0, y))
    with opencl.profiling() as times:
        step((x, 1.0, y))
        step((x, 1.0, y))
        with pytest.raises(BackendError, match="already on"), opencl.profiling():
            pass
    step((x, 1.0, y))
    assert [t.kernel for t in times] == ["pnn_axpy"] * 2
    assert all(t.ns > 0 for t in times)
    np.testing.assert_array_equal(opencl.to_numpy(y), np.full(100, 5, np.float32))


def test_profile_names_op_and_bytes(opencl):

    with pnn.use_backend("opencl"):
        x = pnn.asarray(np.ones((8, 8), np.float32))
        pnn.ops.add(x, x)
        chosen = pnn.backend_of(x)
        with chosen.profiling() as times:
            pnn.ops.add(x, x)
    assert [(t.op, t.bytes) for t in times] == [("add", 3 * 256)]


def test_small_work_runs_in_the_calling_thread_in_order(fresh):
    """A small launch may pass to the other queue only when nothing is in flight: what it reads was made by a large one."""
    if fresh.quick_queue() is fresh.main_queue():
        pytest.skip("this runtime has no queue of the calling thread")
    rng = np.random.default_rng(0)
    host = rng.standard_normal((2048, 2048)).astype(np.float32)
    with pnn.use_backend(fresh):
        x, small = fresh.from_numpy(host), fresh.from_numpy(host[0])
        fresh.synchronize()
        assert fresh.quick_queue() is not fresh.main_queue()
        for _ in range(20):
            fresh.to_numpy(pnn.ops.negative(small))  # in the calling thread
            y = pnn.ops.add(pnn.ops.exp(x), 1.0)  # in flight from here on
            assert fresh.quick_queue() is fresh.main_queue()
            np.testing.assert_array_equal(fresh.to_numpy(pnn.ops.negative(y[-1, -5:])), -fresh.to_numpy(y)[-1, -5:])
            assert fresh.quick_queue() is not fresh.main_queue()


def test_a_queue_that_others_have_is_the_only_one(fresh):
    assert fresh.queue is fresh.main_queue()
    fresh.synchronize()
    assert fresh.quick_queue() is fresh.queue  # whoever has it may enqueue without our knowing


def test_wrap_shares_memory(opencl):
    import pyopencl.array as cla

    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    theirs = cla.to_device(opencl.queue, x)
    ours = opencl.wrap(theirs[1:])
    assert ours.spec == Spec((2, 4), F32)
    np.testing.assert_array_equal(opencl.to_numpy(ours), x[1:])
    context = cl.Context([opencl.found.device])  # a queue does not keep it alive
    elsewhere = cla.to_device(cl.CommandQueue(context), x)
    with pytest.raises(ArgumentError, match="another OpenCL context"):
        opencl.wrap(elsewhere)


def test_kernel_that_does_not_compile(opencl):
    broken = Launch("pnn_bad", "KERNEL(pnn_bad, 1, 1, 1)(OUT(f32, y)) { nonsense; }\n", (1,), (1,), (Out(0),))
    with pytest.raises(BackendError, match=r"(?s)pnn_bad: the compiler of .* refused .*nonsense"):
        opencl.bind(broken, [0])
    with pytest.raises(BackendError, match="pnn_other"):
        opencl.bind(Launch("pnn_other", AXPY, (1,), (64,), (Out(0),), (("T", "f32"),)), [0])
    with pytest.raises(BackendError, match="gives 2 arguments but the kernel has 6"):
        opencl.bind(Launch("pnn_axpy", AXPY, (1,), (64,), (Out(0),), (("T", "f32"),)), [0])


def test_dtype_the_device_lacks(opencl):
    profile = Profile("gpu", float64=False)
    small = type(opencl)(opencl.found, profile)
    assert small.profile.shape == "gpu"
    with pytest.raises(DTypeError, match="no float64 arithmetic"):
        small.from_numpy(np.ones(2))


def test_programs_come_back_from_disk(opencl, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first, second, third = (type(opencl)(opencl.found) for _ in range(3))
    axpy(first)
    axpy(first)
    assert (first.programs.built, first.programs.loaded) == (1, 0)
    axpy(second)
    assert (second.programs.built, second.programs.loaded) == (0, 1)
    (kept,) = tmp_path.rglob("*.bin")
    kept.write_bytes(kept.read_bytes()[:-9])  # a damaged file is built again
    axpy(third)
    assert (third.programs.built, third.programs.loaded) == (1, 0)


def test_cache_that_cannot_be_written(opencl, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    axpy(type(opencl)(opencl.found))


def test_profile_is_within_the_librarys_limits(opencl):
    assert opencl.profile.group_limit <= 256
    assert opencl.profile.local_bytes <= 48 * 1024
    assert opencl.devices()[0].name == opencl.device


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="Linux with transparent large pages")
def test_large_buffers_of_a_cpu_lie_on_large_pages(fresh):
    if fresh.found.kind != "cpu":
        pytest.skip("memory of a CPU runtime")
    x = fresh.allocate(Spec((4 << 20,), F32))
    mapped, _ = cl.enqueue_map_buffer(fresh.queue, x.storage.buffer, cl.map_flags.READ, 0, (16 << 20,), np.uint8)
    middle = mapped.ctypes.data + (8 << 20)
    mapped.base.release(fresh.queue)
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = line.split()[0]
        if "-" in head and not head.endswith(":"):
            low, high = (int(part, 16) for part in head.split("-"))
            inside = low <= middle < high
        elif inside and head == "VmFlags:":
            assert "hg" in line.split()
            return
    pytest.fail("the buffer's memory is in no mapping")
