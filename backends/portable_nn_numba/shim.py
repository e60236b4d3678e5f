"""The one module that imports `cuda`: from numba-cuda, its successor numba-cuda-mlir, or, on AMD, numba-hip.

Everything else of the package takes `cuda`, `device` and `compile_kernel` from here, and does not know which it is. The
choice is made once, by `chosen`, before `cuda` is imported; kernels are written in what the three have in common. Longer than
two screens, so that what differs between them is in one file.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np

from portable_nn.core.errors import BackendError

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")
VARIABLE = "PORTABLE_NN_NUMBA"
# By package: the module that is there when it is installed, and the packages whose versions compiled code depends on.
PACKAGES = {
    "numba-cuda": ("numba_cuda", ("numba", "numba-cuda")),
    "numba-cuda-mlir": ("numba_cuda_mlir", ("numba-cuda-mlir",)),
    "numba-hip": ("numba.hip", ("numba", "numba-hip", "rocm-bindings-compiler")),
}
_NVIDIA = ("numba-cuda", "numba-cuda-mlir")
# By what CuPy is built for, which is what kernels will be launched by; the first that is installed is taken.
FITTING = {"CUDA": _NVIDIA, "ROCm": ("numba-hip",), "": _NVIDIA}
_EXTRA = {"CUDA": "numba", "ROCm": "numba-rocm", "": "numba"}


def _built_for() -> str:
    """Return what CuPy is built for: "CUDA" or "ROCm"; empty without CuPy."""
    try:
        import cupy
    except ImportError:
        return ""
    return "ROCm" if cupy.cuda.runtime.is_hip else "CUDA"


def _installed(package: str) -> bool:
    module = PACKAGES[package][0]
    return find_spec(module.partition(".")[0]) is not None and find_spec(module) is not None


def chosen() -> str:
    """Return whose `cuda` this process uses.

    What PORTABLE_NN_NUMBA names; else numba-hip where CuPy is built for ROCm, and numba-cuda elsewhere, or numba-cuda-mlir
    where that alone is installed. The simulator is numba-cuda's.

    Raises
    ------
    ImportError
        Where it is not installed: the selection reports that as the backend's state.
    BackendError
        Where PORTABLE_NN_NUMBA names none of them, or one that does not compile for this CuPy's devices.
    """
    built = "" if SIMULATED else _built_for()
    named = "" if SIMULATED else os.environ.get(VARIABLE, "")
    if named and named not in PACKAGES:
        raise BackendError(f"{VARIABLE} is {named!r}; it must be one of {', '.join(PACKAGES)}, or not be set")
    if named and built and named not in FITTING[built]:
        raise BackendError(f"{VARIABLE} is {named}, but this CuPy is built for {built}: set it to {' or '.join(FITTING[built])}, or not at all")
    wanted = (named,) if named else FITTING[built][:1] if SIMULATED else FITTING[built]
    for package in wanted:
        if _installed(package):
            return package
    why = f"{VARIABLE} names it" if named else f"this CuPy is built for {built}" if built else "numba.cuda is what kernels are written for"
    raise ImportError(f'{" and ".join(wanted)} not installed ({why}); pip install "portable-nn[{_EXTRA[built]}]"')


PACKAGE = chosen()

if PACKAGE == "numba-hip":
    from numba import hip as _cuda
    from numba import types
    from numba.core.extending import intrinsic
elif PACKAGE == "numba-cuda-mlir":
    from numba_cuda_mlir import cuda as _cuda
    from numba_cuda_mlir import types
else:
    from numba import cuda as _cuda  # the simulator's switch is read by the import
    from numba import types

cuda: Any = _cuda
SUFFIX = ".hsaco" if PACKAGE == "numba-hip" else ".ptx"


def version() -> str:
    """Return what compiled code depends on."""
    return " ".join(f"{name} {metadata.version(name)}" for name in PACKAGES[PACKAGE][1])


def device(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a device function: compiled once per signature, inlined by the optimiser."""
    made: Callable[..., Any] = cuda.jit(device=True)(function)
    return made


def bits(given: type[np.generic], wanted: type[np.generic]) -> Callable[..., Any]:
    """Return a device function that reads the bits of one type as another of its size: a float, an unsigned integer."""
    if PACKAGE != "numba-cuda-mlir":
        return device(lambda x: given(x).view(wanted))
    # Version 0.6 types `view` and then has no code for it; libdevice knows signed integers.
    name, signed = {
        np.float32: ("float_as_int", np.float32), np.uint32: ("int_as_float", np.int32),
        np.float64: ("double_as_longlong", np.float64), np.uint64: ("longlong_as_double", np.int64),
    }[given]  # fmt: skip
    read = getattr(cuda.libdevice, name)
    return device(lambda x: wanted(read(signed(x))))


