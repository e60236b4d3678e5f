"""What the examples of own kernels compute: operands, and the same by the library's ops, in NumPy."""

import numpy as np

import portable_nn as pnn

TILE = {"TA": "f32", "TB": "f32", "TC": "f32", "TM": 16, "TN": 16, "TK": 8, "RM": 2, "RN": 2}
ITEMS = TILE["TM"] // TILE["RM"] * (TILE["TN"] // TILE["RN"])
TOKENS, EXPERTS, FEATURES, NOISE = 18, 11, 50, 0.5

rng = np.random.default_rng(0)
x = rng.normal(size=(TOKENS, FEATURES)).astype(np.float32)
weight = (rng.normal(size=(EXPERTS, FEATURES)) / np.sqrt(FEATURES)).astype(np.float32)
bias = rng.normal(size=EXPERTS).astype(np.float32)
key = pnn.random_key(7, backend="numpy")
GROUPS = -(-TOKENS // TILE["TM"])


def by_ops():
    """Return gates and entropy, from nine ops."""
    with pnn.use_backend("numpy"):
        scores = pnn.ops.silu(pnn.ops.linear(x, weight, bias)) + NOISE * pnn.ops.normal(key, (TOKENS, EXPERTS))
        return pnn.ops.softmax(scores, 1), -pnn.ops.sum(pnn.ops.softmax(scores, 1) * pnn.ops.log_softmax(scores, 1), axis=1)


def compare(gates, entropy):
    """Print how far the kernel is from the ops, and stop if it is further than float32 rounds."""
    for name, made, wanted in zip(("gates", "entropy"), (gates, entropy), by_ops(), strict=True):
        far = float(np.abs(made - wanted).max())
        print(f"{name}: the kernel and the ops differ by {far:.1e} at most")
        assert far < 8 * np.sqrt(FEATURES) * np.finfo(np.float32).eps * max(1, float(np.abs(wanted).max()))
