"""Samples: named small calls of an op, drawn by a seed, from which tests, gradient checks and docs are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import PortableNNError

Rng = np.random.Generator
Draw = Callable[[Rng], npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class A:
    """How one array operand of a sample is made.

    Parameters
    ----------
    shape : tuple of int
    low, high : float
        Range of the uniform draw (floats and integers). Choose it away from kinks and poles.
    dtype : str, optional
        Fixed dtype (labels, masks, keys); None follows the dtype under test.
    view : str
        "" (C order), "transposed" (axes reversed in memory), "strided" (every second element of a larger array on the
        last axis), "reversed" (negative stride on the first axis), "offset" (inside a larger buffer), "expanded"
        (stride 0 on the first axis), "channels_last" (axis 1 innermost in memory).
    values : sequence, optional
        Exact values instead of a draw (NaN, inf, ties, golden cases); reshaped to `shape`.
    unique : bool
        Draw without ties, well apart (max pooling, argmax, sort).
    """

    shape: tuple[int, ...]
    low: float = -1.0
    high: float = 1.0
    dtype: str | None = None
    view: str = ""
    values: tuple[Any, ...] | None = None
    unique: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """One named call: `args` in signature order (A, list of A, None, Python scalars or settings), then settings by name.

    Parameters
    ----------
    name : str
        Short, unique in its op: it is the test id.
    gradient : bool
        False where the sample sits on a kink, or holds NaN or inf, and finite differences mean nothing; say why in `why`.
    dtypes : tuple of str, optional
        Restricts the sample to these dtypes under test (golden integers, complex).
    """

    name: str
    args: tuple[Any, ...]
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    gradient: bool = True
    dtypes: tuple[str, ...] | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Bad:
    """A wrong call, the class it must raise and words its message must contain."""

    name: str
    args: tuple[Any, ...]
    raises: type[PortableNNError]
    words: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Bench:
    """A benchmark case: shapes people meet in real networks."""

    name: str
    args: tuple[Any, ...]
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


def s(name: str, *args: Any, gradient: bool = True, dtypes: Sequence[str] | None = None, why: str = "", **settings: Any) -> Sample:
    """Return a `Sample`; shorthand for records."""
    return Sample(name, args, MappingProxyType(settings), gradient, tuple(dtypes) if dtypes else None, why)


def bad(name: str, raises: type[PortableNNError], words: str | Sequence[str], *args: Any, **settings: Any) -> Bad:
    """Return a `Bad`; shorthand for records."""
    return Bad(name, args, raises, (words,) if isinstance(words, str) else tuple(words), MappingProxyType(settings))


def bench(name: str, *args: Any, **settings: Any) -> Bench:
    """Return a `Bench`; shorthand for records."""
    return Bench(name, args, MappingProxyType(settings))


def draw(a: A, dtype: np.dtype[Any], rng: Rng) -> npt.NDArray[Any]:
    """Return the array `a` describes, in `dtype` unless it fixes its own, laid out as its `view` says."""
    from .dtypes import canonical

    wanted = canonical(a.dtype) if a.dtype else dtype
    if a.values is not None:
        plain = np.asarray(a.values, dtype=np.float64 if wanted.kind in "fV" else None).astype(wanted).reshape(a.shape)
    elif a.unique:
        size = int(np.prod(a.shape))
        steps = rng.permutation(size).astype(np.float64) - size // 2
        plain = (steps / max(size / 8, 1)).reshape(a.shape).astype(wanted) if wanted.kind in "fV" else steps.reshape(a.shape).astype(wanted)
    elif wanted.kind == "b":
        plain = np.asarray(rng.random(a.shape) < 0.5)
    elif wanted.kind in "iu":
        low, high = (a.low, a.high) if a.dtype else (a.low * 8, a.high * 8 + 1)
        if wanted.kind == "u":
            low = max(low, 0)
        plain = rng.integers(int(low), max(int(high), int(low) + 1), a.shape).astype(wanted)
    elif wanted.kind == "c":
        plain = (rng.uniform(a.low, a.high, a.shape) + 1j * rng.uniform(a.low, a.high, a.shape)).astype(wanted)
    else:
        plain = rng.uniform(a.low, a.high, a.shape).astype(wanted)
    return _lay_out(plain, a.view)


def _lay_out(x: npt.NDArray[Any], view: str) -> npt.NDArray[Any]:
    if not view or x.ndim == 0:
        return x
    if view == "transposed":
        return np.ascontiguousarray(x.T).T
    if view == "reversed":
        return np.ascontiguousarray(x[::-1])[::-1]
    if view == "strided":
        wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    if view == "offset":
        wide = np.zeros((x.shape[0] + 2, *x.shape[1:]), x.dtype)
        wide[1:-1] = x
        return wide[1:-1]
    if view == "expanded":
        return np.broadcast_to(x[:1], x.shape)
    if view == "channels_last":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    raise ValueError(f"unknown view {view!r}")
