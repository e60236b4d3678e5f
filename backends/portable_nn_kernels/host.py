"""Reading a strided array of a device: one copy of the memory that covers it, then its strides on the host."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from portable_nn.core.spec import Spec


def span(spec: Spec) -> tuple[int, int]:
    """Return the first and last element, relative to the array's own first, of the memory that covers a non-empty array."""
    if spec.contiguous:
        return 0, spec.size - 1
    reach = [(n - 1) * s for n, s in zip(spec.shape, spec.strides, strict=True)]
    return sum(min(r, 0) for r in reach), sum(max(r, 0) for r in reach)


def gathered(flat: npt.NDArray[Any], spec: Spec, low: int) -> npt.NDArray[Any]:
    """Return the array of which `flat` is the covering memory (element `low` first), in C order."""
    if spec.contiguous:
        return flat.reshape(spec.shape)
    strides = [s * spec.dtype.itemsize for s in spec.strides]
    return np.array(np.lib.stride_tricks.as_strided(flat[-low:], spec.shape, strides), order="C")
