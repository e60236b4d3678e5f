"""The raw probe: a copy and a product of small matrices, without portable_nn, taken between the cases of a run.

A shared machine drifts: a neighbour takes memory bandwidth, the clock falls. The probe sees the same, so a time divided by
the probe's beside it drifts less. `Probe.sample` is quick, and runs between cases; `Probe.peaks` is what rooflines are drawn with.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np

_COPY_BYTES = 16 << 20  # twice this is more than the caches of one core
_PRODUCT = 64  # OpenBLAS keeps products of this size on one core, in its level-1 cache
_SIZES = tuple(1 << bits for bits in range(16, 28, 2))  # bytes read and written by the copies of `peaks`

_KERNELS = """
__kernel void copy(__global const float4 *x, __global float4 *y, const int count) {
    const int first = get_group_id(0) * count;
    for (int i = get_local_id(0); i < count; i += get_local_size(0)) y[first + i] = x[first + i];
}
__kernel void fma_chains(__global float16 *y, const int rounds) {
    float16 a0 = y[0], a1 = a0 + 1, a2 = a0 + 2, a3 = a0 + 3, a4 = a0 + 4, a5 = a0 + 5, a6 = a0 + 6, a7 = a0 + 7;
    float16 a8 = a0 + 8, a9 = a0 + 9, b = a0 * 0.5f, c = a0 + 0.25f;
    for (int i = 0; i < rounds; ++i) {
        a0 = fma(a0, b, c); a1 = fma(a1, b, c); a2 = fma(a2, b, c); a3 = fma(a3, b, c); a4 = fma(a4, b, c);
        a5 = fma(a5, b, c); a6 = fma(a6, b, c); a7 = fma(a7, b, c); a8 = fma(a8, b, c); a9 = fma(a9, b, c);
    }
    y[get_global_id(0)] = a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7 + a8 + a9;
}
"""
_CHAINS, _WIDE = 10, 16


class Probe:
    """Memory and arithmetic of the machine, as NumPy alone sees them."""

    def __init__(self) -> None:
        self._source = np.ones(_COPY_BYTES // 4, np.float32)
        self._target = np.zeros_like(self._source)
        rng = np.random.default_rng(0)
        self._a, self._b = (rng.standard_normal((_PRODUCT, _PRODUCT)).astype(np.float32) for _ in range(2))
        self._c = np.empty_like(self._a)
        self.sample()

    def sample(self) -> dict[str, float]:
        """Return the seconds of a copy of 16 MiB and of 64 products of 64x64, the best of some each: the first find the caches cold."""
        return {"copy": min(self._copy() for _ in range(4)), "fma": min(self._products() for _ in range(3))}

    def _copy(self) -> float:
        start = perf_counter()
        np.copyto(self._target, self._source)
        return perf_counter() - start

    def _products(self) -> float:
        a, b, c = self._a, self._b, self._c
        start = perf_counter()
        for _ in range(64):
            np.matmul(a, b, out=c)
        return perf_counter() - start

    def peaks(self, backend: Any) -> dict[str, Any]:
        """Return the best rates seen on the backend's device: float32 flop/s, and bytes/s of copies by the bytes they move."""
        queue = getattr(backend, "queue", None)
        return _opencl_peaks(queue) if hasattr(queue, "device") else self._numpy_peaks()

    def _numpy_peaks(self) -> dict[str, Any]:
        rng = np.random.default_rng(0)
        a, b = (rng.standard_normal((1024, 1024)).astype(np.float32) for _ in range(2))
        product = min(_seconds(lambda: np.matmul(a, b)) for _ in range(9))
        rates = {}
        for size in _SIZES:
            x = np.ones(size // 8, np.float32)
            y = np.empty_like(x)
            loops = max(1, (1 << 24) // size)
            rates[size] = size * loops / min(_seconds(lambda x=x, y=y: np.copyto(y, x), loops) for _ in range(9))
        return {"flops": 2 * 1024**3 / product, "bandwidth": rates, "how": "NumPy: matmul 1024, copyto"}


def _seconds(call: Any, loops: int = 1) -> float:
    start = perf_counter()
    for _ in range(loops):
        call()
    return perf_counter() - start


def _opencl_peaks(queue: Any) -> dict[str, Any]:
    import pyopencl as cl

    device, context = queue.device, queue.context
    cpu = bool(device.type & cl.device_type.CPU)
    program = cl.Program(context, _KERNELS).build()
    copy, fma = cl.Kernel(program, "copy"), cl.Kernel(program, "fma_chains")
    group = 1 if cpu else 256
    items = device.max_compute_units * (4 if cpu else 32) * group
    y = cl.Buffer(context, cl.mem_flags.READ_WRITE, items * 64)
    cl.enqueue_fill_buffer(queue, y, np.float32(0.5), 0, items * 64)
    rounds = 100_000 if cpu else 4096
    fma.set_args(y, np.int32(rounds))

    def run(kernel: Any, size: int, local: int) -> None:
        cl.enqueue_nd_range_kernel(queue, kernel, (size,), (local,))

    def best(kernel: Any, size: int, local: int, loops: int) -> float:
        times = []
        for _ in range(9):
            queue.finish()
            start = perf_counter()
            for _ in range(loops):
                run(kernel, size, local)
            queue.finish()
            times.append((perf_counter() - start) / loops)
        return min(times)

    flops = 2 * _CHAINS * _WIDE * rounds * items / best(fma, items, group, 1)
    rates = {}
    for size in _SIZES:
        half = size // 2
        x, z = (cl.Buffer(context, cl.mem_flags.READ_WRITE, half) for _ in range(2))
        cl.enqueue_fill_buffer(queue, x, np.float32(1), 0, half)
        cl.enqueue_fill_buffer(queue, z, np.float32(0), 0, half)
        groups = device.max_compute_units * (1 if cpu else 8)
        copy.set_args(x, z, np.int32(half // 16 // groups))
        rates[size] = size / best(copy, groups * group, group, max(4, (1 << 25) // size))
    return {"flops": flops, "bandwidth": rates, "how": "OpenCL: chains of fma in registers, copy kernel"}
