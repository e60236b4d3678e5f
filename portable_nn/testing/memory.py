"""Guarded memory: while it is on, everything a device backend allocates is poisoned and has canaries on both sides."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np

from ..core.backend import Backend
from ..core.spec import Spec
from .cases import GUARD, poisoned


class Guards:
    """The blocks allocated so far; `check` raises if a kernel wrote beside one."""

    def __init__(self, backend: Backend, byte: int) -> None:
        self.backend, self.byte = backend, byte
        self.blocks: list[tuple[Any, Spec]] = []
        self._from_numpy, self._to_numpy = backend.from_numpy, backend.to_numpy
        self._allocate: Any = getattr(backend, "allocate", None)
        self._inside = False

    def allocate(self, spec: Spec) -> Any:
        """Return poisoned memory of `spec` in the middle of a larger block."""
        if self._inside:  # the upload below needs memory too
            return self._allocate(spec)
        self._inside = True
        try:
            block = self._from_numpy(poisoned(spec.size + 2 * GUARD, spec.dtype, self.byte))
        finally:
            self._inside = False
        self.blocks.append((block, spec))
        return self.backend.alias(block, spec, GUARD)  # type: ignore[attr-defined]

    def refuse(self, *_: Any, **__: Any) -> Any:
        """Stand in for transfers: an op that is done on a device does not touch the host."""
        raise AssertionError(f"the op copied between host and {self.backend.name} inside its call")

    def check(self) -> None:
        """Raise AssertionError if a canary is dead."""
        for number, (block, spec) in enumerate(self.blocks):
            raw = self._to_numpy(block).reshape(-1).view(np.uint8)
            edge = GUARD * spec.dtype.itemsize
            for where, side in (("before", raw[:edge]), ("after", raw[len(raw) - edge :])):
                dead = np.flatnonzero(side != self.byte)
                if len(dead):
                    at = dead[-1] // spec.dtype.itemsize - GUARD if where == "before" else dead[0] // spec.dtype.itemsize
                    raise AssertionError(
                        f"a kernel wrote outside allocation {number} ({spec}): {len(dead)} bytes {where} it, "
                        f"nearest at element {at:+d}"
                    )


@contextmanager
def guarded(backend: Backend, byte: int) -> Iterator[Guards]:
    """Poison and guard what `backend` allocates inside the block; its transfers raise. Nothing happens without `allocate`.

    Only calls prepared inside the block are affected, so caches of prepared calls must be emptied around it.
    """
    guards = Guards(backend, byte)
    if not hasattr(backend, "allocate"):
        yield guards
        return
    with (
        patch.object(backend, "allocate", guards.allocate),
        patch.object(backend, "from_numpy", guards.refuse),
        patch.object(backend, "to_numpy", guards.refuse),
    ):
        yield guards
