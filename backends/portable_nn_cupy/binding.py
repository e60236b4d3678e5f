"""Bound launches: a list of arguments whose constants are preset, so that a call fills in arrays and launches.

Array arguments are the `cupy.ndarray` itself (its own pointer, so the offset beside it is always 0); constants are
NumPy scalars made once: CuPy takes a 0-d array as an argument too, but 10 times slower.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from portable_nn.core.errors import BackendError
from portable_nn_kernels.launch import Const, ErrorWord, Launch, Ref, Value
from portable_nn_kernels.scalars import SCALAR, scalar

from .devices import is_hip

if TYPE_CHECKING:
    from .adapter import CupyBackend

_GRID = (2**31 - 1, 65535, 65535)
_GRID_HIP = (2**32 - 1,) * 3  # but the number of threads must fit 32 bits
_NO_OFFSET = np.int64(0)


def _check_grid(launch: Launch) -> None:
    limits = _GRID_HIP if is_hip() else _GRID
    sizes = [g * n for g, n in zip(launch.groups, launch.size, strict=True)] if is_hip() else launch.groups
    if any(n > limit for n, limit in zip(sizes, limits, strict=False)):
        raise BackendError(f"{launch.kernel}: a grid of {launch.groups} groups of {launch.size} is more than {limits}")


def bind(backend: CupyBackend, launch: Launch, slots: Sequence[int | None]) -> Callable[[Sequence[Any]], None]:
    """Return what sets the arguments that change from call to call, and launches on the current stream."""
    if 0 in launch.groups:
        return lambda _: None
    _check_grid(launch)
    kernel = backend.programs.kernel(launch)
    template: list[Any] = []
    arrays: list[tuple[int, int]] = []  # (argument, slot)
    values: list[tuple[int, int, str]] = []
    reports = False
    for arg, slot in zip(launch.args, slots, strict=True):
        if isinstance(arg, Ref):
            assert slot is not None
            arrays.append((len(template), slot))
            template += [None, _NO_OFFSET]
        elif isinstance(arg, Const):
            template.append(SCALAR[arg.tag](arg.value))
        elif isinstance(arg, Value):
            assert slot is not None
            values.append((len(template), slot, arg.tag))
            template.append(None)
        elif isinstance(arg, ErrorWord):
            template += [backend.error_word.array, np.int32(arg.code)]
            reports = True
    name = launch.kernel
    op, nbytes, _ = backend.described(slots)
    grid, block = (*launch.groups, 1, 1)[:3], (*launch.size, 1, 1)[:3]
    word = backend.error_word
    if not values and not reports:

        def call_arrays(given: Sequence[Any]) -> None:
            args = template.copy()
            for at, slot in arrays:
                args[at] = given[slot]
            if backend.times is None:
                kernel(grid, block, args)
            else:
                backend.timed(kernel, grid, block, args, (name, op, nbytes))

        return call_arrays

    def call(given: Sequence[Any]) -> None:
        args = template.copy()
        for at, slot in arrays:
            args[at] = given[slot]
        for at, slot, tag in values:
            args[at] = scalar(tag, given[slot], name)
        if reports:
            word.armed = True
        if backend.times is None:
            kernel(grid, block, args)
        else:
            backend.timed(kernel, grid, block, args, (name, op, nbytes))

    return call
