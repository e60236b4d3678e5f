"""What has no kernel: an error, or NumPy on the host where PORTABLE_NN_HOST_FALLBACK says so. Every use is counted."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from ..api import asarray, backend_of, to_numpy
from ..core.array import Array
from ..core.errors import NoKernel, SettingError
from ..core.tape import Traced

# How often each function ran on the host.
fallbacks: Counter[str] = Counter()
_CHOICES = ("allow", "warn", "error")


def on_host(name: str, function: Callable[..., Any], *arrays: Array, **settings: Any) -> Any:
    """Run a NumPy function on arrays that are copied to the host, and copy what it returns back.

    Raises
    ------
    NoKernel
        Unless PORTABLE_NN_HOST_FALLBACK is "allow" or "warn", or the arrays are NumPy's; for traced arrays always.
    """
    if any(type(x) is Traced for x in arrays):
        raise NoKernel(f"{name}: there is no op, hence no gradient, for it; call it outside the function that is differentiated")
    owner = backend_of(arrays[0])
    if owner.name != "numpy":
        choice = os.environ.get("PORTABLE_NN_HOST_FALLBACK", "error")
        if choice not in _CHOICES:
            raise SettingError(f"PORTABLE_NN_HOST_FALLBACK is {choice!r} but must be one of {', '.join(_CHOICES)}")
        told = f"{name}: backend {owner.name} has no kernel for it"
        if choice == "error":
            raise NoKernel(f"{told}; PORTABLE_NN_HOST_FALLBACK=warn or allow runs it on the host")
        if choice == "warn":
            warnings.warn(f"{told}; it ran on the host", stacklevel=3)
        fallbacks[name] += 1
    made = function(*map(to_numpy, arrays), **settings)
    if isinstance(made, tuple):
        return tuple(asarray(part, backend=owner) for part in made)
    return asarray(made, backend=owner)


def nonzero(x: Array, /) -> tuple[Array, ...]:
    """Return the indices of the elements that are not zero. Their number depends on values, so kernels cannot."""
    made: tuple[Array, ...] = on_host("nonzero", np.nonzero, x)
    return made


def unique_values(x: Array, /) -> Array:
    """Return the values that occur, in order. Their number depends on values, so kernels cannot."""
    return on_host("unique_values", np.unique, x)
