"""From an op's record to something that can be timed: operands on a backend, a forward call, a backward call, both."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any

import numpy as np

from portable_nn.core import dtypes
from portable_nn.core.backend import Backend
from portable_nn.core.errors import DTypeError, NoGradient, NoKernel
from portable_nn.core.op import Op
from portable_nn.core.registry import find
from portable_nn.core.samples import A, Bench
from portable_nn.core.selection import use_backend
from portable_nn.core.tape import Tape
from portable_nn.testing.cases import drawn, place, seed_of

from . import own_cases
from .choice import Skip
from .choice import backend as chosen

# An elementwise op whose record names no sizes (the gradients made from expressions): an activation and a row block.
_PLAIN = {"1M": (1024, 1024), "row": (64, 1024)}

_open = ExitStack()  # the choice of backend that is in force; one per process
_own = cache(own_cases.chosen)


def cases(op: Op) -> dict[str, Bench]:
    """Return the op's benchmark cases by name: those of its record, or some made from its first sample."""
    own = _own()
    if own is not None:
        return own.get(op.name, {})
    if op.bench:
        return {case.name: case for case in op.bench}
    if not op.samples:
        return {}
    first = op.samples[0]
    if op.expression is None:
        return {first.name: Bench(first.name, first.args, first.settings)}

    def resized(value: Any, shape: tuple[int, ...]) -> Any:
        return replace(value, shape=shape, values=None, view="") if isinstance(value, A) else value

    return {
        name: Bench(name, tuple(resized(a, shape) for a in first.args), {k: resized(v, shape) for k, v in first.settings.items()})
        for name, shape in _PLAIN.items()
    }


class Timed:
    """One call of an op on a backend, ready to be repeated: `forward()`, and what `backward()` and `full()` return.

    All wait for the device, so that a clock around them measures the work and not its enqueueing. `forward` does not
    record; `backward` applies the gradient rule alone, to what one recorded call has saved; `full` records and pulls back.

    Raises
    ------
    Skip
        If the op does not take the dtype, the backend has no kernel, or nothing is differentiable.
    """

    def __init__(self, op: Op, backend: Backend, dtype: str, case: Bench) -> None:
        self.op, self.backend = op, backend
        _open.close()
        _open.enter_context(use_backend(backend))
        host = drawn(case, dtype, seed_of(op.name, case.name, dtype))
        if not all(backend.supports(x.dtype) for x in host.arrays()):
            raise Skip(f"{backend.name} on {backend.device} has no {dtype}")
        self.given = host.map(self._place, np.ndarray)
        try:
            self.forward()  # compiles
        except (DTypeError, NoKernel) as error:
            raise Skip(str(error)) from error

    def _place(self, x: Any) -> Any:
        plain = x.flags.c_contiguous
        return self.backend.from_numpy(x) if plain else place(x, self.backend).array

    def forward(self) -> None:
        """Run the call and wait."""
        self.op(*self.given.args, **self.given.settings)
        self.backend.synchronize()

    def backward(self) -> Callable[[], None]:
        """Return a function that computes the gradients of all floating operands and waits."""
        return self._made(self._pull())

    def full(self) -> Callable[[], None]:
        """Return a function that runs the recorded call, computes the gradients of all floating operands and waits."""

        def both() -> None:
            self._pull()()

        return self._made(both)

    @staticmethod
    def _made(run: Callable[[], None]) -> Callable[[], None]:
        try:
            run()  # compiles
        except (NoGradient, NoKernel) as error:
            raise Skip(str(error)) from error
        return run

    def _pull(self) -> Callable[[], None]:
        if self.op.vjp is None:
            raise Skip(f"{self.op.name} has no gradient rule")
        with Tape() as tape:
            try:
                outputs, _ = self.op.apply(*self._watched(tape))
            except NoGradient as error:
                raise Skip(str(error)) from error
        if not tape._nodes:
            raise Skip(f"{self.op.name}: no operand of this case has a gradient")
        (node,) = tape._nodes
        pull, saved, wait = self.op.vjp, node.saved, self.backend.synchronize
        ones = [
            self.backend.from_numpy(np.ones(made.shape, made.dtype)) if slot >= 0 else None
            for made, slot in zip(outputs, node.outputs, strict=False)
        ]

        def backward() -> None:
            gradients = pull(saved, *ones)
            for name in node.inputs:
                if callable(gradients[name]):
                    gradients[name]()
            wait()

        return backward

    def _watched(self, tape: Tape) -> tuple[tuple[Any, ...], dict[str, Any]]:
        def watch(value: Any) -> Any:
            if isinstance(value, list | tuple):
                return [watch(v) for v in value] if any(hasattr(v, "dtype") for v in value) else value
            floating = hasattr(value, "shape") and dtypes.kind(value.dtype) in ("float", "complex")
            return tape.watch(value) if floating else value

        return tuple(map(watch, self.given.args)), {k: watch(v) for k, v in self.given.settings.items()}


@lru_cache(maxsize=1)  # operands of two cases may not fit at once
def _placed(op: str, backend: str, dtype: str, case: str) -> Timed:
    record = find(op)
    return Timed(record, chosen(backend), dtype, cases(record)[case])


@lru_cache(maxsize=1)  # asv calls setup before every single call
def timed(op: str, backend: str, dtype: str, case: str, direction: str) -> Callable[[], None]:
    """Return what to time, made once per op and parameters."""
    made = _placed(op, backend, dtype, case)
    return made.forward if direction == "forward" else made.backward() if direction == "backward" else made.full()


def forget() -> None:
    """Drop the operands that are kept for the next call."""
    timed.cache_clear()
    _placed.cache_clear()
    _open.close()
