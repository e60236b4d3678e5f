"""What a device can do at most: float32 operations, and bytes copied and read per second at each size of data."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np

from ..probe import Probe

_SIZES = tuple(1 << bits for bits in (15, 17, 19, 21, 23, 25, 27))  # bytes of data in all; the largest is beyond most caches
_TOTAL = 1 << 28  # bytes moved per timing
_ROUNDS = 15

# Each item passes over its own part `rounds` times within one launch, so that no launch is in the figure; sums are kept in
# eight vectors, because one chain of additions would be slower than a cache.
_TEXT = """
__kernel void copied(__global const float16 *restrict x, __global float16 *restrict y, const long count, const int rounds) {
    const long first = get_global_id(0) * count;
    for (int r = 0; r < rounds; ++r)
        for (long i = 0; i < count; ++i) y[first + i] = x[first + i];
}
__kernel void read(__global const float16 *restrict x, __global float16 *restrict y, const long count, const int rounds) {
    const long first = get_global_id(0) * count;
    float16 s[8] = {0};
    for (int r = 0; r < rounds; ++r)
        for (long i = 0; i < count; i += 8) {
            s[0] += x[first + i]; s[1] += x[first + i + 1]; s[2] += x[first + i + 2]; s[3] += x[first + i + 3];
            s[4] += x[first + i + 4]; s[5] += x[first + i + 5]; s[6] += x[first + i + 6]; s[7] += x[first + i + 7];
        }
    y[get_global_id(0)] = s[0] + s[1] + s[2] + s[3] + s[4] + s[5] + s[6] + s[7];
}
"""


def measured(backend: Any) -> dict[str, Any]:
    """Return flops, and copy and read rates by size; from kernels on an OpenCL device, else from NumPy (copies only)."""
    peaks = Probe().peaks(backend)
    queue = getattr(backend, "queue", None)
    copies = {str(size): rate for size, rate in peaks["bandwidth"].items()}
    if not hasattr(queue, "device"):
        return {"flops": peaks["flops"], "copy": copies, "read": {}, "how": peaks["how"]}
    import pyopencl as cl

    device, context = queue.device, queue.context
    if not device.type & cl.device_type.CPU:
        return {"flops": peaks["flops"], "copy": copies, "read": {}, "how": peaks["how"]}
    program, items = cl.Program(context, _TEXT).build(), device.max_compute_units
    found: dict[str, dict[str, float]] = {"copied": {}, "read": {}}
    for what, rates in found.items():
        kernel = cl.Kernel(program, what)
        for size in _SIZES:
            each = size // (2 if what == "copied" else 1)
            x, y = (cl.Buffer(context, cl.mem_flags.READ_WRITE, each) for _ in range(2))
            for buffer in (x, y):
                cl.enqueue_fill_buffer(queue, buffer, np.float32(1), 0, each)
            rounds = max(1, _TOTAL // size)
            kernel.set_args(x, y, np.int64(each // 64 // items), np.int32(rounds))
            best = np.inf
            for _ in range(_ROUNDS):
                queue.finish()
                start = perf_counter()
                cl.enqueue_nd_range_kernel(queue, kernel, (items,), (1,))
                queue.finish()
                best = min(best, perf_counter() - start)
            rates[str(size)] = size * rounds / best
    return {"flops": peaks["flops"], "copy": found["copied"], "read": found["read"], "how": "OpenCL: fma chains in registers; passes over memory within one launch"}


def limit(peaks: dict[str, Any], flops: float, moved: float, data: float, reads: bool = False) -> float:
    """Return the least seconds for `flops` operations and `moved` bytes, on data of `data` bytes in all."""
    table = peaks["read"] if reads and peaks["read"] else peaks["copy"]
    sizes = sorted(int(size) for size in table)
    fits = next((size for size in sizes if size >= data), sizes[-1])
    rate = table[str(fits)]
    return max(flops / peaks["flops"], moved / rate)
