"""From a sample to a call: which dtypes it is tested in, its operands on the host, the same operands and views on a backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from unittest import SkipTest
from zlib import crc32

import numpy as np
import numpy.typing as npt

from ..core import dtypes
from ..core.backend import Backend
from ..core.errors import DTypeError
from ..core.op import Op
from ..core.samples import A, Bad, Bench, Sample, draw
from ..core.spec import WEAK, Spec

FLOATS = ("float32", "float64", "float16", "bfloat16")
# Tried on the first samples only: a sample that needs one of them for its own sake lists it in `dtypes`.
OTHERS = ("int32", "uint8", "int64", "bool", "complex64")
_OTHERS_ON = 2
GUARD = 64  # poisoned elements before and after every array

Host = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Drawn:
    """The arguments of one call: arrays (or lists of arrays) at their places, everything else as the sample has it."""

    args: tuple[Any, ...]
    settings: Mapping[str, Any]

    def map(self, f: Callable[[Any], Any], kind: type) -> Drawn:
        """Return the arguments with `f` applied to every value of type `kind`, also inside lists."""

        def one(value: Any) -> Any:
            if isinstance(value, kind):
                return f(value)
            if isinstance(value, list | tuple) and any(isinstance(v, kind) for v in value):
                return [one(v) for v in value]
            return value

        return Drawn(tuple(one(a) for a in self.args), MappingProxyType({k: one(v) for k, v in self.settings.items()}))

    def arrays(self) -> Iterator[Host]:
        """Yield the arrays in the order written."""
        for value in (*self.args, *self.settings.values()):
            for item in value if isinstance(value, list | tuple) else (value,):
                if isinstance(item, np.ndarray):
                    yield item

    def named(self, op: Op) -> dict[str, Any]:
        """Return the arguments by parameter name, without defaults."""
        return dict(op.signature.bind(*self.args, **self.settings).arguments)


def described(case: Sample | Bad | Bench) -> list[A]:
    """Return every operand description of a case."""
    found: list[A] = []
    for value in (*case.args, *case.settings.values()):
        items = value if isinstance(value, list | tuple) else (value,)
        found += [item for item in items if isinstance(item, A)]
    return found


def seed_of(*parts: str) -> int:
    """Return a seed that names itself: the same on every machine and in every run."""
    return crc32("/".join(parts).encode())


def drawn(case: Sample | Bad | Bench, dtype: str, seed: int) -> Drawn:
    """Draw the operands of a case in `dtype`."""
    rng = np.random.default_rng(seed)
    wanted = dtypes.canonical(dtype)
    return Drawn(case.args, case.settings).map(lambda a: draw(a, wanted, rng), A)


def widened(x: Any) -> Any:
    """Return `x` in float64 (complex128) if it is of a floating (complex) dtype."""
    if not isinstance(x, np.ndarray):
        return x
    kind = dtypes.kind(x.dtype)
    return x.astype(np.float64 if kind == "float" else np.complex128 if kind == "complex" else x.dtype)


def spec_of(x: Host) -> Spec:
    """Return the spec of a host array."""
    size = x.dtype.itemsize
    return Spec(x.shape, dtypes.canonical(x.dtype), tuple(s // size for s in x.strides))


def specs(op: Op, given: Drawn) -> Spec | tuple[Spec, ...]:
    """Apply the op's shape rule to host arguments."""
    bound = op.signature.bind(*given.map(spec_of, np.ndarray).args, **given.map(spec_of, np.ndarray).settings)
    bound.apply_defaults()
    named = {
        name: WEAK[type(v)] if name in op.operands and type(v) in WEAK else v for name, v in bound.arguments.items()
    }
    return op.out(**named)


def legal(op: Op, sample: Sample, dtype: str) -> bool:
    """Tell whether the op takes the sample in `dtype`; other errors than that of the dtype are left to the test."""
    try:
        specs(op, drawn(sample, dtype, 0))
    except DTypeError:
        return False
    except Exception:
        return True
    return True


# By identity: samples hold mappings, so they cannot be hashed. The sample is kept, so that its id stays its own.
_dtypes: dict[tuple[str, int], tuple[Sample, tuple[str, ...]]] = {}


