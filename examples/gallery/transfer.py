"""Transfer to a folder of images: the ResNet-20 that comes along, trained on CIFAR-10, learns digits from eight pictures of each."""

from pathlib import Path

import numpy as np
from PIL import Image

import portable_nn as pnn

# 1. A folder of images by class, as people have them: folder/train/3/*.png and folder/val/3/*.png, 32x32 pixels in colour.
train, held_out = pnn.data.load("digits")
for part, data, count in (("train", train, 8), ("val", held_out, 20)):
    for digit in range(10):
        folder = Path("folder", part, str(digit))
        folder.mkdir(parents=True, exist_ok=True)
        for n, i in enumerate(np.flatnonzero(data.labels == digit)[:count]):
            large = np.pad(data.images[i, 0].repeat(3, axis=0).repeat(3, axis=1), 4)
            Image.fromarray(large).convert("RGB").save(folder / f"{n}.png")

# 2. The same recipe from fresh weights, and from the shipped ones; their last layer, of CIFAR's classes, starts fresh.
few, many = pnn.data.load("folder")
accuracy = {}
for weights in (None, "cifar10"):
    result = pnn.train.fit("resnet20", few, many, pretrained=weights, epochs=3, batch_size=8, lr=0.01, out=f"runs/{weights or 'fresh'}")
    accuracy[weights] = result.valid_accuracy
print(f"accuracy from {len(few)} images: {100 * accuracy[None]:.1f} % from fresh weights, {100 * accuracy['cifar10']:.1f} % fine-tuned")
assert accuracy["cifar10"] > accuracy[None]
