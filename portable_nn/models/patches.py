"""How models of patches cut an image: the side of a patch, unless it is given."""

from __future__ import annotations

from ..core.errors import SettingError


def patch_side(name: str, in_shape: tuple[int, int, int], patch: int | None, tokens: int = 8, large: int = 16) -> int:
    """Return the side of a patch: `patch`, or for small images the largest that divides both sides into `tokens` or more.

    Parameters
    ----------
    name : str
        Of the model, for the error.
    in_shape : (int, int, int)
    patch : int, optional
    tokens : int
        How many patches along a side are wanted, at least.
    large : int
        For images of 64 pixels or more: the largest side up to this that divides both.

    Raises
    ------
    SettingError
        A patch that does not divide the image.
    """
    _, height, width = in_shape
    if patch is None:
        most = large if min(height, width) >= 64 else max(1, min(height, width) // tokens)
        patch = max(p for p in range(1, most + 1) if height % p == 0 and width % p == 0)
    if patch < 1 or height % patch or width % patch:
        raise SettingError(f"{name}: images are {height}x{width}, which patches of {patch}x{patch} do not fill; give another image size")
    return patch
