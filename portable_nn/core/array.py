"""Arrays that have no library of their own: `DeviceArray`, and the operators it shares with traced arrays.

The operators are ops found by name in the registry, so this file computes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import subscript
from .errors import ArgumentError, PortableNNError, ShapeError
from .recording import current as recording
from .registry import find

if TYPE_CHECKING:
    import numpy as np

    from .backend import Backend
    from .dtypes import DType
    from .spec import Shape, Spec

# What user code passes and gets: numpy.ndarray, cupy.ndarray, DeviceArray or a traced one. Ops name it in annotations,
# where it tells operands from settings.
Array = Any
Scalar = bool | int | float | complex
ArrayOrScalar = Any


def _binary(name: str) -> Callable[[Any, Any], Any]:
    def method(self: Any, other: Any) -> Any:
        return find(name)(self, other)

    return method


def _reflected(name: str) -> Callable[[Any, Any], Any]:
    def method(self: Any, other: Any) -> Any:
        return find(name)(other, self)

    return method


def _unary(name: str) -> Callable[[Any], Any]:
    def method(self: Any) -> Any:
        return find(name)(self)

    return method


class ArrayOperators:
    """The array API's operators and attributes, over `self.spec` and the registry."""

    __slots__ = ()
    # NumPy must hand `ndarray + DeviceArray` to us (and get our error), not loop over the elements.
    __array_ufunc__ = None
    spec: Spec

    __add__, __radd__ = _binary("add"), _reflected("add")
    __sub__, __rsub__ = _binary("subtract"), _reflected("subtract")
    __mul__, __rmul__ = _binary("multiply"), _reflected("multiply")
    __truediv__, __rtruediv__ = _binary("divide"), _reflected("divide")
    __floordiv__, __rfloordiv__ = _binary("floor_divide"), _reflected("floor_divide")
    __mod__, __rmod__ = _binary("remainder"), _reflected("remainder")
    __pow__, __rpow__ = _binary("pow"), _reflected("pow")
    __matmul__, __rmatmul__ = _binary("matmul"), _reflected("matmul")
    __and__, __rand__ = _binary("bitwise_and"), _reflected("bitwise_and")
    __or__, __ror__ = _binary("bitwise_or"), _reflected("bitwise_or")
    __xor__, __rxor__ = _binary("bitwise_xor"), _reflected("bitwise_xor")
    __lshift__, __rlshift__ = _binary("bitwise_left_shift"), _reflected("bitwise_left_shift")
    __rshift__, __rrshift__ = _binary("bitwise_right_shift"), _reflected("bitwise_right_shift")
    __lt__, __le__ = _binary("less"), _binary("less_equal")
    __gt__, __ge__ = _binary("greater"), _binary("greater_equal")
    __eq__ = _binary("equal")
    __ne__ = _binary("not_equal")
    __hash__ = None  # type: ignore[assignment]
    __neg__, __pos__, __abs__ = _unary("negative"), _unary("positive"), _unary("abs")

    def __invert__(self) -> Any:
        """Flip every bit; of bools, whether each is false."""
        return find("logical_not" if self.spec.dtype == bool else "bitwise_invert")(self)

    @property
    def shape(self) -> Shape:
        """Sizes of the axes."""
        return self.spec.shape

    @property
    def dtype(self) -> DType:
        """Element type."""
        return self.spec.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.spec.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.spec.size

    @property
    def T(self) -> Any:  # noqa: N802 - the array API's name
        """The matrix transpose of a 2-D array."""
        if self.spec.ndim != 2:
            raise ShapeError(f"T: the array has {self.spec.ndim} axes (shape {self.shape}) but T needs 2; use permute")
        return find("permute")(self, (1, 0))

    @property
    def mT(self) -> Any:  # noqa: N802 - the array API's name
        """The array with its last two axes exchanged."""
        if self.spec.ndim < 2:
            raise ShapeError(f"mT: the array has shape {self.shape} but at least two axes are needed")
        axes = tuple(range(self.spec.ndim))
        return find("permute")(self, (*axes[:-2], axes[-1], axes[-2]))

    def __getitem__(self, index: Any) -> Any:
        return subscript.get(self, index)

    def __len__(self) -> int:
        if not self.spec.shape:
            raise ArgumentError("len() of a 0-d array")
        return self.spec.shape[0]

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        """Return `portable_nn.xp`, the array API over the ops."""
        del api_version
        return import_module("portable_nn.xp")  # the one lazy hook of the layering: xp stands above core

    def reshape(self, *shape: Any) -> Any:
        """Return the same elements in another shape."""
        sizes = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        return find("reshape")(self, tuple(sizes))

    def astype(self, dtype: Any) -> Any:
        """Return a copy in another dtype."""
        return find("astype")(self, dtype)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Any:
        """Return the sum over `axis` (all axes by default)."""
        return find("sum")(self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Any:
        """Return the mean over `axis` (all axes by default)."""
        return find("mean")(self, axis=axis, keepdims=keepdims)


class DeviceArray(ArrayOperators):
    """Memory of a device that has no array library of its own: a storage, and how to read it.

    Parameters
    ----------
    storage : object
        The backend's own; it counts the views that keep it alive, and its `version` grows at in-place writes.
    spec : Spec
        Shape, dtype, strides in elements.
    offset : int
        First element, in elements.
    backend : Backend
        Whose memory it is.
    """

    __slots__ = ("__weakref__", "backend", "offset", "spec", "storage")

    def __init__(self, storage: Any, spec: Spec, offset: int, backend: Backend) -> None:
        self.storage = storage
        self.spec = spec
        self.offset = offset
        self.backend = backend

    @property
    def device(self) -> str:
        """Name of the device that holds the memory."""
        return self.backend.device

    def to_device(self, device: Any, /, *, stream: Any = None) -> Any:
        """Return self: an array is moved between backends by `pnn.asarray(x, backend=...)`."""
        del stream
        if device != self.device:
            raise ArgumentError(f"to_device: the array is on {self.device!r}, not {device!r}; use pnn.asarray(x, backend=...)")
        return self

    def __setitem__(self, index: Any, value: Any) -> None:
        subscript.put(self, index, value)

    def _item(self, kind: str) -> Any:
        if self.spec.size != 1:
            raise ArgumentError(f"{kind}(): the array has shape {self.shape}; only one element converts to a Python {kind}")
        recorder = recording.get()
        if recorder is not None:
            recorder.refuse(f"a Python {kind} from an array")
        return self.backend.to_numpy(self).reshape(()).item()

    def item(self) -> Any:
        """Wait for the one element and return it as a Python scalar."""
        return self._item("scalar")

    def __float__(self) -> float:
        return float(self._item("float"))

    def __int__(self) -> int:
        return int(self._item("int"))

    def __index__(self) -> int:
        return int(self._item("int"))

    def __complex__(self) -> complex:
        return complex(self._item("complex"))

    def __bool__(self) -> bool:
        return bool(self._item("bool"))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        raise ArgumentError(
            f"an array of shape {self.shape} on {self.device!r} does not turn into a NumPy array by itself; "
            f"use portable_nn.to_numpy(x)"
        )

    def __repr__(self) -> str:
        try:
            values = "" if self.spec.size > 64 else f"{self.backend.to_numpy(self).tolist()}, "
        except PortableNNError:  # an array without values: planned or recorded only
            values = ""
        return f"DeviceArray({values}shape={self.shape}, dtype={self.dtype.name}, device={self.device!r})"
