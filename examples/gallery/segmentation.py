"""Segmentation: find the pixels of discs and squares among noise, with a small U-Net."""

import numpy as np

import portable_nn as pnn
from portable_nn import models, nn
from portable_nn.train import Pairs

SIZE = 16
rng = np.random.default_rng(0)
y, x = np.mgrid[:SIZE, :SIZE]


def draw(count):
    """Return grey images (N, 1, H, W) and the class of each pixel (N, H, W): 0 nothing, 1 disc, 2 square."""
    images = rng.integers(0, 90, (count, 1, SIZE, SIZE)).astype(np.uint8)
    masks = np.zeros((count, SIZE, SIZE), np.int64)
    for image, mask in zip(images, masks, strict=True):
        for kind in (1, 2):
            cy, cx, r = *rng.integers(3, SIZE - 3, 2), rng.integers(2, 4)
            inside = (y - cy) ** 2 + (x - cx) ** 2 <= r * r if kind == 1 else (abs(y - cy) <= r) & (abs(x - cx) <= r)
            mask[inside] = kind
            image[0][inside] = rng.integers(130, 255)
    return Pairs(images, masks, "shapes")


def iou(scores, masks):
    """Intersection over union, the mean of the three classes."""
    said = scores.argmax(axis=1)
    return np.mean([((said == k) & (masks == k)).sum() / max(((said == k) | (masks == k)).sum(), 1) for k in range(3)])


result = pnn.train.fit(
    models.UNet((1, SIZE, SIZE), 3, width=8, levels=2), draw(256), draw(64),
    loss=nn.segmentation_loss, metrics={"iou": iou}, epochs=10, batch_size=16, lr=0.01,
)  # fmt: skip
print(f"mean intersection over union {result.evaluation.metrics['iou']:.2f}, curves in {result.folder}/report.html")
assert result.evaluation.metrics["iou"] > 0.6
