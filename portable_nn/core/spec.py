"""Spec: what is known of an array without touching its values. Interned, so that equality is identity and hashing is free."""

from __future__ import annotations

from typing import ClassVar

from .dtypes import DType
from .errors import ShapeError

Shape = tuple[int, ...]


def contiguous_strides(shape: Shape) -> Shape:
    """Return C-order strides of `shape`, in elements."""
    strides = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


class Spec:
    """Shape, dtype and strides (in elements) of an array. `Spec(...) is Spec(...)` for equal arguments.

    Parameters
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    strides : tuple of int, optional
        In elements; C order when left out. Strides of axes of length 1 are normalised, so that two
        ways of writing the same layout are one spec.
    """

    __slots__ = ("contiguous", "dtype", "nbytes", "ndim", "shape", "size", "strides")
    _interned: ClassVar[dict[tuple[Shape, DType, Shape | None], Spec]] = {}

    shape: Shape
    dtype: DType
    strides: Shape
    ndim: int
    size: int
    nbytes: int
    contiguous: bool

    def __new__(cls, shape: Shape, dtype: DType, strides: Shape | None = None) -> Spec:
        """Return the one spec with these values."""
        key = (shape, dtype, strides)
        found = cls._interned.get(key)
        if found is not None:
            return found
        plain = contiguous_strides(shape)
        layout = plain
        if strides is not None:
            layout = tuple(p if n <= 1 else s for n, s, p in zip(shape, strides, plain, strict=True))
            size_zero = 0 in shape
            if size_zero or layout == plain:
                layout = plain
        found = cls._interned.get((shape, dtype, layout))
        if found is None:
            found = object.__new__(cls)
            found.shape, found.dtype, found.strides = shape, dtype, layout
            found.ndim = len(shape)
            found.size = 1
            for n in shape:
                found.size *= n
            found.nbytes = found.size * dtype.itemsize
            found.contiguous = layout == plain
            cls._interned[shape, dtype, layout] = found
        if len(cls._interned) < 65536:  # a process that walks through ever new shapes must not keep them all
            cls._interned[key] = found
        return found

    def __repr__(self) -> str:
        layout = "" if self.contiguous else f", strides={self.strides}"
        return f"Spec({self.shape}, {self.dtype.name}{layout})"

    def __reduce__(self) -> tuple[object, ...]:
        return Spec, (self.shape, self.dtype, self.strides)

    def with_dtype(self, dtype: DType) -> Spec:
        """Return a C-order spec of this shape and `dtype`."""
        return Spec(self.shape, dtype)

    def with_shape(self, shape: Shape) -> Spec:
        """Return a C-order spec of this dtype and `shape`."""
        return Spec(shape, self.dtype)


class Weak:
    """The spec of a Python scalar operand: a kind without a dtype of its own."""

    __slots__ = ("kind",)
    shape: ClassVar[Shape] = ()
    ndim: ClassVar[int] = 0
    size: ClassVar[int] = 1

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"Weak({self.kind})"


WEAK = {bool: Weak("bool"), int: Weak("int"), float: Weak("float"), complex: Weak("complex")}


def broadcast_shapes(op: str, *shapes: Shape) -> Shape:
    """Return the shape that `shapes` broadcast to, by the array API's rule."""
    ndim = max((len(s) for s in shapes), default=0)
    out = [1] * ndim
    for shape in shapes:
        for axis, n in enumerate(shape, ndim - len(shape)):
            if n == 1:
                continue
            if out[axis] not in (1, n):
                listed = " and ".join(str(s) for s in shapes)
                raise ShapeError(f"{op}: shapes {listed} do not broadcast: axis {axis - ndim} is {out[axis]} and {n}")
            out[axis] = n
    return tuple(out)


def broadcast_strides(spec: Spec, shape: Shape) -> Shape:
    """Return the strides with which `spec` is read as `shape`; broadcast axes get stride 0."""
    lead = len(shape) - spec.ndim
    return (0,) * lead + tuple(
        0 if n == 1 and full != 1 else s for n, s, full in zip(spec.shape, spec.strides, shape[lead:], strict=True)
    )