def _claim(word: Any, code: Any) -> Any:
    return cuda.atomic.compare_and_swap(word, np.int64(0), code)


def _claim_by_pointer(typing: Any, word: Any, code: Any) -> Any:
    """Type and lower it for numba-hip 0.2, whose `hip.atomic` knows no memory."""

    def lowered(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        nothing = context.get_constant(types.int64, 0)
        return builder.extract_value(builder.cmpxchg(arguments[0], nothing, arguments[1], "monotonic", "monotonic"), 0)

    return types.int64(types.CPointer(types.int64), types.int64), lowered


# Puts a code into the first int64 of the error word if that is 0, one thread before the other; returns what was there.
claim: Any = intrinsic(_claim_by_pointer) if PACKAGE == "numba-hip" else device(_claim)


@dataclass(frozen=True)
class Parameter:
    """A parameter of a kernel: its name and what is passed.

    `kind`: "array" (a bare pointer on the device, a flat array in the simulator), "word" (a flat array on both, where
    atomics know such alone) or "scalar"; `dtype` is the NumPy scalar type of the element or scalar.
    """

    name: str
    kind: str
    dtype: type[np.generic]


def _type(parameter: Parameter) -> Any:
    element = getattr(types, parameter.dtype.__name__)
    if parameter.kind == "scalar":
        return element
    return element[::1] if parameter.kind == "word" and PACKAGE != "numba-hip" else types.CPointer(element)


def word_arguments(pointer: Any) -> list[Any]:
    """Return the arguments that a kernel takes for the error word, three int64 at `pointer`."""
    nothing, one, length, size = np.int64(0), np.int64(1), np.int64(3), np.int64(8)
    if PACKAGE == "numba-hip":
        return [pointer]
    if PACKAGE == "numba-cuda-mlir":
        return [pointer, pointer, nothing, length, one]  # MLIR's: allocated, aligned, offset, shape, strides in elements
    return [nothing, nothing, length, size, pointer, length, size]  # numba's: owner, parent, length, item size, data, shape, strides


@dataclass(frozen=True)
class Library:
    """A compiled kernel: its entry point, and what the driver loads (PTX or a code object).

    `llvm` is the text of its modules, the kernel's first, then those of the functions it calls (numba-cuda-mlir: below sm_100).
    """

    entry: str
    code: Callable[[], bytes]
    llvm: Callable[[], list[str]]


def compile_kernel(function: Callable[..., Any], parameters: tuple[Parameter, ...], threads: int, target: str) -> Library:
    """Compile a kernel for `target` ("sm_90", "gfx90a"); needs no device.

    Products and sums are fused only where a kernel says so, as in every other backend. None of the three has a public
    word for that, so each is told in its private half.
    """
    signature = types.void(*map(_type, parameters))
    return _COMPILERS[PACKAGE](function, signature, threads, target)


def _capability(target: str) -> tuple[int, int]:
    digits = target.removeprefix("sm_")
    return int(digits[:-1]), int(digits[-1])


@contextmanager
def _replaced(module: Any, **attributes: Any) -> Iterator[None]:
    """Give a module other attributes for a while."""
    before = {name: getattr(module, name) for name in attributes}
    vars(module).update(attributes)
    try:
        yield
    finally:
        vars(module).update(before)


def _numba_cuda(function: Callable[..., Any], signature: Any, threads: int, target: str) -> Library:
    """Compile by numba-cuda (0.20 to 0.30): types and lowers here, PTX is made when it is asked for."""
    from numba.cuda import compiler, dispatcher

    cc = _capability(target)
    with _replaced(dispatcher, get_current_device=lambda: SimpleNamespace(compute_capability=cc)):  # there may be none
        code, _ = compiler._compile_pyfunc_with_fixup(function, signature, device=False, abi="numba", cc=cc, launch_bounds=threads)

    def ptx() -> bytes:
        code._nvvm_options["fma"] = False
        (text,) = code.get_asm_strs(cc=cc)
        return str(text).encode()

    return Library(code._entry_name, ptx, lambda: list(code.llvm_strs))


def _numba_cuda_mlir(function: Callable[..., Any], signature: Any, threads: int, target: str) -> Library:
    """Compile by numba-cuda-mlir (0.6). Below sm_100 a C++ library runs libNVVM, without a word for `fma`: it gives its text instead."""
    from numba_cuda_mlir import compiler, mlir_optimization, tools
    from numba_cuda_mlir._mlir.dialects import arith
    from numba_cuda_mlir.numba_cuda.cudadrv.nvvm import LibDevice

    modules: list[bytes] = []
    translated, options, constant = mlir_optimization._call_llvm70_capi, mlir_optimization._nvvm_options, arith.constant

    def by_text(module: Any, settings: dict[str, Any], gen_lto: bool = False, gen_llvmir: bool = False) -> bytes:
        if gen_lto or gen_llvmir:
            return translated(module, settings, gen_lto, gen_llvmir)  # type: ignore[no-any-return]
        unit = mlir_optimization.CompilationUnit(unfused(target.removeprefix("sm_"), settings))
        modules.append(translated(module, settings, gen_llvmir=True))
        unit.add_module(modules[-1])
        unit.lazy_add_module(LibDevice().get())
        return unit.compile()  # type: ignore[no-any-return]

    def unfused(*args: Any, **more: Any) -> dict[str, Any]:
        return {**options(*args, **more), "fma": False}

    def signed(result: Any, value: Any, **more: Any) -> Any:
        large = isinstance(value, (int, np.integer)) and int(value) >> 63 == 1
        return constant(result, int(value) - (1 << 64) if large else value, **more)  # the same bits: version 0.6 takes them signed

    cc = _capability(target)
    with (
        _nan_differs(),
        _replaced(arith, constant=signed),
        _replaced(tools, _cached_cc=cc),  # the current device's: there may be none
        _replaced(mlir_optimization, _call_llvm70_capi=by_text, _nvvm_options=unfused),
    ):
        text, _ = compiler.compile_ptx(function, signature, cc=cc, launch_bounds=threads)
    return Library(_named(r"\.entry\s+([\w$]+)", text), text.encode, lambda: [module.decode() for module in modules])


@contextmanager
def _nan_differs() -> Iterator[None]:
    """Let ``x != y`` hold where one is a NaN: version 0.6 makes the comparison that does not."""
    from numba_cuda_mlir._mlir.dialects.arith import CmpFPredicate
    from numba_cuda_mlir._mlir.ir import AttrBuilder

    kind = "Arith_CmpFPredicateAttr"
    made = AttrBuilder.get(kind)

    def unordered(predicate: Any, context: Any) -> Any:
        return made(CmpFPredicate.UNE if predicate == CmpFPredicate.ONE or str(predicate) == "one" else predicate, context)

    AttrBuilder.insert(kind, unordered, replace=True)
    try:
        yield
    finally:
        AttrBuilder.insert(kind, made, replace=True)


def _numba_hip(function: Callable[..., Any], signature: Any, threads: int, target: str) -> Library:
    """Compile by numba-hip (0.2): LLVM IR with AMD's device library, and a code object by Comgr when it is asked for."""
    from numba.hip import dispatcher
    from numba.hip.util import llvmutils
    from rocm import comgr

    with _replaced(dispatcher, get_current_device=lambda: SimpleNamespace(amdgpu_arch=target)):
        text, _ = cuda.compile_llvm_ir(function, signature, amdgpu_arch=target)
    # It has no launch bounds: unless told, LLVM leaves each lane the registers that 1024 lanes have.
    text = re.sub(r"(amdgpu_kernel void @[^\n]*?\))", rf'\1 "amdgpu-flat-work-group-size"="1,{threads}"', text, count=1)

    # No vectors of a lane's own: LLVM 23 makes some (of an integer remainder) that its back end then ends the process over.
    options = ["-ffp-contract=off", "-fno-vectorize"]

    def code_object() -> bytes:
        made, _, _ = comgr.compile_bc(llvmutils.to_bc(text), f"amdgcn-amd-amdhsa--{target}", extra_opts=options)
        return bytes(made)

    return Library(_named(r"amdgpu_kernel void @([\w$.]+)\(", text), code_object, lambda: [text])


def _named(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    assert found is not None, f"{PACKAGE} made no kernel"
    return found[1]


_COMPILERS = {"numba-cuda": _numba_cuda, "numba-cuda-mlir": _numba_cuda_mlir, "numba-hip": _numba_hip}


def simulate(function: Callable[..., Any], groups: tuple[int, ...], size: tuple[int, ...], arguments: list[Any]) -> None:
    """Run a kernel in the simulator on flat NumPy arrays and NumPy scalars."""
    from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # wrapping and division by zero are meant; errstate is per thread
        # As device arrays: the simulator would copy host arrays in and out, one by one, though two may be the same memory.
        cuda.jit(function)[groups, size](*(FakeCUDAArray(a) if isinstance(a, np.ndarray) else a for a in arguments))
