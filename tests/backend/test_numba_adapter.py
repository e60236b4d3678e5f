"""The numba adapter on a device: where there is none, on `fake_cupy`, with kernels that `numba_cpu` runs.

PTX is made and kept as it would be for a device; what is not run is the PTX itself.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numba_cpu import build
from require import require

import portable_nn.ops as ops
import portable_nn_numba
from portable_nn.core import selection
from portable_nn.core.errors import BackendError, DeviceValueError
from portable_nn.core.registry import OPS
from portable_nn.testing.check import check_op

FAKE = Path(__file__).parents[1] / "fake_cupy"
OPS_TRIED = ("add", "softmax", "sum", "matmul", "conv2d", "max_pool2d", "cross_entropy", "take", "uniform", "reshape", "where")


def _mine(name: str) -> bool:
    return name.partition(".")[0] in ("cupy", "portable_nn_cupy") or name == "portable_nn_numba.hardware"


def _module_of(programs: dict[str, Any]) -> type:
    class Module:
        """`cupy.RawModule` of a PTX file: its kernel is compiled for the CPU instead."""

        def __init__(self, *, path: str) -> None:
            self.path = path

        def get_function(self, entry: str) -> Any:
            assert f".entry {entry}(" in Path(self.path).read_text()
            compiled = build.Kernel(programs[self.path])

            def kernel(grid: tuple[int, ...], block: tuple[int, ...], args: list[Any]) -> None:
                values = []
                for x in args:
                    if type(x).__name__ == "ndarray":
                        values.append(ctypes.c_void_p(x.data.ptr))
                    else:
                        assert isinstance(x, np.generic), f"{type(x).__name__} as a kernel argument is slow or refused"
                        values.append(np.ctypeslib.as_ctypes_type(x.dtype)(x.item()))
                compiled(grid, block, values)

            return SimpleNamespace(kernel=kernel)

    return Module


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The numba backend on a device, or on the fake one."""
    if selection.status("numba").state == "ready":
        yield selection.get("numba")
        return
    require("numba", build.missing())
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if _mine(name)}
    instances = dict(selection._instances)
    selection._instances.pop(("numba", None), None)
    sys.path.insert(0, str(FAKE))
    try:
        cupy: ModuleType = importlib.import_module("cupy")
        hardware = importlib.import_module("portable_nn_numba.hardware")
        programs: dict[str, Any] = {}
        compiled_file = hardware.code_file
        folder = tmp_path_factory.mktemp("ptx")
        hardware.cache_folder = lambda: folder

        def code_file(program: Any, target: str) -> Path:
            path: Path = compiled_file(program, target)
            programs[str(path)] = program
            return path

        hardware.code_file, cupy.RawModule = code_file, _module_of(programs)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(importlib.import_module("portable_nn_cupy.devices"), "probe", lambda index: None)
            made = selection.get("numba")  # the one that cupy arrays are given to
            made.folder = folder  # type: ignore[attr-defined]
            yield made
    finally:
        sys.path.remove(str(FAKE))
        for name in [name for name in sys.modules if _mine(name)]:
            del sys.modules[name]
        sys.modules.update(kept)
        selection._instances.clear()
        selection._instances.update(instances)
        portable_nn_numba._made.cache_clear()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", OPS_TRIED)
def test_op(name: str, backend: Any) -> None:
    op = OPS[name]
    views = [s for s in op.samples if any(word in s.name for word in ("transposed", "view", "strided", "reversed", "channels"))]
    with selection.use_backend(backend):
        check_op(op, (views or list(op.samples))[0], "float32", backend)


def test_error_word(backend: Any) -> None:
    x = backend.from_numpy(np.arange(6, dtype=np.float32))
    where = backend.from_numpy(np.array([1, 9], np.int64))
    with selection.use_backend(backend):
        y = ops.take(x, where, axis=0)
        with pytest.raises(DeviceValueError, match="9"):
            backend.to_numpy(y)
        backend.synchronize()  # reported once


def test_ptx_is_kept(backend: Any) -> None:
    if not hasattr(backend, "folder"):
        pytest.skip("a test of the fake: here is a real device")
    with selection.use_backend(backend):
        ops.exp(backend.from_numpy(np.ones(3, np.float32)))
    files = list(backend.folder.glob("pnn_map-sm_*.ptx"))
    assert files
    assert not list(backend.folder.glob(".new-*"))
    assert ".visible .entry" in files[0].read_text()


def test_status_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    found = selection.status("numba")
    if found.state != "ready":
        assert found.reason
        with pytest.raises(BackendError, match=r"portable-nn\[numba\]"):
            selection.get("numba")
