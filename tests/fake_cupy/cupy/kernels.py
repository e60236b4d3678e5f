"""RawModule and its functions, over the shim of `cuda_cpu`."""

from __future__ import annotations

import ctypes
import os
from types import SimpleNamespace
from typing import Any

import numpy as np
from cuda_cpu.build import Kernel

from portable_nn.core.errors import BackendError

from . import cuda


class RawModule:
    """Compiles at the first `get_function`, as CuPy does."""

    def __init__(self, *, code: str, options: tuple[str, ...] = ()) -> None:
        assert type(options) is tuple
        assert not any("fast" in option for option in options)
        self.code, self.options = code, options

    def get_function(self, name: str) -> Any:
        if name not in self.code:
            raise cuda.driver.CUDADriverError("CUDA_ERROR_NOT_FOUND: named symbol not found")
        try:
            kernel = Kernel(name, self.code)
        except BackendError as error:
            raise cuda.compiler.CompileException(str(error)) from error
        made = Function(kernel, cuda.runtime.getDevice())
        raw = lambda grid, block, args: made((*grid, 1, 1)[:3], (*block, 1, 1)[:3], args)  # noqa: E731
        raw.kernel = made  # type: ignore[attr-defined]
        return raw


class RawKernel:
    """One function of a text, compiled at its first launch."""

    def __init__(self, code: str, name: str, options: tuple[str, ...] = ()) -> None:
        self._made = RawModule(code=code, options=options), name

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...]) -> None:
        module, name = self._made
        module.get_function(name)(grid, block, args)


class Function:
    """A kernel on a device. Order and flushing of subnormals are those of `cuda_cpu`."""

    def __init__(self, kernel: Kernel, device: int) -> None:
        self.kernel, self.device = kernel, device
        self.flush = os.environ.get("PORTABLE_NN_CUDA_CPU_FLUSH", "1") == "1"
        self.reverse = False

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: Any) -> None:
        assert type(grid) is type(block) is tuple
        assert min(*grid, *block) > 0
        assert cuda.runtime.getDevice() == self.device, "CUDA_ERROR_INVALID_HANDLE: a function of another device"
        values = [_value(a) for a in args]
        if cuda.capturing is not None:
            cuda.capturing.append(lambda: self._run(grid, block, values))
            return
        self._run(grid, block, values)

    def _run(self, grid: tuple[int, ...], block: tuple[int, ...], values: list[Any]) -> None:
        cuda.log.append(SimpleNamespace(kernel=self.kernel.name, stream=cuda._current["stream"], device=self.device))
        self.kernel(grid, block, values, self.reverse, self.flush)
        self.reverse = not self.reverse


def _value(x: Any) -> Any:
    if type(x).__name__ == "ndarray" and type(x).__module__ == "cupy":
        return ctypes.c_void_p(x.data.ptr)
    assert isinstance(x, np.generic), f"{type(x).__name__} as a kernel argument is slow or refused"
    return np.ctypeslib.as_ctypes_type(x.dtype)(x.item())
