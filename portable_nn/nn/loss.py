"""Losses of whole tasks, made of ops: what a model of `portable_nn.models` is trained by."""

from __future__ import annotations

from .. import ops
from ..core.array import Array


def segmentation_loss(scores: Array, labels: Array, dice: float = 0.5, label_smoothing: float = 0.0) -> Array:
    """Return the mean cross entropy per pixel plus `dice` times the Dice loss of the probabilities.

    Cross entropy asks for the right class of each pixel, Dice for the right area of each class, which keeps small
    objects from being left out (Milletari, Navab, Ahmadi 2016, arXiv:1606.04797).

    Parameters
    ----------
    scores : array, (N, K, H, W)
    labels : array, (N, H, W) integer
        The class of each pixel.
    dice : float
        Weight of the Dice loss.
    label_smoothing : float
        Of the cross entropy.

    Returns
    -------
    array, 0-d
    """
    loss = ops.cross_entropy(scores, labels, label_smoothing=label_smoothing)
    if not dice:
        return loss
    wanted = ops.permute(ops.one_hot(labels, scores.shape[1], scores.dtype), (0, 3, 1, 2))
    return ops.add(loss, ops.multiply(ops.dice_loss(ops.softmax(scores, 1), wanted), dice))


def reconstruction_loss(images: Array, wanted: Array) -> Array:
    """Return the mean squared difference of images, what an autoencoder is trained by."""
    return ops.mse_loss(images, wanted)
