"""The macros of `c/DIALECT.md` as Python: looked up by tag in a kernel's factory, called in the kernel.

Numba's rules that C does not have, and what kernels do about them:

- ``1 * x`` with a float32 `x` is float64, for a literal is 64 bits wide: take constants from `LIT(tag, 1)`.
- int32 + int32 is int64, uint32 + uint32 is uint64, int64 + uint64 is float64: convert (``u32(a + b)``) where it wraps
  or where it meets another type.
- A variable has one type in the whole function: give it its compute type at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .shim import bits, claim, cuda, device

i8, i16, i32, i64 = np.int8, np.int16, np.int32, np.int64
u8, u16, u32, u64 = np.uint8, np.uint16, np.uint32, np.uint64
f32, f64 = np.float32, np.float64

# Storage type by tag; it converts a number, and says the type of shared and local arrays.
TYPE: dict[str, Any] = {
    "b8": u8, "i8": i8, "i16": i16, "i32": i32, "i64": i64, "u8": u8, "u16": u16, "u32": u32, "u64": u64,
    "f16": u16, "bf16": u16, "f32": f32, "f64": f64, "c64": np.complex64, "c128": np.complex128,
}  # fmt: skip
_ACC_TAGS = {"b8": "i32", "i8": "i32", "i16": "i32", "u8": "u32", "u16": "u32", "f16": "f32", "bf16": "f32"}


def ACC_TAG(tag: str) -> str:
    """Return the tag of the compute type."""
    return _ACC_TAGS.get(tag, tag)


def ACC(tag: str) -> Any:
    """Return the compute type."""
    return TYPE[ACC_TAG(tag)]


def LIT(tag: str, value: complex) -> Any:
    """Return a constant of the compute type."""
    return ACC(tag)(value)


def INF(tag: str) -> Any:
    """Return infinity in a float compute type."""
    return ACC(tag)(np.inf)


# -- parameters ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Array:
    """Annotation of an array parameter; the next parameter is its offset in elements."""

    tag: str


class Word:
    """Annotation of the error word; the next parameter is the code (``err_code: "i32"``)."""


IN = OUT = INOUT = Array
ERROR_WORD = Word


# -- where a work-item is: always i64 -------------------------------------------------------------------------------


@device
def GROUP_ID(d: Any) -> Any:
    """Return the group's index along axis `d` (a literal)."""
    return i64(cuda.blockIdx.x) if d == 0 else i64(cuda.blockIdx.y) if d == 1 else i64(cuda.blockIdx.z)


@device
def LOCAL_ID(d: Any) -> Any:
    """Return the work-item's index in its group."""
    return i64(cuda.threadIdx.x) if d == 0 else i64(cuda.threadIdx.y) if d == 1 else i64(cuda.threadIdx.z)


@device
def LOCAL_SIZE(d: Any) -> Any:
    """Return the group's size."""
    return i64(cuda.blockDim.x) if d == 0 else i64(cuda.blockDim.y) if d == 1 else i64(cuda.blockDim.z)


@device
def NUM_GROUPS(d: Any) -> Any:
    """Return the number of groups."""
    return i64(cuda.gridDim.x) if d == 0 else i64(cuda.gridDim.y) if d == 1 else i64(cuda.gridDim.z)


@device
def GLOBAL_ID(d: Any) -> Any:
    """Return the work-item's index among all."""
    return GROUP_ID(d) * LOCAL_SIZE(d) + LOCAL_ID(d)


# -- bits -----------------------------------------------------------------------------------------------------------


AS_U32, AS_F32, AS_U64, AS_F64 = bits(f32, u32), bits(u32, f32), bits(f64, u64), bits(u64, f64)


@device
def pnn_f32_to_bf16(x: Any) -> Any:
    """Round to nearest even; a NaN keeps its sign and upper bits and stays a NaN."""
    u = AS_U32(x)
    if u32(u & u32(0x7FFFFFFF)) > u32(0x7F800000):
        return u16(u32(u >> u32(16)) | u32(0x40))
    return u16(u32(u + u32(0x7FFF) + u32(u32(u >> u32(16)) & u32(1))) >> u32(16))


@device
def pnn_f16_to_f32(h: Any) -> Any:
    """Widen exactly: exponent and fraction move up, and a product moves the exponent's bias (subnormal numbers too)."""
    u = u32(h)
    sign = u32(u32(u & u32(0x8000)) << u32(16))
    rest = u32(u32(u & u32(0x7FFF)) << u32(13))
    if rest >= u32(0x0F800000):  # infinity, NaN
        return AS_F32(sign | rest | u32(0x7F800000))
    return AS_F32(sign | AS_U32(AS_F32(rest) * f32(2.0**112)))


