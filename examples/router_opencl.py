"""An own OpenCL kernel made of the library's device functions, launched with PyOpenCL and checked against the ops.

    python examples/router_opencl.py
"""

from pathlib import Path

import numpy as np
import pyopencl as cl
from router_case import EXPERTS, FEATURES, GROUPS, ITEMS, NOISE, TILE, TOKENS, bias, compare, key, weight, x

from portable_nn_kernels import compose

text = (Path(__file__).parent / "router.c").read_text()
context = cl.create_some_context(interactive=False)
queue = cl.CommandQueue(context)
source = compose.opencl_source(text, ops=("silu",), defines=TILE)
kernel = cl.Program(context, source).build(options=["-cl-std=CL1.2"]).router

read = cl.mem_flags.READ_ONLY | cl.mem_flags.COPY_HOST_PTR
operands = [cl.Buffer(context, read, hostbuf=a) for a in (x, weight, bias, key)]
gates, entropy = np.empty((TOKENS, EXPERTS), np.float32), np.empty(TOKENS, np.float32)
results = [cl.Buffer(context, cl.mem_flags.WRITE_ONLY, a.nbytes) for a in (gates, entropy)]
sizes = np.int64(TOKENS), np.int64(EXPERTS), np.int64(FEATURES), np.float32(NOISE)
kernel(queue, (GROUPS * ITEMS,), (ITEMS,), *operands, *results, *sizes)
for host, there in zip((gates, entropy), results, strict=True):
    cl.enqueue_copy(queue, host, there)

print(f"on {context.devices[0].name}")
compare(gates, entropy)
