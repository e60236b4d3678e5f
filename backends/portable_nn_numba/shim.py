"""The one module that imports `cuda`: numba-cuda, its simulator, or (a change of this file) a successor.

Everything else of the package takes `cuda`, `device` and `compile_kernel` from here. On AMD, numba-hip poses as
`numba.cuda` after ``numba_hip.pose_as_cuda()``, which must be called before this module is imported.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")

from numba import cuda as cuda  # noqa: E402  (the simulator's switch is read by the import)
from numba import types  # noqa: E402


def version() -> str:
    """Return what compiled code depends on."""
    return f"numba {metadata.version('numba')} numba-cuda {metadata.version('numba-cuda')}"


def device(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a device function: compiled once per signature, inlined by the optimiser."""
    made: Callable[..., Any] = cuda.jit(device=True)(function)
    return made


@dataclass(frozen=True)
class Parameter:
    """A parameter of a kernel: its name and what is passed.

    `kind`: "array" (a bare pointer on the device, a flat array in the simulator), "word" (a flat array on both) or
    "scalar"; `dtype` is the NumPy scalar type of the element or scalar.
    """

    name: str
    kind: str
    dtype: type[np.generic]


def _type(parameter: Parameter) -> Any:
    element = getattr(types, parameter.dtype.__name__)
    if parameter.kind == "array":
        return types.CPointer(element)
    return element[::1] if parameter.kind == "word" else element


@dataclass(frozen=True)
class Library:
    """A kernel on its way to the device: its entry point and its text in NVVM's IR, or translated to PTX."""

    entry: str
    code: Any

    def ptx(self, cc: tuple[int, int]) -> str:
        """Return PTX. `fma` off: products and sums are fused only where a kernel says so, as in every other backend."""
        self.code._nvvm_options["fma"] = False
        (text,) = self.code.get_asm_strs(cc=cc)
        return str(text)

    def llvm(self) -> list[str]:
        """Return the modules' text: the kernel's, then those of the functions it calls."""
        return list(self.code.llvm_strs)


def compile_kernel(function: Callable[..., Any], parameters: tuple[Parameter, ...], threads: int, cc: tuple[int, int]) -> Library:
    """Type and lower a kernel for compute capability `cc`; needs no device.

    `cuda.compile_ptx` does the same but has no word for `fma`, so this is its private half (numba-cuda 0.20 to 0.30).
    """
    from numba.cuda.compiler import _compile_pyfunc_with_fixup

    signature = types.void(*map(_type, parameters))
    with _target(cc):
        code, _ = _compile_pyfunc_with_fixup(function, signature, device=False, abi="numba", cc=cc, launch_bounds=threads)
    return Library(code._entry_name, code)


@contextmanager
def _target(cc: tuple[int, int]) -> Iterator[None]:
    """Compile device functions for `cc`: they ask the current device otherwise, and there may be none."""
    from numba.cuda import dispatcher

    @dataclass
    class Device:
        compute_capability: tuple[int, int]

    before = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: Device(cc)
    try:
        yield
    finally:
        dispatcher.get_current_device = before


def simulate(function: Callable[..., Any], groups: tuple[int, ...], size: tuple[int, ...], arguments: list[Any]) -> None:
    """Run a kernel in the simulator on flat NumPy arrays and NumPy scalars."""
    from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # wrapping and division by zero are meant; errstate is per thread
        # As device arrays: the simulator would copy host arrays in and out, one by one, though two may be the same memory.
        cuda.jit(function)[groups, size](*(FakeCUDAArray(a) if isinstance(a, np.ndarray) else a for a in arguments))
