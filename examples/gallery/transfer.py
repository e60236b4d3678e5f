"""Transfer to a folder of images: what a model learned of the digits 0 to 4 helps with few pictures of 5 to 9."""

from pathlib import Path

import numpy as np
from PIL import Image

import portable_nn as pnn
from portable_nn import nn

train, test = pnn.data.load("digits")


def only(data, digits):
    """Keep some digits, numbered anew from 0."""
    kept = data.subset(np.flatnonzero(np.isin(data.labels, digits)))
    return pnn.data.Dataset(kept.images, kept.labels - digits[0], tuple(map(str, digits)), "digits")


# 1. A model of 0 to 4.
low = range(5)
first = pnn.train.fit("lenet", only(train, low), only(test, low), epochs=4, out="runs/low")

# 2. A folder of images by class, as people have them: folder/train/five/*.png, eight images of each class.
words = ("five", "six", "seven", "eight", "nine")
for part, data, count in (("train", train, 8), ("val", test, 30)):
    for word, digit in zip(words, range(5, 10), strict=True):
        folder = Path("folder", part, word)
        folder.mkdir(parents=True, exist_ok=True)
        for n, i in enumerate(np.flatnonzero(data.labels == digit)[:count]):
            Image.fromarray(data.images[i, 0]).save(folder / f"{n}.png")
few, many = pnn.data.load("folder", channels=1)

# 3. The same recipe from fresh weights, and from those of step 1 but for the last layer.
fresh = pnn.models.create("lenet", few.image_shape, len(few.classes), seed=1)
learned = {name: pnn.to_numpy(x) for name, x in nn.state_dict(first.model).items() if not name.startswith("fc3")}
accuracy = {}
for name, model in (("fresh", fresh), ("transferred", nn.with_state(fresh, learned))):
    accuracy[name] = pnn.train.fit(model, few, many, epochs=6, batch_size=8, lr=0.002, out=f"runs/{name}").test_accuracy
print(f"test accuracy from 40 images: {100 * accuracy['fresh']:.1f} % from fresh weights, {100 * accuracy['transferred']:.1f} % transferred")
assert accuracy["transferred"] > accuracy["fresh"]
