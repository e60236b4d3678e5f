"""Arrays of more than 2^31 elements: 64-bit indices are chosen for them, and the kernels that have them compute right.

Chosen: plans of arrays that no machine here holds, on the null backend. Right: the same kernels on small arrays, where the
plans are told that nothing fits 32 bits. And once for real, in a slow test: 2.2 thousand million elements of one and two bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cuda_cpu
import numpy as np
import pytest
from conftest import BACKENDS, find
from cuda_cpu import build as cuda_build
from require import require

import portable_nn as pnn
from portable_nn import ops
from portable_nn.core import selection
from portable_nn.core.backend import Backend
from portable_nn.core.registry import OPS
from portable_nn.core.spec import Spec
from portable_nn.testing.check import check_op
from portable_nn_kernels.launch import Const, Launch
from portable_nn_kernels.plans import index_width

LARGE = 2**31 + 24  # a multiple of 8
F16, U8 = np.dtype(np.float16), np.dtype(np.uint8)
# Ops whose kernels take a counted number apart, or keep places in the narrower type.
WIDTH = (
    "add", "astype", "permute", "conv2d", "conv2d_act", "conv2d_input_grad", "conv2d_weight_grad", "conv3d", "conv3d_input_grad", "conv3d_weight_grad",
    "max_pool2d", "max_pool2d_grad", "avg_pool2d", "avg_pool3d", "interpolate", "interpolate_grad", "unfold", "fold", "sort", "argsort", "topk",
    "scatter_add", "scatter_reduce", "group_norm", "group_norm_grad",
)  # fmt: skip


PLACES = [*(n for n in ("opencl", "opencl:gpu") if n.partition(":")[0] in BACKENDS), pytest.param("cuda_cpu", marks=pytest.mark.slow)]


# -- chosen -----------------------------------------------------------------------------------------------------------


def launches_of(shape: str, call: Callable[[Any], Any]) -> list[Launch]:
    null: Any = selection.get("null", shape)
    with selection.use_backend(null), null.recording() as made:
        call(lambda *sizes, dtype=F16: null.allocate(Spec(sizes, dtype)))
    return [r.launch for r in made]


def widths(launches: list[Launch]) -> set[str]:
    """Return the types in which the launches take numbers apart or keep places."""
    found = {str(value) for launch in launches for name, value in launch.defines if name == "IX"}
    return found | {launch.mapping.index for launch in launches if launch.mapping is not None and launch.mapping.form == "elements"}


CALLS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {  # op: below 2^31, and above
    "add": (lambda a: ops.add(a(2**20, 8), a(2**20, 1)), lambda a: ops.add(a(LARGE // 8, 8), a(LARGE // 8, 1))),
    "conv2d": (lambda a: ops.conv2d(a(1, 1, 2**10, 2**10), a(8, 1, 1, 1)), lambda a: ops.conv2d(a(LARGE // 8, 1, 4, 2), a(1, 1, 1, 1))),
    "max_pool2d": (lambda a: ops.max_pool2d(a(1, 1, 64, 64), 3, 1, 1), lambda a: ops.max_pool2d(a(1, 1, LARGE // 8, 8), 3, 1, 1)),
    "interpolate": (lambda a: ops.interpolate(a(1, 1, 8, 8), (16, 16)), lambda a: ops.interpolate(a(1, 1, 8, 8), (LARGE // 8, 8))),
    "unfold": (lambda a: ops.unfold(a(1, 1, 64, 64), 3), lambda a: ops.unfold(a(1, 1, 2**15, 2**13), 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_chosen(name: str) -> None:
    small, large = (launches_of("gpu", call) for call in CALLS[name])
    assert widths(small) == {"u32"}, small
    assert widths(large) == {"i64"}, large


@pytest.mark.parametrize("shape", ["cpu", "gpu"])
def test_sizes_are_passed_in_64_bits(shape: str) -> None:
    """Every size, stride and count above 2^31 is an i64 argument, and a grid stays within CUDA's limits."""
    calls = (
        lambda a: ops.add(a(LARGE), a(LARGE)),
        lambda a: ops.sum(a(LARGE)),
        lambda a: ops.sum(a(2, LARGE), axis=0),
        lambda a: ops.softmax(a(LARGE, 2), 1),
        lambda a: ops.layer_norm(a(LARGE, 2), 2),
        lambda a: ops.linear(a(LARGE, 2), a(4, 2)),
        lambda a: ops.cumulative_sum(a(LARGE)),
        lambda a: ops.take(a(LARGE, dtype=U8), a(5, dtype=np.dtype(np.int64)), 0),
        lambda a: ops.flip(a(LARGE), axis=0) + 1,
        lambda a: ops.concat([a(LARGE), a(LARGE)]),
    )
    for call in calls:
        made = launches_of(shape, call)
        large = [arg for launch in made for arg in launch.args if isinstance(arg, Const) and isinstance(arg.value, int) and abs(arg.value) >= 2**31]
        assert large, f"no argument of {[launch.kernel for launch in made]} says how large the array is"
        assert {arg.tag for arg in large} <= {"i64", "u64"}
        for launch in made:
            limits = (2**31 - 1, 65535, 65535)
            assert all(0 < n <= limit for n, limit in zip(launch.groups, limits, strict=False)), launch.groups


