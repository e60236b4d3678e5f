"""One class per op of the registry, made from its record: a new op is benchmarked without a line here.

Times are seconds of one call, device-synchronised. The version is the record's, so history breaks when the meaning does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import portable_nn.ops  # noqa: F401  (fills the registry)
from portable_nn.core.op import Op
from portable_nn.core.registry import OPS

from .calls import cases, timed
from .choice import BACKENDS, DTYPES, PROFILE, Skip


class _Forward:
    """An op without a gradient rule."""

    record: ClassVar[str]
    param_names = ("backend", "dtype", "case")
    rounds = 2
    repeat = (5, 50, 1.0)
    warmup_time = 0.1
    forward: Callable[[], None]
    backward: Callable[[], None] | None

    def setup(self, *params: str) -> None:
        self.forward, self.backward = timed(self.record, params)

    def time_forward(self, *_: str) -> None:
        """Run the op and wait for the device."""
        self.forward()


class _Differentiable(_Forward):
    """An op with a gradient rule."""

    def time_backward(self, *_: str) -> None:
        """Compute the gradients of all floating operands and wait for the device."""
        if self.backward is None:
            raise Skip
        self.backward()


def _class(op: Op) -> type:
    names = list(cases(op))
    params = [list(BACKENDS), list(DTYPES), names[:1] if PROFILE == "quick" else names]
    base = _Forward if op.vjp is None else _Differentiable
    return type(op.name, (base,), {"record": op.name, "params": params, "version": op.version, "__module__": __name__})


globals().update({name: _class(op) for name, op in OPS.items() if cases(op)})