@device
def pnn_f32_to_f16(x: Any) -> Any:
    """Round to nearest even. Below 2**-14 an addition of 0.5 does the rounding: it puts the last bit where it belongs."""
    u = AS_U32(x)
    sign = u32(u32(u >> u32(16)) & u32(0x8000))
    size = u32(u & u32(0x7FFFFFFF))
    if size > u32(0x7F800000):
        made = u32(0x7E00) | u32(u32(size >> u32(13)) & u32(0x3FF))
    elif size >= u32(0x477FF000):  # 65520 and more
        made = u32(0x7C00)
    elif size < u32(0x38800000):
        made = u32(AS_U32(AS_F32(size) + f32(0.5)) - u32(0x3F000000))
    else:
        made = u32(u32(size - u32(0x37FFF001) + u32(u32(size >> u32(13)) & u32(1))) >> u32(13))
    return u16(sign | u32(made))


@device
def pnn_c64(x: Any, y: Any) -> Any:
    """Return a complex64 of its parts."""
    return np.complex64(complex(f32(x), f32(y)))


@device
def pnn_c128(x: Any, y: Any) -> Any:
    """Return a complex128 of its parts."""
    return np.complex128(complex(f64(x), f64(y)))


# -- load and store: to and from the compute type ---------------------------------------------------------------------


def _load(tag: str) -> Callable[..., Any]:
    acc = ACC(tag)
    if tag == "b8":
        return device(lambda p, i: i32(1) if p[i] != 0 else i32(0))
    if tag == "f16":
        return device(lambda p, i: pnn_f16_to_f32(p[i]))
    if tag == "bf16":
        return device(lambda p, i: AS_F32(u32(u32(p[i]) << u32(16))))
    if TYPE[tag] is acc:
        return device(lambda p, i: p[i])
    return device(lambda p, i: acc(p[i]))


def _store(tag: str) -> Callable[..., Any]:
    kind, acc = TYPE[tag], ACC(tag)
    if tag == "b8":

        def store(p: Any, i: Any, v: Any) -> None:
            p[i] = u8(1) if v != 0 else u8(0)

    elif tag == "f16":

        def store(p: Any, i: Any, v: Any) -> None:
            p[i] = pnn_f32_to_f16(f32(v))

    elif tag == "bf16":

        def store(p: Any, i: Any, v: Any) -> None:
            p[i] = pnn_f32_to_bf16(f32(v))

    elif kind is acc:

        def store(p: Any, i: Any, v: Any) -> None:
            p[i] = kind(v)

    else:

        def store(p: Any, i: Any, v: Any) -> None:
            p[i] = kind(acc(v))

    return device(store)


LOAD: dict[str, Callable[..., Any]] = {tag: _load(tag) for tag in TYPE}
STORE: dict[str, Callable[..., Any]] = {tag: _store(tag) for tag in TYPE}


# -- arithmetic -------------------------------------------------------------------------------------------------------


@device
def FMA(a: Any, b: Any, c: Any) -> Any:
    """Return a b + c, rounded once; the three must be of one float type."""
    return cuda.fma(a, b, c)


def ZERO(tag: str) -> Any:
    """Return 0 in the compute type."""
    return LIT(tag, 0)


def _add(tag: str) -> Callable[..., Any]:
    acc = ACC(tag)
    return device(lambda a, b: acc(a + b))


def _madd(tag: str) -> Callable[..., Any]:
    acc = ACC(tag)
    if tag in ("f32", "f64"):
        return device(lambda a, b, c: cuda.fma(a, b, c))
    if tag in ("c64", "c128"):

        def complex_madd(a: Any, b: Any, c: Any) -> Any:
            real = cuda.fma(-a.imag, b.imag, cuda.fma(a.real, b.real, c.real))
            imag = cuda.fma(a.imag, b.real, cuda.fma(a.real, b.imag, c.imag))
            return pair(real, imag)

        pair = pnn_c64 if tag == "c64" else pnn_c128
        return device(complex_madd)
    return device(lambda a, b, c: acc(acc(a * b) + c))


_COMPUTE = ("i32", "i64", "u32", "u64", "f32", "f64", "c64", "c128")
_ADD = {tag: _add(tag) for tag in _COMPUTE}
_MADD = {tag: _madd(tag) for tag in _COMPUTE}


def ADD(tag: str) -> Callable[..., Any]:
    """Return the sum of two values in the compute type; integers wrap."""
    return _ADD[ACC_TAG(tag)]


def MADD(tag: str) -> Callable[..., Any]:
    """Return ``a b + c`` in the compute type: fused for floats, wrapping for integers."""
    return _MADD[ACC_TAG(tag)]


def BARRIER() -> None:
    """Write ``cuda.syncthreads()`` in kernels: this name only says so."""
    raise NotImplementedError("call cuda.syncthreads() in kernels")


@device
def REPORT(err: Any, code: Any, index: Any, value: Any) -> None:
    """Set the error word if nobody has: the first reporter wins."""
    if claim(err, i64(code)) == 0:
        err[1] = i64(index)
        err[2] = i64(value)
