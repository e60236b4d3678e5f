"""How exact a product of float32 matrices must be: the one setting that lets kernels use tensor cores."""

from __future__ import annotations

from .errors import SettingError
from .registry import OPS

LEVELS = ("highest", "high")
_level = LEVELS[0]


def set_float32_matmul_precision(precision: str) -> None:
    """Say how exact matrix products must be, for calls made from now on. PyTorch's setting of this name.

    Parameters
    ----------
    precision : "highest" or "high"
        "highest", the default, multiplies and adds in float32. "high" allows the tensor cores of NVIDIA GPUs from
        compute capability 8.0 on (backend `cupy`): float32 operands are rounded to TF32 (11 significant bits, a relative
        error of at most 2**-11 each), float16 and bfloat16 operands are taken as they are, and sums are kept in float32
        in every case. Where there are none, it changes nothing. Captured steps keep what they were captured with.

    Raises
    ------
    SettingError
        For another word.

    Examples
    --------
    >>> import portable_nn as pnn
    >>> pnn.set_float32_matmul_precision("high")
    >>> pnn.get_float32_matmul_precision()
    'high'
    >>> pnn.set_float32_matmul_precision("highest")
    """
    global _level
    if precision not in LEVELS:
        raise SettingError(f"set_float32_matmul_precision: {precision!r} was given; it must be one of {', '.join(map(repr, LEVELS))}")
    if precision != _level:
        _level = precision
        for op in OPS.values():  # prepared calls hold launches planned under the other level
            op.forget()


def get_float32_matmul_precision() -> str:
    """Return "highest" or "high": see `set_float32_matmul_precision`."""
    return _level
