"""Pixel shuffle and its inverse, which is its gradient: channels to pixels and back."""

from __future__ import annotations

from typing import Any

from ..core.array import Array
from ..core.errors import SettingError, ShapeError
from ..core.op import op, setting_int
from ..core.samples import A, bad, bench, s
from ..core.spec import Spec
from ..core.tape import Saved


def _factor(name: str, setting: str, x: Spec, factor: Any) -> int:
    r = setting_int(name, setting, factor)
    if r < 1:
        raise SettingError(f"{name}: {setting} is {r} but must be at least 1")
    if x.ndim < 3:
        raise ShapeError(f"{name}: x has shape {x.shape} but at least three axes (..., C, H, W) are needed")
    return r


def _shuffle_out(x: Spec, upscale_factor: Any) -> Spec:
    r = _factor("pixel_shuffle", "upscale_factor", x, upscale_factor)
    *lead, c, h, w = x.shape
    if c % (r * r):
        raise ShapeError(f"pixel_shuffle: x has {c} channels (shape {x.shape}) but a multiple of {r * r} is needed for a factor of {r}")
    return Spec((*lead, c // (r * r), h * r, w * r), x.dtype)


def _shuffle_vjp(c: Saved, g: Array) -> dict[str, Any]:
    return {"x": pixel_unshuffle(g, c.upscale_factor)}


@op(
    out=_shuffle_out, vjp=_shuffle_vjp, flops=lambda call: 0,
    samples=(
        s("2", A((2, 12, 3, 5)), 2),
        s("3", A((1, 9, 2, 4)), 3),
        s("1", A((2, 3, 2, 4)), 1),
        s("three axes", A((8, 3, 5)), 2),
        s("five axes", A((2, 1, 4, 3, 5)), 2),
        s("channels last", A((2, 8, 3, 5), view="channels_last"), 2),
        s("transposed", A((2, 4, 3, 5), view="transposed"), 2),
        s("reversed", A((3, 4, 3, 5), view="reversed"), 2),
        s("no images", A((0, 4, 3, 5)), 2),
    ),
    bad=(
        bad("channels", ShapeError, ("6 channels", "multiple of 4"), A((1, 6, 3, 3)), 2),
        bad("axes", ShapeError, ("(4, 4)", "three axes"), A((4, 4)), 2),
        bad("factor", SettingError, ("upscale_factor is 0",), A((1, 4, 3, 3)), 0),
    ),
    bench=(bench("super-resolution", A((4, 256, 64, 64)), 2),),
)  # fmt: skip
def pixel_shuffle(x: Array, upscale_factor: int) -> Array:
    """Turn channels into pixels: ``y[..., c, h r + a, w r + b] = x[..., c r r + a r + b, h, w]``, as `torch.nn.functional.pixel_shuffle`.

    Parameters
    ----------
    x : Array
        (..., C r r, H, W), any dtype.
    upscale_factor : int
        r.

    Returns
    -------
    Array
        (..., C, H r, W r), a copy in C order.

    Raises
    ------
    ShapeError, SettingError
        Channels that are no multiple of r r, fewer than three axes, a factor below 1.

    Notes
    -----
    No arithmetic; moves every element once. The gradient is `pixel_unshuffle`. Shi et al. 2016, arXiv:1609.05158.
    """
    *lead, c, h, w = x.shape
    r, n = upscale_factor, len(lead)
    parts = x.reshape(*lead, c // (r * r), r, r, h, w)
    order = (*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return parts.transpose(order).reshape(*lead, c // (r * r), h * r, w * r).copy()


def _unshuffle_out(x: Spec, downscale_factor: Any) -> Spec:
    r = _factor("pixel_unshuffle", "downscale_factor", x, downscale_factor)
    *lead, c, h, w = x.shape
    if h % r or w % r:
        raise ShapeError(f"pixel_unshuffle: x is {h} x {w} (shape {x.shape}) but both must be multiples of the factor {r}")
    return Spec((*lead, c * r * r, h // r, w // r), x.dtype)


def _unshuffle_vjp(c: Saved, g: Array) -> dict[str, Any]:
    return {"x": pixel_shuffle(g, c.downscale_factor)}


@op(
    out=_unshuffle_out, vjp=_unshuffle_vjp, flops=lambda call: 0,
    samples=(
        s("2", A((2, 3, 6, 10)), 2),
        s("3", A((1, 1, 6, 12)), 3),
        s("three axes", A((2, 6, 10)), 2),
        s("channels last", A((2, 3, 6, 10), view="channels_last"), 2),
        s("expanded", A((2, 3, 6, 10), view="expanded"), 2),
        s("no images", A((0, 4, 4, 6)), 2),
    ),
    bad=(
        bad("size", ShapeError, ("5 x 4", "factor 2"), A((1, 4, 5, 4)), 2),
        bad("factor", SettingError, ("downscale_factor is 0",), A((1, 4, 3, 3)), 0),
    ),
    bench=(bench("super-resolution", A((4, 64, 128, 128)), 2),),
)  # fmt: skip
def pixel_unshuffle(x: Array, downscale_factor: int) -> Array:
    """Turn pixels into channels: ``y[..., c r r + a r + b, h, w] = x[..., c, h r + a, w r + b]``, the inverse of `pixel_shuffle`.

    Parameters
    ----------
    x : Array
        (..., C, H r, W r), any dtype.
    downscale_factor : int
        r.

    Returns
    -------
    Array
        (..., C r r, H, W), a copy in C order.

    Raises
    ------
    ShapeError, SettingError
        Sizes that are no multiples of r, fewer than three axes, a factor below 1.

    Notes
    -----
    No arithmetic; moves every element once. The gradient is `pixel_shuffle`.
    """
    *lead, c, h, w = x.shape
    r, n = downscale_factor, len(lead)
    parts = x.reshape(*lead, c, h // r, r, w // r, r)
    order = (*range(n), n, n + 2, n + 4, n + 1, n + 3)
    return parts.transpose(order).reshape(*lead, c * r * r, h // r, w // r).copy()
