"""Sampling: where a resized axis reads its input, in exact fractions, so that every device rounds alike."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import SettingError, ShapeError
from .geometry import ints
from .spec import Shape

MODES = ("nearest", "nearest-exact", "bilinear")
_FINEST = 1 << 16  # denominators of a scale factor


@dataclass(frozen=True, slots=True)
class Sampling:
    """One resized axis: output o lies at ``(step o + shift) / unit`` of the input, held inside [0, size - 1].

    Parameters
    ----------
    size, out : int
    step, shift, unit : int
        Exact: no rounding decides which input is read.
    linear : bool
        Whether the two neighbours are mixed; otherwise the position is rounded down.
    """

    size: int
    out: int
    step: int
    shift: int
    unit: int
    linear: bool


def sampled(op: str, size: Shape, output_size: Any, scale_factor: Any, mode: Any, align_corners: Any) -> tuple[Sampling, ...]:
    """Return how the axes of `size` are resized, or raise; exactly one of `output_size` and `scale_factor` is given."""
    if mode not in MODES:
        raise SettingError(f"{op}: mode is {mode!r} but must be one of {', '.join(map(repr, MODES))}")
    if align_corners is not None and mode != "bilinear":
        raise SettingError(f"{op}: align_corners is {align_corners!r} but mode {mode!r} has none; leave it out")
    if (output_size is None) == (scale_factor is None):
        raise SettingError(f"{op}: size is {output_size!r} and scale_factor {scale_factor!r}; give exactly one of them")
    if min(size) < 1:
        raise ShapeError(f"{op}: the input is {tuple(size)} but all its sizes must be at least 1")
    rank = len(size)
    if scale_factor is None:
        outs = ints(op, "size", output_size, rank)
        ratios = [Fraction(n, out) for n, out in zip(size, outs, strict=True)]
    else:
        factors = scale_factor if isinstance(scale_factor, tuple | list) else (scale_factor,) * rank
        if len(factors) != rank or not all(isinstance(f, int | float) and math.isfinite(f) and f > 0 for f in factors):
            raise SettingError(f"{op}: scale_factor is {scale_factor!r} but must be a positive number or {rank} of them")
        exact = [Fraction(f).limit_denominator(_FINEST) for f in factors]
        if not all(exact):
            raise SettingError(f"{op}: scale_factor is {scale_factor!r} but must be at least {1 / _FINEST}")
        outs = tuple(math.floor(n * f) for n, f in zip(size, exact, strict=True))
        ratios = [1 / f for f in exact]
        if min(outs) < 1:
            raise ShapeError(f"{op}: scale_factor {scale_factor!r} makes of an input of {tuple(size)} an output of {outs}; scale less")
    found = []
    for n, out, ratio in zip(size, outs, ratios, strict=True):
        p, q = ratio.numerator, ratio.denominator
        if mode == "nearest":
            step, shift, unit = p, 0, q
        elif mode == "nearest-exact":
            step, shift, unit = 2 * p, p, 2 * q
        elif align_corners:
            step, shift, unit = max(n - 1, 1), 0, max(out - 1, 1)
        else:  # pixel centres: (o + 1/2) p / q - 1/2
            step, shift, unit = 2 * p, p - q, 2 * q
        found.append(Sampling(n, out, step, shift, unit, mode == "bilinear"))
    return tuple(found)


def neighbours(axis: Sampling) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return, for every output, the input before it, the one after it, and the second's share."""
    at = np.maximum(axis.step * np.arange(axis.out) + axis.shift, 0)
    low = np.minimum(at // axis.unit, axis.size - 1)
    part = np.where((low < axis.size - 1) & axis.linear, (at - low * axis.unit) / axis.unit, 0.0)
    return low, np.minimum(low + 1, axis.size - 1), part
