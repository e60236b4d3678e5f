"""The scalar functions of `c/math.h` as device functions: `pnn("exp", "f32")` is pnn_exp_f32, with NumPy's meaning.

Each is made for one compute type: its constants and results have that type, whatever numba would widen to.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from portable_nn.core.expression import NUMPY_CALLS

from .dialect import AS_F32, AS_F64, AS_U32, AS_U64, TYPE, f32, f64, i32, u32, u64
from .shim import SIMULATED, device

FUNCTIONS: dict[str, Callable[..., Any]] = {}
_LIBRARY = (
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh",
    "tanh", "asinh", "acosh", "atanh", "erf", "erfc",
)  # fmt: skip
# Python's own `math` raises where C gives inf or NaN, so the simulator gets NumPy's functions.
_SIMULATED = {**NUMPY_CALLS, "exp2": np.exp2, "erfc": math.erfc, "fmod": np.fmod, "pow": np.power}
M: Any = SimpleNamespace(**_SIMULATED) if SIMULATED else math


def pnn(name: str, tag: str) -> Callable[..., Any]:
    """Return the device function pnn_<name>_<tag>."""
    return FUNCTIONS[f"pnn_{name}_{tag}"]


def _define(tag: str, **functions: Callable[..., Any]) -> None:
    for name, function in functions.items():
        function.__name__ = f"pnn_{name.rstrip('_')}_{tag}"
        FUNCTIONS[function.__name__] = device(function)


def _library(tag: str) -> None:
    for name in _LIBRARY:
        scope = {"M": M, "kind": TYPE[tag]}
        exec(f"def made(x): return kind(M.{name}(x))", scope)  # a function of its own: numba compiles what it sees
        _define(tag, **{name: scope["made"]})


def _floats(tag: str) -> None:
    T = TYPE[tag]
    zero, one, ln2 = T(0), T(1), T(math.log(2))
    largest = T(3.4028234663852886e38) if tag == "f32" else T(1.7976931348623157e308)
    U = u32 if tag == "f32" else u64
    sign_bit = U(0x80000000) if tag == "f32" else U(0x8000000000000000)
    as_bits, of_bits = (AS_U32, AS_F32) if tag == "f32" else (AS_U64, AS_F64)
    other = U(0x7FFFFFFF) if tag == "f32" else U(0x7FFFFFFFFFFFFFFF)

    @device
    def copysign(x: Any, y: Any) -> Any:
        return of_bits(U(as_bits(x) & other) | U(as_bits(y) & sign_bit))

    @device
    def absolute(x: Any) -> Any:
        return of_bits(as_bits(x) & other)

    @device
    def fmod(x: Any, y: Any) -> Any:
        return T(M.fmod(x, y))

    @device
    def floor(x: Any) -> Any:
        return copysign(T(M.floor(x)), x) if absolute(x) < big else x

    @device
    def rint(x: Any) -> Any:
        a = absolute(x)
        if not a < big:  # whole already, infinite or NaN
            return x
        return copysign(T(T(a + big) - big), x)

    big = T(2.0**23) if tag == "f32" else T(2.0**52)

    def ceil(x: Any) -> Any:
        return -floor(-x)

    def trunc(x: Any) -> Any:
        return copysign(floor(absolute(x)), x)

    def isnan(x: Any) -> Any:
        return i32(1) if x != x else i32(0)

    def isinf(x: Any) -> Any:
        return i32(1) if absolute(x) > largest else i32(0)

    def isfinite(x: Any) -> Any:
        return i32(1) if absolute(x) <= largest else i32(0)

    def signbit(x: Any) -> Any:
        return i32(1) if U(as_bits(x) & sign_bit) != U(0) else i32(0)

    def maximum(x: Any, y: Any) -> Any:
        return x if x >= y or x != x else y

    def minimum(x: Any, y: Any) -> Any:
        return x if x <= y or x != x else y

    def sign(x: Any) -> Any:
        return one if x > zero else -one if x < zero else zero if x == zero else x

    def rsqrt(x: Any) -> Any:
        return one / T(M.sqrt(x))

    def power(x: Any, y: Any) -> Any:
        return T(M.pow(x, y))

    def atan2(x: Any, y: Any) -> Any:
        return T(M.atan2(x, y))

    def hypot(x: Any, y: Any) -> Any:
        return T(M.hypot(x, y))

    def mod(x: Any, y: Any) -> Any:
        r = fmod(x, y)
        if r == zero:
            return copysign(r, y)
        return T(r + y) if (r < zero) != (y < zero) else r

    def floordiv(x: Any, y: Any) -> Any:
        r = fmod(x, y)
        if y == zero:
            return T(x / y)
        q = T(T(x - r) / y)
        if r != zero and (r < zero) != (y < zero):
            q = T(q - one)
        return copysign(q, T(x / y)) if q == zero else rint(q)

    def logaddexp(x: Any, y: Any) -> Any:
        d = T(x - y)
        if x == y:
            return T(x + ln2)
        if d > zero:
            return T(x + T(M.log1p(T(M.exp(-d)))))
        return T(y + T(M.log1p(T(M.exp(d))))) if d <= zero else d

    def ipow(x: Any, n: Any) -> Any:
        k = u64(-n) if n < 0 else u64(n)
        b = T(x)
        r = one
        while k != u64(0):
            if k & u64(1):
                r = T(r * b)
            b = T(b * b)
            k = u64(k >> u64(1))
        return one / r if n < 0 else r

    FUNCTIONS[f"pnn_copysign_{tag}"], FUNCTIONS[f"pnn_abs_{tag}"], FUNCTIONS[f"pnn_fmod_{tag}"] = copysign, absolute, fmod
    FUNCTIONS[f"pnn_floor_{tag}"], FUNCTIONS[f"pnn_round_{tag}"] = floor, rint
    _define(
        tag, ceil=ceil, trunc=trunc, isnan=isnan, isinf=isinf, isfinite=isfinite, signbit=signbit, max=maximum,
        min=minimum, sign=sign, rsqrt=rsqrt, pow=power, atan2=atan2, hypot=hypot, mod=mod, floordiv=floordiv,
        logaddexp=logaddexp, ipow=ipow,
    )  # fmt: skip


def _integers(tag: str) -> None:
    T = TYPE[tag]
    signed = tag.startswith("i")
    bits = 32 if tag.endswith("32") else 64
    U = u32 if bits == 32 else u64
    zero, one, width = T(0), T(1), U(bits)
    minus_one = T(-1) if signed else zero

    def maximum(x: Any, y: Any) -> Any:
        return x if x > y else y

    def minimum(x: Any, y: Any) -> Any:
        return x if x < y else y

    def shl(x: Any, n: Any) -> Any:
        return zero if U(n) >= width else T(U(U(x) << U(n)))

    def shr(x: Any, n: Any) -> Any:
        if U(n) >= width:
            return minus_one if x < zero else zero
        return T(x >> T(n))

    def absolute(x: Any) -> Any:
        return T(-x) if signed and x < zero else x

    def sign(x: Any) -> Any:
        return one if x > zero else minus_one if x < zero else zero

    def signbit(x: Any) -> Any:
        return i32(1) if x < zero else i32(0)

    def mod(x: Any, y: Any) -> Any:
        if y == zero or (signed and y == minus_one):
            return zero
        return T(x % y)

    def floordiv(x: Any, y: Any) -> Any:
        if y == zero:
            return zero
        if signed and y == minus_one:
            return T(-x)
        return T(x // y)

    def ipow(x: Any, n: Any) -> Any:
        if signed and n < zero:
            return one if x == one else zero if x != minus_one else minus_one if n & one else one
        r = one
        b = x
        k = U(n)
        while k != U(0):
            if k & U(1):
                r = T(r * b)
            b = T(b * b)
            k = U(k >> U(1))
        return r

    def same(x: Any) -> Any:
        return x

    def never(x: Any) -> Any:
        return i32(0)

    def always(x: Any) -> Any:
        return i32(1)

    whole = device(same)
    for name in ("floor", "ceil", "trunc", "round"):
        FUNCTIONS[f"pnn_{name}_{tag}"] = whole
    no = device(never)
    FUNCTIONS[f"pnn_isnan_{tag}"] = FUNCTIONS[f"pnn_isinf_{tag}"] = no
    _define(
        tag, isfinite=always, max=maximum, min=minimum, shl=shl, shr=shr, abs=absolute, sign=sign, signbit=signbit, mod=mod,
        floordiv=floordiv, ipow=ipow,
    )  # fmt: skip
    FUNCTIONS[f"pnn_pow_{tag}"] = FUNCTIONS[f"pnn_ipow_{tag}"]


for _tag in ("f32", "f64"):
    _library(_tag)
    _floats(_tag)
for _tag in ("i32", "i64", "u32", "u64"):
    _integers(_tag)


@device
def pnn_narrow_f64(x: Any) -> Any:
    """Round float64 to odd float32, so that a second rounding, to float16 or bfloat16, gives what one would."""
    near = f32(x)
    if f64(near) == x or x != x:
        return near
    bits = AS_U32(near)
    if abs(f64(near)) > abs(x):
        bits = u32(bits - u32(1))
    return AS_F32(u32(bits | u32(1)))

