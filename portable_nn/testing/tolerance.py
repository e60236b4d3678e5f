"""How far a result may be from the truth: one formula, from the dtype and the number of terms summed.

The truth is the op's body in float64 on the exact low-precision operands. A kernel differs from it by

1. the one rounding of the stored result: at most eps(stored) / 2 of its value; one eps is allowed, because the
   accumulator was itself rounded first and a tie may then fall to the other side;
2. what it lost while computing, in the accumulation type (float32 for float16 and bfloat16): each of `terms` partial
   sums rounds independently, so the errors add like a random walk, sqrt(terms) eps(accumulator). They are relative to
   the *terms*, not to their sum, which may cancel: the scale is therefore the largest value of the result, and never
   less than that of the operands up to 1 (samples draw operands of order one). The factor 8 covers the scalar
   functions (OpenCL allows 3 ulp for exp and 16 for pow) and a handful of operations around the sum;
   In float64 the truth is no better than the kernel, so operands far from zero count in full there;
3. results below the smallest normal number, which a GPU may flush to zero.

    allowed = eps(stored) |truth| + 8 sqrt(terms) eps(accumulator) max(|truth|_max, min(1, |operands|_max)) + tiny

A kernel that sums naively over a long axis has an error like `terms`, not its root, and is not let through. Integers,
bools and indices are compared exactly. An op that needs more stands in `EXCEPTIONS` with its reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from ml_dtypes import finfo

from ..core import dtypes

FACTOR = 8.0

# op -> (by how much its second term is larger, why)
EXCEPTIONS: dict[str, tuple[float, str]] = {}


def eps(dtype: np.dtype[Any]) -> float:
    """Return the distance from 1 to the next number of a floating or complex dtype."""
    return float(finfo(dtypes.real(dtype)).eps)


@dataclass(frozen=True, slots=True)
class Bound:
    """The numbers of the formula for one op and one dtype: ``relative |truth| + lost sqrt(terms) scale + tiny``."""

    relative: float
    lost: float
    tiny: float


def bound(dtype: np.dtype[Any], op: str = "") -> Bound:
    """Return the numbers for results stored in `dtype`; `op` is looked up in `EXCEPTIONS`."""
    info = finfo(dtypes.real(dtype))
    halves = dtype in (dtypes.float16, dtypes.bfloat16)
    lost = FACTOR * EXCEPTIONS.get(op, (1.0, ""))[0] * eps(dtypes.accumulator(dtype))
    return Bound(eps(dtype), lost, float(info.smallest_subnormal if halves else info.smallest_normal))


def scale_of(truth: npt.NDArray[Any], operands: float, dtype: np.dtype[Any]) -> float:
    """Return the size that rounding errors are relative to; `operands` is the largest finite operand."""
    finite = np.abs(truth[np.isfinite(truth)])
    exact = dtypes.real(dtype) != dtypes.float64
    return max(float(finite.max(initial=0.0)), min(1.0, operands) if exact else operands)


def allowed(
    truth: npt.NDArray[Any], dtype: np.dtype[Any], terms: int = 1, operands: float = 1.0, op: str = ""
) -> npt.NDArray[Any]:
    """Return the largest permitted absolute error of each element.

    Parameters
    ----------
    truth : ndarray of float64 or complex128
    dtype : numpy.dtype
        What the result is stored in.
    terms : int
        Number of terms summed into one element; the record's `reduces`.
    operands : float
        Magnitude of the largest finite operand.
    op : str
        Name, for `EXCEPTIONS`.
    """
    of = bound(dtype, op)
    lost = of.lost * np.sqrt(max(terms, 1)) * scale_of(truth, operands, dtype)
    out: npt.NDArray[Any] = of.relative * np.abs(truth) + (lost + of.tiny)
    return out
