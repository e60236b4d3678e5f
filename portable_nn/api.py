"""Moving arrays between the host and the backends."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .core import dtypes, selection
from .core.array import Array, DeviceArray
from .core.backend import Backend
from .core.errors import ArgumentError, DTypeError
from .core.number import Number
from .core.op import foreign, host_backend
from .core.recording import current as recording
from .core.registry import find
from .core.tape import Traced


def backend_of(x: Array) -> Backend:
    """Return the backend that owns `x`."""
    if type(x) is Traced:
        return backend_of(x.value)
    if type(x) is DeviceArray:
        return x.backend
    if isinstance(x, np.ndarray):
        return host_backend("backend_of")
    return foreign("backend_of", x)[1]


def asarray(
    x: Any, /, *, dtype: Any = None, backend: str | Backend | None = None, device: str | None = None, copy: bool | None = None
) -> Array:
    """Return `x` as an array of a backend.

    Parameters
    ----------
    x : array, nested sequence, or scalar
        A NumPy array, an array of any backend, anything with ``__dlpack__`` on the host, or Python numbers.
        Python floats become float32 (the dtype networks are trained in), integers int64.
    dtype : dtype, optional
        Of the result; by default that of `x`.
    backend : str or Backend, optional
        Where the result lives; by default the chosen one (`use_backend`, PORTABLE_NN_BACKEND).
    device : str, optional
        Index or part of the name of the device.
    copy : bool, optional
        True always copies; otherwise an array that is already there is returned as it is.

    Returns
    -------
    array
        On the backend: `numpy.ndarray`, `cupy.ndarray` or `DeviceArray`.

    Raises
    ------
    DTypeError
        A dtype that is not stored (object, string, float128).
    BackendError
        A backend or device that is not there.
    """
    wanted = None if dtype is None else dtypes.canonical(dtype)
    recorder = recording.get()
    if recorder is not None and (type(x) is DeviceArray or _is_foreign(x)):
        x = recorder.lift(x)
    target = selection.default() if backend is None else backend if isinstance(backend, Backend) else selection.get(backend, device)
    if isinstance(x, Number):
        x = x.taken()
    if type(x) is Traced:
        return x if wanted in (None, x.dtype) else find("astype")(x, wanted)
    host: npt.NDArray[Any]
    if type(x) is np.ndarray:
        host = x
    elif type(x) is DeviceArray or _is_foreign(x):
        owner = x.backend if type(x) is DeviceArray else foreign("asarray", x)[1]
        if owner is target:
            same = wanted is None or wanted == x.dtype
            return x if same and not copy else find("astype")(x, x.dtype if wanted is None else wanted)
        host = owner.to_numpy(x)
    else:
        host = _host(x, wanted)
    if wanted is not None and host.dtype != wanted:
        with np.errstate(all="ignore"):
            host = host.astype(wanted)
    dtypes.canonical(host.dtype)
    if target.name == "numpy" and not copy and isinstance(x, np.ndarray) and host is x:
        return host
    return target.from_numpy(host)


def _is_foreign(x: Any) -> bool:
    return type(x).__module__.partition(".")[0] in ("cupy", "pyopencl")


def _host(x: Any, wanted: Any) -> npt.NDArray[Any]:
    if isinstance(x, np.ndarray | np.generic):
        return np.asarray(x)
    if hasattr(x, "__dlpack__"):
        try:
            return np.from_dlpack(x)
        except (BufferError, RuntimeError, TypeError) as error:
            raise ArgumentError(f"asarray: {type(x).__qualname__} does not come to the host by DLPack: {error}") from error
    try:
        made = np.asarray(x)
    except ValueError as error:
        raise ArgumentError(f"asarray: {type(x).__name__} does not make an array: {error}") from None
    if made.dtype == object:
        raise DTypeError(f"asarray: {type(x).__name__} makes an array of Python objects; numbers of one kind are needed")
    if wanted is None and made.dtype == np.float64:
        made = made.astype(np.float32)
    return made


def to_numpy(x: Array) -> npt.NDArray[Any]:
    """Wait for `x` and return it as a new NumPy array.

    Raises
    ------
    DeviceValueError
        If a kernel launched before met a value out of range (a label, an index), naming op and value.
    """
    recorder = recording.get()
    if recorder is not None:
        recorder.refuse(f"the values of an array of shape {x.shape}" if hasattr(x, "shape") else "a value")
    if type(x) is DeviceArray:
        return x.backend.to_numpy(x)
    if isinstance(x, np.ndarray):
        return np.array(x)
    if type(x) is Traced:
        raise ArgumentError("to_numpy: a traced array has no value yet; use stop_gradient(x), or return it")
    if isinstance(x, np.generic | bool | int | float | complex):
        return np.asarray(x)
    return foreign("to_numpy", x)[1].to_numpy(x)


def synchronize(backend: str | Backend | None = None) -> None:
    """Wait until the backend has done everything that was launched on it, and raise what its kernels reported."""
    target = selection.default() if backend is None else backend if isinstance(backend, Backend) else selection.get(backend)
    target.synchronize()