def dtypes_of(op: Op, sample: Sample) -> tuple[str, ...]:
    """Return the dtypes a sample is tested in: its own list, or every floating dtype the op takes and some others."""
    if sample.dtypes is not None:
        return sample.dtypes
    if not any(known is sample for known in op.samples):
        return _legal_dtypes(op, sample)
    key = op.name, id(sample)
    if key not in _dtypes:
        _dtypes[key] = sample, _legal_dtypes(op, sample)
    return _dtypes[key][1]


def _legal_dtypes(op: Op, sample: Sample) -> tuple[str, ...]:
    operands = described(sample)
    if operands and all(a.dtype for a in operands):
        return (str(operands[0].dtype),)
    place = op.samples.index(sample) if sample in op.samples else 0
    fractional = any(a.values is not None and not all(float(v).is_integer() for v in a.values) for a in operands)
    others = OTHERS if place < _OTHERS_ON and not fractional else ()
    return tuple(d for d in (*FLOATS, *others) if legal(op, sample, d))


def poisoned(size: int, dtype: np.dtype[Any], byte: int) -> Host:
    """Return `size` elements whose every byte is `byte`: 0xFF is NaN and -1, 0xA5 a small odd number."""
    return np.full(size * dtype.itemsize, byte, np.uint8).view(dtype)


@dataclass(frozen=True, slots=True)
class Placed:
    """An operand on a backend: the array, what its memory held, and how to read that memory again."""

    array: Any
    before: bytes
    read: Callable[[], Host]
    what: str

    def modified(self) -> bool:
        """Tell whether any byte of its memory, or beside it, has changed."""
        return self.read().tobytes() != self.before


def place(x: Host, backend: Backend, what: str = "operand") -> Placed:
    """Put `x` on `backend` with its strides: its memory is rebuilt with poison around it and between its elements.

    A kernel that reads a neighbour, or ignores the strides, then meets NaN (or -1).
    """
    size = x.dtype.itemsize
    strides = tuple(0 if n == 1 else s // size for n, s in zip(x.shape, x.strides, strict=True))
    plain = x.flags.c_contiguous
    guard = GUARD if plain else GUARD + 3  # views are also misaligned
    spans = [(n - 1) * s for n, s in zip(x.shape, strides, strict=True)] if x.size else []
    first = guard - sum(s for s in spans if s < 0)
    buffer = poisoned(2 * guard + sum(abs(s) for s in spans) + bool(x.size), x.dtype, 0xFF)
    view = np.lib.stride_tricks.as_strided(buffer[first:], x.shape, tuple(s * size for s in strides))
    view[...] = x
    alias = getattr(backend, "alias", None)
    if alias is not None:
        there = backend.from_numpy(buffer)
        array = alias(there, Spec(x.shape, dtypes.canonical(x.dtype), strides), first)
        return Placed(array, buffer.tobytes(), lambda: backend.to_numpy(there), what)
    if isinstance(backend.from_numpy(np.zeros(1)), np.ndarray):
        return Placed(view, buffer.tobytes(), lambda: buffer, what)
    if not plain:
        raise SkipTest(f"backend {backend.name} has no alias(x, spec, offset), so a strided view cannot be made on it")
    there = backend.from_numpy(x)
    return Placed(there, x.tobytes(), lambda: backend.to_numpy(there), what)


def place_all(given: Drawn, backend: Backend) -> tuple[Drawn, list[Placed]]:
    """Put every array of a call on `backend`; return the call and what was placed."""
    kept: list[Placed] = []

    def one(x: Host) -> Any:
        kept.append(place(x, backend, f"array operand {len(kept)}"))
        return kept[-1].array

    return given.map(one, np.ndarray), kept


def largest(arrays: Sequence[Host] | Iterator[Host]) -> float:
    """Return the largest finite magnitude among the floating arrays; 0 without any."""
    top = 0.0
    for x in arrays:
        if dtypes.kind(x.dtype) in ("float", "complex") and x.size:
            wide = np.abs(widened(x))
            top = max(top, float(wide[np.isfinite(wide)].max(initial=0.0)))
    return top
