"""Twin of `c/random.h`: Philox4x32-10, and what its words become."""

from __future__ import annotations

from typing import Any

from portable_nn_numba.dialect import f32, f64, i64, u32, u64
from portable_nn_numba.scalar import pnn
from portable_nn_numba.shim import device

_FIVE, _SIX, _EIGHT, _NO_MARK = u32(5), u32(6), u32(8), u32(0)
_WORD, _BITS_24, _UNIT_32 = f64(67108864), f32(2.0**-24), f32(2.3283064365386963e-10)
_HALF, _MINUS_TWO, _TURN = f32(0.5), f32(-2), f32(6.2831853071795862)
_UNIT_64, _ONE_64, _MINUS_TWO_64, _TURN_64 = f64(2.0**-53), f64(1), f64(-2), f64(6.283185307179586)
_root, _log, _cos, _sin = (pnn(name, "f32") for name in ("sqrt", "log", "cos", "sin"))
_root_64, _log_64, _cos_64, _sin_64 = (pnn(name, "f64") for name in ("sqrt", "log", "cos", "sin"))


@device
def pnn_philox(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    """Return the four words of a counter and a key."""
    for _ in range(10):
        p0 = u64(0xD2511F53) * u64(c0)
        p1 = u64(0xCD9E8D57) * u64(c2)
        c0 = u32(u32(u32(p1 >> u64(32)) ^ c1) ^ k0)
        c1 = u32(p1 & u64(0xFFFFFFFF))
        c2 = u32(u32(u32(p0 >> u64(32)) ^ c3) ^ k1)
        c3 = u32(p0 & u64(0xFFFFFFFF))
        k0 = u32((u64(k0) + u64(0x9E3779B9)) & u64(0xFFFFFFFF))
        k1 = u32((u64(k1) + u64(0xBB67AE85)) & u64(0xFFFFFFFF))
    return c0, c1, c2, c3


@device
def pnn_block(key: Any, offset: Any, step: Any, mark: Any, block: Any) -> Any:
    """Return block number `block` of a draw under the library's key at key[offset], [offset + step] ..."""
    low = u32(u64(block) & u64(0xFFFFFFFF))
    high = u32(u64(block) >> u64(32))
    k1 = u32(key[offset + step] ^ mark)
    return pnn_philox(low, high, u32(key[offset + 2 * step]), u32(key[offset + 3 * step]), u32(key[offset]), k1)


@device
def pnn_wide_f64(a: Any, b: Any) -> Any:
    """Return 53 bits of two words, as a whole number."""
    return f64(u32(a >> _FIVE)) * _WORD + f64(u32(b >> _SIX))


@device
def pnn_fraction_f32(word: Any) -> Any:
    """Return a number of [0, 1) from the upper 24 bits of a word."""
    return f32(u32(word >> _EIGHT)) * _BITS_24


@device
def pnn_fraction_f64(a: Any, b: Any) -> Any:
    """Return a number of [0, 1) from 53 bits of two words."""
    return pnn_wide_f64(a, b) * _UNIT_64


@device
def pnn_normal_pair_f32(a: Any, b: Any) -> Any:
    """Return two standard normal numbers of two words, by Box and Muller."""
    radius = _root(_MINUS_TWO * _log((f32(a) + _HALF) * _UNIT_32))
    angle = _TURN * pnn_fraction_f32(b)
    return radius * _cos(angle), radius * _sin(angle)


@device
def pnn_normal_pair_f64(a: Any, b: Any, c: Any, d: Any) -> Any:
    """Return two standard normal numbers of four words."""
    radius = _root_64(_MINUS_TWO_64 * _log_64((pnn_wide_f64(a, b) + _ONE_64) * _UNIT_64))
    angle = _TURN_64 * pnn_fraction_f64(c, d)
    return radius * _cos_64(angle), radius * _sin_64(angle)


@device
def pnn_uniform_at_f32(key: Any, e: Any) -> Any:
    """Return element `e` of ``uniform(key, shape)``; `key` holds four words from its first element on."""
    w = pnn_block(key, i64(0), i64(1), _NO_MARK, e // 4)
    return pnn_fraction_f32(w[e % 4])


@device
def pnn_normal_at_f32(key: Any, e: Any) -> Any:
    """Return element `e` of ``normal(key, shape)``."""
    w = pnn_block(key, i64(0), i64(1), _NO_MARK, e // 4)
    first, second = (w[0], w[1]) if e % 4 < 2 else (w[2], w[3])
    pair = pnn_normal_pair_f32(first, second)
    return pair[0] if e % 2 == 0 else pair[1]
