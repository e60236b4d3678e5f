"""An autoencoder: digits through eight numbers and back. The target of an image is the image."""

import numpy as np

import portable_nn as pnn
from portable_nn import models
from portable_nn.train import Pairs


def itself(data):
    return Pairs(data.images, data.images.astype(np.float32) / 255, "digits")


train, valid = pnn.data.load("digits")
model = models.Autoencoder((1, 8, 8), latent=8)
result = pnn.train.fit(model, itself(train), itself(valid), loss=pnn.ops.mse_loss, epochs=8, batch_size=32, lr=0.005)

spread = float(itself(valid).targets.var(axis=0).mean())  # the error of always answering with the mean image
print(f"mean squared error {result.evaluation.loss:.4f}, against {spread:.4f} of the mean image")
assert result.evaluation.loss < 0.5 * spread