# -- right -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Plans made now find that nothing fits 32 bits."""
    monkeypatch.setattr(index_width, "NARROW", 0)
    for op in OPS.values():
        op.forget()
    yield
    for op in OPS.values():
        op.forget()


def backend_of(place: str) -> Backend:
    if place == "cuda_cpu":
        require("g++", cuda_build.missing())
        return cuda_cpu.backend()
    return find(place)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", WIDTH)
def test_right(name: str, place: str, wide: None) -> None:
    """The first samples of the op, planned for 64 bits."""
    backend = backend_of(place)
    for sample in OPS[name].samples[:2]:
        check_op(OPS[name], sample, "float32", backend)


def test_the_fixture_widens(wide: None) -> None:
    assert widths(launches_of("gpu", CALLS["max_pool2d"][0])) == {"i64"}


# -- for real ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_more_than_2_to_the_31_elements(backend: Backend) -> None:
    """Marks at both ends and just past 2^31 come where they belong: in copies, sums, places and slices. About 5 GB."""
    if backend.name == "numpy":
        pytest.skip("NumPy's own indices are 64 bits")
    n = 2**31 + 1000
    marks = {0: 1, 2**31 - 1: 2, 2**31: 3, n - 1: 4}
    host = np.zeros(n, np.uint8)
    for at, value in marks.items():
        host[at] = value
    with pnn.use_backend(backend):
        x = backend.from_numpy(host)
        del host
        assert int(backend.to_numpy(ops.sum(x, dtype="int64"))) == 10
        assert int(backend.to_numpy(ops.argmax(x))) == n - 1
        ends = backend.to_numpy(ops.take(x, backend.from_numpy(np.array(list(marks), np.int64)), 0))
        np.testing.assert_array_equal(ends, list(marks.values()))
        turned = ops.flip(x, axis=0) + 0  # a view, copied
        np.testing.assert_array_equal(backend.to_numpy(turned[:1]), [4])
        np.testing.assert_array_equal(backend.to_numpy(turned[n - 1 - 2**31 : n + 1 - 2**31]), [3, 2])
        del turned
        rows = ops.reshape(x, (n // 8, 8))
        both = ops.permute(rows, (1, 0)) + 0  # elements are taken apart in 64 bits
        assert int(backend.to_numpy(ops.sum(both[:, 2**28], dtype="int64"))) == 3
        assert int(backend.to_numpy(ops.sum(both[7], dtype="int64"))) == 2 + 4
