"""A data set that every model learns in seconds: which corner of the image is bright."""

import numpy as np

from portable_nn.data import Dataset


def corners(count=96, size=8, seed=0, name="corners"):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    images = rng.integers(0, 90, (count, 1, size, size)).astype(np.uint8)
    half = size // 2
    for image, label in zip(images, labels, strict=True):
        top, left = divmod(int(label), 2)
        image[0, top * half : top * half + half, left * half : left * half + half] += 120
    return Dataset(images, labels, ("ul", "ur", "ll", "lr"), name)


def batch(count=16, shape=(1, 8, 8), classes=10, seed=0):
    """Random images and labels: nothing to learn but by heart."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, *shape)).astype(np.float32), (np.arange(count) % classes).astype(np.int64)
