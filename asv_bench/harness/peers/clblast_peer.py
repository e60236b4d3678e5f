"""CLBlast's matrix products, through its C interface, on the OpenCL device that portable_nn uses."""

from __future__ import annotations

import ctypes
import ctypes.util
from typing import Any

import numpy as np

from .peer import Peer, Unsupported, Work, there

_ROW_MAJOR, _NO = 101, 111


class CLBlastPeer(Peer):
    """CLBlast: GEMM and GEMV only."""

    def start(self) -> str:
        """Load the library."""
        path = ctypes.util.find_library("clblast")
        if path is None:
            raise Unsupported("not installed: libclblast")
        self.library = ctypes.CDLL(path)
        self.cl: Any = there("pyopencl")
        from portable_nn.core import selection

        backend: Any = selection.get("opencl")
        self.context, self.queue = backend.context, backend.queue
        return f"{path} on {backend.device}"

    def matmul(self, a: Any, b: Any) -> Work:
        """Products into a ready buffer."""
        cl, flags = self.cl, self.cl.mem_flags.READ_WRITE | self.cl.mem_flags.COPY_HOST_PTR
        y = np.zeros((a.shape[0], *b.shape[1:]), np.float32)
        x0, x1, x2 = (cl.Buffer(self.context, flags, hostbuf=x) for x in (a, b, y))
        m, k, n = *a.shape, b.shape[1] if b.ndim > 1 else 1
        queue = ctypes.c_void_p(self.queue.int_ptr)
        size, scalar = ctypes.c_size_t, ctypes.c_float
        buffers = [ctypes.c_void_p(x.int_ptr) for x in (x0, x1, x2)]

        def run() -> None:
            if b.ndim > 1:
                code = self.library.CLBlastSgemm(
                    _ROW_MAJOR, _NO, _NO, size(m), size(n), size(k), scalar(1), buffers[0], size(0), size(k),
                    buffers[1], size(0), size(n), scalar(0), buffers[2], size(0), size(n), ctypes.byref(queue), None,
                )  # fmt: skip
            else:
                code = self.library.CLBlastSgemv(
                    _ROW_MAJOR, _NO, size(m), size(k), scalar(1), buffers[0], size(0), size(k), buffers[1], size(0), size(1),
                    scalar(0), buffers[2], size(0), size(1), ctypes.byref(queue), None,
                )  # fmt: skip
            if code:
                raise RuntimeError(f"CLBlast: status {code}")

        def results() -> list[Any]:
            run()
            cl.enqueue_copy(self.queue, y, x2)
            return [y]

        return Work(run, results, self.queue.finish)
