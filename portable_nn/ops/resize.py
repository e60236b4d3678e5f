"""Resizing of images by nearest neighbour or bilinear interpolation, and its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import dtypes, geometry
from ..core.array import Array
from ..core.call import Call
from ..core.errors import DTypeError, SettingError, ShapeError
from ..core.op import op
from ..core.samples import A, bad, bench, s
from ..core.sampling import Sampling, neighbours, sampled
from ..core.spec import Spec
from ..core.tape import Saved


def _image(name: str, operand: str, spec: Spec) -> None:
    if spec.ndim != 4:
        raise ShapeError(f"{name}: {operand} has shape {spec.shape} but four axes (N, C, H, W) are needed; reshape it")
    if not dtypes.is_float(spec.dtype):
        raise DTypeError(f"{name}: {operand} is {spec.dtype.name} but a floating dtype is needed; convert it with astype")


def _like(x: Spec, size: tuple[int, ...]) -> Spec:
    shape = (*x.shape[:2], *size)
    return geometry.channels_last(shape, x.dtype) if geometry.is_channels_last(x) else Spec(shape, x.dtype)


def _weights(axis: Sampling, dtype: Any) -> np.ndarray[Any, Any]:
    """Return the (OUT, SIZE) matrix an axis is resized by."""
    low, high, part = neighbours(axis)
    matrix = np.zeros((axis.out, axis.size), dtype)
    rows = np.arange(axis.out)
    np.add.at(matrix, (rows, low), (1 - part).astype(dtype))
    np.add.at(matrix, (rows, high), part.astype(dtype))
    return matrix


def _out(x: Spec, size: Any, scale_factor: Any, mode: Any, align_corners: Any) -> Spec:
    _image("interpolate", "x", x)
    return _like(x, tuple(a.out for a in sampled("interpolate", x.shape[2:], size, scale_factor, mode, align_corners)))


def _vjp(c: Saved, g: Array) -> dict[str, Any]:
    settings = {name: c.call.settings[name] for name in ("scale_factor", "mode", "align_corners")}
    return {"x": interpolate_grad(g, c.spec_of("x").shape[2:], **settings)}


def _taps(call: Call) -> int:
    return 4 if call.settings["mode"] == "bilinear" else 1


_NAN = (*(float(i) for i in range(5)), float("nan"), *(float(i) for i in range(3)))


@op(
    out=_out, vjp=_vjp, flops=lambda call: call.outputs[0].size * (2 * _taps(call) - 1), reduces=_taps,
    samples=(
        s("double", A((2, 3, 4, 5)), None, 2),
        s("to a size", A((2, 3, 4, 5)), (7, 3)),
        s("smaller", A((1, 2, 9, 8)), 4),
        s("fraction", A((1, 2, 4, 6)), None, (1.5, 0.5)),
        s("odd factor", A((1, 1, 5, 7)), None, 1.3),
        s("exact", A((1, 2, 5, 7)), (3, 4), mode="nearest-exact"),
        s("bilinear", A((2, 3, 4, 5)), None, 2.0, "bilinear"),
        s("bilinear to a size", A((2, 3, 4, 5)), (7, 3), mode="bilinear"),
        s("bilinear, smaller", A((1, 2, 9, 8)), (4, 3), mode="bilinear", align_corners=False),
        s("bilinear, corners", A((2, 3, 4, 5)), (7, 9), mode="bilinear", align_corners=True),
        s("bilinear, corners, smaller", A((1, 2, 9, 8)), (4, 1), mode="bilinear", align_corners=True),
        s("bilinear, odd factor", A((1, 1, 5, 7)), None, 1.3, "bilinear"),
        s("bilinear, one pixel", A((1, 2, 1, 1)), 3, mode="bilinear"),
        s("bilinear, one pixel, corners", A((1, 2, 1, 1)), 3, mode="bilinear", align_corners=True),
        s("long rows", A((1, 2, 3, 40)), (5, 70), mode="bilinear"),
        s("channels last", A((2, 5, 4, 3), view="channels_last"), 7, mode="bilinear"),
        s("channels last, nearest", A((2, 5, 4, 3), view="channels_last"), 7),
        s("views", A((2, 5, 4, 3), view="transposed"), 6, mode="bilinear"),
        s("reversed", A((2, 5, 4, 3), view="reversed"), (3, 9)),
        s("no images", A((0, 3, 4, 5)), 2),
        s("NaN", A((1, 1, 3, 3), values=_NAN), 5, gradient=False, why="NaN"),
    ),
    bad=(
        bad("axes", ShapeError, ("(3, 3)", "(N, C, H, W)"), A((3, 3)), 2),
        bad("neither", SettingError, ("exactly one",), A((1, 1, 3, 3))),
        bad("both", SettingError, ("exactly one",), A((1, 1, 3, 3)), 2, 2.0),
        bad("mode", SettingError, ("'cubic'", "'bilinear'"), A((1, 1, 3, 3)), 2, mode="cubic"),
        bad("corners of nearest", SettingError, ("align_corners is True",), A((1, 1, 3, 3)), 2, align_corners=True),
        bad("size 0", SettingError, ("size is 0",), A((1, 1, 3, 3)), 0),
        bad("factor", SettingError, ("scale_factor is -1",), A((1, 1, 3, 3)), None, -1.0),
        bad("nothing left", ShapeError, ("(0, 0)",), A((1, 1, 3, 3)), None, 0.1),
        bad("empty image", ShapeError, ("(0, 3)",), A((1, 1, 0, 3)), 2),
        bad("integers", DTypeError, "int32", A((1, 1, 3, 3), dtype="int32"), 2),
    ),
    bench=(
        bench("U-Net up", A((4, 64, 64, 64)), None, 2, "bilinear"),
        bench("U-Net up, nearest", A((4, 64, 64, 64)), None, 2),
        bench("segmentation head", A((2, 21, 65, 65)), (513, 513), mode="bilinear", align_corners=True),
    ),
)  # fmt: skip
def interpolate(
    x: Array,
    size: int | tuple[int, int] | None = None,
    scale_factor: float | tuple[float, float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Array:
    """Resize images, as `torch.nn.functional.interpolate`.

    Output row i lies at ``t = i r`` of the input ('nearest'), ``(i + 1/2) r`` ('nearest-exact'), ``(i + 1/2) r - 1/2``
    ('bilinear'; pixel centres) or ``i (H - 1) / (OH - 1)`` (with `align_corners`), held inside [0, H - 1]; ``r = H / OH``, or
    1 / scale_factor. The nearest modes take input floor(t); 'bilinear' mixes floor(t) and the next, ``t - floor(t)`` of it.
    Columns likewise. t is an exact fraction: rounding never decides which input is read.

    Parameters
    ----------
    x : Array
        (N, C, H, W), floating.
    size : int or (int, int), optional
        (OH, OW).
    scale_factor : float or (float, float), optional
        Instead of `size`: OH = floor(H scale_factor). Taken as a fraction with a denominator up to 65536.
    mode : 'nearest', 'nearest-exact' or 'bilinear'
    align_corners : bool, optional
        For 'bilinear': corners keep their values. False when left out.

    Returns
    -------
    Array
        (N, C, OH, OW), channels-last in memory if x is.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        Both or neither of `size` and `scale_factor`, an empty image, integers, settings out of range.

    Notes
    -----
    7 flop per output for 'bilinear', no arithmetic for the nearest modes. A NaN reaches every output it has a share in, a share
    of 0 included.
    """
    rows, cols = sampled("interpolate", x.shape[2:], size, scale_factor, mode, align_corners)
    (top, bottom, down), (left, right, along) = neighbours(rows), neighbours(cols)
    if not rows.linear:
        return np.asarray(x[:, :, top[:, None], left[None, :]])
    share, part = along.astype(x.dtype), down.astype(x.dtype)[:, None]
    upper = x[:, :, top[:, None], left[None, :]] * (1 - share) + x[:, :, top[:, None], right[None, :]] * share
    lower = x[:, :, bottom[:, None], left[None, :]] * (1 - share) + x[:, :, bottom[:, None], right[None, :]] * share
    return np.asarray(upper * (1 - part) + lower * part)


def _grad_axes(name: str, g: Spec | Array, input_size: Any, scale_factor: Any, mode: Any, align_corners: Any) -> tuple[Sampling, ...]:
    size = geometry.ints(name, "input_size", input_size, 2)
    given = tuple(g.shape[2:]) if scale_factor is None else None
    return sampled(name, size, given, scale_factor, mode, align_corners)


def _grad_out(g: Spec, input_size: Any, scale_factor: Any, mode: Any, align_corners: Any) -> Spec:
    name = "interpolate_grad"
    _image(name, "g", g)
    axes = _grad_axes(name, g, input_size, scale_factor, mode, align_corners)
    if g.shape[2:] != tuple(a.out for a in axes):
        raise ShapeError(f"{name}: g has shape {g.shape} but resizing {input_size!r} by {scale_factor!r} gives {tuple(a.out for a in axes)}; pass the settings of the forward call")
    return _like(g, tuple(a.size for a in axes))


def _grad_vjp(c: Saved, ct: Array) -> dict[str, Any]:
    size = c.spec_of("g").shape[2:] if c.scale_factor is None else None
    return {"g": interpolate(ct, size, c.scale_factor, c.mode, c.align_corners)}


def _covering(call: Call) -> int:
    return max(1, call.spec(0).size // max(call.outputs[0].size, 1)) * 4 + 4


@op(
    out=_grad_out, vjp=_grad_vjp, flops=lambda call: call.spec(0).size * (2 * _taps(call) - 1), reduces=_covering,
    samples=(
        s("double", A((2, 3, 8, 10)), (4, 5), 2),
        s("from a size", A((2, 3, 7, 3)), (4, 5)),
        s("smaller", A((1, 2, 4, 4)), (9, 8)),
        s("odd factor", A((1, 1, 6, 9)), (5, 7), 1.3),
        s("exact", A((1, 2, 3, 4)), (5, 7), mode="nearest-exact"),
        s("bilinear", A((2, 3, 8, 10)), (4, 5), 2.0, "bilinear"),
        s("bilinear, smaller", A((1, 2, 4, 3)), (9, 8), mode="bilinear"),
        s("bilinear, corners", A((2, 3, 7, 9)), (4, 5), mode="bilinear", align_corners=True),
        s("bilinear, corners, one", A((1, 2, 4, 1)), (9, 8), mode="bilinear", align_corners=True),
        s("bilinear, one pixel", A((1, 2, 3, 3)), 1, mode="bilinear"),
        s("bilinear, one pixel, corners", A((1, 2, 3, 3)), 1, mode="bilinear", align_corners=True),
        s("long rows", A((1, 2, 5, 70)), (3, 40), mode="bilinear"),
        s("channels last", A((2, 5, 7, 7), view="channels_last"), (4, 3), mode="bilinear"),
        s("views", A((2, 5, 6, 6), view="expanded"), (4, 3), mode="bilinear", align_corners=False),
        s("no images", A((0, 3, 4, 4)), 2),
    ),
    bad=(bad("size", ShapeError, ("(1, 1, 5, 5)", "(6, 6)"), A((1, 1, 5, 5)), 3, 2.0),),
    bench=(bench("U-Net up", A((4, 64, 128, 128)), 64, 2, "bilinear"),),
)  # fmt: skip
def interpolate_grad(
    g: Array,
    input_size: int | tuple[int, int],
    scale_factor: float | tuple[float, float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Array:
    """Gradient of `interpolate`: each input sums its share of every output that read it.

    Parameters
    ----------
    g : Array
        (N, C, OH, OW), the cotangent.
    input_size : int or (int, int)
        (H, W).
    scale_factor, mode, align_corners
        Those of the forward call; without `scale_factor` g's size is the `size` of that call.

    Returns
    -------
    Array
        (N, C, H, W), channels-last in memory if g is.

    Raises
    ------
    ShapeError, DTypeError, SettingError
        When g is not what such a call gives.

    Notes
    -----
    7 flop per element of g for 'bilinear'. Linear in g. Device kernels gather, so the sums have a fixed order.
    """
    rows, cols = _grad_axes("interpolate_grad", g, input_size, scale_factor, mode, align_corners)
    return np.asarray(np.einsum("ih,ncij,jw->nchw", _weights(rows, g.dtype), g, _weights(cols, g.dtype)))
