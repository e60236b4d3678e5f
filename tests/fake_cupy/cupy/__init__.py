"""As much of CuPy as the adapter uses, on the CPU: arrays over NumPy memory, RawModule by the shim of `cuda_cpu`.

Put before the real one on sys.path, it runs the adapter's own code, argument by argument, where no GPU is:
PYTHONPATH=tests/fake_cupy PORTABLE_NN_TEST_BACKENDS=cupy pytest tests/backend. Strict where CuPy is, and where CUDA is:
types and sizes of arguments, devices, dtypes. What it knows nothing of: time, concurrency, the compiler.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import cuda as cuda
from .cuda import MemoryPointer
from .kernels import RawKernel as RawKernel
from .kernels import RawModule as RawModule

__version__ = "14.2.0+fake"


class ndarray:  # noqa: N801 - its name in CuPy
    """Shape, dtype, strides and a pointer; it computes nothing."""

    def __init__(self, shape: Any, dtype: Any = float, memptr: Any = None, strides: Any = None, order: str = "C") -> None:
        assert order == "C"
        self.shape = tuple(int(n) for n in shape)
        self.dtype = np.dtype(dtype)
        self.size = int(np.prod(self.shape, dtype=np.int64))
        self.nbytes = self.size * self.dtype.itemsize
        dense = _dense(self)
        self.strides = dense if strides is None else tuple(int(s) for s in strides)
        assert len(self.strides) == len(self.shape)
        if memptr is None:
            assert strides is None, "CuPy 13 needs memory for an array with strides"
            memptr = cuda.alloc(self.nbytes)
        assert isinstance(memptr, MemoryPointer)
        self.data = memptr

    @property
    def device(self) -> cuda.Device:
        return cuda.Device(self.data.device_id)

    def _dense(self) -> bool:
        return self.size == 0 or all(n == 1 or s == d for n, s, d in zip(self.shape, self.strides, _dense(self), strict=True))

    def set(self, x: Any, stream: Any = None) -> None:
        assert type(x) is np.ndarray
        assert x.dtype == self.dtype, f"{x.dtype} array cannot be set to {self.dtype} array"
        assert x.shape == self.shape, f"Shape mismatch. Old shape: {self.shape}, new shape: {x.shape}"
        assert self._dense(), "Cannot set to non-contiguous array"
        self.data.memory()[: self.nbytes] = np.ascontiguousarray(x).reshape(-1).view(np.uint8)

    def get(self, stream: Any = None) -> Any:
        assert self._dense(), "the adapter must not let CuPy's kernels make an array dense"
        return self.data.memory()[: self.nbytes].copy().view(self.dtype).reshape(self.shape)

    def __float__(self) -> float:
        return float(self.get().item())

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("CuPy's own array functions were called")

    __add__ = __radd__ = __sub__ = __mul__ = __rmul__ = __truediv__ = __matmul__ = __getitem__ = __setitem__ = _refuse
    astype = sum = reshape = copy = __array__ = _refuse


def _dense(x: ndarray) -> tuple[int, ...]:
    strides, step = [], x.dtype.itemsize
    for n in reversed(x.shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


def empty(shape: Any, dtype: Any = float) -> ndarray:
    return ndarray(shape, dtype)


def asarray(x: Any) -> ndarray:
    made = ndarray(x.shape, x.dtype)
    made.set(x)
    return made


def asnumpy(x: ndarray) -> Any:
    return x.get()


class _Pool:
    def free_all_blocks(self) -> None:
        cuda.log.append("free_all_blocks")


def get_default_memory_pool() -> _Pool:
    return _Pool()
