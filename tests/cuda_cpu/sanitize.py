"""One sample of every kernel under the sanitizers, in a process started for them (see tests/backend/test_cuda_cpu.py).

Arrays are exactly as large as the op was told, on the sanitizer's own heap, so that the first byte beside one is
noticed: the guards of the generated suite notice writes only.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
import warnings
from typing import Any

import numpy as np

import portable_nn.ops  # noqa: F401 - fills the registry
from portable_nn.core import selection
from portable_nn.core.errors import NoKernel
from portable_nn.core.registry import OPS
from portable_nn.core.spec import Spec
from portable_nn.testing.cases import drawn, dtypes_of, seed_of, spec_of
from portable_nn_kernels.host import span

from .build import Kernel
from .engine import CudaOnCpu

_PER_KERNEL = 3  # samples that launch a kernel before it counts as seen
_FAULTS = {
    "global": ("y[x[0] + 2] = 1;", 2),
    "shared": ("__shared__ int s[4]; s[x[0] + 3] = 1; y[0] = s[x[0]];", 2),
    "overflow": ("y[0] = x[0] + 2147483647;", 2),
}


def place(backend: CudaOnCpu, x: np.ndarray[Any, Any]) -> Any:
    """Return `x` on the backend with its strides, in memory that ends where it ends."""
    spec = spec_of(x)
    if not spec.size:
        return backend.from_numpy(x)
    low, high = span(spec)
    buffer = np.full((high - low + 1) * x.itemsize, 0xFF, np.uint8).view(x.dtype)
    strides = [s * x.itemsize for s in spec.strides]
    np.lib.stride_tricks.as_strided(buffer[-low:], x.shape, strides)[...] = x
    return backend.alias(backend.from_numpy(buffer), Spec(spec.shape, spec.dtype, spec.strides), -low)


def run_fault(name: str) -> None:
    """Run a kernel with a planted fault; the sanitizer ends the process."""
    body, one = _FAULTS[name]
    text = f'extern "C" __global__ void pnn_fault(const int* x, int* y) {{ {body} }}\n'
    x, y = np.full(1, one, np.int32), np.zeros(4, np.int32)
    Kernel("pnn_fault", text, sanitized=True)((1,), (1,), [ctypes.c_void_p(a.ctypes.data) for a in (x, y)])


def run_all(only: str) -> dict[str, int]:
    """Run samples until every kernel was launched a few times; return how much was run."""
    backend = CudaOnCpu(sanitized=True)
    dry: Any = selection.get("null", "gpu")
    seen: dict[str, int] = {}
    calls = 0
    for name, op in sorted(OPS.items()):
        if only not in name:
            continue
        for at, sample in enumerate(op.samples):
            legal = dtypes_of(op, sample)
            dtype = "float32" if "float32" in legal else legal[0] if legal else None
            if dtype is None:
                continue
            given = drawn(sample, dtype, seed_of(op.name, sample.name, dtype))
            with selection.use_backend(dry), dry.recording() as launches:
                op._cache.clear()
                try:
                    there = given.map(dry.from_numpy, np.ndarray)
                    op.apply(there.args, dict(there.settings), bool(op.residuals))
                except NoKernel:
                    continue
            kernels = {f"{r.launch.kernel}/{name if op.expression is not None else ''}" for r in launches}
            if at and all(seen.get(k, 0) >= _PER_KERNEL for k in kernels):
                continue
            print(f"{name}: {sample.name} ({dtype})", file=sys.stderr, flush=True)  # names the culprit if this is the end
            op._cache.clear()
            with selection.use_backend(backend):
                there = given.map(lambda x: place(backend, x), np.ndarray)
                op.apply(there.args, dict(there.settings), bool(op.residuals))
            op._cache.clear()
            calls += 1
            for k in kernels:
                seen[k] = seen.get(k, 0) + 1
    return {"calls": calls, "kernels": len({k.partition("/")[0] for k in seen})}


if __name__ == "__main__":
    warnings.simplefilter("ignore", RuntimeWarning)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fault", choices=list(_FAULTS))
    parser.add_argument("--only", default="", help="part of the names of ops")
    options = parser.parse_args()
    if options.fault:
        run_fault(options.fault)
    else:
        print(json.dumps(run_all(options.only)))
