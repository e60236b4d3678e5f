"""Twin of `c/random_key.c`."""

from collections.abc import Callable
from typing import Any

from portable_nn_numba.dialect import GLOBAL_ID, IN, LOAD, OUT, i64, u32
from portable_nn_numba.registry import Defines, kernel

from .philox import pnn_block


@kernel("pnn_random_key", "random_key.c")
def random_key(d: Defines) -> Callable[..., Any]:
    MARK, NUMBER = u32(int(str(d["MARK"]).rstrip("u"), 0)), d.get("NUMBER", "i64")
    load = LOAD[NUMBER]

    def pnn_random_key(key: IN("u32"), key_offset, y: OUT("u32"), y_offset, key_step, number, rows):
        row = GLOBAL_ID(0)
        if row < rows:
            w = pnn_block(key, key_offset, key_step, MARK, number + row)
            for i in range(4):
                y[y_offset + 4 * row + i] = w[i]

    def more_key(key: IN("u32"), key_offset, more: IN(NUMBER), more_offset, y: OUT("u32"), y_offset, key_step, number, rows):
        row = GLOBAL_ID(0)
        if row < rows:
            w = pnn_block(key, key_offset, key_step, MARK, number + row + i64(load(more, more_offset)))
            for i in range(4):
                y[y_offset + 4 * row + i] = w[i]

    return more_key if "NUMBER" in d else pnn_random_key
