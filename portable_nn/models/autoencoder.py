"""A convolutional autoencoder: an image to a few numbers, and back to the image."""

from __future__ import annotations

from .. import nn, ops
from ..core.array import Array
from ..core.errors import SettingError


class Autoencoder(nn.Module):
    """Two convolutions with stride 2 and a linear layer to `latent` numbers; the same way back by transposed convolutions.

    Train it by `nn.reconstruction_loss`; `encode` and `decode` are the halves.

    Parameters
    ----------
    in_shape : (int, int, int)
        C, H, W of an image; H and W at least 4.
    classes : int
        Not used: an autoencoder has no classes; it stands here so that every model is made alike.
    latent : int
        Numbers that an image is pressed into.
    width : int
        Channels of the first convolution; the second has twice as many.
    """

    def __init__(self, in_shape: tuple[int, int, int], classes: int = 0, latent: int = 32, width: int = 16) -> None:
        channels, height, wide = in_shape
        if min(height, wide) < 4:
            raise SettingError(f"autoencoder: images are {height}x{wide} but two halvings need at least 4x4")
        half, quarter = (tuple(-(-n // by) for n in (height, wide)) for by in (2, 4))
        self.grid = (2 * width, *quarter)
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, width, 3, 2, padding=1), nn.ReLU(), nn.Conv2d(width, 2 * width, 3, 2, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(2 * width * quarter[0] * quarter[1], latent),
        )  # fmt: skip
        # A transposed convolution makes 2 n - 1 of n pixels; the output padding adds the last one of an even size.
        first, second = (tuple(1 - n % 2 for n in size) for size in (half, (height, wide)))
        self.expand = nn.Linear(latent, 2 * width * quarter[0] * quarter[1])
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(2 * width, width, 3, 2, padding=1, output_padding=(first[0], first[1])), nn.ReLU(),
            nn.ConvTranspose2d(width, channels, 3, 2, padding=1, output_padding=(second[0], second[1])),
        )  # fmt: skip

    def encode(self, x: Array) -> Array:
        """Return the numbers of images, (N, latent)."""
        return self.encoder(x)

    def decode(self, z: Array) -> Array:
        """Return images, (N, C, H, W), of their numbers."""
        return self.decoder(ops.reshape(ops.relu(self.expand(z)), (z.shape[0], *self.grid)))

    def __call__(self, x: Array) -> Array:
        return self.decode(self.encode(x))
