"""Weights, images and labels by formula: PyTorch's side and ours fill their arrays alike, so that only results are stored.

Needs NumPy alone. The raw words of its Philox are a stream that NumPy promises to keep.
"""

import zlib

import numpy as np

PROJECTIONS = 4


def words(name, count):
    """Return `count` uniform numbers in [-1, 1), of 53 bits, that depend on the name alone."""
    raw = np.random.Philox(key=np.array([zlib.crc32(name.encode()), 5], np.uint64)).random_raw(count)
    return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1.0


def fill(name, shape):
    """Return float64 values for a parameter or buffer, of a size that keeps signals alive through many layers."""
    shape = tuple(shape)
    u = words(name, int(np.prod(shape))).reshape(shape)
    last = name.rsplit(".", 1)[-1]
    if last == "running_var":
        return 1.0 + 0.4 * u
    if last == "gamma":
        return 0.5 + 0.2 * u
    if len(shape) == 1 and last == "weight":  # of a normalisation
        return 1.0 + 0.2 * u
    if len(shape) == 1 or last in ("cls_token", "pos_embed"):
        return 0.1 * u
    return u * np.sqrt(3.0 / np.prod(shape[1:]))  # variance 1 / fan in


def between(name, shape, part):
    """Return the values `part` of the way from a parameter's fill to another, of the same form."""
    first = fill(name, shape)
    return first + part * (fill("other." + name, shape) - first)


def images(name, shape):
    """Return float64 images in [-2, 2)."""
    return 2.0 * words("images of " + name, int(np.prod(shape))).reshape(shape)


def labels(count, classes=10):
    """Return int64 labels."""
    return (np.arange(count) * 7 + 3) % classes


def projections(name, value):
    """Return the Euclidean norm of an array and its inner products with fixed random vectors."""
    flat = np.asarray(value, np.float64).reshape(-1)
    vectors = words("vectors of " + name, PROJECTIONS * flat.size).reshape(PROJECTIONS, flat.size)
    return np.concatenate([[np.linalg.norm(flat)], vectors @ flat])
