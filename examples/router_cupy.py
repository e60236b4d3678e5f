"""An own CuPy RawKernel made of the library's device functions, checked against the ops. Runs on NVIDIA and, by CuPy's ROCm build, on AMD.

    python examples/router_cupy.py
"""

from pathlib import Path

import cupy
import numpy as np
from router_case import EXPERTS, FEATURES, GROUPS, ITEMS, NOISE, TILE, TOKENS, bias, compare, key, weight, x

from portable_nn_kernels import compose

text = (Path(__file__).parent / "router.c").read_text()
source = compose.cuda_source(text, ops=("silu",), defines=TILE)
options = ("-ffp-contract=off",) if cupy.cuda.runtime.is_hip else ("--fmad=false",)
kernel = cupy.RawKernel(source, "router", options=options)

operands = [cupy.asarray(a) for a in (x, weight, bias, key)]
gates, entropy = cupy.empty((TOKENS, EXPERTS), np.float32), cupy.empty((TOKENS,), np.float32)
sizes = np.int64(TOKENS), np.int64(EXPERTS), np.int64(FEATURES), np.float32(NOISE)
kernel((GROUPS,), (ITEMS,), (*operands, gates, entropy, *sizes))

compare(cupy.asnumpy(gates), cupy.asnumpy(entropy))
