"""Twin of `c/random.h`: Philox4x32-10."""

from __future__ import annotations

from typing import Any

from portable_nn_numba.dialect import u32, u64
from portable_nn_numba.shim import device


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
