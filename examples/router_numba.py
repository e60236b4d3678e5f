"""An own numba.cuda kernel made of the library's device functions, checked against the ops: `router.c` in Python.

    python examples/router_numba.py                             # on an NVIDIA GPU
    NUMBA_ENABLE_CUDASIM=1 python examples/router_numba.py      # in numba's simulator
"""

import numpy as np
from numba import cuda, float32
from router_case import EXPERTS, FEATURES, GROUPS, ITEMS, NOISE, TILE, TOKENS, bias, compare, key, weight, x

from portable_nn_numba import compose

TM, TN, RM, RN = (TILE[name] for name in ("TM", "TN", "RM", "RN"))
tile = compose.gemm_tile("f32", TM, TN, TILE["TK"], RM, RN)
zero, product, row_of, col_of = tile.zero, tile.product, tile.row, tile.col
A_SIZE, B_SIZE, SUMS, SCORES = tile.a_size, tile.b_size, tile.sums, TM * TN
softmax = compose.softmax_row("f32", ITEMS)
empty, taken, joined, share = softmax.empty, softmax.taken, softmax.joined, softmax.share
row_sum = compose.row_reduction("sum", "f32", ITEMS)
silu, log, normal_at = compose.op_function("silu", "f32"), compose.pnn("log", "f32"), compose.pnn_normal_at_f32
NONE = np.float32(0)


@cuda.jit
def router(x, weight, bias, words, gates, entropy, tokens, experts, features, noise):
    at = cuda.shared.array(A_SIZE, float32)
    bt = cuda.shared.array(B_SIZE, float32)
    scores = cuda.shared.array(SCORES, float32)
    lanes = cuda.shared.array(ITEMS, float32)
    acc = cuda.local.array(SUMS, float32)
    item = cuda.threadIdx.x
    first = cuda.blockIdx.x * TM
    rows = min(tokens - first, TM)

    zero(acc)
    product(x, first * features, features, 1, rows, weight, 0, 1, features, experts, features, item, at, bt, acc)
    for i in range(RM):
        for j in range(RN):
            row = row_of(item, i)
            col = col_of(item, j)
            if row < rows and col < experts:
                z = normal_at(words, (first + row) * experts + col)
                scores[row * TN + col] = silu(acc[i * RN + j] + bias[col]) + noise * z
    cuda.syncthreads()

    for row in range(rows):
        top, total = empty()
        for c in range(item, experts, ITEMS):
            top, total = taken(top, total, scores[row * TN + c])
        top, total = joined(top, total, lanes, item)
        mine = NONE
        for c in range(item, experts, ITEMS):
            p = share(top, total, scores[row * TN + c])
            gates[(first + row) * experts + c] = p
            if p > NONE:
                mine -= p * log(p)
        mine = row_sum(mine, lanes, item)
        if item == 0:
            entropy[first + row] = mine


if __name__ == "__main__":
    gates, entropy = np.empty(TOKENS * EXPERTS, np.float32), np.empty(TOKENS, np.float32)
    sizes = TOKENS, EXPERTS, FEATURES, np.float32(NOISE)
    router[GROUPS, ITEMS](x.reshape(-1), weight.reshape(-1), bias, key, gates, entropy, *sizes)
    compare(gates.reshape(TOKENS, EXPERTS), entropy)
